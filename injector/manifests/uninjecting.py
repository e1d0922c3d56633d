"""Removes the entries that the status record lists and that are unchanged, the seal, and then the record.

An entry that replaced something stays, because the previous value is not recorded; so does an entry that was changed
since. The seal stays if another entry reads from it. The edited text is read again and compared with the wanted values;
a difference is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.model import Injected, SourceKind, TokenRef, read_record, replace
from injector.core.seal import file_entry, secret_entry
from injector.core.sealed import SEAL_NAMES
from injector.manifests.documents import fault_at, value_at
from injector.manifests.edit import ENV
from injector.manifests.errors import ManifestError, TextError
from injector.manifests.layout import reread
from injector.manifests.nodes import copied
from injector.manifests.remove import Remover
from injector.manifests.sealing import items_of, reader_of, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from injector.manifests.documents import Document, Object, Path, Template
    from injector.manifests.layout import Splice
    from injector.manifests.nodes import Json


class UninjectOutcome(StrEnum):
    """The outcome for a Pod template."""

    REMOVED = "removed"
    NO_RECORD = "no-record"
    BAD_RECORD = "bad-record"


class EntryOutcome(StrEnum):
    """The outcome for an entry of the record."""

    REMOVED = "removed"
    REPLACED = "replaced"  # the previous value is not recorded
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class TemplateResult:
    """The outcome for a Pod template and for each entry of its record."""

    source: str
    document: int
    line: int
    object: str
    path: Path
    outcome: UninjectOutcome
    entries: tuple[tuple[Injected, EntryOutcome], ...]
    # By container, and then `spec`: by key of a list, the indexes of items, in order.
    removable: Mapping[Path, dict[str, list[int]]]
    # Entries that stay and read from a seal that does not: by container, index and new value.
    unsealed: Sequence[tuple[Path, int, dict[str, Json]]]
    seal_reader: str  # the container for which the seal stays, if any


def evaluate(document: Document) -> list[TemplateResult]:
    """Return what `uninject` removes from each Pod template of a document."""
    return [_evaluated(document, each, template) for each in document.objects() for template in each.templates()]


def uninject(read: Sequence[Document], results: Sequence[Sequence[TemplateResult]]) -> list[Splice]:
    """Return the splices that take what `results` has out of the text of a chunk's documents.

    Raises:
        ManifestError: An entry cannot be taken out without changing something else.
    """
    recorded = [[each for each in found if each.outcome is UninjectOutcome.REMOVED] for found in results]
    splices = [splice for document, found in zip(read, recorded, strict=True) for splice in _splices(document, found)]
    wanted = (_left(document.value, found) for document, found in zip(read, recorded, strict=True))
    # A list that became empty may be left as nothing, as null or as it is: they mean the same.
    if splices and [_bare(value) for value in reread(read, splices)] != [_bare(value) for value in wanted]:
        first = read[0]
        raise ManifestError(
            first.source, first.index, first.chunk.line, "the entries cannot be taken out of its layout; do it by hand"
        )
    return splices


def _splices(document: Document, recorded: Sequence[TemplateResult]) -> list[Splice]:
    remover = Remover(document)
    splices: list[Splice] = []
    try:
        for each in recorded:
            for container, index, value in each.unsealed:
                remover.replace(container, index, value)
            for holder, lists in each.removable.items():
                splices += remover.items(holder, lists)
            splices += remover.annotation(each.path, names.STATUS)
    except TextError as error:
        raise fault_at(document.chunk, document.source, document.index, error) from None
    return splices + remover.splices


def _left(value: Json, recorded: Sequence[TemplateResult]) -> Json:
    """A copy of a document's value without the entries and the records."""
    copy: Json = copied(value) if recorded else value
    for each in recorded:
        for path, index, entry in each.unsealed:
            value_at(copy, path)[ENV][index] = entry
        for path, lists in each.removable.items():
            for key, indexes in lists.items():
                holder, gone = value_at(copy, path), set(indexes)
                holder[key] = [item for i, item in enumerate(holder[key]) if i not in gone]
        del value_at(copy, (*each.path, "metadata", "annotations"))[names.STATUS]
    return copy


def _evaluated(document: Document, each: Object, template: Template) -> TemplateResult:
    recorded = _Recorded(template)
    outcome = UninjectOutcome.REMOVED
    if not recorded.record:
        outcome = UninjectOutcome.NO_RECORD if _status(template) is None else UninjectOutcome.BAD_RECORD
    removable = {path: {ENV: sorted(indexes)} for path, indexes in recorded.removable().items()}
    unsealed = recorded.unsealed()
    reader = ""
    if recorded.is_sealed:
        leaving = {(path, index) for path, lists in removable.items() for index in lists[ENV]}
        reader = reader_of(template, leaving.union((path, index) for path, index, _ in unsealed))
        if not reader:
            removable[*template.path, "spec"] = items_of(template.value["spec"], recorded.pull_secrets)
    return TemplateResult(
        document.source,
        document.index,
        document.position(template.path).line,
        str(each),
        template.path,
        outcome,
        tuple((entry, recorded.outcome(entry)) for entry in recorded.record),
        removable,
        () if reader else unsealed,
        reader,
    )


