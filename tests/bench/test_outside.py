import pytest

from tests.bench import golden, outside
from tests.bench.errors import BenchError

_METRICS = """\
# HELP apiserver_admission_webhook_admission_duration_seconds [STABLE] Admission webhook latency
# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="us.bench.invalid",rejected="false",le="0.005"} 90
apiserver_admission_webhook_admission_duration_seconds_bucket{name="us.bench.invalid",rejected="false",le="0.025"} 100
apiserver_admission_webhook_admission_duration_seconds_bucket{name="us.bench.invalid",rejected="false",le="+Inf"} 100
apiserver_admission_webhook_admission_duration_seconds_sum{name="us.bench.invalid",rejected="false"} 0.2
apiserver_admission_webhook_admission_duration_seconds_count{name="us.bench.invalid",rejected="false"} 100
"""


def test_durations_come_from_the_api_servers_histogram() -> None:
    got = outside.durations(_METRICS, "us.bench.invalid")
    assert got == {"webhook_mean_ms": pytest.approx(2.0), "webhook_p99_ms": pytest.approx(25.0), "webhook_calls": 100}


def test_webhook_that_was_never_called_is_an_error() -> None:
    with pytest.raises(BenchError, match=r"never called other\.bench\.invalid"):
        outside.durations(_METRICS, "other.bench.invalid")


def test_pod_to_create_has_no_owner_and_no_token() -> None:
    made = outside.pod("somewhere")
    assert set(made["metadata"]) == {"generateName", "labels", "annotations", "namespace"}
    assert golden.tokens_of(made) == {}
