from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from injector.kube.backoff import Backoff
from injector.kube.errors import ForbiddenError, GoneError, KubeError, NotFoundError, UnavailableError
from injector.kube.resources import SECRETS
from injector.kube.watch import ObjectWatch
from tests.unit.kube.manual_clock import run_with_manual_clock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from injector.kube.resources import Resource

Object = dict[str, Any]
Script = list["Object | KubeError | float"]


def secret(version: int, value: str = "x") -> Object:
    return {"metadata": {"name": "ca", "resourceVersion": str(version)}, "data": {"a": value}}


def event(kind: str, item: Object) -> Object:
    return {"type": kind, "object": item}


FORBIDDEN = ForbiddenError("get secrets/ca")
NO_WATCH = ForbiddenError("watch secrets")


@dataclass
class Source:
    """Answers reads and watches from scripts; the last answer of each is given for ever."""

    reads: list[Object | KubeError]
    watches: list[Script] = field(default_factory=lambda: [[1e9]])
    requests: list[tuple[float, str]] = field(default_factory=list)
    read_seconds: float = 0.0

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        assert (resource, name, namespace) == (SECRETS, "ca", "dapr")
        self._note("get")
        await asyncio.sleep(self.read_seconds)
        answer = self.reads[0]
        if len(self.reads) > 1:
            self.reads.pop(0)
        if isinstance(answer, KubeError):
            raise answer
        return answer

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, resource_version: str, field_selector: str = ""
    ) -> AsyncGenerator[Object, None]:
        assert (resource, namespace, field_selector) == (SECRETS, "dapr", "metadata.name=ca")
        self._note(f"watch {resource_version}")
        script = self.watches[0]
        if len(self.watches) > 1:
            self.watches.pop(0)
        for step in script:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, KubeError):
                raise step
            else:
                yield step

    def _note(self, what: str) -> None:
        self.requests.append((asyncio.get_running_loop().time(), what))


@dataclass
class Seen:
    """What became of a run: the copy, every change of it, and every failure."""

    reflector: ObjectWatch
    changes: list[tuple[bool, Object | None, str]]
    failures: list[KubeError]


def follow(source: Source, seconds: float) -> Seen:
    """Run a reflector for so long."""

    async def work() -> Seen:
        loop = asyncio.get_running_loop()
        changes: list[tuple[bool, Object | None, str]] = []
        failures: list[KubeError] = []
        reflector = ObjectWatch(
            source,
            SECRETS,
            "ca",
            "dapr",
            changed=lambda: changes.append((reflector.known, reflector.object, str(reflector.problem or ""))),
            failed=failures.append,
            rng=random.Random(7),  # noqa: S311 - the same again and again
            clock=loop.time,
        )
        task = asyncio.create_task(reflector.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return Seen(reflector, changes, failures)

    return run_with_manual_clock(work())


def test_copy_is_read_once_and_then_follows_the_watch() -> None:
    source = Source(
        [secret(1)], [[event("MODIFIED", secret(2, "y")), event("DELETED", secret(2)), event("ADDED", secret(3)), 1e9]]
    )
    seen = follow(source, 60)
    assert [item and item["metadata"]["resourceVersion"] for _, item, _ in seen.changes] == ["1", "2", None, "3"]
    assert [what for _, what in source.requests] == ["get", "watch 1"]
    assert seen.reflector.what == "secrets/ca in namespace dapr"


def test_bookmark_counts_as_heard_and_changes_nothing() -> None:
    source = Source([secret(1)], [[50.0, event("BOOKMARK", secret(9)), 1e9]])
    seen = follow(source, 60)
    assert (len(seen.changes), seen.reflector.heard) == (1, 50.0)


def test_missing_object_is_seen_once_created() -> None:
    source = Source([NotFoundError("get secrets/ca")], [[20.0, event("ADDED", secret(5)), 1e9]])
    seen = follow(source, 60)
    assert [(known, item) for known, item, _ in seen.changes] == [(True, None), (True, secret(5))]
    assert source.requests[1][1] == "watch "


@pytest.mark.parametrize("end", [GoneError("watch secrets"), None])
def test_ended_watch_restarts_with_an_immediate_read(end: KubeError | None) -> None:
    script: Script = [100.0, *([end] if end else [])]
    source = Source([secret(1), secret(2, "y")], [script, [1e9]])
    seen = follow(source, 200)
    assert source.requests == [(0.0, "get"), (0.0, "watch 1"), (100.0, "get"), (100.0, "watch 2")]
    assert seen.reflector.object == secret(2, "y")
    assert seen.failures == []


@pytest.mark.parametrize("end", [GoneError("watch secrets"), UnavailableError("watch secrets"), None])
def test_watches_that_end_immediately_are_delayed(end: KubeError | None) -> None:
    source = Source([secret(1)], [[end] if end else []])
    follow(source, 600)
    # The delays grow to half a minute: four requests a minute on average, once they have.
    assert len([at for at, _ in source.requests if at >= 300]) <= 60
    assert len(source.requests) <= 120


def test_slow_read_does_not_count_as_the_life_of_a_watch() -> None:
    source = Source([secret(1)], [[]], read_seconds=1.5)
    follow(source, 600)
    assert len([what for _, what in source.requests if what == "get"]) < 100  # without a delay there would be 400


def test_missing_permission_is_retried_slowly_and_reported_once() -> None:
    source = Source([FORBIDDEN])
    seen = follow(source, 600)
    for minute in range(10):
        assert len([at for at, _ in source.requests if minute * 60 <= at < minute * 60 + 60]) <= 3
    assert seen.changes == [(False, None, str(FORBIDDEN))]
    assert seen.failures == [FORBIDDEN] * len(source.requests)


def test_copy_is_kept_while_the_permission_is_missing() -> None:
    reads: Iterable[Object | KubeError] = (secret(1), FORBIDDEN, FORBIDDEN, secret(2, "y"))
    source = Source(list(reads), [[100.0], [1e9]])
    seen = follow(source, 600)
    assert [(item, bool(problem)) for _, item, problem in seen.changes] == [
        (secret(1), False),
        (secret(1), True),
        (secret(1), False),
        (secret(2, "y"), False),
    ]


def test_copy_is_polled_without_permission_to_watch() -> None:
    source = Source([secret(1), secret(2, "y")], [[NO_WATCH]])
    seen = follow(source, 300)
    assert seen.reflector.object == secret(2, "y")
    assert seen.reflector.problem is NO_WATCH
    assert [problem for _, _, problem in seen.changes] == ["", str(NO_WATCH), str(NO_WATCH)]
    assert len(source.requests) <= 2 * 3 * 5


def test_open_watch_clears_its_problem_after_a_second() -> None:
    source = Source([secret(1)], [[UnavailableError("watch secrets")], [1e9]])
    seen = follow(source, 300)
    assert seen.reflector.problem is None
    assert [bool(problem) for _, _, problem in seen.changes] == [False, True, False]


def test_delays_grow_with_jitter_and_reset() -> None:
    backoff = Backoff(random.Random(1))  # noqa: S311 - as above
    delays = [backoff.delay_seconds() for _ in range(200)]
    for number, delay in zip(itertools.count(), delays, strict=False):
        assert 0.25 <= delay <= min(30.0, 0.5 * 2.0**number)
    assert max(delays) > 20
    backoff.succeeded()
    assert backoff.delay_seconds() <= 0.5
