"""Recognize the program that a container of a review runs, whatever its name is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from injector.core import names
from injector.core.sidecar import is_daprd

if TYPE_CHECKING:
    from injector.core.model import Container

_DAPR: Final = b"dapr"
_DAPRD: Final = names.SIDECAR.encode()

_string = msgspec.json.Decoder(str)
_words = msgspec.json.Decoder(list[str])


def runs_daprd(container: Container) -> bool:
    """Whether a container runs daprd: by its image or its command, decoded only if one of them may be Dapr's."""
    if _DAPR not in bytes(container.image) and _DAPRD not in bytes(container.command):
        return False
    return is_daprd(image_of(container), command_of(container))


def image_of(container: Container) -> str:
    """The image; empty if there is none, or no text."""
    try:
        return _string.decode(container.image)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def command_of(container: Container) -> list[str]:
    """The command; empty if there is none, or no list of texts."""
    try:
        return _words.decode(container.command)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
