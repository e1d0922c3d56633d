"""The variables of one container, decoded when a rule needs them. A literal value is never stored.

Kubernetes expands `$(NAME)` in a value from the entries before it:
https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

import re
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from injector.core import names
from injector.core.depth import decode_any_depth
from injector.core.errors import MalformedObjectError
from injector.core.model import Quiet, SourceKind, TokenRef, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from injector.core.model import Container


_T = TypeVar("_T")


class EntryKind(StrEnum):
    """The content of an entry of an `env` list."""

    EMPTY = "empty"  # neither value nor source: daprd then disables authentication
    LITERAL = "literal"
    REFERENCE = "reference"


class FileRef(Value, frozen=True, gc=False):
    """The location of a value in an env file of a volume: https://kep.k8s.io/3721."""

    volume: str
    path: str
    key: str

    @property
    def is_from_seal(self) -> bool:
        """Whether the volume has the name of the volume of a sealed Pod."""
        return self.volume == names.SEAL_VOLUME


class EnvEntry(Value, frozen=True, gc=False):
    """The last entry of a name in an `env` list, which is the one that the kubelet uses.

    `ref` is None for a literal and for sources that cannot be repeated in another container; `copies` is the number of
    entries with the name. If the value refers to other variables (`is_indirect`), the entry has their meaning.
    `file` is the source of a value from an env file.
    `may_be_empty` is true for the value of an annotation or label, which Kubernetes takes for "" if it does not exist,
    for that of a file or a source of a future kind, which are "" in a kubelet that does not know them, and for a text
    of nothing but references, of which no earlier entry sets one: `envFrom` may set it to "".
    """

    index: int
    name: str
    kind: EntryKind
    ref: TokenRef | None = None
    optional: bool = False
    copies: int = 1
    is_indirect: bool = False
    may_be_empty: bool = False
    file: FileRef | None = None

    @property
    def secret(self) -> TokenRef | None:
        """The key of a Secret that has the value, if one does."""
        return self.ref if self.ref is not None and self.ref.kind is SourceKind.SECRET else None


class EnvList(Value, frozen=True, gc=False):
    """The entries of one container with our names; `exists` is false for an absent or null list.

    `uses` has the index of the first entry that refers to a variable before any entry sets it, by variable.
    """

    exists: bool
    api: EnvEntry | None = None
    app: EnvEntry | None = None
    uses: tuple[tuple[str, int], ...] = ()

    @property
    def entries(self) -> tuple[EnvEntry, ...]:
        """The effective entries of our names."""
        return tuple(entry for entry in (self.api, self.app) if entry is not None)

    def get(self, variable: str) -> EnvEntry | None:
        """The effective entry of a variable, if it exists."""
        return self.api if variable == names.API_TOKEN_ENV else self.app

    def first_use(self, variable: str) -> int | None:
        """The index of the first entry that refers to a variable before any entry sets it."""
        return dict(self.uses).get(variable) if self.uses else None


class _EnvVar(Quiet, frozen=True, gc=False):
    name: str = ""
    # The rest of most entries is never decoded.
    value: Raw = Raw()
    valueFrom: Raw = Raw()  # noqa: N815 - Kubernetes' own spelling


class _Selector(Quiet, frozen=True, gc=False):
    name: str = ""
    key: str = ""
    optional: bool | None = None


class _SecretSource(Quiet, frozen=True, gc=False):
    secretKeyRef: _Selector | None = None  # noqa: N815 - Kubernetes' own spelling


class _SecretVar(Quiet, frozen=True, gc=False):
    name: str = ""
    valueFrom: _SecretSource | None = None  # noqa: N815 - Kubernetes' own spelling


class _AnySource(Quiet, frozen=True, gc=False):
    optional: bool | None = None
    fieldPath: Raw = Raw()  # noqa: N815 - Kubernetes' own spelling


class _FileSelector(Quiet, frozen=True, gc=False):
    volumeName: str = ""  # noqa: N815 - Kubernetes' own spelling
    path: str = ""
    key: str = ""


