"""Documents, objects and Pod templates of a file, each with its position.

`read` takes a whole text, or a stream in blocks, and keeps one document at a time. Kinds are not listed: a Pod template
is what is shaped like one, so an Argo Rollout or a Knative Service has one as a Deployment has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.manifests import json_nodes, yaml_nodes
from injector.manifests.chunks import BOM, Chunk, split
from injector.manifests.errors import ManifestError, TextError
from injector.manifests.nodes import Json, Mapping, Node, Scalar, Sequence, find, merged, resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; both count from 1, columns in characters."""

    line: int
    column: int


def annotations_of(value: Json) -> dict[str, Json]:
    """Return the annotations in the metadata of a value; empty if it has none."""
    metadata = value.get("metadata") if isinstance(value, dict) else None
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def value_at(value: Any, path: Path) -> Any:  # noqa: ANN401 - JSON
    """Return the value at a path that exists."""
    for step in path:
        value = value[step]
    return value


@dataclass(frozen=True, slots=True)
class Template:
    """A Pod template, or a Pod, which is its own; `path` leads there from the document's top."""

    path: Path
    value: dict[str, Json]

    @property
    def annotations(self) -> dict[str, Json]:
        """Its annotations; empty if it has none."""
        return annotations_of(self.value)

    def containers(self) -> Iterator[tuple[Path, dict[str, Json]]]:
        """Yield the containers of both lists, with their paths from the document's top."""
        for name in ("containers", "initContainers"):
            for i, item in enumerate(_containers(self.value, name)):
                if isinstance(item, dict):
                    yield (*self.path, "spec", name, i), item


