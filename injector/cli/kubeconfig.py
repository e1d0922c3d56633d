"""How commands reach a cluster: with the caller's own kubeconfig, as kubectl does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.client import Api

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Connect:
    """Which kubeconfig, and which of its contexts; None takes kubectl's."""

    kubeconfig: str | None = None
    context: str | None = None

    async def __call__(self) -> Api:
        """The API server, as an asynchronous context manager.

        Raises:
            KubeconfigError: There is no way to one.
        """
        from injector.kube.client import Api  # noqa: PLC0415 - only commands that reach a cluster pay for the client

        return await Api.from_kubeconfig(self.kubeconfig, self.context)


def options(command: _CommandT) -> _CommandT:
    """The flags for it."""
    command = click.option("--context", metavar="NAME", help="The kubeconfig's context; default: the current one.")(
        command
    )
    return click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Default: the variable KUBECONFIG, then ~/.kube/config.",
    )(command)
