"""Describes validation errors of pydantic; the text follows the value in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def explained(detail: ErrorDetails) -> str:
    """Return the error as text that follows the value."""
    raised = detail.get("ctx", {}).get("error")
    message = str(raised) if raised is not None else detail["msg"]
    wanted = message.removeprefix("Input should be ")
    return f"is not allowed; {message}" if wanted == message else f"is not allowed; write {wanted}"
