"""Where an exception passed, without any value: all that a log or a terminal may show of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


def internal_error(error: BaseException) -> str:
    """Return what a command shows of an unexpected exception: its type and where it passed."""
    places = "".join(f"\n  {place}" for place in frames(error.__traceback__))
    return f"internal error ({type(error).__qualname__}); please report it with these locations:{places}"


def frames(trace: TracebackType | None) -> list[str]:
    """Return where an exception passed, outermost first: file, line and function, and no value of any variable."""
    found: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")  # noqa: PTH119 - a name only
        trace = trace.tb_next
    return found
