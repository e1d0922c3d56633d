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
from injector.probe.target import NoAnswerError, Place, addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from injector.probe.target import Address

_PATHS: Final = {Purpose.METRICS: over_http.METRICS, Purpose.PROFILING: over_http.PROFILES}
UNNAMED: Final = "no token was given"


@dataclass(frozen=True, slots=True)
class Right:
    """The token that should be served, or why there is none to try."""

    token: Token | None = None
    untried: str = UNNAMED


async def ask_api(place: Place, purpose: Purpose, right: Right, *, timeout_seconds: float) -> Asked:
    """Ask one port of the API without a token, with a wrong one, and with the right one.

    The right token is sent only to what has refused the other two calls in daprd's own words: not to a stranger, and
    not where it would prove nothing.
    """
    asker = over_grpc.ask if purpose is Purpose.GRPC else over_http.ask
    asked = Asked(purpose, place.port)
    try:
        asked = replace(asked, without=await asker(place, None, timeout_seconds=timeout_seconds))
        asked = replace(asked, wrong=await asker(place, _wrong(), timeout_seconds=timeout_seconds))
        if asked.without is Answer.SERVED or asked.wrong is Answer.SERVED:
            return asked
        if right.token is None:
            return replace(asked, untried=right.untried)
        return replace(asked, right=await asker(place, right.token, timeout_seconds=timeout_seconds))
    except NoAnswerError as error:
        return replace(asked, failure=str(error))


def _wrong() -> Token:
    return Token(secrets.token_urlsafe(32).encode())


async def ask_beside(place: Place, purpose: Purpose, *, timeout_seconds: float) -> Asked | None:
    """Ask a port beside the API; None when it serves nothing to who has no token, or nothing listens."""
    path = _PATHS.get(purpose, over_http.METADATA)
    asked = Asked(purpose, place.port)
    try:
        is_served = await over_http.is_served(place, path, timeout_seconds=timeout_seconds)
    except NoAnswerError as error:
        return None if str(error) == NOTHING_LISTENS else replace(asked, failure=str(error))
    return replace(asked, without=Answer.SERVED) if is_served else None


async def probe_address(
    target: str, place: Place, purpose: Purpose, right: Right, *, timeout_seconds: float
) -> list[Report]:
    """Ask what is at a place whose address is still open: at each of those that its host's name stands for.

    Addresses at which nothing listens are left out, unless there are no others.
    """
    try:
        found = await addresses(place.host, place.port, timeout_seconds=timeout_seconds)
    except NoAnswerError as error:
        return [Report(target, failure=str(error))]
    if len(found) > _MOST_ADDRESSES:
        return [Report(target, failure=f"its name stands for {len(found)} addresses; ask them one by one")]
    places = [replace(place, address=address) for address in found]
    asked = await asyncio.gather(*(_ask(one, purpose, right, timeout_seconds=timeout_seconds) for one in places))
    both = list(zip(found, asked, strict=True))
    answering = [(address, one) for address, one in both if one.failure != NOTHING_LISTENS] or both[:1]
    return [
        _reported(target if len(answering) == 1 else f"{target} at {address}", place, address, one)
        for address, one in answering
    ]


# Ours: two are common, a name with a hundred is a whole application's, to be asked Pod by Pod.
_MOST_ADDRESSES: Final = 32


async def _ask(place: Place, purpose: Purpose, right: Right, *, timeout_seconds: float) -> Asked:
    asked = await ask_api(place, purpose, right, timeout_seconds=timeout_seconds)
    if purpose is Purpose.HTTP and asked.without is Answer.SERVED:
        try:
            if await over_http.is_public(place, timeout_seconds=timeout_seconds):
                return replace(asked, purpose=Purpose.PUBLIC)
        except NoAnswerError as error:
            return replace(asked, failure=str(error))
    return asked


def _reported(target: str, place: Place, address: Address, asked: Asked) -> Report:
    found = list(findings([asked]))
    has_answered = asked.without is not Answer.NOT_ASKED
    # A connection to no address in particular goes to loopback.
    if asked.purpose.is_api and has_answered and not (is_loopback(address) or address.is_unspecified):
        found.append(Found(Exposure.LISTEN_ADDRESS, place.authority))
    return Report(target, (asked,), tuple(found))


def findings(asked: Iterable[Asked], cause: str = "") -> Iterable[Found]:
    """What is open about each of the ports."""
    return (found for one in asked if (found := judge(one, cause)) is not None)
