"""Removes entries and annotations that `edit` inserted from a document's text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.manifests.edit import Editor
from injector.manifests.errors import TextError
from injector.manifests.layout import Splice, children, last_leaf
from injector.manifests.nodes import Alias, Mapping, Node, Scalar, Sequence, find, is_merge

if TYPE_CHECKING:
    from injector.manifests.documents import Path


class Remover(Editor):
    """Splices that take something out; each method returns those of one step."""

    def entry(self, container: Path, index: int) -> list[Splice]:
        """Take an entry out of a container's `env`, and the list as well if nothing else is in it.

        Raises:
            TextError: The entry is in an anchor that others use, or comes by an alias or a merge key.
        """
        node = self._own_mapping(container, "the container")
        key, env = self._env(node)
        # `inject` makes no flow list in a block; the brackets of such a list stay.
        if len(env.items) == 1 and env.flow == node.flow:
            return self._pair(node, key, env)
        if env.flow:
            return self._child(env, index)
        return [self._lines(self.dash_before(env.items[index]), env.items[index])]

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
        return self._pair(node, *pair)

    # --- parts ---

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
