"""YAML documents, read and written by libyaml: code in Python takes sixteen times as long."""

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


def dumped(value: Any, **layout: Any) -> str:  # noqa: ANN401 - YAML of any shape
    """A value as YAML, in its own order, written by libyaml."""
    return str(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, **layout))


def _text(source: str | Path) -> str:
    return source.read_text() if isinstance(source, Path) else source
