"""Pages that are made from the code: `UPDATE_GOLDEN=1 pytest` writes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def check_page(file: Path, wanted: str) -> None:
    """Compare a page with what the code makes of it now."""
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(wanted)
    assert file.read_text() == wanted
