"""Describes validation errors of pydantic; the text follows the value in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.core import names

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def quoted(text: str) -> str:
    """Return a quoted value for a message: its first characters, without unprintable ones."""
    clipped = text if len(text) <= names.MAX_SHOWN_VALUE else text[: names.MAX_SHOWN_VALUE - 3] + "..."
    return "'" + "".join(c if " " <= c <= "~" else "?" for c in clipped) + "'"


def explained(detail: ErrorDetails) -> str:
    """Return the error as text that follows the value."""
    raised = detail.get("ctx", {}).get("error")
    message = str(raised) if raised is not None else detail["msg"]
    wanted = message.removeprefix("Input should be ")
    return f"is not allowed; {message}" if wanted == message else f"is not allowed; write {wanted}"
