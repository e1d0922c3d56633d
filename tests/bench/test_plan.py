from tests.bench.__main__ import Plan
from tests.bench.measure import Cell


def test_fast_servers_get_the_planned_rounds_and_seconds() -> None:
    assert Plan().of(Cell(32, "12 KB"), service_seconds=0.001) == Plan().of(Cell(32, "12 KB")) == (5, 2)


def test_slow_servers_get_fewer_but_longer_runs_within_a_bound() -> None:
    assert Plan().of(Cell(32, "1 MB"), service_seconds=0.1) == (2, 10)
    assert Plan().of(Cell(32, "1 MB"), service_seconds=5.0) == (2, 15)
    assert Plan().of(Cell(1, "1 MB"), service_seconds=0.1) == (3, 1)
