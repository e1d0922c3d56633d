"""Our own client in front of a store, without a network.

The calls of `StoreApi` are answered at once. Those of `SteppedApi` stop before they take effect; `Outcome` decides how
they continue: with effect and answer, without either, or with the effect and without the answer. So a test can produce
any interleaving of any number of replicas, always the same, without a clock and without an event loop.
"""

from __future__ import annotations

import asyncio
import copy
import json
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from injector.kube import api_messages, confirm
from injector.kube.client import Api
from injector.kube.errors import Refusal, UnavailableError, error_from_status
from tests.fake_cluster.store import RESOURCES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from injector.kube.errors import KubeError
    from injector.kube.resources import Object, Resource
    from injector.kube.transport import Request
    from tests.fake_cluster.store import Store

_VERBS: Final = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch"}
_FIRST_FAILURE: Final = 300


class Outcome(Enum):
    """How a call ends."""

    ANSWERED = auto()
    LOST = auto()  # it never arrived
    UNHEARD = auto()  # it took effect, and its answer was lost


class Stop:
    """Waits for the test to decide how a call ends."""

    def __await__(self) -> Generator[None, Outcome, Outcome]:
        return (yield)


class StoreApi(Api):
    """The verbs of our client, with a store in place of the network."""

    def __init__(
        self, store: Store, fault: Callable[[str, Resource], KubeError | None] = lambda _verb, _resource: None
    ) -> None:
        """`fault` returns the error of a call, by verb and kind, or None to answer it."""
        self.skew_seconds = 0.0
        self.warnings: tuple[str, ...] = ()
        self._store = store
        self._fault = fault

    async def send(self, request: Request) -> Object:
        """Answer a request from the store at once."""
        verb, resource = call_of(request)
        error = self._fault(verb, resource)
        if error is not None:
            raise error
        path = f"{request.path}?{urlencode(request.query)}" if request.query else request.path
        body = copy.deepcopy(request.body) if isinstance(request.body, dict) else None
        status, answer = self._store.answer(request.method, path, body, request.content_type)
        if status >= _FIRST_FAILURE:
            is_denial = api_messages.is_denial(status, answer["message"], is_read=request.method == "GET")
            refusal = Refusal(status, answer["reason"], answer["message"], is_denial=is_denial)
            raise error_from_status(request.operation, refusal)
        if request.expected is not None:
            return confirm.confirmed(request.operation, request.expected, status, json.dumps(answer).encode())
        return copy.deepcopy(answer)

    async def send_for_warnings(self, request: Request) -> tuple[Object, tuple[str, ...]]:
        """Answer a request, with the warnings of admission for a new Pod."""
        return await self.send(request), self.warnings

    async def fetch(self, request: Request) -> bytes:
        """Answer a read from the store at once."""
        return json.dumps(await self.send(request)).encode()

    async def watch(  # type: ignore[override] # only what an `ObjectWatch` needs
        self, resource: Resource, namespace: str | None = None, *, resource_version: str, field_selector: str = ""
    ) -> AsyncGenerator[Object, None]:
        """End after a while without an event: the test itself brings copies up to date."""
        assert resource_version
        assert field_selector
        del resource, namespace
        await asyncio.sleep(270)
        for _none in range(0):
            yield {}


class SteppedApi(StoreApi):
    """Each call waits for its outcome."""

    async def send(self, request: Request) -> Object:
        """Answer a request from the store after the test has chosen its outcome."""
        outcome = await Stop()
        if outcome is Outcome.LOST:
            raise UnavailableError(request.operation)
        answer = await super().send(request)
        if outcome is Outcome.UNHEARD:
            raise UnavailableError(request.operation)
        return answer


def call_of(request: Request) -> tuple[str, Resource]:
    """Verb and kind of a request for one object or for a list."""
    plural = next(part for part in reversed(request.path.split("/")) if part in RESOURCES)
    return _VERBS[request.method], RESOURCES[plural]
