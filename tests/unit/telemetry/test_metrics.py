from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest

from injector.core.model import Reason, Verdict
from injector.kube.metrics import KubeMetrics
from injector.telemetry.logs import LogSink
from injector.telemetry.metrics import ProcessMetrics, new_registry
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.metrics import BUCKETS, DECISIONS, ERRORS, RequestMetrics, ServerMetrics

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


def samples(*collectors: Collector) -> dict[str, float]:
    text = generate_latest(new_registry(*collectors)).decode()
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series.removeprefix("dapr_token_injector_"): float(value) for series, _, value in pairs}


def test_every_reason_goes_with_one_decision() -> None:
    assert {reason for _, reason in DECISIONS} == set(Reason)
    assert (Verdict.DENY, Reason.SECRET_NOT_ALLOWED) in DECISIONS
    assert (Verdict.SKIP, Reason.WOULD_DENY) in DECISIONS


def test_answer_counts_in_requests_and_in_the_histogram() -> None:
    metrics = RequestMetrics()
    metrics.answered(Verdict.INJECT, Reason.INJECTED, BUCKETS[1])
    metrics.answered(Verdict.INJECT, Reason.INJECTED, 100.0)
    found = samples(metrics)
    assert found['admission_requests_total{decision="inject",reason="injected"}'] == 2
    assert found['admission_duration_seconds_bucket{le="5e-05"}'] == 0
    assert found['admission_duration_seconds_bucket{le="0.0001"}'] == 1
    assert found['admission_duration_seconds_bucket{le="5.0"}'] == 1
    assert found['admission_duration_seconds_bucket{le="+Inf"}'] == 2
    assert found["admission_duration_seconds_sum"] == pytest.approx(100.0001)


def test_labels_are_bounded() -> None:
    metrics = RequestMetrics()
    metrics.failed("malformed-json")
    metrics.failed("whatever an exception calls itself")
    found = samples(metrics)
    assert {series for series in found if series.startswith("admission_errors")} == {
        f'admission_errors_total{{error="{error}"}}' for error in ERRORS
    }
    assert found['admission_errors_total{error="internal"}'] == 1


def test_every_series_exists_at_start() -> None:
    found = samples(
        RequestMetrics(), ServerMetrics(int, float), CertificateMetrics(), KubeMetrics(), ProcessMetrics(LogSink(2))
    )
    for series in (
        "admission_in_flight",
        "connections",
        "event_loop_lag_seconds",
        "logs_dropped_total",
        "certificate_expiry_timestamp_seconds",
        'certificate_reloads_total{outcome="rejected"}',
        'admission_shed_total{cause="lag"}',
        'connections_refused_total{cause="limit"}',
    ):
        assert found[series] == 0
    assert any(series.startswith("build_info{") and value == 1 for series, value in found.items())
