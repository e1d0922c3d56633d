"""Manifests with the annotations that request a token, put into the text and in its own style."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.manifests.chunks import split
from injector.manifests.documents import documents, is_template
from injector.manifests.errors import ManifestError
from injector.manifests.layout import Layout, Splice, apply
from injector.manifests.nodes import Mapping, Scalar, find, resolved

if TYPE_CHECKING:
    from injector.manifests.documents import Document, Path
    from injector.manifests.nodes import Node

ANNOTATIONS: Final = {
    "dapr.io/enabled": "true",
    "dapr.io/api-token-secret": "dapr-api-token",
    "dapr-token-injector/app-containers": "*",
}


def annotated(text: str, source: str) -> str | None:
    """The text with `ANNOTATIONS` in each of its Pod templates; None for a text without any, or that is refused."""
    if "$patch" in text:  # a strategic merge patch: refused as soon as it uses Dapr
        return None
    pieces: list[str] = []
    index = count = 0
    for chunk in split([text]):
        try:
            read = list(documents(chunk, source, index))
        except ManifestError:
            return None
        index += len(read)
        splices = [
            splice
            for document in read
            for each in document.objects()
            for template in each.templates()
            if is_template(template.value)  # a Pod need not be, and is refused by Kubernetes then
            for splice in _annotate(document, template.path)
        ]
        count += len(splices)
        pieces.append(apply(chunk.text, splices))
    return "".join(pieces) if count else None


def _annotate(document: Document, template: Path) -> list[Splice]:
    """The splice that annotates one template; none for one that opts out, or where no mapping is."""
    node = _at(document.root, template)
    missing = ["metadata", "annotations"]
    while missing:
        pair = find(node, missing[0])
        value = pair[1] if pair is not None else None
        if isinstance(value, Mapping):
            node = value
            missing.pop(0)
        elif value is None:
            break
        elif isinstance(value, Scalar) and value.value is None:
            flow = _flow(ANNOTATIONS, missing[1:], quoted=document.is_json)
            return [Splice(value.start, value.end, ("" if value.end > value.start else " ") + flow)]
        else:
            return []
    present = {} if missing else node.value
    if present.get("dapr.io/enabled", "true") != "true":
        return []
    added = {name: value for name, value in ANNOTATIONS.items() if name not in present}
    layout = Layout(document)
    if node.flow:
        at = layout.text.index("{", node.start) + 1
        inner = _flow(added, missing, quoted=document.is_json or bool(node.pairs and node.pairs[0][0].style == '"'))[
            1:-1
        ]
        return [Splice(at, at, inner + (", " if node.pairs else ""))]
    start = node.pairs[0][0].start
    eol = layout.eol + " " * layout.column(start)
    lines = _block(added, missing)
    return [Splice(start, start, eol.join(lines) + eol)]


def _at(root: Node, path: Path) -> Mapping:
    node = resolved(root)
    for step in path:
        if isinstance(node, Mapping):
            pair = find(node, str(step))
            assert pair is not None
            node = resolved(pair[1])
        else:
            assert not isinstance(node, Scalar)
            node = resolved(node.items[int(step)])
    assert isinstance(node, Mapping)
    return node


def _flow(added: dict[str, str], missing: list[str], *, quoted: bool) -> str:
    mark = '"' if quoted else ""
    inner = ", ".join(f'{mark}{name}{mark}: "{value}"' for name, value in added.items())
    text = f"{{{inner}}}"
    for name in reversed(missing):
        text = f"{{{mark}{name}{mark}: {text}}}"
    return text


def _block(added: dict[str, str], missing: list[str]) -> list[str]:
    lines = [f'{name}: "{value}"' for name, value in added.items()]
    for name in reversed(missing):
        lines = [f"{name}:", *(f"  {line}" for line in lines)]
    return lines
