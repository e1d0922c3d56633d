"""The findings that existed when a project began to use the linter: known, counted, and not reported again.

An entry is a rule, an object and a path in it: no message and no value, so that nothing can be guessed from the file,
and no file name or line, so that moving things does not bring old findings back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from injector.lint.model import Finding

VERSION: Final = 1
Key = tuple[str, str, str]


class BaselineError(Exception):
    """The file is not a baseline of lint; the message has no part of it."""


class _KnownFinding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: str
    object: str
    path: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


class _BaselineFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    findings: tuple[_KnownFinding, ...]


def key(finding: Finding) -> Key:
    """Return the key that identifies a finding in a baseline."""
    return finding.rule.id, str(finding.location.identity), finding.location.path


def fingerprint(finding: Finding) -> str:
    """Return the key as one word of fixed length."""
    return hashlib.sha256("\0".join(key(finding)).encode()).hexdigest()[:32]


def write(findings: Iterable[Finding]) -> bytes:
    """A baseline that knows `findings`: sorted, one entry a line, so that its changes can be reviewed."""
    counted = sorted(Counter(map(key, findings)).items())
    lines = ",\n".join(f"    {msgspec.json.encode(_KnownFinding(*what, count)).decode()}" for what, count in counted)
    return f'{{\n  "version": {VERSION},\n  "findings": [\n{lines}\n  ]\n}}\n'.encode()


def read(content: bytes) -> Mapping[Key, int]:
    """Return how often the baseline contains each finding.

    Raises:
        BaselineError: `content` is not a baseline, or of another version.
    """
    try:
        file = msgspec.json.decode(content, type=_BaselineFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BaselineError("not a baseline of lint; write one with --write-baseline") from None
    if file.version != VERSION:
        raise BaselineError(f"a baseline of another version; this program reads version {VERSION}")
    known: Counter[Key] = Counter()
    for entry in file.findings:
        known[entry.rule, entry.object, entry.path] += entry.count
    return known


def sort(findings: Iterable[Finding], known: Mapping[Key, int]) -> tuple[tuple[Finding, ...], tuple[Finding, ...], int]:
    """Return the new findings, the known ones, and how many of the known have gone.

    Of equal findings, as many are known as the baseline has.
    """
    left = Counter(known)
    new: list[Finding] = []
    old: list[Finding] = []
    for finding in findings:
        what = key(finding)
        if left[what] > 0:
            left[what] -= 1
            old.append(finding)
        else:
            new.append(finding)
    return tuple(new), tuple(old), sum(count for count in left.values() if count > 0)
