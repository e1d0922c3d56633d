"""Takes out of a document what the status record lists and what is still as it was put in, and then the record.

One entry at a time, the last one first, and the text is read anew after each: every step sees true places. What was
put in place of something else stays, because nothing tells what stood there; so does what somebody changed since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.model import Injected, read_status
from injector.manifests.chunks import Chunk
from injector.manifests.documents import Document, Object, documents
from injector.manifests.errors import ManifestError, TextError
from injector.manifests.layout import apply
from injector.manifests.remove import Remover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.manifests.documents import Path, Template
    from injector.manifests.layout import Splice

_LISTS: Final = ("containers", "initContainers")


class Outcome(StrEnum):
    """What became of one Pod template."""

    REMOVED = "removed"
    NO_RECORD = "no-record"
    BAD_RECORD = "bad-record"


class Fate(StrEnum):
    """What became of one entry of the record."""

    REMOVED = "removed"
    REPLACED = "replaced"  # something stood there before that nobody recorded
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one Pod template and of each entry that its record lists."""

    source: str
    document: int
    line: int
    object: str
    path: Path
    outcome: Outcome
    entries: tuple[tuple[Injected, Fate], ...]


def judge(document: Document) -> list[Taken]:
    """What is to be taken out of each Pod template of a document."""
    return [_judged(document, each, template) for each in document.objects() for template in each.templates()]


def uninject(chunk: Chunk, source: str, before: int) -> str:
    """The text of a piece of a file without what its records list.

    Raises:
        ManifestError: It is not YAML, or an entry cannot be taken out without changing something else.
    """
    wanted = [_without(document) for document in documents(chunk, source, before)]
    text = chunk.text
    while True:
        splices = _next(Chunk(text, chunk.line), source, before)
        if splices is None:
            break
        text = apply(text, splices)
    if text != chunk.text:
        _verify(chunk, text, source, before, wanted)
    return text


def _verify(chunk: Chunk, text: str, source: str, before: int, wanted: list[Any]) -> None:
    try:
        read = list(documents(Chunk(text, chunk.line), source, before))
    except ManifestError:
        read = []
    # A list that became empty may be left as nothing, as null or as it is: they mean the same.
    if [_bare(document) for document in read] != [_bare_value(value) for value in wanted]:
        raise ManifestError(
            source, before + 1, chunk.line, "the entries cannot be taken out of its layout; do it by hand"
        )


def _next(chunk: Chunk, source: str, before: int) -> list[Splice] | None:
    """The next step; None when nothing is left to do."""
    for document in documents(chunk, source, before):
        for each in document.objects():
            for template in each.templates():
                record = _record(template)
                if record:
                    try:
                        return _step(document, template, record)
                    except TextError as error:
                        line = chunk.line_at(error.offset)
                        raise ManifestError(source, document.index, line, error.message) from None
    return None


def _step(document: Document, template: Template, record: tuple[Injected, ...]) -> list[Splice]:
    remover = Remover(document)
    found = [place for entry in record for place in _removable(template, entry)]
    if found:
        path, index = max(found, key=lambda place: (str(place[0]), place[1]))
        return remover.entry(path, index)
    for path, _ in _containers(template, {entry.container for entry in record}):
        splices = remover.copy(path)
        if splices:
            return splices
    return remover.annotation(template.path, names.STATUS)


def _judged(document: Document, each: Object, template: Template) -> Taken:
    record = _record(template)
    outcome = Outcome.REMOVED
    if not record:
        outcome = Outcome.NO_RECORD if _status(template) is None else Outcome.BAD_RECORD
    return Taken(
        document.source,
        document.index,
        document.position(template.path).line,
        f"{each.kind}/{each.name}" if each.name else each.kind,
        template.path,
        outcome,
        tuple((entry, _fate(template, entry)) for entry in record),
    )


def _fate(template: Template, entry: Injected) -> Fate:
    if list(_removable(template, entry)):
        return Fate.REMOVED
    standing = list(_last_of(template, entry))
    if not standing:
        return Fate.GONE
    return Fate.REPLACED if entry.replaced and any(_is_identical(one, entry) for *_, one in standing) else Fate.CHANGED


def _removable(template: Template, entry: Injected) -> Iterator[tuple[Path, int]]:
    """Where the entry stands unchanged; nowhere if it took the place of another."""
    if entry.replaced:
        return
    for path, index, variable in _last_of(template, entry):
        if _is_identical(variable, entry):
            yield path, index


def _last_of(template: Template, entry: Injected) -> Iterator[tuple[Path, int, Any]]:
    """The entry that counts of the recorded variable, in each container of the recorded name."""
    for path, container in _containers(template, {entry.container}):
        env: Any = container.get("env")
        for index in range(len(env) - 1, -1, -1) if isinstance(env, list) else ():
            if isinstance(env[index], dict) and env[index].get("name") == entry.env:
                yield path, index, env[index]
                break


def _containers(template: Template, wanted: set[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    spec: Any = template.value.get("spec")
    for list_name in _LISTS:
        containers = spec.get(list_name) if isinstance(spec, dict) else None
        for i, container in enumerate(containers if isinstance(containers, list) else ()):
            if isinstance(container, dict) and container.get("name") in wanted:
                yield (*template.path, "spec", list_name, i), container


def _is_identical(variable: object, entry: Injected) -> bool:
    return variable == {"name": entry.env, "valueFrom": {entry.source.value: {"name": entry.name, "key": entry.key}}}


def _status(template: Template) -> str | None:
    metadata: Any = template.value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    status = annotations.get(names.STATUS) if isinstance(annotations, dict) else None
    return None if status is None else str(status)


def _record(template: Template) -> tuple[Injected, ...]:
    return read_status(_status(template))


# --- what must be left ---


def _without(document: Document) -> Any:  # noqa: ANN401 - JSON
    """A copy of a document's value with the entries and the records gone."""
    copy: Any = _copied(document.value)
    fresh = replace(document, value=copy)
    for each in fresh.objects():
        for template in each.templates():
            record = _record(template)
            for entry in record:
                for path, index in list(_removable(template, entry)):
                    del _at(copy, path)["env"][index]
            if record:
                del _at(copy, (*template.path, "metadata", "annotations"))[names.STATUS]
    return copy


def _at(value: Any, path: Path) -> Any:  # noqa: ANN401 - JSON
    for step in path:
        value = value[step]
    return value


def _bare(document: Document) -> Any:  # noqa: ANN401 - JSON
    return _bare_value(document.value)


def _bare_value(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A value in which what is empty, under the keys that an edit can empty, is left out."""
    if isinstance(value, dict):
        return {key: _bare_value(child) for key, child in value.items() if child or key not in _EMPTIED}
    return [_bare_value(child) for child in value] if isinstance(value, list) else value


_EMPTIED: Final = frozenset({"env", "annotations"})


def _copied(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A copy that shares nothing, not even what aliases shared."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value
