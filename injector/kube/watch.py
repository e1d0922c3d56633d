"""Keeps a copy of one named object up to date, and reports errors.

It needs permissions for named objects only: `get` and `watch` with `resourceNames`, never `list`. RBAC allows a watch
of one name only with the field selector `metadata.name`.

Watches end regularly: by the server's timeout, a restart, a resource version that is too old (HTTP status or event), or
a lost connection. The object is then read again: at once if the watch had worked, otherwise after a growing random
delay. If a permission is missing, it retries two or three times a minute and keeps the
copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from injector.kube.backoff import Backoff
from injector.kube.errors import GoneError, KubeError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from injector.kube.resources import Object, Resource

Clock: TypeAlias = "Callable[[], float]"

# Seconds after which a watch counts as working.
_LIVED: Final = 1.0


class WatchCalls(Protocol):
    """The calls of an `ObjectWatch`; `client.Api` has them."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Return one object."""

    def watch(
        self, resource: Resource, namespace: str | None = None, *, resource_version: str, field_selector: str = ""
    ) -> AsyncGenerator[Object, None]:
        """Yield the events of the objects that match the selector."""


class ObjectWatch:
    """The copy of one object.

    `object` is None if it does not exist, and while `known` is false. `heard` is the time of the last answer or event
    of the API server, including bookmarks, in seconds of the monotonic clock.
    """

    def __init__(  # noqa: PLR0913 - an object's address, and callbacks
        self,
        source: WatchCalls,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        changed: Callable[[], None],
        failed: Callable[[KubeError], None] = lambda _: None,
        rng: random.Random | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.resource = resource
        self.name = name
        self.namespace = namespace
        self.object: Object | None = None
        self.known = False
        self._problems: dict[str, KubeError] = {}  # by the call that failed
        self.heard = clock()
        self._source = source
        self._changed = changed
        self._failed = failed
        self._clock = clock
        self._backoff = Backoff(rng or random.Random())  # noqa: S311 - spreads requests, guards nothing

    @property
    def what(self) -> str:
        """The object as error messages name it."""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource.plural}/{self.name}{where}"

    @property
    def problem(self) -> KubeError | None:
        """The error of the last read or watch; while there is one, the copy may be outdated."""
        return next(iter(self._problems.values()), None)

    async def run(self) -> None:
        """Keep the copy up to date until cancelled."""
        while True:
            call, began = "read", self._clock()
            try:
                version = await self._read()
                call, began = "watch", self._clock()
                await self._follow(version)
            except GoneError:
                delay = self._pause(began)
            except KubeError as error:
                self._report(call, error)
                delay = self._backoff.delay_seconds(error)
            else:
                delay = self._pause(began)
            await asyncio.sleep(delay)

    def saw(self, item: Object | None) -> None:
        """Update the copy with the object as it was just read or written."""
        self.heard = self._clock()
        self._solved("read")
        is_news = not self.known or item != self.object
        self.object, self.known = item, True
        if is_news:
            self._changed()

    def _pause(self, began: float) -> float:
        """Return 0 to read again at once, or a delay if the watch ended as soon as it began."""
        if self._clock() - began >= _LIVED:
            self._backoff.succeeded()
            return 0.0
        return self._backoff.delay_seconds()

    async def _read(self) -> str:
        try:
            found = await self._source.get(self.resource, self.name, self.namespace)
        except NotFoundError:
            self.saw(None)
            # No version means from now on: if the object was created in between, the watch begins with it.
            return ""
        self.saw(found)
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> None:
        events = self._source.watch(
            self.resource,
            self.namespace,
            resource_version=version,
            field_selector=f"metadata.name={self.name}",
        )
        # A watch without events gives no answer: if it was not rejected for a second, it works.
        lived = asyncio.get_running_loop().call_later(_LIVED, self._solved, "watch")
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    self.heard = self._clock()
                    self._solved("watch")
                    if event.get("type") == "DELETED":
                        self.saw(None)
                    elif event.get("type") in {"ADDED", "MODIFIED"}:
                        self.saw(event["object"])
        finally:
            lived.cancel()

    def _solved(self, call: str) -> None:
        if self._problems.pop(call, None) is not None:
            self._changed()

    def _report(self, call: str, error: KubeError) -> None:
        self._failed(error)
        before = self._problems.get(call)
        self._problems[call] = error
        if before is None or str(before) != str(error):
            self._changed()
