"""Facts about a set of files: which templates use which key, which Secrets exist, and where annotations are.

They are kept until the last file was read, so they are small: names, places, and results. The value of a Secret is
evaluated as soon as it is read, and dropped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from injector.core.messages import listed
from injector.core.placeholders import has_placeholder, is_placeholder
from injector.core.token import TokenFlaw, flaw_of
from injector.lint.location import label
from injector.lint.values import mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.model import TokenRef
    from injector.lint.location import Location


class Malformed(Enum):
    """What can be wrong with a value before it is a token: the API server refuses the Secret."""

    NOT_TEXT = "not text"  # a number or a list where text belongs
    NOT_BASE64 = "not base64"  # under `data`


@dataclass(frozen=True, slots=True)
class KeySeen:
    """One key of a Secret: where it is, and what its value is like. Never the value."""

    location: Location
    flaw: TokenFlaw | Malformed | None
    is_secret: bool  # a value is in the file: neither empty, nor encrypted, nor a placeholder for another tool


@dataclass(frozen=True, slots=True, repr=False)
class SecretSeen:
    """A Secret in one of the files."""

    namespace: str
    name: str
    keys: Mapping[str, KeySeen]
    in_file: bool  # false for what came through a pipe, which may have been made a moment ago


@dataclass(frozen=True, slots=True, repr=False)
class SecretUse:
    """A Pod template uses a key of a Secret as a token; `where` describes what requests it."""

    location: Location
    namespace: str
    ref: TokenRef
    where: str
    is_dapr_shared: bool = False


class SecretGroup:
    """Secrets that one use could mean. Files may hold thousands of them, and of uses: answers are made once.

    To be asked once every Secret is in it.
    """

    def __init__(self) -> None:
        self.secrets: list[SecretSeen] = []

    @cached_property
    def by_key(self) -> Mapping[str, list[SecretSeen]]:
        """The Secrets that have a key."""
        found: dict[str, list[SecretSeen]] = {}
        for secret in self.secrets:
            for key in secret.keys:
                found.setdefault(key, []).append(secret)
        return found

    @cached_property
    def keys_in_words(self) -> str:
        """Some of the keys, for a message."""
        known = sorted({label(key) for key in self.by_key})
        return listed(known, _MOST_KEYS) or "none"

    @cached_property
    def has_unknown_key(self) -> bool:
        """Whether another tool replaces the name of a key."""
        return any(map(has_placeholder, self.by_key))

    @cached_property
    def namespaces_in_words(self) -> str:
        """Some of the namespaces, for a message."""
        return listed(sorted({label(secret.namespace) for secret in self.secrets}))


_MOST_KEYS: Final = 5
_NO_SECRETS: Final = SecretGroup()


@dataclass(slots=True, repr=False)
class FileSet:
    """The Secrets and their uses in all files, and the places of annotations by file."""

    uses: list[SecretUse] = field(default_factory=list)
    annotated: set[str] = field(default_factory=set)  # files with a Pod template that has annotations of Dapr
    outside: dict[str, Location] = field(
        default_factory=dict
    )  # the first annotation of Dapr that is in no object with one
    _named: dict[str, SecretGroup] = field(default_factory=dict)
    _exact: dict[tuple[str, str], SecretGroup] = field(default_factory=dict)  # by name and namespace

    def add(self, secret: SecretSeen) -> None:
        """Add a Secret."""
        self._named.setdefault(secret.name, SecretGroup()).secrets.append(secret)
        self._exact.setdefault((secret.name, secret.namespace), SecretGroup()).secrets.append(secret)

    def found(self, use: SecretUse) -> SecretGroup:
        """Secrets that `use` could mean. A file that names no namespace may be meant for any."""
        return self._found(use.namespace, use.ref)

    def has_key(self, namespace: str, ref: TokenRef) -> bool:
        """Whether a Secret that a Pod in `namespace` could mean has the key."""
        return ref.key in self._found(namespace, ref).by_key

    def _found(self, namespace: str, ref: TokenRef) -> SecretGroup:
        exact = self._exact.get((ref.name, namespace))
        if exact is not None:
            return exact
        any_ = self._exact.get((ref.name, "")) if namespace else self._named.get(ref.name)
        return any_ or _NO_SECRETS

    def elsewhere(self, use: SecretUse) -> SecretGroup:
        """Secrets of the wanted name that are all in other namespaces; empty when one is in the right place."""
        return _NO_SECRETS if self.found(use).secrets else self._named.get(use.ref.name, _NO_SECRETS)

    def used_keys(self) -> Iterator[tuple[SecretSeen, str, KeySeen]]:
        """Every key of a Secret in the files that some template uses as a token, once."""
        looked_up: set[tuple[int, str]] = set()
        yielded: set[tuple[int, str]] = set()
        for use in self.uses:
            group, key = self.found(use), use.ref.key
            if (id(group), key) in looked_up:
                continue
            looked_up.add((id(group), key))
            for secret in group.by_key.get(key, ()):
                if (id(secret), key) not in yielded:
                    yielded.add((id(secret), key))
                    yield secret, key, secret.keys[key]


def is_secret(value: Mapping[str, object]) -> bool:
    """True for a core/v1 Secret; a SealedSecret or ExternalSecret has no value."""
    return value.get("kind") == "Secret" and value.get("apiVersion") == "v1"


def key_paths(value: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """Where each key of a Secret is; `stringData` wins, as the API server has it."""
    return {key: (part, key) for part in ("data", "stringData") for key in mapping(value.get(part))}


def evaluate(value: Mapping[str, object], path: tuple[str, str], location: Location) -> KeySeen:
    """Evaluate the value of one key of a Secret."""
    part, key = path
    held = value.get(part)
    content = held.get(key) if isinstance(held, Mapping) else None
    if "sops" in value and _ENCRYPTED.fullmatch(text(content)):
        return KeySeen(location, None, is_secret=False)
    if content is None:
        return KeySeen(location, TokenFlaw.EMPTY, is_secret=False)
    if not isinstance(content, str):
        return KeySeen(location, Malformed.NOT_TEXT, is_secret=True)
    if is_placeholder(content):
        return KeySeen(location, None, is_secret=False)
    if part == "stringData":
        token = content.encode(errors="replace")
    else:
        joined = _FOLDS.sub("", content)
        if not _BASE64.fullmatch(joined):
            return KeySeen(location, Malformed.NOT_BASE64, is_secret=True)
        token = base64.b64decode(joined)
    if is_placeholder(token.decode(errors="replace")):
        return KeySeen(location, None, is_secret=False)
    return KeySeen(location, flaw_of(token), is_secret=bool(token))


# Go's decoder, and so the API server, passes over line ends in base64.
_FOLDS: Final = re.compile(r"[\r\n]")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ENCRYPTED: Final = re.compile(r"ENC\[.*\]", re.DOTALL)
