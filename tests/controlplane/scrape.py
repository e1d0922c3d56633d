"""The ops port of a webhook, and metrics that are not older than the request for them."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import httpx

from injector.webhook.exposition import MAX_AGE
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


def get(url: str) -> httpx.Response:
    """GET over HTTP. A client would load the system's authorities all the same, for 50 ms at each call."""
    return httpx.get(url, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=60.0)


def current(fetch: Callable[[], str]) -> str:
    """Return what /metrics shows now; `fetch` reads it.

    The webhook reuses a text for up to `MAX_AGE` seconds. So the first text may be older than this call; a different
    one is not, and neither is one that was requested `MAX_AGE` later.
    """
    first, outdated = fetch(), time.monotonic() + MAX_AGE

    def rendered_again() -> str | None:
        is_late = time.monotonic() >= outdated
        text = fetch()
        return text if is_late or text != first else None

    return wait_for("metrics that were rendered again", rendered_again)
