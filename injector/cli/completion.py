"""`completion`: print completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print a completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    It completes commands, options, files, rule ids and, with your kubeconfig,
    the names of namespaces and Secrets.

    \b
    Examples:
      bash:  eval "$(dapr-token-injector completion bash)"
      zsh:   eval "$(dapr-token-injector completion zsh)"
      fish:  dapr-token-injector completion fish | source

    Exit codes: 0 fine, 2 usage error, 3 internal error.
    """  # noqa: D301 - \b tells click not to wrap a paragraph
    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"SHELL: no completion for {shell}")
    root = ctx.find_root()
    name = root.info_name or "dapr-token-injector"
    click.echo(maker(root.command, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE").source())
