"""The command line, and the one place where an exception becomes an exit code.

0 fine · 1 findings · 2 wrong use or bad input · 3 our own fault. Results go to stdout, everything else to stderr.
Commands are imported when they are called: `version` must not pay for `serve`.
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

from injector.core.errors import ConfigError, InjectorError
from injector.files import error_text
from injector.frames import frames

if TYPE_CHECKING:
    from collections.abc import Sequence


class Exit(IntEnum):
    """Exit codes of every command."""

    FINE = 0
    FINDINGS = 1
    USAGE = 2
    FAULT = 3


# Command -> the module that has it as `command`, and its line in the list (so that listing imports nothing).
COMMANDS: Final = {
    "serve": ("injector.cli.serve", "Run the admission webhook."),
    "inject": ("injector.cli.manifests.inject", "Write the tokens' references into manifests, as the webhook would."),
    "uninject": ("injector.cli.manifests.uninject", "Take out of manifests what inject wrote into them."),
    "explain": ("injector.cli.manifests.explain", "Tell why a Pod would or would not be patched, rule by rule."),
    "lint": ("injector.cli.manifests.lint", "Find what is wrong with manifests, before a cluster does."),
    "token": ("injector.cli.token.command", "Generate and verify tokens."),
    "probe": ("injector.cli.probe.command", "Check that sidecars require the token."),
    "run": ("injector.cli.run.command", "Run a command with the token in its environment."),
    "secret": ("injector.cli.secret.command", "Create, rotate, revoke and list token Secrets."),
    "ca": ("injector.cli.ca", "Rotate the CA of the webhook's certificates."),
    "version": ("injector.cli.version", "Print the version."),
    "completion": ("injector.cli.completion", "Print a completion script for a shell."),
}


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command; None when there is no such."""
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
def commands() -> None:
    """Gives every Dapr sidecar on Kubernetes its API token."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Closed, as `<&-` does: then there is nothing to read.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115,PTH123 - for the rest of the process
    stdout = sys.stdout
    try:
        result = commands.main(argv, prog_name="dapr-token-injector", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
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
        # The reader of our output has left, as in `... | head`: click has put something else in its place, and would
        # have us end with 1. Nothing more can be said on stdout, not even at exit.
        sys.stdout = None  # the interpreter knows how to end without it
        return Exit.FINE
    except Exception as error:  # noqa: BLE001 - the boundary
        return _unexpected(error)
    return result if isinstance(result, int) else Exit.FINE


def _unexpected(error: Exception) -> Exit:
    """Tell what nobody has told yet, without any value."""
    if isinstance(error, OSError) and error.errno in _FULL:
        sys.stdout = None  # what is left of the output cannot be written at exit either
        click.echo(f"Error: the output cannot be written: {error_text(error)}", err=True)
        return Exit.USAGE
    click.echo(f"Error: internal fault ({type(error).__qualname__}); please report it with these places:", err=True)
    for place in frames(error.__traceback__):
        click.echo(f"  {place}", err=True)
    return Exit.FAULT


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def _without_tokens(message: str, arguments: Sequence[str]) -> str:
    """A message that quotes no argument which looks like a token: people paste one where a file or name belongs.

    The path of something that is there, or in a folder that is, is no token.
    """
    from injector.core.request import could_be_token  # noqa: PLC0415 - only messages pay for the decoder behind it

    for argument in arguments:
        for part in {argument, argument.partition("=")[2]} - {""}:
            is_path = os.path.exists(part) or os.path.isdir(os.path.dirname(part))  # noqa: PTH110,PTH112,PTH120 - pathlib raises for what is too long
            if not is_path and any(map(could_be_token, part.split("/"))):
                message = message.replace(part, f"({len(part)} characters, not shown: it may be a token)")
    return message
