"""Removes the entries that the status record lists and that are unchanged, and then the record.

An entry that replaced something stays, because the previous value is not recorded; so does an entry that was changed
since. The edited text is read again and compared with the wanted values; a difference is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.model import Injected, SourceKind, read_status
from injector.manifests.documents import fault_at
from injector.manifests.errors import ManifestError, TextError
from injector.manifests.layout import reread
from injector.manifests.nodes import copied
from injector.manifests.remove import Remover

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from injector.manifests.documents import Document, Object, Path, Template
    from injector.manifests.layout import Splice
    from injector.manifests.nodes import Json

_LISTS: Final = ("containers", "initContainers")


class Outcome(StrEnum):
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
    outcome: Outcome
    entries: tuple[tuple[Injected, EntryOutcome], ...]


def evaluate(document: Document) -> list[TemplateResult]:
    """Return what `uninject` removes from each Pod template of a document."""
    return [_evaluated(document, each, template) for each in document.objects() for template in each.templates()]


def uninject(read: Sequence[Document]) -> list[Splice]:
    """Return the splices that take the entries of the records, and the records, out of a chunk's documents.

    Raises:
        ManifestError: An entry cannot be taken out without changing something else.
    """
    work = [_Work(document) for document in read]
    splices = [splice for each in work for splice in each.splices()]
    # A list that became empty may be left as nothing, as null or as it is: they mean the same.
    if splices and [_bare(value) for value in reread(read, splices)] != [_bare(each.left()) for each in work]:
        first = read[0]
        raise ManifestError(
            first.source, first.index, first.chunk.line, "the entries cannot be taken out of its layout; do it by hand"
        )
    return splices


class _Work:
    """What to remove from a document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        found = (_Recorded(template) for each in document.objects() for template in each.templates())
        self.recorded = [each for each in found if each.record]
        # By the path of a container: indexes into its env, in order.
        self.entries: dict[Path, list[int]] = {}
        for recorded in self.recorded:
            for path, indexes in recorded.removable().items():
                self.entries[path] = sorted(indexes)

    def splices(self) -> list[Splice]:
        """Remove the entries and the records."""
        remover = Remover(self.document)
        try:
            entries = [splice for path, indexes in self.entries.items() for splice in remover.entries(path, indexes)]
            records = [
                splice for each in self.recorded for splice in remover.annotation(each.template.path, names.STATUS)
            ]
        except TextError as error:
            raise fault_at(self.document.chunk, self.document.source, self.document.index, error) from None
        return entries + records

    def left(self) -> Json:
        """Return a copy of the document's value without the entries and the records."""
        if not self.recorded:
            return self.document.value
        copy: Json = copied(self.document.value)
        for path, indexes in self.entries.items():
            gone = set(indexes)
            container = _at(copy, path)
            container["env"] = [each for i, each in enumerate(container["env"]) if i not in gone]
        for recorded in self.recorded:
            del _at(copy, (*recorded.template.path, "metadata", "annotations"))[names.STATUS]
        return copy


def _evaluated(document: Document, each: Object, template: Template) -> TemplateResult:
    recorded = _Recorded(template)
    outcome = Outcome.REMOVED
    if not recorded.record:
        outcome = Outcome.NO_RECORD if _status(template) is None else Outcome.BAD_RECORD
    return TemplateResult(
        document.source,
        document.index,
        document.position(template.path).line,
        f"{each.kind}/{each.name}" if each.name else each.kind,
        template.path,
        outcome,
        tuple((entry, recorded.outcome(entry)) for entry in recorded.record),
    )


class _Recorded:
    """A template's record, and the entries of its containers: looked up once, however many entries there are."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.record = read_status(_status(template))
        # The recorded variables that are there, by container and name.
        self._there: set[tuple[str, str]] = set()
        # Where an entry that counts is just as we write it.
        self._identical: dict[Injected, list[tuple[Path, int]]] = {}
        recorded = {(entry.container, entry.env) for entry in self.record}
        for path, name, container in _containers(template, {container for container, _ in recorded}):
            for variable, index, entry in _last_entries(container.get("env")):
                if (name, variable) in recorded:
                    self._there.add((name, variable))
                    found = _as_injected(name, entry)
                    if found is not None:
                        self._identical.setdefault(found, []).append((path, index))

    def removable(self) -> dict[Path, set[int]]:
        """Where entries are unchanged, by the path of their container; not those that replaced another."""
        found: dict[Path, set[int]] = {}
        # Equal entries count once.
        for entry in {_plain(entry) for entry in self.record if not entry.replaced}:
            for path, index in self._identical.get(entry, ()):
                found.setdefault(path, set()).add(index)
        return found

    def outcome(self, entry: Injected) -> EntryOutcome:
        """Return the outcome for an entry of the record."""
        is_identical = _plain(entry) in self._identical
        if is_identical:
            return EntryOutcome.REPLACED if entry.replaced else EntryOutcome.REMOVED
        return EntryOutcome.CHANGED if (entry.container, entry.env) in self._there else EntryOutcome.GONE


def _plain(entry: Injected) -> Injected:
    return Injected(entry.container, entry.env, entry.name, entry.key, entry.source)


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


def _containers(template: Template, wanted: set[str]) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    spec: Any = template.value.get("spec")
    for list_name in _LISTS:
        containers = spec.get(list_name) if isinstance(spec, dict) else None
        for i, container in enumerate(containers if isinstance(containers, list) else ()):
            name = container.get("name") if isinstance(container, dict) else None
            if isinstance(name, str) and name in wanted:
                yield (*template.path, "spec", list_name, i), name, container


def _as_injected(container: str, variable: dict[str, Any]) -> Injected | None:
    """Return the record of an entry that has the form written by `inject`; None for any other."""
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
    metadata: Any = template.value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    status = annotations.get(names.STATUS) if isinstance(annotations, dict) else None
    return None if status is None else str(status)


# --- what must be left ---


def _at(value: Any, path: Path) -> Any:  # noqa: ANN401 - JSON
    for step in path:
        value = value[step]
    return value


def _bare(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A value in which what is empty, under the keys that an edit can empty, is left out."""
    if isinstance(value, dict):
        return {key: _bare(child) for key, child in value.items() if child or key not in _EMPTIED}
    return [_bare(child) for child in value] if isinstance(value, list) else value


_EMPTIED: Final = frozenset({"env", "annotations"})
