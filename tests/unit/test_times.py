from __future__ import annotations

import pytest

from injector.times import rfc3339, unix_time


@pytest.mark.parametrize(("text", "time"), [("1970-01-01T00:01:00Z", 60), (None, None), ("", None), ("soon", None)])
def test_times_are_read_or_unknown(text: str | None, time: int | None) -> None:
    assert unix_time(text) == time


def test_times_are_written_as_they_are_read() -> None:
    assert unix_time(rfc3339(1_800_000_000)) == 1_800_000_000
