"""What a whole set of files says about token Secrets: who uses which key, and which Secrets are there.

Kept for every file until the last one was read, so these are small values: names, places, and verdicts. The value of a
Secret is judged the moment it is seen and dropped.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from injector.core.token import MAX_TOKEN, MIN_TOKEN
from injector.lint.template import mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.core.model import TokenRef
    from injector.lint.model import Place


class Flaw(Enum):
    """What can be wrong with a token's value."""

    EMPTY = "empty"
    NEWLINE = "newline"
    UNFIT = "unfit"  # characters that no HTTP header carries as they are
    LENGTH = "length"
    NOT_TEXT = "not text"  # a number or a list where text belongs: the API server refuses the Secret
    NOT_BASE64 = "not base64"  # under `data`: the API server refuses the Secret


@dataclass(frozen=True, slots=True)
class KeySeen:
    """One key of a Secret: where it is, and what its value is like. Never the value."""

    place: Place
    flaw: Flaw | None
    is_secret: bool  # a value stands in the file: neither empty, nor encrypted, nor a placeholder for another tool


@dataclass(frozen=True, slots=True, repr=False)
class SecretSeen:
    """A Secret in one of the files."""

    namespace: str
    name: str
    keys: Mapping[str, KeySeen]
    in_file: bool  # false for what came through a pipe, which may have been made a moment ago


@dataclass(frozen=True, slots=True, repr=False)
class Use:
    """A Pod template wants a key of a Secret as a token; `where` says in words what asks for it."""

    place: Place
    namespace: str
    ref: TokenRef
    where: str


@dataclass(slots=True, repr=False)
class FileSet:
    """Everything above, of all files."""

    uses: list[Use] = field(default_factory=list)
    secrets: dict[str, list[SecretSeen]] = field(default_factory=dict)

    def add(self, secret: SecretSeen) -> None:
        """Remember a Secret."""
        self.secrets.setdefault(secret.name, []).append(secret)

    def found(self, use: Use) -> list[SecretSeen]:
        """Secrets that `use` could mean. A file that names no namespace may be meant for any."""
        named = self.secrets.get(use.ref.name, [])
        exact = [secret for secret in named if secret.namespace == use.namespace]
        return exact or [secret for secret in named if not secret.namespace or not use.namespace]

    def elsewhere(self, use: Use) -> list[SecretSeen]:
        """Secrets of the wanted name that are all in other namespaces; empty when one is in the right place."""
        return [] if self.found(use) else self.secrets.get(use.ref.name, [])

    def used_keys(self) -> Iterator[tuple[SecretSeen, str, KeySeen]]:
        """Every key of a Secret in the files that some template uses as a token, once."""
        told: set[tuple[int, str]] = set()
        for use in self.uses:
            for secret in self.found(use):
                key = secret.keys.get(use.ref.key)
                if key is not None and (id(secret), use.ref.key) not in told:
                    told.add((id(secret), use.ref.key))
                    yield secret, use.ref.key, key


def is_secret(value: Mapping[str, object]) -> bool:
    """Whether an object is a core/v1 Secret. A SealedSecret or ExternalSecret is none: it holds no value."""
    return value.get("kind") == "Secret" and value.get("apiVersion") == "v1"


def key_paths(value: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """Where each key of a Secret is; `stringData` wins, as the API server has it."""
    return {key: (part, key) for part in ("data", "stringData") for key in mapping(value.get(part))}


def judge(value: Mapping[str, object], path: tuple[str, str], place: Place) -> KeySeen:
    """What one key's value of a Secret is like."""
    part, key = path
    told = mapping(value.get(part))[key]
    if "sops" in value and _ENCRYPTED.fullmatch(text(told)):
        return KeySeen(place, None, is_secret=False)
    if told is None:
        return KeySeen(place, Flaw.EMPTY, is_secret=False)
    if not isinstance(told, str):
        return KeySeen(place, Flaw.NOT_TEXT, is_secret=True)
    if _PLACEHOLDER.fullmatch(told):
        return KeySeen(place, None, is_secret=False)
    if part == "stringData":
        token = told.encode(errors="replace")
    else:
        joined = _FOLDS.sub("", told)
        if not _BASE64.fullmatch(joined):
            return KeySeen(place, Flaw.NOT_BASE64, is_secret=True)
        token = base64.b64decode(joined)
    if _PLACEHOLDER.fullmatch(token.decode(errors="replace")):
        return KeySeen(place, None, is_secret=False)
    return KeySeen(place, flaw_of(token), is_secret=bool(token))


def flaw_of(token: bytes) -> Flaw | None:
    """What is wrong with a token's value; only the worst is told."""
    if not token:
        return Flaw.EMPTY
    if b"\n" in token or b"\r" in token:
        return Flaw.NEWLINE
    if not _CARRIED.fullmatch(token):
        return Flaw.UNFIT
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN:
        return Flaw.LENGTH
    return None


# An HTTP field value, and gRPC metadata, is printable ASCII; blanks at its ends are taken away on the way:
# https://www.rfc-editor.org/rfc/rfc9110#section-5.5
_CARRIED: Final = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
# Go's decoder, and so the API server, passes over line ends in base64.
_FOLDS: Final = re.compile(r"[\r\n]")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ENCRYPTED: Final = re.compile(r"ENC\[.*\]", re.DOTALL)
# What other tools replace before a Secret reaches the cluster: Flux and envsubst, argocd-vault-plugin, vals, Helm-like.
_PLACEHOLDER: Final = re.compile(r"\$\{[^{}]+\}|<[^<>]+>|ref\+[a-z0-9]+://\S+|\{\{[^{}]+\}\}|\$\([A-Za-z_][\w.]*\)")