# Looking up an enum member in its class is slow in Python 3.11.
_EMPTY, _LITERAL, _IS_REFERENCE = EntryKind
_REPEATABLE: Final[Mapping[str, SourceKind]] = {kind.value: kind for kind in SourceKind}
_MANAGED: Final = frozenset(names.TOKEN_VARIABLES)
# A managed name contains these bytes literally, or has letters written as \\u escapes: a list with neither has no such
# name.
_MANAGED_END: Final = b"_API_TOKEN"
_REFERENCE_END: Final = b"_API_TOKEN)"
_SECRET: Final = b"secretKeyRef"
_ESCAPE: Final = b"\\"
_OPENING: Final = b"$("
_UNICODE_ESCAPE: Final = b"\\u"
_NOT_A_LIST: Final = "the env of a container is not a list of variables"
_NULL: Final = (b"", b"null")
_EMPTY_STRING: Final = (*_NULL, b'""')

_env_of: Final = attrgetter("env")
_env_vars = msgspec.json.Decoder(list[_EnvVar])
_sources = msgspec.json.Decoder(dict[str, Raw])
_secret_vars = msgspec.json.Decoder(list[_SecretVar])
_string = msgspec.json.Decoder(str)
_selector = msgspec.json.Decoder(_Selector)
_any_source = msgspec.json.Decoder(_AnySource)
_file_selector = msgspec.json.Decoder(_FileSelector)


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
    return _decoded(_managed, raw)


def entries_of(container: Container) -> tuple[EnvEntry, ...]:
    """Every managed entry of `container`, in order, for a container of which `env_of` finds one.

    Raises:
        MalformedObjectError: `env` is not a list of variables.
    """
    return _decoded(_every_managed, bytes(container.env))


def may_read_secret(containers: Iterable[Container]) -> bool:
    """Whether `secret_entries` may find an entry in one of them: a guess, without decoding a list."""
    raw = b"".join(map(_env_of, containers))
    return raw.rfind(_SECRET) >= 0 or (_ESCAPE in raw and _UNICODE_ESCAPE in raw)


def secret_entries(container: Container) -> tuple[tuple[int, str, TokenRef], ...]:
    """Every entry with a value from a Secret: its index, its name, and the reference.

    Raises:
        MalformedObjectError: `env` is not a list of variables.
    """
    if not may_read_secret((container,)):
        return ()
    return tuple(
        (index, entry.name, TokenRef(entry.valueFrom.secretKeyRef.name, entry.valueFrom.secretKeyRef.key))
        for index, entry in enumerate(_decoded(_secret_vars.decode, bytes(container.env)))
        if entry.valueFrom is not None and entry.valueFrom.secretKeyRef is not None
    )


