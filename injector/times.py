"""Converts times of Kubernetes objects: RFC 3339, in whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def unix_time(text: str | None) -> int | None:
    """Return an RFC 3339 time as seconds since 1970; None if there is none."""
    if not text:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


def rfc3339(time: int) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
