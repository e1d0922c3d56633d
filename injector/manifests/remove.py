"""The other way round: entries and annotations taken out of a document's text, as `edit` put them in."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING

from injector.manifests.edit import COPY_OF, COPY_OF_MERGE, ENV, PADS, Editor
from injector.manifests.errors import TextError
from injector.manifests.layout import Splice, children, last_leaf
from injector.manifests.nodes import Alias, Full, Mapping, Node, Scalar, Sequence, find, is_merge, merged

if TYPE_CHECKING:
    from injector.manifests.documents import Document, Path


class Remover(Editor):
    """Splices that take something out; each method returns those of one step."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self._restored: set[int] = set()  # identities of lists that gave way to an alias

    def entry(self, container: Path, index: int) -> list[Splice]:
        """Take an entry out of a container's `env`, and the list as well if it was made for the entry.

        Raises:
            TextError: The entry stands in an anchor that others use, or comes by an alias or a merge key.
        """
        node = self._own_mapping(container, "the container")
        pair = find(node, ENV)
        if pair is None:
            raise TextError(node.start, "the env comes by a merge key (<<); write it out here")
        key, value = pair
        sequence = self._own(value, Sequence, "the env list")
        if len(sequence.items) == 1:
            return self._whole_list(node, key, sequence)
        if sequence.flow:
            return self._child(sequence, index)
        return [self._lines(self.dash_before(sequence.items[index]), sequence.items[index])]

    def copy(self, container: Path) -> list[Splice]:
        """Put the alias back that a list was copied from, if the list is still the same; else nothing.

        Raises:
            TextError: The container stands in an anchor that others use, or comes by an alias or a merge key.
        """
        node = self._own_mapping(container, "the container")
        pair = find(node, ENV)
        sequence = pair[1] if pair is not None else None
        if pair is None or not isinstance(sequence, Sequence):
            return []
        anchor = sequence.anchor or ""
        if anchor == COPY_OF_MERGE:
            inherited = merged(node, ENV)
            is_same = inherited is not None and inherited.value == sequence.value
            return self._pair(node, *pair) if is_same else []
        name = anchor.removeprefix(COPY_OF)
        source = self._anchored(name, sequence.start) if name != anchor else None
        # A list that gives way itself has no anchor any more.
        if source is None or id(source) in self._restored or source.value != sequence.value:
            return []
        self._restored.add(id(sequence))
        if sequence.flow:
            return [Splice(sequence.start, sequence.end, f"*{name}")]
        anchor_end = sequence.start + len(f"&{anchor}")
        end = self.layout.line_end(self.layout.leaf_end(last_leaf(sequence)))
        return [
            Splice(sequence.start, anchor_end, f"*{name}"),
            Splice(self.layout.line_end(anchor_end), end, ""),
        ]

    def annotation(self, template: Path, name: str) -> list[Splice]:
        """Take an annotation out of a template.

        Raises:
            TextError: The annotations stand in an anchor that others use, or come by an alias or a merge key.
        """
        node = self._own_mapping((*template, "metadata", "annotations"), "the annotations")
        pair = find(node, name)
        if pair is None:
            raise TextError(node.start, f"{name} comes by a merge key (<<); take it out where it is written")
        if node.flow:
            first, kept = node.pairs[0]
            if is_merge(first) and isinstance(kept, Alias) and len(node.pairs) > 1 and node.pairs[1] == pair:
                return [Splice(node.start, node.end, self.layout.text[kept.start : kept.end])]
        return self._pair(node, *pair)

    # --- parts ---

    def _whole_list(self, container: Mapping, key: Scalar, sequence: Sequence) -> list[Splice]:
        layout = self.layout
        if not sequence.flow:
            return self._pair(container, key, sequence)
        if not container.flow and layout.line_start(sequence.start) > key.start:
            return [Splice(layout.previous_line_end(sequence.start), sequence.end, "")]
        item = sequence.items[0]
        opening = layout.text.index("[", sequence.start)
        pads = layout.text[opening + 1 : item.start], layout.text[item.end : sequence.end - 1]
        for stood, (left, right) in PADS.items():
            if stood != "[]" and pads == (left, right):
                return [Splice(sequence.start, sequence.end, stood)]
        if pads[0] == " " and pads[1].startswith(" "):
            return [Splice(item.start - 1, item.end + 1, "")]
        if container.flow:
            return self._pair(container, key, sequence)
        return [Splice(item.start, item.end, "")]

    def _pair(self, mapping: Mapping, key: Scalar, value: Node) -> list[Splice]:
        """Take a key and its value out of a mapping."""
        if mapping.flow:
            index = next(i for i, (name, _) in enumerate(mapping.pairs) if name is key)
            return self._child(mapping, index)
        if self.layout.begins_line(key.start) and len(mapping.pairs) > 1:
            return [self._lines(key.start, value)]
        # The key shares its line with a dash, or is the mapping's only one: it stays, without a value.
        colon = self.layout.text.index(":", key.end) + 1
        return [Splice(colon, self.layout.leaf_end(last_leaf(value)), " []" if isinstance(value, Sequence) else "")]

    def _lines(self, start: int, node: Node) -> Splice:
        """The lines from that of `start` to the end of a node, with the line break before them."""
        if not self.layout.begins_line(start):
            raise TextError(start, "there is more on its line; take it out by hand")
        end = self.layout.line_end(self.layout.leaf_end(last_leaf(node)))
        return Splice(self.layout.previous_line_end(start), end, "")

    def _child(self, node: Mapping | Sequence, index: int) -> list[Splice]:
        """Take a child and one comma out of a flow collection."""
        layout = self.layout
        extents = children(node)
        start, end = extents[index]
        after = layout.significant(end)
        has_comma = layout.text[after : after + 1] == ","
        own_line = layout.begins_line(start)
        if has_comma and own_line:
            return [Splice(layout.previous_line_end(start), after + 1, "")]
        if index == 0:
            stop = extents[1][0] if len(extents) > 1 else end
            return [Splice(start, stop, "")]
        before = extents[index - 1][1]
        if not own_line:
            return [Splice(before, end, "")]
        comma = layout.significant(before)
        return [Splice(comma, comma + 1, ""), Splice(max(comma + 1, layout.previous_line_end(start)), end, "")]

    def _anchored(self, name: str, before: int) -> Full | None:
        """The last node before a place that bears an anchor of that name."""
        known = self._anchors.get(name, [])
        index = bisect_left(known, before, key=_start)
        return known[index - 1] if index else None

    @cached_property
    def _anchors(self) -> dict[str, list[Full]]:
        """The nodes that bear each anchor, in the order of their places."""
        found: dict[str, list[Full]] = {}
        pending: list[Node] = [self.document.root]
        while pending:
            node = pending.pop()
            if isinstance(node, Alias):
                continue
            if node.anchor is not None:
                found.setdefault(node.anchor, []).append(node)
            if isinstance(node, Mapping):
                pending += [value for _, value in node.pairs]
            elif isinstance(node, Sequence):
                pending += node.items
        for nodes in found.values():
            nodes.sort(key=_start)
        return found


def _start(node: Full) -> int:
    return node.start
