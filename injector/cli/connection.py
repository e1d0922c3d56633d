"""Connects commands to a cluster with the caller's kubeconfig or the Pod's ServiceAccount, as kubectl does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.cli import signals
from injector.cli.common_options import together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from injector.kube.client import Api

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Connect:
    """A kubeconfig and one of its contexts; None: the default of kubectl."""

    kubeconfig: str | None = None
    context: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Connect:
        """Return the values of the options below."""
        return cls(options["kubeconfig"], options["context"])

    async def __call__(self) -> Api:
        """Return a client, which is an asynchronous context manager.

        Raises:
            KubeconfigError: There is no usable kubeconfig or ServiceAccount.
        """
        from injector.kube.client import Api  # noqa: PLC0415 - only commands that reach a cluster pay for the client
        from injector.kube.kubeconfig import uses_service_account  # noqa: PLC0415 - as above

        if uses_service_account(self.kubeconfig, self.context):
            return await Api.in_cluster()
        return await Api.from_kubeconfig(self.kubeconfig, self.context)


class ConnectionOption(click.Option):
    """An option that selects a cluster."""


# The options that select a cluster.
options: Final = together(
    click.option(
        "--kubeconfig",
        cls=ConnectionOption,
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Use this kubeconfig. [default: $KUBECONFIG, then ~/.kube/config, then the Pod's ServiceAccount]",
    ),
    click.option(
        "--context",
        cls=ConnectionOption,
        metavar="NAME",
        help="Use this context of the kubeconfig. [default: the current one]",
    ),
)


def run(connect: Connect, work: Callable[[Api], Awaitable[_T]], *, everywhere: str | None = None) -> _T:
    """Run `work` with a client, and return its result.

    `everywhere` is what the command does in all namespaces, such as `list`; None if it lists at most one of them.

    Raises:
        click.ClickException: The API server rejects a request or does not answer; one line, with advice.
    """
    from injector.kube.errors import ForbiddenError, KubeError, UnknownContextError  # noqa: PLC0415 - as above

    async def within() -> _T:
        async with await connect() as api:
            return await work(api)

    try:
        return signals.run(within())
    except KubeError as error:
        advice = _ADVICE.get(error.reason)
        if isinstance(error, UnknownContextError):
            advice = "select one of them with --context"
        elif isinstance(error, ForbiddenError) and everywhere is not None:
            advice = ONE_NAMESPACE.format(everywhere)
        raise click.ClickException(f"{error}; {advice}" if advice else str(error)) from None


# For a command that may not list objects in all namespaces.
ONE_NAMESPACE: Final = "{} one namespace with -n NAMESPACE, or request that permission"
_ADVICE: Final = {
    "bad-kubeconfig": "name one with --kubeconfig or the variable KUBECONFIG",
    "unauthorized": "log in again, or use another --context",
    "forbidden": "request that permission, or use another --context",
    "denied": "your permissions are sufficient; contact the owner of that rule",
    "gone": "run it again",
    "not-found": "check the spelling, and --context",
    "conflict": "run it again",
    "redirected": "set the kubeconfig's server to the API server's own address, and check the proxy variables",
    "unconfirmed": "check the object with kubectl before you run this again",
    "unavailable": "run it again when the API server is back, or check --context",
}
