"""YAML documents, read by libyaml: a reader in Python takes sixteen times as long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # it brings no types


def document(source: str | Path) -> Any:  # noqa: ANN401 - YAML of any shape
    """The only document of a text or a file."""
    return yaml.load(_text(source), yaml.CSafeLoader)


def documents(source: str | Path) -> list[Any]:
    """The documents of a text or a file, without empty ones."""
    return [found for found in yaml.load_all(_text(source), yaml.CSafeLoader) if found]


def _text(source: str | Path) -> str:
    return source.read_text() if isinstance(source, Path) else source
