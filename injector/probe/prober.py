"""Questions put together: three to each port of the API, one to each other port, and what their answers come to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from injector.core.exposure import Answer, Asked, Exposure, Found, Purpose, Report, judge
from injector.core.token import Token
from injector.probe import over_grpc, over_http
from injector.probe.place import NoAnswerError, Place, addresses, why

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv6Address

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
    """Ask a port beside the API; None when it serves nothing."""
    path = _PATHS.get(purpose, over_http.METADATA)
    if await over_http.serves(place, path, timeout_seconds=timeout_seconds):
        return Asked(purpose, place.port, without=Answer.SERVED)
    return None


async def probe_address(target: str, place: Place, purpose: Purpose, right: Right, *, timeout_seconds: float) -> Report:
    """Ask what is at an address."""
    try:
        reached = await addresses(place.host, place.port)
    except OSError as error:
        return Report(target, failure=why(error, timeout_seconds=timeout_seconds))
    asked = await ask_api(place, purpose, right, timeout_seconds=timeout_seconds)
    if purpose is Purpose.HTTP and asked.without is Answer.SERVED and not asked.failure:
        try:
            if await over_http.is_public(place, timeout_seconds=timeout_seconds):
                asked = replace(asked, purpose=Purpose.PUBLIC)
        except NoAnswerError as error:
            asked = replace(asked, failure=str(error))
    found = list(findings([asked]))
    if asked.purpose.is_api and not asked.failure and not all(map(_is_local, reached)):
        found.append(Found(Exposure.LISTEN_ADDRESS, place.authority))
    return Report(target, (asked,), tuple(found))


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    return address.is_loopback or address.is_unspecified  # a connection to the latter goes to loopback


def findings(asked: Iterable[Asked], cause: str = "") -> Iterable[Found]:
    """What is open about each of the ports."""
    return (found for one in asked if (found := judge(one, cause)) is not None)