@dataclass(frozen=True, slots=True)
class Object:
    """A Kubernetes object; `path` leads there from the document's top, and is empty unless it is an item of a List."""

    document: Document
    path: Path
    value: dict[str, Json]

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.value["kind"])

    @property
    def api_version(self) -> str:
        """Return the group and version."""
        return str(self.value["apiVersion"])

    @property
    def name(self) -> str:
        """Return the name, or the prefix of a generated name; "" if there is none."""
        return self._metadata("name") or self._metadata("generateName")

    @property
    def namespace(self) -> str:
        """Return the namespace; "" if none is set."""
        return self._metadata("namespace")

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind

    def templates(self) -> tuple[Template, ...]:
        """Every Pod template in it, found by shape; a Pod is its own, whatever its shape.

        Containers of Knative that have no name get the names that Knative gives them.
        """
        if self.kind == "Pod" and self.api_version == "v1":
            return (Template(self.path, self.value),)
        if self.api_version.startswith("serving.knative.dev/"):
            found = _templates(self.value, self.path, _is_knative_template)
            return tuple(Template(each.path, _named(each.value)) for each in found)
        return tuple(_templates(self.value, self.path, is_template))

    def _metadata(self, name: str) -> str:
        metadata = self.value.get("metadata")
        found = metadata.get(name) if isinstance(metadata, dict) else None
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `index` counts the file's documents from 1, `line` is that of its first character of content.

    `is_json` is true for a document that was read as JSON and must stay JSON.
    """

    source: str
    index: int
    line: int
    value: Json
    chunk: Chunk
    root: Node
    is_json: bool

    def position(self, path: Path) -> Position:
        """Where the value at `path` is (a key's value: where the key does), else its nearest ancestor."""
        offset = _walk(self.root, path)
        return Position(self.chunk.line_at(offset), self.chunk.column_at(offset))

    def objects(self) -> Iterator[Object]:
        """The Kubernetes objects of the document: itself, or the items of a List; none for other values."""
        yield from _objects(self, self.value, ())

    def error(self, path: Path, message: str) -> ManifestError:
        """Return an error about the value at `path`."""
        return ManifestError(self.source, self.index, self.position(path).line, message)


def read(
    text: str | Iterable[str], source: str, *, on_error: Callable[[ManifestError], None] | None = None
) -> Iterator[Document]:
    """Yield the documents of a file.

    Args:
        text: The whole file, or blocks of it in order; of blocks only the current document is kept.
        source: What errors and documents call the file.
        on_error: Takes what is wrong with a document, and reading goes on with the next one.

    Raises:
        ManifestError: A document is not YAML or JSON, or is a patch of a Pod with Dapr, and there is no `on_error`.
    """
    index = 0

    def fail(error: ManifestError) -> None:
        nonlocal index
        index = error.document
        if on_error is not None:
            on_error(error)

    for chunk in split([text] if isinstance(text, str) else text):
        for document in documents(chunk, source, index, fail if on_error is not None else None):
            index = document.index
            yield document


def documents(
    chunk: Chunk, source: str, before: int, on_error: Callable[[ManifestError], None] | None = None
) -> Iterator[Document]:
    """Yield the documents of a chunk of a file; `before`: the number of documents before it.

    Raises:
        ManifestError: One is not YAML or JSON, or is a patch of a Pod with Dapr, and there is no `on_error`.
    """
    index = before
    line, counted = chunk.line, 0
    try:
        for root, is_json in _roots(chunk.text):
            line += chunk.text.count("\n", counted, root.start)
            counted = root.start
            document = Document(source, index + 1, line, root.value, chunk, root, is_json)
            _refuse_patch(document)
            index += 1
            yield document
    except TextError as fault:
        error = fault_at(chunk, source, index + 1, fault)
        if on_error is None:
            raise error from None
        on_error(error)


def fault_at(chunk: Chunk, source: str, index: int, fault: TextError) -> ManifestError:
    """Return the error with file, document and line."""
    message = fault.message
    if "{{" in chunk.text and message.startswith(_UNREADABLE):
        message += "; if it is a Helm template, render it first (helm template)"
    return ManifestError(source, index, chunk.line_at(min(fault.offset, len(chunk.text.rstrip()))), message)


_UNREADABLE: Final = ("not YAML", "a mapping or a list where a key belongs")
# Where kubectl cuts a stream, the next piece may begin with a byte order mark, after comments and blank lines.
_UP_TO_MARK: Final = re.compile(rf"(?:(?:---)?[ \t\r]*+(?:#[^\n]*+)?\n)*+{BOM}+")


def _roots(text: str) -> Iterator[tuple[Node, bool]]:
    base = _after_mark(text, 0)
    at = _json_start(text, base)
    while at < len(text) and text[at] == "{":
        try:
            node = json_nodes.parse(text, at)
        except json_nodes.NotJSONError:
            break
        yield node, True
        at = base = json_nodes.after_blanks(text, _after_mark(text, node.end))
    if at < len(text):
        for node in yaml_nodes.parse(text, base):
            yield node, False


def _after_mark(text: str, at: int) -> int:
    found = _UP_TO_MARK.match(text, at)
    return found.end() if found else at


def _json_start(text: str, base: int) -> int:
    """Where the content begins if it can be JSON: past blanks and a bare document marker."""
    at = json_nodes.after_blanks(text, base)
    if text.startswith("---", at):
        at = json_nodes.after_blanks(text, at + 3)
    return at


def _objects(document: Document, value: Json, path: Path) -> Iterator[Object]:
    if not isinstance(value, dict):
        return
    kind, items = value.get("kind"), value.get("items")
    if not isinstance(kind, str) or not isinstance(value.get("apiVersion"), str):
        return
    if kind.endswith("List") and isinstance(items, list):
        for i, item in enumerate(items):
            yield from _objects(document, item, (*path, "items", i))
    else:
        yield Object(document, path, value)


def _templates(
    value: dict[str, Json], path: Path, is_template: Callable[[dict[str, Json]], bool]
) -> Iterator[Template]:
    """Depth first, in the file's order; what is inside a template is not looked at again."""
    for name, child in value.items():
        here = (*path, name)
        if isinstance(child, dict):
            if is_template(child):
                yield Template(here, child)
            else:
                yield from _templates(child, here, is_template)
        elif isinstance(child, list):
            for i, item in enumerate(child):
                if isinstance(item, dict):
                    if is_template(item):
                        yield Template((*here, i), item)
                    else:
                        yield from _templates(item, (*here, i), is_template)


def _refuse_patch(document: Document) -> None:
    """Refuse a strategic merge patch of a Pod template that uses Dapr: its containers are not those of the Pod.

    A rule, or an entry of ours, would change what the patch does to its base.
    """
    directive = _directive(document.root)
    if directive is None or _DAPR.search(document.chunk.text) is None:
        return
    if any(each.templates() for each in document.objects()):
        raise TextError(
            directive.start,
            f"a strategic merge patch ({str(directive.value).partition('/')[0]}) is not a whole object; "
            "render it first (kubectl kustomize)",
        )


_DAPR: Final = re.compile("dapr|APP_API_TOKEN", re.IGNORECASE)
# https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md
_DIRECTIVE: Final = re.compile(r"\$(?:patch|retainKeys|setElementOrder/.+|deleteFromPrimitiveList/.+)")


def _directive(root: Node) -> Scalar | None:
    """A directive of a strategic merge patch among the keys below a node; None if there is none."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            for key, child in node.pairs:
                if _DIRECTIVE.fullmatch(str(key.value)):
                    return key
                pending.append(child)
        elif isinstance(node, Sequence):
            pending += node.items
    return None


def is_template(value: dict[str, Json]) -> bool:
    """Whether a mapping is shaped like a Pod: `spec.containers` is a list of mappings that have names."""
    containers = _containers(value, "containers")
    return bool(containers) and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in containers)


def _is_knative_template(value: dict[str, Json]) -> bool:
    """The same, with or without names."""
    containers = _containers(value, "containers")
    return bool(containers) and all(isinstance(each, dict) for each in containers)


def _containers(template: dict[str, Json], name: str) -> list[Json]:
    spec = template.get("spec")
    containers = spec.get(name) if isinstance(spec, dict) else None
    return containers if isinstance(containers, list) else []


def _named(template: dict[str, Json]) -> dict[str, Json]:
    """A template whose containers have the names of Knative's defaults: one name, numbered if there are several.

    https://github.com/knative/serving/blob/main/pkg/apis/serving/v1/revision_defaults.go
    """
    spec: dict[str, Json] = {**template["spec"]}  # type: ignore[dict-item] # a template has a mapping there
    for name, default in (("containers", "user-container"), ("initContainers", "init-container")):
        containers = _containers(template, name)
        if containers:
            names = [default if len(containers) == 1 else f"{default}-{i}" for i in range(len(containers))]
            spec[name] = [
                {**each, "name": each.get("name") or added} if isinstance(each, dict) else each
                for each, added in zip(containers, names, strict=True)
            ]
    return {**template, "spec": spec}


def _walk(root: Node, path: Path) -> int:
    """The offset of the last step of `path` that exists: a key, or an item of a list."""
    node, offset = resolved(root), root.start
    for step in path:
        below: Node | None = None
        if isinstance(node, Mapping):
            pair = find(node, str(step))
            below = pair[1] if pair is not None else merged(node, str(step))
            offset = pair[0].start if pair is not None else below.start if below is not None else offset
        elif isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
            below = node.items[step]
            offset = below.start
        if below is None:
            break
        node = resolved(below)
    return offset
