"""Runs checks at the same time and returns what each found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.check.model import Outcome, Result, unknown
from injector.core.errors import MalformedObjectError
from injector.kube.errors import KubeError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from injector.check.model import Check
    from injector.check.reader import ClusterReader

# Checks that run at the same time; reads are shared, so this bounds the requests at once.
_AT_ONCE: Final = 8
# Seconds between two rounds of `run_until_sound`.
INTERVAL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check and what it found."""

    check: Check
    outcome: Outcome

    @property
    def result(self) -> Result:
        """The result of the check."""
        return self.outcome.result


async def run(checks: Sequence[Check], reader: ClusterReader) -> tuple[CheckResult, ...]:
    """Return what each check found, in the same order.

    Raises:
        UnauthorizedError: The API server does not accept the credentials, so no check means anything.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(check: Check) -> CheckResult:
        async with limit:
            return CheckResult(check, await _outcome(check, reader))

    tasks = [asyncio.ensure_future(one(check)) for check in checks]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:  # after the first error, the others end before the event loop does
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_until_sound(
    checks: Sequence[Check],
    reader: Callable[[], ClusterReader],
    *,
    wait_seconds: float,
    waiting: Callable[[Sequence[CheckResult], float], None],
) -> tuple[CheckResult, ...]:
    """Run the checks until none is failed or unknown, or the time is over; return what the last round found.

    Each round has a new reader. The first and the last one run all checks, those between them only the checks that were
    failed or unknown. `waiting` gets what each check found last, and the seconds left.

    Raises:
        UnauthorizedError: The API server does not accept the credentials.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + wait_seconds
    found: dict[str, CheckResult] = {}
    pending = checks
    while True:
        source = reader()
        found |= {one.check.id: one for one in await run(pending, source)}
        left = end - clock()
        if left <= 0 or not _not_sound(found.values()):
            others = [one for one in checks if one not in pending]
            found |= {one.check.id: one for one in await run(others, source)}
        pending = _not_sound(found.values())
        shown = tuple(found[one.id] for one in checks)
        if left <= 0 or not pending:
            return shown
        waiting(shown, left)
        await asyncio.sleep(min(INTERVAL_SECONDS, left))


def _not_sound(found: Iterable[CheckResult]) -> list[Check]:
    return [one.check for one in found if one.result in {Result.FAILED, Result.UNKNOWN}]


_NOTHING: Final = "not determined"


async def _outcome(check: Check, reader: ClusterReader) -> Outcome:
    try:
        return await check.run(reader)
    except UnauthorizedError:
        raise
    except KubeError as error:
        return Outcome(seen=_NOTHING, problems=(unknown(str(error)),))
    except (MalformedObjectError, LookupError, TypeError, AttributeError, ValueError):
        # An object of another shape than Kubernetes documents: what it means cannot be determined.
        return Outcome(seen=_NOTHING, problems=(unknown("an object has another shape than in Kubernetes"),))