class _Recorded:
    """A template's record, and the entries of its containers: looked up once, however many entries there are."""

    def __init__(self, template: Template) -> None:
        record = read_record(_status(template))
        self.record = record.injected
        self.pull_secrets = record.pullSecrets
        is_sealed = any(entry.sealed for entry in self.record)
        tokens = tokens_of(template.value.get("spec")) if is_sealed else {}
        self.is_sealed = bool(tokens)
        # The recorded variables that are there, by container and name.
        self._there: set[tuple[str, str]] = set()
        # Where an entry that counts is just as we write it.
        self._identical: dict[Injected, list[tuple[Path, int]]] = {}
        recorded = {(entry.container, entry.env) for entry in self.record}
        named = {container for container, _ in recorded}.difference(SEAL_NAMES)
        for path, container in template.containers():
            name = container.get("name")
            if not isinstance(name, str) or name not in named:
                continue
            for variable, index, entry in _last_entries(container.get("env")):
                if (name, variable) in recorded:
                    self._there.add((name, variable))
                    found = _as_injected(name, entry, tokens)
                    if found is not None:
                        self._identical.setdefault(found, []).append((path, index))

    def removable(self) -> dict[Path, set[int]]:
        """Where entries are unchanged, by the path of their container; not those that replaced another."""
        found: dict[Path, set[int]] = {}
        # Equal entries count once.
        for entry in {entry for entry in self.record if not entry.replaced}:
            for path, index in self._identical.get(entry, ()):
                found.setdefault(path, set()).add(index)
        return found

    def unsealed(self) -> list[tuple[Path, int, dict[str, Json]]]:
        """The entries that replaced another and read from the seal, with the reference that they have without it."""
        return [
            (path, index, copied(secret_entry(entry.env, TokenRef(entry.name, entry.key, entry.source))))
            for entry in dict.fromkeys(entry for entry in self.record if entry.replaced and entry.sealed)
            for path, index in self._identical.get(replace(entry, replaced=False), ())
        ]

    def outcome(self, entry: Injected) -> EntryOutcome:
        """Return the outcome for an entry of the record."""
        if replace(entry, replaced=False) in self._identical:
            return EntryOutcome.REPLACED if entry.replaced else EntryOutcome.REMOVED
        return EntryOutcome.CHANGED if (entry.container, entry.env) in self._there else EntryOutcome.GONE


def _last_entries(env: object) -> Iterator[tuple[str, int, Any]]:
    """The entry that counts of each variable of a container: its name, its index, and itself."""
    entries = env if isinstance(env, list) else []
    last: dict[str, int] = {}
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str):
            last[name] = index
    for name, index in last.items():
        yield name, index, entries[index]


def _as_injected(container: str, variable: dict[str, Any], sealed: Mapping[str, TokenRef]) -> Injected | None:
    """Return the record of an entry that has the form written by `inject`; None for any other.

    `sealed` has the variables that the Pod's seal provides.
    """
    ref = sealed.get(variable["name"])
    if ref is not None and variable == file_entry(variable["name"]):
        return Injected(container, variable["name"], ref.name, ref.key, ref.kind, sealed=True)
    return _as_reference(container, variable)


def _as_reference(container: str, variable: dict[str, Any]) -> Injected | None:
    source: Any = variable.get("valueFrom")
    if len(variable) != _NAME_AND_SOURCE or not isinstance(source, dict) or len(source) != 1:
        return None
    ((kind, ref),) = source.items()
    if kind not in _SOURCES or not isinstance(ref, dict) or ref.keys() != {"name", "key"}:
        return None
    if not (isinstance(ref["name"], str) and isinstance(ref["key"], str)):
        return None
    return Injected(container, str(variable["name"]), ref["name"], ref["key"], _SOURCES[kind])


_NAME_AND_SOURCE: Final = 2
_SOURCES: Final = {kind.value: kind for kind in SourceKind}


def _status(template: Template) -> str | None:
    status = template.annotations.get(names.STATUS)
    return None if status is None else str(status)


# --- what must be left ---


def _bare(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A value in which what is empty, under the keys that an edit can empty, is left out."""
    if isinstance(value, dict):
        return {key: _bare(child) for key, child in value.items() if child or key not in _EMPTIED}
    return [_bare(child) for child in value] if isinstance(value, list) else value


_EMPTIED: Final = frozenset({"env", "annotations", "volumes", "initContainers", "imagePullSecrets"})
