"""Errors of pydantic as the second half of a sentence that begins with the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.core import names

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def quoted(text: str) -> str:
    """Return a value as a message shows it: its first characters, and only those that can be printed."""
    clipped = text if len(text) <= names.MAX_SHOWN_VALUE else text[: names.MAX_SHOWN_VALUE - 3] + "..."
    return "'" + "".join(c if " " <= c <= "~" else "?" for c in clipped) + "'"


def _sentence(detail: ErrorDetails) -> str:
    """Return what a validator of ours raised, or else what pydantic says."""
    context = detail.get("ctx", {}).get("error")
    return str(context) if context is not None else detail["msg"]


def explained(detail: ErrorDetails) -> str:
    """The words of pydantic as the second half of a sentence that began with the value."""
    message = _sentence(detail)
    wanted = message.removeprefix("Input should be ")
    return f"is not allowed; {message}" if wanted == message else f"is not allowed; write {wanted}"
