"""Completes the names of namespaces and Secrets in shells, with the kubeconfig of the command line.

A shell waits for the answer, so a cluster that does not answer soon, or rejects the request, completes nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from injector.cli import signals
from injector.cli.connection import Connect
from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import click

    from injector.kube.client import Api

_SECONDS: Final = 3.0
# The name that the documentation uses, for Secrets that do not exist yet.
_USUAL_NAME: Final = "dapr-api-token"


def namespaces(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the namespaces that begin with the text."""
    return _complete(ctx, incomplete, _namespaces)


def secrets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the token Secrets that begin with the text: without namespace if the command selects namespaces."""

    async def found(api: Api) -> list[str]:
        from injector.kube.resources import SECRETS  # noqa: PLC0415 - only completion in a cluster pays for the client

        namespace, slash, _ = incomplete.partition("/")
        listed = await api.list(
            SECRETS, namespace if slash else None, label_selector=names.TOKEN_LABEL, metadata_only=True
        )
        if _selects_namespaces(ctx):
            return [one["metadata"]["name"] for one in listed]
        return [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in listed]

    return _complete(ctx, incomplete, found)


def new_secrets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return Secrets to create, with the usual name, that begin with the text."""

    async def found(api: Api) -> list[str]:
        if _selects_namespaces(ctx):
            return [_USUAL_NAME]
        return [f"{name}/{_USUAL_NAME}" for name in await _namespaces(api)]

    return _complete(ctx, incomplete, found)


def _selects_namespaces(ctx: click.Context) -> bool:
    return bool(ctx.params.get("all_namespaces") or ctx.params.get("namespace_selector"))


async def _namespaces(api: Api) -> list[str]:
    from injector.kube.resources import NAMESPACES  # noqa: PLC0415 - as above

    return [one["metadata"]["name"] for one in await api.list(NAMESPACES)]


def _complete(ctx: click.Context, incomplete: str, find: Callable[[Api], Awaitable[list[str]]]) -> list[str]:
    connect = Connect(ctx.params.get("kubeconfig"), ctx.params.get("context"))

    async def within() -> list[str]:
        async with await connect() as api, asyncio.timeout(_SECONDS):
            return await find(api)

    try:
        found = signals.run(within())
    except Exception:  # noqa: BLE001 - anything else than names would end up in the command line
        return []
    return sorted({name for name in found if name.startswith(incomplete)})
