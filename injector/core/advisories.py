"""Published advisories about tokens in daprd, by version.

From https://vuln.go.dev: the ranges of the entries `github.com/dapr/dapr`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

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
_TAG: Final = re.compile(r":v?(\d{1,5})\.(\d{1,5})\.(\d{1,5})(-rc\.\d{1,5})?(?:[-_.][-_.0-9A-Za-z]*)?(?:@.*)?")


def advisories(image: str) -> tuple[str, ...]:
    """The ids of the advisories about the version in an image's tag; none for an image without a version."""
    found = _TAG.fullmatch(image, image.rfind("/") + 1 + _name_length(image))
    if found is None:
        return ()
    major, minor, patch = (int(found[group]) for group in (1, 2, 3))
    version = (major, minor, patch, 0 if found[4] else 1)
    return tuple(name for name, ranges in _AFFECTED.items() if any(low <= version < high for low, high in ranges))


def _name_length(image: str) -> int:
    """The length of the last part of an image's path, without tag and digest."""
    return len(image[image.rfind("/") + 1 :].partition("@")[0].partition(":")[0])
