import math

import pytest

from tests.bench import golden, outside

_METRICS = """\
# HELP apiserver_admission_webhook_admission_duration_seconds [STABLE] Admission webhook latency
# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="us.bench.invalid",rejected="false",le="0.005"} 90
apiserver_admission_webhook_admission_duration_seconds_bucket{name="us.bench.invalid",rejected="false",le="0.025"} 100
apiserver_admission_webhook_admission_duration_seconds_bucket{name="us.bench.invalid",rejected="false",le="+Inf"} 100
apiserver_admission_webhook_admission_duration_seconds_sum{name="us.bench.invalid",rejected="false"} 0.2
apiserver_admission_webhook_admission_duration_seconds_count{name="us.bench.invalid",rejected="false"} 100
"""


def test_histogram_comes_from_the_api_servers_metrics() -> None:
    got = outside.Histogram.of(_METRICS, "us.bench.invalid")
    assert got.count == 100
    assert got.mean_ms == pytest.approx(2.0)
    assert got.p99_ms == pytest.approx(25.0)


def test_only_calls_since_the_last_scrape_count() -> None:
    whole = outside.Histogram.of(_METRICS, "us.bench.invalid")
    first = outside.Histogram({0.005: 10.0, 0.025: 20.0, math.inf: 20.0}, total=0.12, count=20.0)
    rest = whole.since(first)
    assert (rest.count, rest.buckets[0.005]) == (80, 80)
    assert rest.mean_ms == pytest.approx(1.0)
    assert rest.p99_ms == pytest.approx(5.0)


def test_entry_that_was_never_called_has_no_calls() -> None:
    assert outside.Histogram.of(_METRICS, "other.bench.invalid").count == 0


def test_pod_to_create_has_no_owner_and_no_token() -> None:
    made = outside.pod("somewhere")
    assert set(made["metadata"]) == {"generateName", "labels", "annotations", "namespace"}
    assert golden.tokens_of(made) == {}
