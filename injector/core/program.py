"""Recognize the program that a container runs, whatever its name is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names

if TYPE_CHECKING:
    from injector.core.model import Container

# Dapr's image with all of its programs; `command` selects one.
_ALL_PROGRAMS: Final = "daprio/dapr"
_DAPR: Final = "dapr"


def runs_daprd(container: Container) -> bool:
    """Whether a container runs daprd: by its image, of any registry, tag or digest, or by its command."""
    command = container.command
    if command and command[0].rpartition("/")[2] == names.SIDECAR:
        return True
    image = container.image
    if not image or _DAPR not in image:
        return False
    repository = _repository(image)
    if repository.rpartition("/")[2] == names.SIDECAR:
        return True
    return not command and (repository == _ALL_PROGRAMS or repository.endswith(f"/{_ALL_PROGRAMS}"))


def _repository(image: str) -> str:
    """The image without tag and digest: https://pkg.go.dev/github.com/distribution/reference."""
    path, slash, last = image.partition("@")[0].rpartition("/")
    return path + slash + last.partition(":")[0]
