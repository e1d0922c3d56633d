"""Reads files one document at a time, runs every rule, and reports the findings.

Only findings, facts about Secrets and ignore comments are kept; documents are dropped as soon as they are checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.placeholders import has_placeholder
from injector.core.request import Enabled, enabled
from injector.core.sidecar import is_dapr_shared
from injector.lint import baseline, catalogue, ignores, template
from injector.lint.files import FileSet, SecretSeen, SecretUse, evaluate, is_secret, key_paths
from injector.lint.location import Identity, Location, Ordinals, kind_label, label, spelled
from injector.lint.model import Finding
from injector.lint.rules.comments import BAD_IGNORE, UNUSED_IGNORE
from injector.lint.values import find_key
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from injector.core.model import Policy, TokenRef
    from injector.lint.baseline import Key
    from injector.lint.ignores import Ignore
    from injector.lint.location import Path
    from injector.lint.model import Rule
    from injector.manifests.chunks import Chunk
    from injector.manifests.documents import Document, Object


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run, in the order of the files."""

    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...]  # by a comment
    known: tuple[Finding, ...]  # by the baseline
    unreadable: tuple[ManifestError, ...]
    gone: int = 0  # findings of the baseline that no longer exist
    files: int = 0

    def compared_with(self, known: Mapping[Key, int]) -> Report:
        """Return the report compared with a baseline."""
        new, old, gone = baseline.sort(self.findings, known)
        return replace(self, findings=new, known=old, gone=gone)


@dataclass(slots=True)
class _FileState:
    """The state of a file."""

    ignores: list[Ignore] = field(default_factory=list)
    is_whole: bool = True  # every document was read


class Linter:
    """One run over a set of files."""

    def __init__(self, policy: Policy, disabled: frozenset[str] = frozenset()) -> None:
        """`disabled`: ids of disabled rules."""
        self._policy = policy
        self._rules = tuple(rule for rule in catalogue.RULES if rule.id not in disabled)
        self._disabled = disabled
        self._set = FileSet()
        self._findings: list[Finding] = []
        # Findings that depend on Secrets in the files: the namespace, and the keys that make them void.
        self._conditional: list[tuple[Finding, str, tuple[TokenRef, ...]]] = []
        self._unreadable: list[ManifestError] = []
        self._files: dict[str, _FileState] = {}
        self._count = 0

    def read(self, source: str, text: str | Iterable[str], *, in_file: bool = True) -> None:
        """Look at every document of a file; what cannot be read is remembered, and the rest is looked at.

        Args:
            source: What findings call the file.
            text: The whole file, or blocks of it in order.
            in_file: False for a pipe.
        """
        self._count += 1
        chunk: Chunk | None = None
        for document in read(text, source, on_error=self._fail):
            if document.chunk is not chunk:
                chunk = document.chunk
                self._comments(document)
            ordinals = Ordinals()
            objects = list(document.objects())
            for each in objects:
                self._look(each, ordinals, in_file=in_file)
            if not objects:
                identity = Identity("File", "", label(document.source))
                self._outside(document, identity, (), document.value, ordinals)

    @property
    def unreadable(self) -> Sequence[ManifestError]:
        """The documents and files that could not be read so far."""
        return self._unreadable

    def cannot_read(self, source: str, message: str) -> None:
        """Record a file that could not be opened."""
        self._unreadable.append(ManifestError(source, 0, 0, message))

    def report(self) -> Report:
        """Return the report of all files; call it once, at the end."""
        for rule in self._rules:
            if rule.files is not None:
                self._findings.extend(Finding(rule, *hit) for hit in rule.files(self._set))
        left = (
            finding
            for finding, namespace, keys in self._conditional
            if not any(self._set.has_key(namespace, key) for key in keys)
        )
        found = [*self._findings, *left, *self._bad_comments()]
        shown, ignored, used = self._by_comments(found)
        return Report(
            findings=tuple(sorted((*shown, *self._unused_comments(used)), key=lambda finding: finding.order)),
            ignored=tuple(sorted(ignored, key=lambda finding: finding.order)),
            known=(),
            unreadable=tuple(self._unreadable),
            files=self._count,
        )

    # --- one document ---

    def _fail(self, error: ManifestError) -> None:
        self._file(error.source).is_whole = False
        self._unreadable.append(error)

    def _look(self, each: Object, ordinals: Ordinals, *, in_file: bool) -> None:
        identity = Identity(
            kind_label(each.kind), *(label(word) if word else "" for word in (each.namespace, each.name))
        )
        if is_secret(each.value):
            self._set.add(_secret(each, identity, ordinals, in_file=in_file))
            return
        templates = each.templates()
        if not templates:
            self._outside(each.document, identity, each.path, each.value, ordinals)
            return
        seen = template.workload(identity, each.value, each.path, templates, self._policy)
        if any(_REQUESTS.intersection(view.raw_annotations) for view in seen.templates):
            self._set.annotated.add(each.document.source)
        for rule in self._rules:
            for hit in rule.workload(seen) if rule.workload is not None else ():
                finding = Finding(rule, _location(each, identity, hit.path, ordinals), hit.message)
                if hit.unless:
                    self._conditional.append((finding, each.namespace, hit.unless))
                else:
                    self._findings.append(finding)
        self._set.uses.extend(_uses(each, identity, seen, ordinals))

    def _outside(self, document: Document, identity: Identity, path: Path, value: object, ordinals: Ordinals) -> None:
        """Keep the first annotation of Dapr of a file in what has no Pod template."""
        if document.source not in self._set.outside:
            found = find_key(value, _REQUESTS)
            if found is not None:
                inside = spelled(value, found, ordinals)
                location = _position(document, identity, (*path, *found), inside)
                self._set.outside[document.source] = location

    # --- comments ---

    def _file(self, source: str) -> _FileState:
        return self._files.setdefault(source, _FileState())

    def _comments(self, document: Document) -> None:
        chunk = document.chunk
        found = list(ignores.parse(chunk.text, chunk.line, document.index))
        if found:
            self._file(document.source).ignores.extend(found)

    def _bad_comments(self) -> Iterator[Finding]:
        for source, comment in self._all_comments():
            if comment.flaw is not None:
                yield from self._about(BAD_IGNORE, source, comment, comment.flaw)

    def _unused_comments(self, used: set[tuple[str, int, str]]) -> Iterator[Finding]:
        for source, comment in self._all_comments():
            if not self._files[source].is_whole:
                continue
            for rule in sorted(comment.rules - self._disabled):
                if (source, comment.line, rule) not in used:
                    yield from self._about(
                        UNUSED_IGNORE, source, comment, f"nothing here needs to be ignored for {rule}"
                    )

    def _all_comments(self) -> Iterator[tuple[str, Ignore]]:
        return ((source, comment) for source, file in self._files.items() for comment in file.ignores)

    def _about(self, rule: Rule, source: str, comment: Ignore, message: str) -> Iterator[Finding]:
        if rule in self._rules:
            location = Location(
                source, comment.line, comment.column, comment.document, Identity("File", "", label(source))
            )
            yield Finding(rule, location, message)

    def _by_comments(
        self, findings: Iterable[Finding]
    ) -> tuple[list[Finding], list[Finding], set[tuple[str, int, str]]]:
        """Findings that stay, those that a comment takes away, and which comments did."""
        shown: list[Finding] = []
        ignored: list[Finding] = []
        used: set[tuple[str, int, str]] = set()
        by_line = {
            (source, comment.covers, rule): comment.line
            for source, comment in self._all_comments()
            for rule in comment.rules
        }
        for finding in findings:
            location = finding.location
            line = by_line.get((location.source, location.line, finding.rule.id))
            if line is None:
                shown.append(finding)
            else:
                used.add((location.source, line, finding.rule.id))
                ignored.append(finding)
        return shown, ignored, used


