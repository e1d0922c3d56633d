"""The command line, and the only place that turns exceptions into exit codes.

0 fine · 1 findings · 2 usage error or request rejected · 3 internal error. Results go to stdout, everything else to
stderr. Commands are imported when they run, so that `version` does not load `serve`.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import click

from injector import __version__
from injector.cli.output import safe_streams
from injector.cli.signals import interrupt_on_ctrl_c
from injector.core.errors import ConfigError, InjectorError
from injector.files import error_text
from injector.frames import internal_error

if TYPE_CHECKING:
    from collections.abc import Sequence


class Exit(IntEnum):
    """Exit codes of every command."""

    FINE = 0
    FINDINGS = 1
    USAGE = 2
    FAULT = 3


# Command -> the module whose `command` it is, and its line in the list, so that listing imports nothing.
COMMANDS: Final = {
    "serve": ("injector.cli.serve", "Run the admission webhook."),
    "inject": ("injector.cli.manifests.inject", "Inject token references into manifests, as the webhook would."),
    "uninject": ("injector.cli.manifests.uninject", "Remove from manifests what inject wrote into them."),
    "explain": ("injector.cli.manifests.explain", "Explain why a Pod would or would not be patched, rule by rule."),
    "lint": ("injector.cli.manifests.lint", "Find problems in manifests before they reach a cluster."),
    "token": ("injector.cli.token.command", "Generate and verify tokens."),
    "probe": ("injector.cli.probe.command", "Check that sidecars require the token."),
    "status": ("injector.cli.status.command", "Show which Pods are protected by a token."),
    "check": ("injector.cli.check.command", "Check that the installation works."),
    "seal": ("injector.cli.seal", "Write or check the token file of a sealed Pod (run by its init containers)."),
    "run": ("injector.cli.run.command", "Run a command with the token in its environment."),
    "secret": ("injector.cli.secret.command", "Create, rotate, revoke and list token Secrets."),
    "ca": ("injector.cli.ca", "Rotate the CA of the webhook's certificates."),
    "version": ("injector.cli.version", "Print the version."),
    "completion": ("injector.cli.completion", "Print a completion script for a shell."),
}


class Commands(click.Group):
    """The group of commands; imports each of them when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return all names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command; return None if it does not exist."""
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(COMMANDS[cmd_name][0]).command
        if not isinstance(found, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]}.command is not a command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, message="dapr-token-injector %(version)s")
def commands() -> None:
    """Give every Dapr sidecar on Kubernetes its API token."""


# Completion scripts set it.
COMPLETE_VARIABLE: Final = "_DAPR_TOKEN_INJECTOR_COMPLETE"
# The file name by which kubectl finds `kubectl dapr-token`.
_PLUGIN: Final = "kubectl-dapr_token"
PLUGIN_COMMAND: Final = "kubectl dapr-token"


def program() -> str:
    """Return the words with which the user started the program."""
    return PLUGIN_COMMAND if os.path.basename(sys.argv[0]) == _PLUGIN else "dapr-token-injector"  # noqa: PTH119 - a name of any form


@safe_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Standard input may be closed, as by `<&-`: then it is empty.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115,PTH123 - for the rest of the process
    stdout = sys.stdout
    try:
        with interrupt_on_ctrl_c():
            result = commands.main(argv, prog_name=program(), complete_var=COMPLETE_VARIABLE, standalone_mode=False)
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        click.echo(_without_tokens(message.getvalue(), sys.argv[1:] if argv is None else argv), err=True, nl=False)
        return Exit.USAGE
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"Error: {problem}", err=True)
        return Exit.USAGE
    except InjectorError as error:
        click.echo(f"Error: {error}", err=True)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        return Exit.USAGE
    except SystemExit:
        if sys.stdout is stdout:
            raise
        # The reader of stdout has closed it, as in `... | head`: click replaces it and exits with 1. Nothing more can
        # be written to stdout, not even at exit.
        sys.stdout = None  # the interpreter accepts this at exit
        return Exit.FINE
    except Exception as error:  # noqa: BLE001 - the boundary
        return _unexpected(error)
    return result if isinstance(result, int) else Exit.FINE


def _unexpected(error: Exception) -> Exit:
    """Report an unexpected exception without any value, and return the exit code."""
    if isinstance(error, OSError) and error.errno in _FULL:
        sys.stdout = None  # the rest of the output cannot be written at exit either
        click.echo(f"Error: the output cannot be written: {error_text(error)}", err=True)
        return Exit.USAGE
    click.echo(f"Error: {internal_error(error)}", err=True)
    return Exit.FAULT


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def _without_tokens(message: str, arguments: Sequence[str]) -> str:
    """Redact arguments that look like tokens in a message: users paste tokens in place of a file or a name.

    A path that exists, or whose folder exists, is not a token.
    """
    from injector.core.messages import looks_like_token  # noqa: PLC0415 - only messages pay for its patterns

    for argument in arguments:
        for part in {argument, argument.partition("=")[2]} - {""}:
            is_path = os.path.exists(part) or os.path.isdir(os.path.dirname(part))  # noqa: PTH110,PTH112,PTH120 - pathlib raises for what is too long
            if not is_path and any(map(looks_like_token, part.split("/"))):
                message = message.replace(part, f"({len(part)} characters, not shown: it may be a token)")
    return message
