"""The variables of one container, decoded when a rule needs them. A literal value is never stored.

Kubernetes expands `$(NAME)` in a value from the entries before it:
https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw, Struct

from injector.core import names
from injector.core.depth import decode_any_depth
from injector.core.errors import MalformedObjectError
from injector.core.model import Quiet, SourceKind, TokenRef, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from injector.core.model import Container


class EntryKind(StrEnum):
    """The content of an entry of an `env` list."""

    EMPTY = "empty"  # neither value nor source: daprd then disables authentication
    LITERAL = "literal"
    REFERENCE = "reference"


class EnvEntry(Value, frozen=True, gc=False):
    """The last entry of a name in an `env` list, which is the one that the kubelet uses.

    `ref` is None for a literal and for sources that cannot be repeated in another container; `copies` is the number of
    entries with the name.
    """

    index: int
    name: str
    kind: EntryKind
    ref: TokenRef | None = None
    optional: bool = False
    copies: int = 1


class EnvList(Value, frozen=True, gc=False):
    """The entries of one container with our names; `exists` is false for an absent or null list.

    `api_use` and `app_use` are the index of the first entry that refers to the variable before any entry sets it.
    """

    exists: bool
    api: EnvEntry | None = None
    app: EnvEntry | None = None
    api_use: int | None = None
    app_use: int | None = None

    def get(self, variable: str) -> EnvEntry | None:
        """The effective entry of a variable, if it exists."""
        return self.api if variable == names.API_TOKEN_ENV else self.app

    def first_use(self, variable: str) -> int | None:
        """The index of the first entry that refers to a variable before any entry sets it."""
        return self.api_use if variable == names.API_TOKEN_ENV else self.app_use


class _EnvName(Struct, frozen=True, gc=False):
    name: str = ""


class _EnvVar(Quiet, frozen=True, gc=False):
    value: Raw = Raw()
    valueFrom: dict[str, Raw] | None = None  # noqa: N815 - Kubernetes' own spelling


class _Selector(Quiet, frozen=True, gc=False):
    name: str = ""
    key: str = ""
    optional: bool | None = None


class _AnySource(Quiet, frozen=True, gc=False):
    optional: bool | None = None


_REPEATABLE: Final[Mapping[str, SourceKind]] = {kind.value: kind for kind in SourceKind}
# A managed name contains these bytes literally, or has letters written as \\u escapes: a list with neither has no such
# name.
_MANAGED_END: Final = b"_API_TOKEN"
_REFERENCE_END: Final = b"_API_TOKEN)"
_ESCAPE: Final = b"\\"
_UNICODE_ESCAPE: Final = b"\\u"
_NOT_A_LIST: Final = "the env of a container is not a list of variables"
_NULL: Final = (b"", b"null")
_EMPTY_STRING: Final = (*_NULL, b'""')

_env_names = msgspec.json.Decoder(list[_EnvName])
_env_vars = msgspec.json.Decoder(list[Raw])
_env_var = msgspec.json.Decoder(_EnvVar)
_string = msgspec.json.Decoder(str)
_selector = msgspec.json.Decoder(_Selector)
_any_source = msgspec.json.Decoder(_AnySource)


def env_of(container: Container) -> EnvList:
    """The managed variables of `container`.

    Raises:
        MalformedObjectError: `env` is not a list of variables.
    """
    raw = bytes(container.env)
    if raw in _NULL:
        return _NO_LIST
    if not raw.startswith(b"["):
        raise MalformedObjectError(_NOT_A_LIST)
    # Searching from the right, and for a single byte, is several times faster than searching a word from the left.
    if raw.rfind(_MANAGED_END) < 0 and (_ESCAPE not in raw or _UNICODE_ESCAPE not in raw):
        return _NO_ENTRY
    try:
        return decode_any_depth(_managed, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The codec's own message may contain parts of a value.
        raise MalformedObjectError(_NOT_A_LIST) from None


def _managed(raw: bytes | bytearray) -> EnvList:
    found = [entry.name for entry in _env_names.decode(raw)]
    entries = _env_vars.decode(raw)
    uses = _first_uses(found, entries) if _may_refer(raw) else {}
    return EnvList(
        True,
        _last(names.API_TOKEN_ENV, found, entries),
        _last(names.APP_TOKEN_ENV, found, entries),
        uses.get(names.API_TOKEN_ENV),
        uses.get(names.APP_TOKEN_ENV),
    )


def _may_refer(raw: bytes | bytearray) -> bool:
    return _REFERENCE_END in raw or _UNICODE_ESCAPE in raw


def _first_uses(found: Sequence[str], entries: Sequence[Raw]) -> dict[str, int]:
    """By managed variable: the index of the first entry that refers to it before any entry sets it."""
    unset = {names.API_TOKEN_ENV, names.APP_TOKEN_ENV}
    uses: dict[str, int] = {}
    for index, entry in enumerate(entries):
        unset.discard(found[index])
        if not unset:
            break
        if _may_refer(bytes(entry)):
            used = unset.intersection(_references(_env_var.decode(entry).value))
            uses.update(dict.fromkeys(used, index))
            unset -= used
    return uses


def _references(value: Raw) -> list[str]:
    """The names that a value refers to. `$$` is a dollar sign, and a name ends at the first `)`.

    https://github.com/kubernetes/kubernetes/blob/master/third_party/forked/golang/expansion/expand.go
    """
    text = _text(value)
    # Each `$(` in this part has its `)`, so that the search takes one pass.
    return [name for name in _REFERENCE.findall(text[: text.rfind(")") + 1]) if name]


_REFERENCE: Final = re.compile(r"\$(?:\(([^)]*)\)|.)", re.DOTALL)


def _text(value: Raw) -> str:
    """A value, if it is text; no API server stores any other."""
    try:
        return _string.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _last(name: str, found: Sequence[str], entries: Sequence[Raw]) -> EnvEntry | None:
    copies = found.count(name)
    if not copies:
        return None
    index = len(found) - 1 - found[::-1].index(name)
    variable = _env_var.decode(entries[index])
    sources = {kind: raw for kind, raw in (variable.valueFrom or {}).items() if bytes(raw) not in _NULL}
    if sources:
        return _reference(index, name, copies, sources)
    kind = EntryKind.EMPTY if bytes(variable.value) in _EMPTY_STRING else EntryKind.LITERAL
    return EnvEntry(index, name, kind, copies=copies)


def _reference(index: int, name: str, copies: int, sources: dict[str, Raw]) -> EnvEntry:
    ref: TokenRef | None = None
    optional = False
    for kind, raw in sources.items():
        if kind in _REPEATABLE:
            selector = _selector.decode(raw)
            optional = optional or bool(selector.optional)
            # Kubernetes rejects two sources; the result must not depend on their order.
            ref = TokenRef(selector.name, selector.key, _REPEATABLE[kind]) if len(sources) == 1 else None
        else:
            optional = optional or _fails_open(raw)
    return EnvEntry(index, name, EntryKind.REFERENCE, ref, optional, copies)


def _fails_open(source: Raw) -> bool:
    """Whether a source of another kind is optional; kinds of future releases may have any shape."""
    try:
        return bool(_any_source.decode(source).optional)
    except msgspec.ValidationError:
        return False


_NO_LIST: Final = EnvList(exists=False)
_NO_ENTRY: Final = EnvList(exists=True)
