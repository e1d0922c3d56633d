"""Clear the cached plans of the core before each test."""

import pytest

from tests.builders import forget


@pytest.fixture(autouse=True)
def _clear_caches() -> None:
    forget()
