"""`completion`: scripts that teach a shell our commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print a completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script.

    \b
    bash:  eval "$(dapr-token-injector completion bash)"
    zsh:   eval "$(dapr-token-injector completion zsh)"
    fish:  dapr-token-injector completion fish | source
    """  # noqa: D301 - the backslash is click's sign for lines as they are
    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"no completion for {shell}")
    root = ctx.find_root()
    name = root.info_name or "dapr-token-injector"
    click.echo(maker(root.command, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE").source())
