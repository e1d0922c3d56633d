"""Each test decides anew."""

import pytest

from tests.builders import forget


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    forget()
