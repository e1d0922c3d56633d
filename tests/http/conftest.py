"""One process for the tests that leave it as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http.serving import Serving, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A `serve` process with everything at its defaults."""
    with serving(tmp_path_factory.mktemp("serving"), from_nothing=True) as running:
        yield running
