"""Probes ports: three calls to each API port, one to each other port, and the findings from the answers."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from injector.core.exposure import (
    NOTHING_LISTENS,
    CallResult,
    Exposure,
    ExposureFinding,
    PortResult,
    ProbeReport,
    Purpose,
    evaluate,
)
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
    """The token that a sidecar should accept, or why none is tried."""

    token: Token | None = None
    skipped_reason: str = NO_TOKEN_GIVEN


async def ask_api(
    target: ProbeTarget, purpose: Purpose, expected: ExpectedToken, *, timeout_seconds: float
) -> PortResult:
    """Call one API port without a token, with a wrong one, and with the expected one.

    The expected token is sent only to a server that refused the other two calls as daprd does. Other servers never see
    it, and neither do sidecars that would accept any token.
    """
    asker = over_grpc.ask if purpose is Purpose.GRPC else over_http.ask
    asked = PortResult(purpose, target.port)
    try:
        asked = replace(asked, without=await asker(target, None, timeout_seconds=timeout_seconds))
        asked = replace(asked, wrong=await asker(target, _wrong(), timeout_seconds=timeout_seconds))
        if asked.without is CallResult.SERVED or asked.wrong is CallResult.SERVED:
            return asked
        if expected.token is None:
            return replace(asked, skipped_reason=expected.skipped_reason)
        return replace(asked, right=await asker(target, expected.token, timeout_seconds=timeout_seconds))
    except NoAnswerError as error:
        return replace(asked, failure=str(error))


def _wrong() -> Token:
    return Token(secrets.token_urlsafe(32).encode())


async def ask_other_port(target: ProbeTarget, purpose: Purpose, *, timeout_seconds: float) -> PortResult | None:
    """Call a port other than the API; None if it does not serve callers without a token, or nothing listens."""
    path = _PATHS.get(purpose, over_http.METADATA)
    asked = PortResult(purpose, target.port)
    try:
        is_served = await over_http.is_served(target, path, timeout_seconds=timeout_seconds)
    except NoAnswerError as error:
        return None if str(error) == NOTHING_LISTENS else replace(asked, failure=str(error))
    return replace(asked, without=CallResult.SERVED) if is_served else None


async def probe_address(
    label: str, target: ProbeTarget, purpose: Purpose, expected: ExpectedToken, *, timeout_seconds: float
) -> list[ProbeReport]:
    """Probe a target at every address that its host name resolves to.

    Addresses where nothing listens are skipped, unless nothing listens at any of them.
    """
    try:
        found = await resolve(target.host, target.port, timeout_seconds=timeout_seconds)
    except NoAnswerError as error:
        return [ProbeReport(label, failure=str(error))]
    if len(found) > _MAX_ADDRESSES:
        failure = f"the name has {len(found)} addresses, more than {_MAX_ADDRESSES}; probe them one by one"
        return [ProbeReport(label, failure=failure)]
    targets = [replace(target, address=address) for address in found]
    asked = await asyncio.gather(*(_ask(one, purpose, expected, timeout_seconds=timeout_seconds) for one in targets))
    both = list(zip(found, asked, strict=True))
    answering = [(address, one) for address, one in both if one.failure != NOTHING_LISTENS] or both[:1]
    return [
        _reported(label if len(answering) == 1 else f"{label} at {address}", target, address, one)
        for address, one in answering
    ]


# Our choice: two are common; a name with more than this is that of a whole application, to be probed Pod by Pod.
_MAX_ADDRESSES: Final = 32


async def _ask(target: ProbeTarget, purpose: Purpose, expected: ExpectedToken, *, timeout_seconds: float) -> PortResult:
    asked = await ask_api(target, purpose, expected, timeout_seconds=timeout_seconds)
    if purpose is Purpose.HTTP and asked.without is CallResult.SERVED:
        try:
            if await over_http.is_public(target, timeout_seconds=timeout_seconds):
                return replace(asked, purpose=Purpose.PUBLIC)
        except NoAnswerError as error:
            return replace(asked, failure=str(error))
    return asked


def _reported(label: str, target: ProbeTarget, address: Address, asked: PortResult) -> ProbeReport:
    found = list(findings([asked]))
    has_answered = asked.without is not CallResult.NOT_ASKED
    # A connection to the unspecified address reaches loopback.
    if asked.purpose.is_api and has_answered and not (is_loopback(address) or address.is_unspecified):
        found.append(ExposureFinding(Exposure.LISTEN_ADDRESS, target.authority))
    return ProbeReport(label, (asked,), tuple(found))


def findings(asked: Iterable[PortResult], cause: str = "") -> Iterable[ExposureFinding]:
    """Return the findings about the ports."""
    return (found for one in asked if (found := evaluate(one, cause)) is not None)
