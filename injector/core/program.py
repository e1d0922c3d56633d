"""Recognize the program that a container runs, whatever its name is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from injector.core import names

if TYPE_CHECKING:
    from injector.core.model import Container

_DAPRD: Final = names.SIDECAR.encode()
# Dapr's image with all of its programs; `command` selects one.
_ALL_PROGRAMS: Final = b"daprio/dapr"
_DAPR: Final = b"dapr"

_first_word = msgspec.json.Decoder(list[str])


def runs_daprd(container: Container) -> bool:
    """Whether a container runs daprd: by its image, of any registry, tag or digest, or by its command."""
    image = bytes(container.image)
    command = bytes(container.command)
    if _DAPR not in image and _DAPRD not in command:
        return False
    repository = _repository(image)
    if repository.rpartition(b"/")[2] == _DAPRD or _is_daprd(command):
        return True
    return not command and (repository == _ALL_PROGRAMS or repository.endswith(b"/" + _ALL_PROGRAMS))


def _repository(image: bytes) -> bytes:
    """The image without tag and digest: https://pkg.go.dev/github.com/distribution/reference."""
    path, slash, last = image.strip(b'"').partition(b"@")[0].rpartition(b"/")
    return path + slash + last.partition(b":")[0]


def _is_daprd(command: bytes) -> bool:
    try:
        words = _first_word.decode(command)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return bool(words) and words[0].rpartition("/")[2] == names.SIDECAR
