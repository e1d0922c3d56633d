"""Keeping a copy of one named object: read it, watch it, and say what stands in the way.

For rights on named objects only: `get` and `watch` with `resourceNames`, never `list`. A watch of one name needs the
field selector `metadata.name`, which is what lets RBAC tell it from a watch of everything.

A watch ends all the time: the server's timeout, a restart, a version that is too old (HTTP status or an event of the
stream), a connection that went silent. Each end leads to a new read, at once when the watch had lived, with a growing
random delay when it had not. A missing right is asked for again every half minute or so, and the copy stays.
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

# A watch that lived for so long was a good one.
_LIVED: Final = 1.0


class Source(Protocol):
    """What a reflector asks of the API; `client.Api` has it."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """One object."""
        ...

    def watch(
        self, resource: Resource, namespace: str | None = None, *, resource_version: str, field_selector: str = ""
    ) -> AsyncGenerator[Object, None]:
        """Events of the objects that the selector fits."""
        ...


class ObjectWatch:
    """The copy of one object.

    `object` is None while there is none; before `known` nobody can say. `heard` is when the API server last said
    something of it, bookmarks included, in seconds of the monotonic clock.
    """

    def __init__(  # noqa: PLR0913 - an object's address, and whom to tell
        self,
        source: Source,
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
        """The object in words."""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource.plural}/{self.name}{where}"

    @property
    def problem(self) -> KubeError | None:
        """What stands in the way of knowing more; the copy may be old while there is something."""
        return next(iter(self._problems.values()), None)

    async def run(self) -> None:
        """Keep the copy until cancelled."""
        while True:
            began = self._clock()
            call = "read"
            try:
                version = await self._read()
                call = "watch"
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
        """Take note of the object as somebody just read or wrote it."""
        self.heard = self._clock()
        self._solved("read")
        is_news = not self.known or item != self.object
        self.object, self.known = item, True
        if is_news:
            self._changed()

    def _pause(self, began: float) -> float:
        """Read anew at once, unless watches end as soon as they begin."""
        if self._clock() - began >= _LIVED:
            self._backoff.succeeded()
            return 0.0
        return self._backoff.delay_seconds()

    async def _read(self) -> str:
        try:
            found = await self._source.get(self.resource, self.name, self.namespace)
        except NotFoundError:
            self.saw(None)
            # From "now" on: the watch then begins with the object, should it have come in between.
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
        # A watch that nothing happens in says nothing: one that was not refused for a second is a good one.
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
