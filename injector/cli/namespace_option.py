"""The option `-n`, `--namespace` of commands that read one namespace or all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from injector.cli import cluster_completion
from injector.cli.param_types import ObjectName

if TYPE_CHECKING:
    from collections.abc import Callable

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")


def namespace_option(text: str, *, default: str | None = None) -> Callable[[_CommandT], _CommandT]:
    """Return the option; `text` is its help."""
    return click.option(
        "-n",
        "--namespace",
        type=ObjectName(),
        default=default,
        show_default=True,
        metavar="NAME",
        help=text,
        shell_complete=cluster_completion.namespaces,
    )


def reject_with_all_namespaces(namespace: str | None, *, all_namespaces: bool) -> None:
    """Reject the option together with -A.

    Raises:
        click.UsageError: Both are set.
    """
    if namespace is not None and all_namespaces:
        raise click.UsageError("--namespace and --all-namespaces cannot be combined; use one of them")
