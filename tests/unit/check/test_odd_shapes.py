"""No object of another shape than in Kubernetes ends a check with an exception."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest

from injector.check.catalogue import BY_WORD
from injector.check.model import Category
from injector.check.reader import ClusterReader
from injector.check.runner import run
from tests.fake_cluster.store import Store
from tests.unit.check.checking import NOW
from tests.unit.check.installed import InstalledApi, installed

if TYPE_CHECKING:
    from collections.abc import Iterator

CATEGORIES = (Category.CLUSTER, Category.REGISTRATION, Category.VERSIONS)
CHECKS = [check for word, check in BY_WORD.items() if word == check.name and check.category in CATEGORIES]


def paths(value: Any, depth: int) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """Paths of all values down to a depth, except what the store itself needs."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs if depth else ():
        if key not in {"metadata", "name", "namespace"}:
            yield (key,)
        yield from ((key, *path) for path in paths(child, depth - 1) if (key, *path)[:2] != ("metadata", "name"))


@pytest.mark.parametrize("key", sorted(installed().objects), ids=lambda key: "/".join(filter(None, key)))
def test_null_anywhere_raises_nothing(key: tuple[str, str, str]) -> None:
    sound = installed().objects

    async def run_all() -> None:
        for path in paths(sound[key], 4):
            odd = copy.deepcopy(sound[key])
            parent: Any = odd
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]] = None
            found = await run(CHECKS, ClusterReader(InstalledApi(Store(objects={**sound, key: odd})), None, NOW))
            assert len(found) == len(CHECKS), path

    asyncio.run(run_all())
