from __future__ import annotations

import pytest

from injector.core.exposure import ADVICE, Answer, Asked, Exposure, Found, Purpose, Report, Verdict, judge

NO, YES, NOT = Answer.REFUSED, Answer.SERVED, Answer.NOT_ASKED
CLOSED = Asked(Purpose.HTTP, 3500, NO, NO, YES)


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
    purpose: Purpose, answers: tuple[Answer, Answer, Answer], exposure: Exposure | None
) -> None:
    found = judge(Asked(purpose, 3500, *answers), "why")

    assert (found.exposure if found else None) is exposure
    if exposure is Exposure.ENFORCEMENT_OFF:
        assert found == Found(exposure, "port 3500", "why")


@pytest.mark.parametrize(
    ("purpose", "exposure"),
    [
        (Purpose.PUBLIC, Exposure.METADATA_PORT),
        (Purpose.METRICS, Exposure.METRICS_PORT),
        (Purpose.PROFILING, Exposure.PROFILING_PORT),
    ],
)
def test_exposure_of_other_ports(purpose: Purpose, exposure: Exposure) -> None:
    assert judge(Asked(purpose, 1, YES)) == Found(exposure, "port 1")


def test_only_http_and_grpc_are_api_ports() -> None:
    assert [purpose for purpose in Purpose if purpose.is_api] == [Purpose.HTTP, Purpose.GRPC]


def test_every_exposure_has_meaning_and_action() -> None:
    assert set(ADVICE) == set(Exposure)
    assert all(advice.meaning and advice.remedy for advice in ADVICE.values())


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (Report("x", (CLOSED,)), Verdict.CLOSED),
        (Report("x", (CLOSED,), (Found(Exposure.METRICS_PORT, "port 1"),)), Verdict.CLOSED),
        (Report("x", (CLOSED,), (Found(Exposure.METADATA_PORT, "port 1"),)), Verdict.OPEN),
        (Report("x", failure="why"), Verdict.UNKNOWN),
        (Report("x"), Verdict.UNKNOWN),
        (Report("x", (CLOSED,), failure="why"), Verdict.UNKNOWN),
        (Report("x", (CLOSED, Asked(Purpose.GRPC, 1))), Verdict.UNKNOWN),
        (Report("x", (CLOSED, Asked(Purpose.METRICS, 1, failure="why"))), Verdict.UNKNOWN),
        (Report("x", (CLOSED, Asked(Purpose.GRPC, 1, failure="why"))), Verdict.UNKNOWN),
        (
            Report("x", (Asked(Purpose.GRPC, 1, failure="why"),), (Found(Exposure.METADATA_PORT, "port 1"),)),
            Verdict.OPEN,
        ),
    ],
)
def test_verdict_with_open_metrics_accepted(report: Report, verdict: Verdict) -> None:
    assert report.verdict({Exposure.METRICS_PORT}) is verdict
