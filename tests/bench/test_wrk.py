import pytest

from tests.bench import wrk
from tests.bench.errors import BenchError

_OUTPUT = """Running 1s test @ https://127.0.0.1:8443/mutate
  1 threads and 32 connections
Requests/sec:   2000.00
BENCH {"duration_us": 1500000, "requests": 3000, "bytes": 1200000, "p50_us": 700, "p99_us": 2100, "max_us": 4000, \
"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}
"""


def test_result_is_read_from_among_the_other_output() -> None:
    run = wrk.parse(_OUTPUT)
    assert (run.p50_us, run.p99_us, run.max_us) == (700, 2100, 4000)
    assert run.requests_per_second == pytest.approx(2000)
    assert run.errors == {}


def test_errors_are_counted_by_kind() -> None:
    run = wrk.parse(_OUTPUT.replace('"read": 0', '"read": 1'))
    assert run.errors == {"read": 1}


def test_refusals_do_not_count_as_served() -> None:
    run = wrk.parse(_OUTPUT.replace('"status": 0', '"status": 600'))
    assert run.served == 2400
    assert run.requests_per_second == pytest.approx(1600)


def test_output_without_a_result_is_an_error_that_shows_it() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused")
