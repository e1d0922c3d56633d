"""Runs one check."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from injector.check.catalogue import BY_WORD
from injector.check.reader import ClusterReader
from injector.check.runner import run

if TYPE_CHECKING:
    from injector.check.model import Outcome
    from injector.check.reader import Expectations
    from injector.kube.client import Api

NOW = 1_700_000_000


def outcome(
    name: str, api: Api, *, namespace: str | None = None, now: int = NOW, expected: Expectations | None = None
) -> Outcome:
    """Return what a check finds, as the command runs it."""

    async def within() -> Outcome:
        (found,) = await run([BY_WORD[name]], ClusterReader(api, namespace, now, expected))
        return found.outcome

    return asyncio.run(within())