def _decoded(decode: Callable[[bytes | bytearray], _T], raw: bytes) -> _T:
    try:
        return decode_any_depth(decode, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The codec's own message may contain parts of a value.
        raise MalformedObjectError(_NOT_A_LIST) from None


def _managed(raw: bytes | bytearray) -> EnvList:
    entries = _env_vars.decode(raw)
    managed = [(entry.name, index) for index, entry in enumerate(entries) if entry.name in _MANAGED]
    last = dict(managed)
    found = {entry.name: entry for entry in _resolved(entries, last.values())}
    if len(found) < len(managed):
        copies = [name for name, _ in managed]
        found = {name: replace(entry, copies=copies.count(name)) for name, entry in found.items()}
    uses = tuple(_first_uses(entries).items()) if _may_refer(raw) else ()
    return EnvList(True, found.get(names.API_TOKEN_ENV), found.get(names.APP_TOKEN_ENV), uses)


def _every_managed(raw: bytes | bytearray) -> tuple[EnvEntry, ...]:
    entries = _env_vars.decode(raw)
    managed = dict.fromkeys(index for index, entry in enumerate(entries) if entry.name in _MANAGED)
    return tuple(_resolved(entries, managed))


# --- references between variables ---


def _may_refer(raw: bytes | bytearray) -> bool:
    return _REFERENCE_END in raw or _UNICODE_ESCAPE in raw


def _first_uses(entries: Sequence[_EnvVar]) -> dict[str, int]:
    """By managed variable: the index of the first entry that refers to it before any entry sets it."""
    unset = set(names.TOKEN_VARIABLES)
    uses: dict[str, int] = {}
    for index, entry in enumerate(entries):
        unset.discard(entry.name)
        if not unset:
            break
        if _may_refer(bytes(entry.value)):
            used = unset.intersection(_references(entry.value))
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


def _resolved(entries: Sequence[_EnvVar], indexes: Collection[int]) -> list[EnvEntry]:
    """The entries at `indexes`. Only a value with a reference needs the entries before it."""
    plain = [entry for index in indexes if (entry := _plain(index, entries[index])) is not None]
    if len(plain) == len(indexes):
        return plain
    known: dict[str, EnvEntry] = {}
    found = []
    for index in range(max(indexes) + 1):
        variable = entries[index]
        entry = known[variable.name] = _plain(index, variable) or _indirect(index, variable, known)
        if index in indexes:
            found.append(entry)
    return found


def _plain(index: int, variable: _EnvVar) -> EnvEntry | None:
    """An entry without references to other variables; None for any other."""
    sources = bytes(variable.valueFrom)
    if sources not in _NULL:
        given = {kind: raw for kind, raw in _sources.decode(sources).items() if bytes(raw) not in _NULL}
        if given:
            return _reference(index, variable.name, given)
    text = bytes(variable.value)
    if text in _EMPTY_STRING:
        return EnvEntry(index, variable.name, _EMPTY)
    if _OPENING in text or _UNICODE_ESCAPE in text:
        return None
    return EnvEntry(index, variable.name, _LITERAL)


def _indirect(index: int, variable: _EnvVar, known: Mapping[str, EnvEntry]) -> EnvEntry:
    """An entry whose value may have references; `known` are the entries before it."""
    name = variable.name
    used = [known.get(other) for other in _references(variable.value)]
    parts = [entry for entry in used if entry is not None]
    is_only_references = bool(used) and _ONLY_REFERENCES.fullmatch(_text(variable.value)) is not None
    is_complete = is_only_references and len(parts) == len(used)
    if is_complete and len(parts) == 1:
        return replace(parts[0], index=index, name=name, is_indirect=True)
    if is_complete and all(entry.kind is _EMPTY for entry in parts):
        return EnvEntry(index, name, _EMPTY, is_indirect=True)
    may_be_empty = is_only_references and all(entry.may_be_empty or entry.kind is _EMPTY for entry in parts)
    if any(entry.kind is _IS_REFERENCE for entry in parts):
        optional = any(entry.optional for entry in parts)
        return EnvEntry(index, name, _IS_REFERENCE, optional=optional, is_indirect=True, may_be_empty=may_be_empty)
    return EnvEntry(index, name, _LITERAL, may_be_empty=may_be_empty)


_ONLY_REFERENCES: Final = re.compile(r"(?:\$\([^)]*+\))++")


def _reference(index: int, name: str, sources: Mapping[str, Raw]) -> EnvEntry:
    ref: TokenRef | None = None
    file: FileRef | None = None
    optional = may_be_empty = False
    for kind, raw in sources.items():
        if kind in _REPEATABLE:
            selector = _selector.decode(raw)
            optional = optional or bool(selector.optional)
            # Kubernetes rejects two sources; the result must not depend on their order.
            ref = TokenRef(selector.name, selector.key, _REPEATABLE[kind]) if len(sources) == 1 else None
        else:
            source = _other_source(raw)
            optional = optional or bool(source.optional)
            is_known = kind in _NEVER_EMPTY and not bytes(source.fieldPath).startswith(_METADATA)
            may_be_empty = may_be_empty or not is_known
            file = _file(raw) if kind == _FILE and len(sources) == 1 else None
    return EnvEntry(index, name, _IS_REFERENCE, ref, optional, may_be_empty=may_be_empty, file=file)


# Sources of other kinds may be "": a file, and whatever a kubelet does not know.
_NEVER_EMPTY: Final = frozenset({"fieldRef", "resourceFieldRef"})
# A field that is "" if the annotation or label does not exist.
_METADATA: Final = (b'"metadata.annotations[', b'"metadata.labels[')


def _other_source(source: Raw) -> _AnySource:
    """A source of another kind; kinds of future releases may have any shape."""
    try:
        return _any_source.decode(source)
    except msgspec.ValidationError:
        return _AnySource()


def _file(source: Raw) -> FileRef | None:
    try:
        found = _file_selector.decode(source)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return FileRef(found.volumeName, found.path, found.key)


_FILE: Final = "fileKeyRef"
_NO_LIST: Final = EnvList(exists=False)
_NO_ENTRY: Final = EnvList(exists=True)
