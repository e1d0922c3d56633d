from __future__ import annotations

import pytest

from injector.core.exposure import (
    ADVICE,
    CallResult,
    Exposure,
    ExposureFinding,
    PortResult,
    ProbeReport,
    ProbeVerdict,
    Purpose,
    evaluate,
)

NO, YES, NOT = CallResult.REFUSED, CallResult.SERVED, CallResult.NOT_ASKED
CLOSED = PortResult(Purpose.HTTP, 3500, NO, NO, YES)


@pytest.mark.parametrize("purpose", [Purpose.HTTP, Purpose.GRPC])
@pytest.mark.parametrize(
    ("answers", "exposure"),
    [
        ((NO, NO, YES), None),
        ((NO, NO, NOT), None),
        ((YES, YES, NOT), Exposure.ENFORCEMENT_OFF),
        ((YES, NO, NOT), Exposure.ENFORCEMENT_OFF),
        ((NO, YES, NOT), Exposure.WRONG_TOKEN_SERVED),
        ((NO, NO, NO), Exposure.RIGHT_TOKEN_REFUSED),
        ((NOT, NOT, NOT), None),
    ],
)
def test_exposure_follows_from_the_api_answers(
    purpose: Purpose, answers: tuple[CallResult, CallResult, CallResult], exposure: Exposure | None
) -> None:
    found = evaluate(PortResult(purpose, 3500, *answers), "why")

    assert (found.exposure if found else None) is exposure
    if exposure is Exposure.ENFORCEMENT_OFF:
        assert found == ExposureFinding(exposure, "port 3500", "why")


@pytest.mark.parametrize(
    ("purpose", "exposure"),
    [
        (Purpose.PUBLIC, Exposure.METADATA_PORT),
        (Purpose.METRICS, Exposure.METRICS_PORT),
        (Purpose.PROFILING, Exposure.PROFILING_PORT),
    ],
)
def test_exposure_of_other_ports(purpose: Purpose, exposure: Exposure) -> None:
    assert evaluate(PortResult(purpose, 1, YES)) == ExposureFinding(exposure, "port 1")


def test_only_http_and_grpc_are_api_ports() -> None:
    assert [purpose for purpose in Purpose if purpose.is_api] == [Purpose.HTTP, Purpose.GRPC]


def test_every_exposure_has_meaning_and_action() -> None:
    assert set(ADVICE) == set(Exposure)
    assert all(advice.meaning and advice.remedy for advice in ADVICE.values())


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (ProbeReport("x", (CLOSED,)), ProbeVerdict.CLOSED),
        (ProbeReport("x", (CLOSED,), (ExposureFinding(Exposure.METRICS_PORT, "port 1"),)), ProbeVerdict.CLOSED),
        (ProbeReport("x", (CLOSED,), (ExposureFinding(Exposure.METADATA_PORT, "port 1"),)), ProbeVerdict.OPEN),
        (ProbeReport("x", failure="why"), ProbeVerdict.UNKNOWN),
        (ProbeReport("x"), ProbeVerdict.UNKNOWN),
        (ProbeReport("x", (CLOSED,), failure="why"), ProbeVerdict.UNKNOWN),
        (ProbeReport("x", (CLOSED, PortResult(Purpose.GRPC, 1))), ProbeVerdict.UNKNOWN),
        (ProbeReport("x", (CLOSED, PortResult(Purpose.METRICS, 1, failure="why"))), ProbeVerdict.UNKNOWN),
        (ProbeReport("x", (CLOSED, PortResult(Purpose.GRPC, 1, failure="why"))), ProbeVerdict.UNKNOWN),
        (
            ProbeReport(
                "x", (PortResult(Purpose.GRPC, 1, failure="why"),), (ExposureFinding(Exposure.METADATA_PORT, "port 1"),)
            ),
            ProbeVerdict.OPEN,
        ),
    ],
)
def test_verdict_with_open_metrics_accepted(report: ProbeReport, verdict: ProbeVerdict) -> None:
    assert report.verdict({Exposure.METRICS_PORT}) is verdict


def test_target_is_named_with_its_namespace() -> None:
    assert ProbeReport("pod/a", namespace="shop").name == "pod/a -n shop"
    assert ProbeReport("http://127.0.0.1:3500").name == "http://127.0.0.1:3500"
