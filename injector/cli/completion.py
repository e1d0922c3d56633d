"""`completion`: print completion scripts for shells; and what kubectl calls to complete `kubectl dapr-token`."""

from __future__ import annotations

import sys
from typing import Literal

import click
from click.shell_completion import ShellComplete, get_completion_class

from injector.cli.main import COMPLETE_VARIABLE, PLUGIN_COMMAND, commands
from injector.words import escaped


@click.command(short_help="Print a completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a completion script for a shell.

    It completes commands, options, files, rule ids and, with your kubeconfig,
    the names of namespaces and Secrets.

    \b
    Examples:
      bash:  eval "$(dapr-token-injector completion bash)"
      zsh:   eval "$(dapr-token-injector completion zsh)"
      fish:  dapr-token-injector completion fish | source

    Exit codes: 0 fine, 2 usage error, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    root = ctx.find_root()
    if root.info_name == PLUGIN_COMMAND:
        raise click.UsageError("kubectl completes its plug-ins itself; load the script of kubectl completion")
    click.echo(get_completion_class(shell)(root.command, {}, str(root.info_name), COMPLETE_VARIABLE).source())


# What kubectl does after the last name: complete files, or nothing.
# https://github.com/spf13/cobra/blob/v1.10.1/completions.go (ShellCompDirective)
_FILES, _NOTHING = ":0", ":4"


def complete_plugin() -> int:
    """Print what completes the last argument: the program `kubectl_complete-dapr_token`.

    https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
    """
    *words, incomplete = sys.argv[1:] or [""]
    found = ShellComplete(commands, {}, PLUGIN_COMMAND, COMPLETE_VARIABLE).get_completions(words, incomplete)
    for item in found:
        if item.type == "plain":
            click.echo(escaped(f"{item.value}") + (f"\t{item.help}" if item.help else ""))
    click.echo(_FILES if any(item.type != "plain" for item in found) else _NOTHING)
    return 0
