"""Questions put together: three to each port of the API, one to each other port, and what their answers come to."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from injector.core.exposure import NOTHING_LISTENS, Answer, Asked, Exposure, Found, Purpose, Report, judge
from injector.core.sidecar import is_loopback
from injector.core.token import Token
from injector.probe import over_grpc, over_http
from injector.probe.target import NoAnswerError, ProbeTarget, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from injector.probe.target import Address

_PATHS: Final = {Purpose.METRICS: over_http.METRICS, Purpose.PROFILING: over_http.PROFILES}
NO_TOKEN_GIVEN: Final = "no token was given"


@dataclass(frozen=True, slots=True)
class ExpectedToken:
    """The token that should be served, or why there is none to try."""

    token: Token | None = None
    skipped_reason: str = NO_TOKEN_GIVEN


async def ask_api(target: ProbeTarget, purpose: Purpose, expected: ExpectedToken, *, timeout_seconds: float) -> Asked:
    """Ask one port of the API without a token, with a wrong one, and with the right one.

    The right token is sent only to what has refused the other two calls in daprd's own words: not to a stranger, and
    not where it would prove nothing.
    """
    asker = over_grpc.ask if purpose is Purpose.GRPC else over_http.ask
    asked = Asked(purpose, target.port)
    try:
        asked = replace(asked, without=await asker(target, None, timeout_seconds=timeout_seconds))
        asked = replace(asked, wrong=await asker(target, _wrong(), timeout_seconds=timeout_seconds))
        if asked.without is Answer.SERVED or asked.wrong is Answer.SERVED:
            return asked
        if expected.token is None:
            return replace(asked, untried=expected.skipped_reason)
        return replace(asked, right=await asker(target, expected.token, timeout_seconds=timeout_seconds))
    except NoAnswerError as error:
        return replace(asked, failure=str(error))


def _wrong() -> Token:
    return Token(secrets.token_urlsafe(32).encode())


async def ask_other_port(target: ProbeTarget, purpose: Purpose, *, timeout_seconds: float) -> Asked | None:
    """Ask a port beside the API; None when it serves nothing to who has no token, or nothing listens."""
    path = _PATHS.get(purpose, over_http.METADATA)
    asked = Asked(purpose, target.port)
    try:
        is_served = await over_http.is_served(target, path, timeout_seconds=timeout_seconds)
    except NoAnswerError as error:
        return None if str(error) == NOTHING_LISTENS else replace(asked, failure=str(error))
    return replace(asked, without=Answer.SERVED) if is_served else None


async def probe_address(
    label: str, target: ProbeTarget, purpose: Purpose, expected: ExpectedToken, *, timeout_seconds: float
) -> list[Report]:
    """Ask what is at a target whose address is still open: at each of those that its host's name stands for.

    Addresses at which nothing listens are left out, unless there are no others.
    """
    try:
        found = await resolve(target.host, target.port, timeout_seconds=timeout_seconds)
    except NoAnswerError as error:
        return [Report(label, failure=str(error))]
    if len(found) > _MOST_ADDRESSES:
        return [Report(label, failure=f"its name stands for {len(found)} addresses; ask them one by one")]
    targets = [replace(target, address=address) for address in found]
    asked = await asyncio.gather(*(_ask(one, purpose, expected, timeout_seconds=timeout_seconds) for one in targets))
    both = list(zip(found, asked, strict=True))
    answering = [(address, one) for address, one in both if one.failure != NOTHING_LISTENS] or both[:1]
    return [
        _reported(label if len(answering) == 1 else f"{label} at {address}", target, address, one)
        for address, one in answering
    ]


# Ours: two are common, a name with a hundred is a whole application's, to be asked Pod by Pod.
_MOST_ADDRESSES: Final = 32


async def _ask(target: ProbeTarget, purpose: Purpose, expected: ExpectedToken, *, timeout_seconds: float) -> Asked:
    asked = await ask_api(target, purpose, expected, timeout_seconds=timeout_seconds)
    if purpose is Purpose.HTTP and asked.without is Answer.SERVED:
        try:
            if await over_http.is_public(target, timeout_seconds=timeout_seconds):
                return replace(asked, purpose=Purpose.PUBLIC)
        except NoAnswerError as error:
            return replace(asked, failure=str(error))
    return asked


def _reported(label: str, target: ProbeTarget, address: Address, asked: Asked) -> Report:
    found = list(findings([asked]))
    has_answered = asked.without is not Answer.NOT_ASKED
    # A connection to no address in particular goes to loopback.
    if asked.purpose.is_api and has_answered and not (is_loopback(address) or address.is_unspecified):
        found.append(Found(Exposure.LISTEN_ADDRESS, target.authority))
    return Report(label, (asked,), tuple(found))


def findings(asked: Iterable[Asked], cause: str = "") -> Iterable[Found]:
    """What is open about each of the ports."""
    return (found for one in asked if (found := judge(one, cause)) is not None)
