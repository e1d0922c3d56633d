"""Counts work instead of time: lines of the project that ran, calls of C functions, characters produced.

A loop inside a C function (`in` of a list, `str.count`) counts as one call of any length: such a product of two sizes
is only visible in its output, or to a reader.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import injector

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_OURS: Final = str(Path(injector.__file__).parent)
# Sizes that are compared: one is so many times the other.
TIMES: Final = 8
# How much more than in proportion is linear: sorting and the rounds of `uninject` grow with the logarithm, and small
# counts have not yet reached their bounds. A product of two sizes would be `TIMES` times as much.
SLACK: Final = 1.5


class Meter:
    """Counts lines and calls while it is entered."""

    def __init__(self) -> None:
        self.count = 0
        self._before: tuple[Any, Any] = (None, None)

    def __enter__(self) -> Self:
        # What the collector finalizes is not the work of the code under test.
        gc.disable()
        self._before = (sys.getprofile(), sys.gettrace())
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc: object) -> None:
        profile, trace = self._before  # coverage traces, too, and has to go on with it
        sys.settrace(trace)
        sys.setprofile(profile)
        gc.enable()

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:  # noqa: ANN401 - as the interpreter calls it
        if event == "c_call" and frame.f_code.co_filename.startswith(_OURS):
            self.count += 1

    def _trace(self, frame: FrameType, _event: str, _arg: Any) -> Callable[..., Any] | None:  # noqa: ANN401 - as above
        return self._line if frame.f_code.co_filename.startswith(_OURS) else None

    def _line(self, _frame: FrameType, event: str, _arg: Any) -> Callable[..., Any]:  # noqa: ANN401 - as above
        if event == "line":
            self.count += 1
        return self._line


def is_in_proportion(small: int, large: int, *, times: float = TIMES) -> bool:
    """Whether work for `times` the size is about `times` the work, or less."""
    return large <= SLACK * times * small


def measured(work: Callable[[], int]) -> tuple[int, int]:
    """Lines and calls of some work, and the characters that it reports."""
    with Meter() as meter:
        characters = work()
    return meter.count, characters
