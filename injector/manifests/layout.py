"""How a document is laid out: line ends, columns, indentation, and what anchors are shared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from injector.manifests.chunks import BOM, Chunk
from injector.manifests.documents import documents
from injector.manifests.errors import ManifestError
from injector.manifests.nodes import Alias, Full, Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    import collections.abc

    from injector.manifests.documents import Document
    from injector.manifests.nodes import Json

_BLANKS_AND_COMMENTS: Final = re.compile(r"(?:[ \t\r\n]+|(?:(?<=[ \t\r\n])|^)#[^\n]*)*", re.MULTILINE)
_MARKS: Final = re.compile(f"{BOM}*")
_NOT_BLANK: Final = re.compile(r"\S")
_INDENT: Final = re.compile(r"[ \t]*")
_HEADER: Final = re.compile(r"(?:[&!][^ \t\r\n]*[ \t]+)*[|>]([-+0-9]*)")


@dataclass(frozen=True, slots=True)
class Splice:
    """Text that replaces the text between two offsets."""

    start: int
    end: int
    text: str


def apply(text: str, splices: list[Splice]) -> str:
    """`text` with every splice done. Insertions at one place are done in the order given; no splices may overlap."""
    parts: list[str] = []
    at = 0
    for splice in sorted(splices, key=lambda one: (one.start, one.end)):
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join((*parts, text[at:]))


def reread(read: collections.abc.Sequence[Document], splices: list[Splice]) -> list[Json]:
    """The values of the documents of a chunk after an edit of its text; none if that is no longer valid."""
    first = read[0]
    edited = Chunk(apply(first.chunk.text, splices), first.chunk.line)
    try:
        return [document.value for document in documents(edited, first.source, first.index - 1)]
    except ManifestError:
        return []


class Layout:
    """The text of one document with questions about places in it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.text = document.chunk.text
        # By where a line begins: a line may be megabytes long and hold thousands of places.
        self._indents: dict[int, str] = {}
        self._contents: dict[int, int] = {}

    @cached_property
    def eol(self) -> str:
        """How lines end: as the first one does."""
        first = self.text.find("\n")
        return "\r\n" if first > 0 and self.text[first - 1] == "\r" else "\n"

    @cached_property
    def aliases(self) -> dict[int, Alias]:
        """By the identity of each node that is used again: the first alias that names it."""
        found: dict[int, Alias] = {}
        pending: list[Node] = [self.document.root]
        while pending:
            match pending.pop():
                case Alias() as alias:
                    known = found.setdefault(id(alias.target), alias)
                    if alias.start < known.start:
                        found[id(alias.target)] = alias
                case Mapping(pairs=pairs):
                    pending += [node for pair in pairs for node in pair]
                case Sequence(items=items):
                    pending += items
                case Scalar():
                    pass
        return found

    def column(self, at: int) -> int:
        """The column of a place, from 0; a byte order mark takes none."""
        start = self.line_start(at)
        marks = _MARKS.match(self.text, start, at)
        return at - (marks.end() if marks else start)

    def line_start(self, at: int) -> int:
        """Where the line of a place begins."""
        return self.document.chunk.line_start(at)

    def line_end(self, at: int) -> int:
        """Where the line of a place ends: at its line break, or at the end of the text."""
        end = self.document.chunk.line_end(at)
        return end - 1 if at < end < len(self.text) and self.text[end - 1] == "\r" else end

    def previous_line_end(self, at: int) -> int:
        """Where the line above that of a place ends."""
        start = self.line_start(at)
        return self.line_end(self.line_start(start - 1)) if start else 0

    def indent(self, at: int) -> str:
        """The blanks that the line of a place begins with."""
        start = self.line_start(at)
        known = self._indents.get(start)
        if known is None:
            found = _INDENT.match(self.text, start)
            known = self._indents[start] = found[0] if found else ""
        return known

    def begins_line(self, at: int) -> bool:
        """Whether only blanks are before a place on its line."""
        start = self.line_start(at)
        known = self._contents.get(start)
        if known is None:
            known = self._contents[start] = self._content(start)
        return known >= at

    def above_comments(self, at: int, before: int) -> int:
        """The end of the line above that of a place and above its comment lines, but not above that of `before`."""
        end = self.previous_line_end(at)
        while (start := self.line_start(end)) >= before and self.text[start:end].lstrip(" \t").startswith("#"):
            end = self.previous_line_end(end)
        return end

    def ends_line(self, at: int) -> bool:
        """Whether nothing but blanks and a comment follows a place on its line."""
        content = self._content(at)
        return content >= self.line_end(at) or (self.text[at] in " \t" and self.text[content] == "#")

    def _content(self, at: int) -> int:
        """The next place that is not blank."""
        found = _NOT_BLANK.search(self.text, at)
        return found.start() if found else len(self.text)

    def significant(self, at: int) -> int:
        """The next place that is neither blank nor comment."""
        found = _BLANKS_AND_COMMENTS.match(self.text, at)
        return found.end() if found else at

    def _is_kept_literal(self, leaf: Node) -> bool:
        """Whether a leaf is a literal whose trailing blank lines belong to it."""
        if not is_literal(leaf):
            return False
        header = _HEADER.match(self.text, leaf.start)
        return header is not None and "+" in header[1]

    def leaf_end(self, leaf: Node) -> int:
        """Where the text of a leaf ends. A literal's ends with its last line that is not blank."""
        if not is_literal(leaf):
            return leaf.end
        last = leaf.start + len(self.text[leaf.start : leaf.end].rstrip())
        return self.line_end(last)

    def following(self, node: Node, lines: list[str]) -> Splice:
        """New lines after a node of a block."""
        leaf = last_leaf(node)
        text = self.eol.join(lines)
        if self._is_kept_literal(leaf):
            return Splice(leaf.end, leaf.end, text + self.eol)
        at = self.line_end(self.leaf_end(leaf))
        return Splice(at, at, self.eol + text)


def is_literal(node: Node) -> bool:
    """Whether a node is a literal or folded block."""
    return isinstance(node, Scalar) and node.style in {"|", ">"}


def last_leaf(node: Node) -> Node:
    """The node with which a block ends."""
    while isinstance(node, Mapping | Sequence) and not node.flow:
        node = node.pairs[-1][1] if isinstance(node, Mapping) else node.items[-1]
    return node


def children(node: Full) -> list[tuple[int, int]]:
    """The extents of what a flow collection holds."""
    if isinstance(node, Mapping):
        return [(key.start, value.end) for key, value in node.pairs]
    return [(item.start, item.end) for item in node.items] if isinstance(node, Sequence) else []
