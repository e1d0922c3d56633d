import datetime as dt
import os
import sys
from pathlib import Path

import pytest

from tests.bench import process
from tests.bench.certs import make_pair
from tests.bench.errors import BenchError


def test_usage_is_read_from_proc() -> None:
    seen = process.usage(os.getpid())
    assert seen.cpu_seconds > 0
    assert seen.minor_faults > 0
    assert seen.rss_bytes > 1 << 20


def test_server_that_ends_early_is_reported_with_output(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, now=dt.datetime.now(dt.UTC))
    argv = [sys.executable, "-c", "raise SystemExit('no port for me')"]
    cores = str(min(os.sched_getaffinity(0)))
    with (
        pytest.raises(BenchError, match="no port for me"),
        process.running(argv, env={}, cores=cores, port=process.free_port(), certificate=pair.certificate, first=b"{}"),
    ):
        pytest.fail("it must not be taken for a server")
