"""Published advisories about tokens in daprd, by version.

From https://vuln.go.dev: the ranges of the entries `github.com/dapr/dapr`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from injector.core.images import repository_and_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

# Major, minor, patch, and 0 for a release candidate, which is before its release.
_Version: TypeAlias = tuple[int, int, int, int]

# First affected version, first fixed one.
_AFFECTED: Final[Mapping[str, tuple[tuple[_Version, _Version], ...]]] = {
    # the token is not checked for some paths of the HTTP API
    "GO-2023-1955": (((0, 0, 0, 0), (1, 10, 9, 1)), ((1, 11, 0, 1), (1, 11, 2, 1))),
    # the app token is sent to other apps
    "GO-2024-2879": (((1, 13, 0, 1), (1, 13, 3, 1)),),
    # a path of service invocation evades access control
    "GO-2026-5242": (
        ((1, 3, 0, 1), (1, 15, 14, 1)),
        ((1, 16, 0, 0), (1, 16, 14, 1)),
        ((1, 17, 0, 0), (1, 17, 5, 1)),
    ),
}
_TAG: Final = re.compile(r"v?(\d{1,5})\.(\d{1,5})\.(\d{1,5})(-rc\.\d{1,5})?(?:[-_.][-_.0-9A-Za-z]*)?", re.ASCII)


def advisories(image: str) -> tuple[str, ...]:
    """The ids of the advisories about the version in an image's tag; none for an image without a version."""
    version = _version(image)
    return tuple(name for name, _ in _affecting(version)) if version is not None else ()


def daprd_version(image: str) -> str:
    """The version in an image's tag, such as `1.15.0`; empty for an image without one."""
    found = _TAG.fullmatch(repository_and_tag(image)[1])
    return f"{found[1]}.{found[2]}.{found[3]}{found[4] or ''}" if found is not None else ""


def fixed_in(image: str) -> str:
    """The first version after that of an image that no advisory is about; empty if none is about the image."""
    version = fixed = _version(image)
    while fixed is not None and (affecting := _affecting(fixed)):
        fixed = max(high for _, high in affecting)
    return ".".join(map(str, fixed[:3])) if fixed is not None and fixed != version else ""


def _affecting(version: _Version) -> list[tuple[str, _Version]]:
    """Return the id of each advisory about a version, and the version that fixes it."""
    return [(name, high) for name, ranges in _AFFECTED.items() for low, high in ranges if low <= version < high]


def _version(image: str) -> _Version | None:
    found = _TAG.fullmatch(repository_and_tag(image)[1])
    return (int(found[1]), int(found[2]), int(found[3]), 0 if found[4] else 1) if found is not None else None
