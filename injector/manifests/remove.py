"""Removes entries and annotations that `edit` inserted from a document's text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.manifests.edit import Editor
from injector.manifests.errors import TextError
from injector.manifests.layout import Splice, children, last_leaf
from injector.manifests.nodes import Alias, Mapping, Node, Scalar, Sequence, find, is_merge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.manifests.documents import Path


class Remover(Editor):
    """Splices that take something out; each method returns its own."""

    def items(self, holder: Path, lists: dict[str, list[int]]) -> list[Splice]:
        """Take items out of lists of a container or `spec`, and a list as well if nothing else is in it.

        Args:
            holder: Where the container or `spec` is.
            lists: By key of a list, the indexes of the items, which ascend.

        Raises:
            TextError: An item is in an anchor that others use, or comes by an alias or a merge key.
        """
        node = self._holder(holder)
        splices: list[Splice] = []
        emptied: list[int] = []
        for key, indexes in lists.items():
            name, found = self._list(node, key)
            # `inject` makes no flow list in a block; the brackets of such a list stay.
            if len(found.items) == len(indexes) and found.flow == node.flow:
                emptied.append(next(i for i, (other, _) in enumerate(node.pairs) if other is name))
            elif found.flow:
                splices += self._runs(found, indexes)
            else:
                splices += [self._lines(self.dash_before(found.items[i]), found.items[i]) for i in indexes]
        return splices + self._pairs(node, sorted(emptied))

    def annotation(self, template: Path, name: str) -> list[Splice]:
        """Take an annotation out of a template.

        Raises:
            TextError: The annotations are in an anchor that others use, or come by an alias or a merge key.
        """
        node = self._own_mapping((*template, "metadata", "annotations"), "the annotations")
        pair = find(node, name)
        if pair is None:
            raise TextError(node.start, f"{name} comes by a merge key (<<); take it out where it is written")
        if node.flow:
            first, kept = node.pairs[0]
            if is_merge(first) and isinstance(kept, Alias) and len(node.pairs) > 1 and node.pairs[1] == pair:
                return [Splice(node.start, node.end, self.layout.text[kept.start : kept.end])]
        return self._pairs(node, [node.pairs.index(pair)])

    # --- parts ---

    def _pairs(self, mapping: Mapping, indexes: list[int]) -> list[Splice]:
        """Take keys and their values out of a mapping."""
        if mapping.flow:
            return self._runs(mapping, indexes)
        return [self._pair(mapping, *mapping.pairs[index]) for index in indexes]

    def _pair(self, mapping: Mapping, key: Scalar, value: Node) -> Splice:
        """Take a key and its value out of a block mapping."""
        if self.layout.begins_line(key.start) and len(mapping.pairs) > 1:
            return self._lines(key.start, value)
        # The key shares its line with a dash, or is the mapping's only one: it stays, without a value.
        colon = self.layout.text.index(":", key.end) + 1
        return Splice(colon, self.layout.leaf_end(last_leaf(value)), " []" if isinstance(value, Sequence) else "")

    def _lines(self, start: int, node: Node) -> Splice:
        """The lines from that of `start` to the end of a node, with the line break before them."""
        if not self.layout.begins_line(start):
            raise TextError(start, "there is more on its line; take it out by hand")
        end = self.layout.line_end(self.layout.leaf_end(last_leaf(node)))
        return Splice(self.layout.previous_line_end(start), end, "")

    def _runs(self, node: Mapping | Sequence, indexes: list[int]) -> list[Splice]:
        """Take children out of a flow collection, neighbours together."""
        return [splice for first, last in _runs(indexes) for splice in self._children(node, first, last)]

    def _children(self, node: Mapping | Sequence, first: int, last: int) -> list[Splice]:
        """Take neighbours and their commas out of a flow collection."""
        layout = self.layout
        extents = children(node)
        start, end = extents[first][0], extents[last][1]
        after = layout.significant(end)
        has_comma = layout.text[after : after + 1] == ","
        own_line = layout.begins_line(start)
        if has_comma and own_line:
            return [Splice(layout.previous_line_end(start), after + 1, "")]
        if first == 0:
            stop = extents[last + 1][0] if last + 1 < len(extents) else end
            return [Splice(start, stop, "")]
        before = extents[first - 1][1]
        if not own_line:
            return [Splice(before, end, "")]
        comma = layout.significant(before)
        return [Splice(comma, comma + 1, ""), Splice(max(comma + 1, layout.previous_line_end(start)), end, "")]


def _runs(indexes: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last index of each run of neighbours."""
    first = 0
    for i, index in enumerate(indexes):
        if i + 1 == len(indexes) or indexes[i + 1] != index + 1:
            yield indexes[first], index
            first = i + 1