def _location(each: Object, identity: Identity, path: Path, ordinals: Ordinals) -> Location:
    return _position(each.document, identity, path, spelled(each.value, path[len(each.path) :], ordinals))


def _position(document: Document, identity: Identity, path: Path, inside: str) -> Location:
    position = document.position(path)
    return Location(document.source, position.line, position.column, document.index, identity, inside)


def _secret(each: Object, identity: Identity, ordinals: Ordinals, *, in_file: bool) -> SecretSeen:
    keys = {
        key: evaluate(each.value, path, _location(each, identity, (*each.path, *path), ordinals))
        for key, path in key_paths(each.value).items()
    }
    return SecretSeen(_namespace(each), each.name, keys, in_file)


def _namespace(each: Object) -> str:
    """The namespace of an object; empty if it is not known yet, because another tool sets it."""
    return "" if has_placeholder(each.namespace) else each.namespace


def _uses(each: Object, identity: Identity, seen: template.TemplateOwner, ordinals: Ordinals) -> Iterator[SecretUse]:
    """Yield the keys of Secrets that the templates of an object use as tokens, once per template."""
    for view in seen.templates:
        seen_refs = set()
        for ref, path, where, is_shared in _wanted(view):
            if ref not in seen_refs:
                seen_refs.add(ref)
                yield SecretUse(_location(each, identity, path, ordinals), _namespace(each), ref, where, is_shared)


def _wanted(view: template.TemplateView) -> Iterator[tuple[TokenRef, Path, str, bool]]:
    for variable, wanted in view.request.wanted if view.request is not None else ():
        name, key = names.REQUESTS[variable]
        yield wanted, view.annotation(key if key in view.raw_annotations else name), name, False
    for _, taken in view.from_dapr:
        yield taken, view.annotation(names.DAPR_ENV_FROM_SECRET), names.DAPR_ENV_FROM_SECRET, False
    is_requested = enabled(view.annotations) is Enabled.TRUE
    for container, entry in view.entries():
        ref = entry.decoded.secret
        if ref is not None:
            is_shared = container.is_sidecar and is_dapr_shared(is_requested=is_requested, key=ref.key)
            yield ref, entry.path, f"{entry.variable} of container {label(container.name)}", is_shared


_REQUESTS: Final = frozenset(names.REQUEST_ANNOTATIONS)
