"""What is read off a Pod that no node is needed for."""

from __future__ import annotations

import pytest

from injector.probe import pods
from tests.unit.probe.servers import MARKER


@pytest.mark.parametrize(
    ("addresses", "shown"),
    [
        ((), "no --dapr-listen-addresses, so all of them"),
        (("0.0.0.0", "[::]"), "--dapr-listen-addresses 0.0.0.0,[::]"),  # noqa: S104 - as people write it
        (("\x1b[2J",), "--dapr-listen-addresses (not addresses)"),
        (("x" * 101,), "--dapr-listen-addresses (not addresses)"),
    ],
)
def test_only_addresses_are_shown_as_addresses(addresses: tuple[str, ...], shown: str) -> None:
    assert pods._shown(addresses) == shown


@pytest.mark.parametrize("value", [f"{MARKER}\n", f"$(OTHER){MARKER}", f" {MARKER}", ""])
def test_invalid_literal_is_neither_sent_nor_shown(value: str) -> None:
    right = pods._literal(value)

    assert right.token is None
    assert right.untried
    assert "marker" not in right.untried


def test_literal_is_the_token_that_is_tried() -> None:
    right = pods._literal(MARKER)

    assert right.token is not None
    assert "marker" not in repr(right)
