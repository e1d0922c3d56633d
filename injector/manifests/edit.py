"""Inserts items into lists of a document's text, by splices and in the document's own style.

A shared anchor is never changed, because its other users would change, too. A list that `uninject` could not restore is
rejected: an alias, a list from a merge key, and an empty list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from injector.core import names
from injector.manifests import render
from injector.manifests.errors import TextError
from injector.manifests.layout import Layout, Splice, children, is_literal, last_leaf
from injector.manifests.nodes import (
    Alias,
    Json,
    Mapping,
    Node,
    Scalar,
    Sequence,
    find,
    resolved,
)

if TYPE_CHECKING:
    from injector.manifests.documents import Document, Path

ENV: Final = "env"
_ANNOTATIONS: Final = ("metadata", "annotations")
# The default, for a document without nested mappings.
_STEP: Final = 2

# Writes a child of a flow collection, given the blanks that its further lines begin with.
_Writer = Callable[[str], str]
_KindT = TypeVar("_KindT", Mapping, Sequence)


class Editor:
    """Collects the splices of one document; nothing is changed until they are applied."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.layout = Layout(document)
        self.splices: list[Splice] = []
        self._dashes: dict[int, int] = {}

    def append(self, holder: Path, lists: dict[str, list[Json]]) -> None:
        """Put items at the end of lists of a container or of a Pod's `spec`, by key. Missing lists are made.

        Raises:
            TextError: The container, `spec` or list is shared, comes by an alias or a merge key, or the list is empty.
        """
        node = self._holder(holder)
        for key, items in lists.items():
            if key in node.value:
                name, found = self._list(node, key)
                if found.flow:
                    self._append_flow(found, *(self._flow_item(item, found, node) for item in items))
                else:
                    self.splices.append(self.layout.following(found, self._item_lines(name, found, items)))
        missing = {key: items for key, items in lists.items() if key not in node.value}
        if missing:
            self._add_lists(node, holder, missing)

    def insert(self, holder: Path, key: str, index: int, items: list[Json]) -> None:
        """Put items before another one of a list of a container or `spec`, and before the comment lines above that.

        `remove` takes out exactly what is put in here.

        Raises:
            TextError: As for `append`, or the other item shares its line with something before it.
        """
        node = self._holder(holder)
        name, found = self._list(node, key)
        if index == len(found.items):
            self.append(holder, {key: items})
            return
        item = found.items[index]
        before = found.items[index - 1].end if index else name.end
        if not found.flow:
            dash = self.dash_before(item)
            if not self.layout.begins_line(dash):
                raise TextError(dash, f"there is more on its line; write {key} as a list of lines")
            at = self.layout.above_comments(dash, before)
            lines = self._item_lines(name, found, items)
            self.splices.append(Splice(at, at, "".join(f"{self.layout.eol}{line}" for line in lines)))
            return
        start, _ = children(found)[index]
        writers = [self._flow_item(item, found, node) for item in items]
        if self.layout.begins_line(start):
            at, indent = self.layout.above_comments(start, before), self.layout.indent(start)
            text = "".join(f"{self.layout.eol}{indent}{write(indent)}," for write in writers)
        else:
            blank = "" if self._is_compact else " "
            at = children(found)[index - 1][1] if index else start
            written = [write(self.layout.indent(start)) for write in writers]
            text = "".join(f",{blank}{one}" if index else f"{one},{blank}" for one in written)
        self.splices.append(Splice(at, at, text))

    def replace(self, container: Path, index: int, entry: dict[str, Json]) -> None:
        """Put an entry in the place of another.

        Raises:
            TextError: The entry is shared, or as for `append`.
        """
        node = self._holder(container)
        _, env = self._list(node, ENV)
        old = env.items[index]
        self._refuse_shared(old, "the variable")
        if env.flow or (isinstance(old, Mapping) and old.flow):
            text = self._over(entry, old, node)
        else:
            lines = render.block(entry, self.layout.column(old.start), self._step)
            text = self.layout.eol.join(lines).lstrip(" ")
        self.splices.append(Splice(old.start, self.layout.leaf_end(last_leaf(old)), text))

    def annotate(self, template: Path, name: str, value: str) -> None:
        """Set an annotation of a template that has some.

        Raises:
            TextError: The annotations are in an anchor that others use, or come by a merge key.
        """
        metadata = self._own_mapping((*template, _ANNOTATIONS[0]), "the template's metadata")
        pair = find(metadata, _ANNOTATIONS[1])
        if pair is None:
            raise TextError(metadata.start, "the annotations come by a merge key; write them out here instead")
        text = render.as_json(value, compact=False) if self.document.is_json else render.scalar(value)
        if isinstance(pair[1], Alias):
            # The alias stays in use: its annotations are merged with ours.
            alias = pair[1]
            own = f"{{<<: {self.layout.text[alias.start : alias.end]}, {render.scalar(name)}: {text}}}"
            self.splices.append(Splice(alias.start, alias.end, own))
            return
        annotations = self._own(pair[1], Mapping, "the annotations")
        there = find(annotations, name)
        if there is not None:
            self._replace_scalar(there[1], text)
        elif annotations.flow:
            key = render.as_json(name, compact=False) if self._is_quoted(annotations) else render.scalar(name)
            self._append_flow(annotations, lambda _: f"{key}{self._colon}{text}")
        else:
            indent = " " * self.layout.column(annotations.pairs[0][0].start)
            line = f"{indent}{render.scalar(name)}: {text}"
            self.splices.append(self.layout.following(annotations, [line]))

    # --- lists ---

    def _list(self, holder: Mapping, key: str) -> tuple[Scalar, Sequence]:
        """A key and its list, if changing the list changes nothing else."""
        pair = find(holder, key)
        if pair is None:
            raise TextError(holder.start, f"{key} comes by a merge key (<<); write it out here instead")
        name, value = pair
        if not resolved(value).value:
            raise TextError(name.start, f"{key} is empty, and uninject could not restore it; remove it here")
        return name, self._own(value, Sequence, key)

    def _add_lists(self, holder: Mapping, path: Path, lists: dict[str, list[Json]]) -> None:
        """Keys with their lists, in a container or `spec` that does not have them."""
        if holder.flow:
            self._append_flow(holder, *(self._flow_pair(key, items, holder) for key, items in lists.items()))
            return
        indent = self.layout.column(holder.pairs[0][0].start)
        offset, gap = self._list_style(path)
        lines: list[str] = []
        for key, items in lists.items():
            lines.append(f"{' ' * indent}{key}:")
            lines += [line for item in items for line in render.item(item, indent + offset, gap, self._step, offset)]
        self.splices.append(self.layout.following(self._neighbour(holder), lines))

    def _neighbour(self, holder: Mapping) -> Node:
        """The value after which a new key fits best: the image, the name, or else the last one."""
        for name in ("image", "name"):
            pair = find(holder, name)
            if pair is not None and not is_literal(pair[1]) and self.layout.ends_line(pair[1].end):
                return pair[1]
        return holder

    def _item_lines(self, key: Scalar, sequence: Sequence, items: list[Json]) -> list[str]:
        """New items in the style of the last one."""
        last = sequence.items[-1]
        dash = self.layout.column(self.dash_before(last))
        gap = self.layout.column(last.start) - dash
        if gap <= 0 or self.layout.line_start(last.start) > self.dash_before(last):
            gap = _STEP
        offset = max(0, dash - self.layout.column(key.start))
        return [line for item in items for line in render.item(item, dash, gap, self._step, offset)]

    def dash_before(self, item: Node) -> int:
        """Where the dash of a block sequence's item is."""
        known = self._dashes.get(item.start)
        if known is None:
            known = self._dashes[item.start] = self._find_dash(item.start)
        return known

    def _find_dash(self, start: int) -> int:
        """The last dash before an item. Only comments and blank lines may be between the two."""
        text, line = self.layout.text, self.layout.line_start(start)
        found = text.rfind("-", line, start)
        while found < 0:
            end, line = line, self.layout.line_start(line - 1)
            comment = text.find("#", line, end)
            found = text.rfind("-", line, end if comment < 0 else comment)
        return found

    # --- flow text ---

    def _append_flow(self, node: Mapping | Sequence, *writers: _Writer) -> None:
        """New children at the end of a flow collection that has some, on lines of their own if the last one has."""
        layout = self.layout
        start, end = children(node)[-1]
        after = layout.significant(end)
        has_comma = layout.text[after : after + 1] == ","
        if not layout.begins_line(start):
            blank = "" if self._is_compact else " "
            self.splices.append(Splice(end, end, "".join(f",{blank}{write(layout.indent(end))}" for write in writers)))
            return
        indent = layout.indent(start)
        lines = [f"{layout.eol}{indent}{write(indent)}" for write in writers]
        if has_comma and layout.ends_line(after + 1):
            at = layout.line_end(after + 1)
            self.splices.append(Splice(at, at, ",".join(lines) + ","))
        elif not has_comma and layout.ends_line(end):
            at = layout.line_end(end)
            self.splices += [Splice(end, end, ","), Splice(at, at, ",".join(lines))]
        else:
            self.splices.append(Splice(end, end, "," + ",".join(lines)))

    def _flow_item(self, entry: Json, sequence: Sequence, container: Mapping) -> _Writer:
        start, end = children(sequence)[-1]
        many = "\n" in self.layout.text[start:end]
        unit = self._unit(sequence)
        if many and self._is_quoted(container):
            return lambda indent: render.pretty(entry, indent, unit, self.layout.eol)
        return lambda _: self._written(entry, container)

    def _flow_pair(self, key: str, items: list[Json], holder: Mapping) -> _Writer:
        if not self._is_quoted(holder):
            return lambda _: f"{key}: {render.flow(items)}"
        name = f'"{key}"{self._colon}'
        start, _ = children(holder)[-1]
        if not self.layout.begins_line(start):
            return lambda _: name + render.as_json(items, compact=self._is_compact)
        unit = self._unit(holder)
        return lambda indent: name + render.pretty(items, indent, unit, self.layout.eol)

    def _written(self, value: Json, container: Mapping) -> str:
        """A value on one line, as flow text of the document is written."""
        if self.document.is_json or (container.flow and self._is_quoted(container)):
            return render.as_json(value, compact=self._is_compact)
        return render.flow(value)

    def _over(self, entry: Json, old: Node, container: Mapping) -> str:
        """An entry in the place of another one in flow text: over several lines if that was."""
        if "\n" in self.layout.text[old.start : old.end] and self._is_quoted(container):
            unit = self._unit(old) if isinstance(old, Mapping) else " " * _STEP
            return render.pretty(entry, self.layout.indent(old.start), unit, self.layout.eol)
        return self._written(entry, container)

    def _is_quoted(self, mapping: Mapping) -> bool:
        return self.document.is_json or all(key.style == '"' for key, _ in mapping.pairs)

    @cached_property
    def _is_compact(self) -> bool:
        """Whether flow text does without blanks after its commas and colons."""
        if not self.document.is_json:
            return False
        root = self.document.root
        first = root.pairs[0] if isinstance(root, Mapping) and root.pairs else None
        return first is not None and self.layout.text[first[0].end : first[1].start] == ":"

    @property
    def _colon(self) -> str:
        return ":" if self._is_compact else ": "

    def _unit(self, node: Mapping | Sequence) -> str:
        """The blanks by which a flow collection's lines are further in than the line it begins on."""
        inner, outer = self.layout.indent(children(node)[-1][0]), self.layout.indent(node.start)
        return inner.removeprefix(outer) or " " * _STEP

    # --- blocks ---

    @cached_property
    def _step(self) -> int:
        """By how many columns the document's block mappings are indented."""
        root = self.document.root
        pending: deque[Node] = deque([root])
        while pending:
            node = pending.popleft()
            if isinstance(node, Mapping) and not node.flow:
                outer = self.layout.column(node.pairs[0][0].start)
                for _, child in node.pairs:
                    if isinstance(child, Mapping) and not child.flow:
                        return max(1, self.layout.column(child.pairs[0][0].start) - outer)
                pending.extend(child for _, child in node.pairs)
            elif isinstance(node, Sequence):
                pending.extend(node.items)
        return _STEP

    def _list_style(self, holder: Path) -> tuple[int, int]:
        """How much further in than its key a list's dashes are, and its contents than these: as in that of containers.

        That is the list that holds the container, or the list `containers` of a `spec`.
        """
        *spec, name, index = holder if isinstance(holder[-1], int) else (*holder, "containers", 0)
        pair = find(self._own_mapping(tuple(spec), "the spec"), str(name))
        if pair is None:
            return 0, _STEP
        key, containers = pair[0], resolved(pair[1])
        if not isinstance(containers, Sequence) or containers.flow or not containers.items:
            return 0, _STEP
        offset = self.layout.column(self.dash_before(containers.items[0])) - self.layout.column(key.start)
        item = containers.items[int(index)]
        content = item.pairs[0][0] if isinstance(item, Mapping) and not item.flow else item
        gap = self.layout.column(content.start) - self.layout.column(self.dash_before(item))
        return max(0, offset), max(_STEP, gap)

    # --- what may be changed ---

    def _holder(self, path: Path) -> Mapping:
        """The container or `spec` at `path`, if changing it changes nothing else."""
        return self._own_mapping(path, "the container" if isinstance(path[-1], int) else "the spec")

    def _own_mapping(self, path: Path, what: str) -> Mapping:
        """The mapping at `path`, if changing it changes nothing else."""
        node: Node = self.document.root
        for step in path:
            full = self._own(node, Mapping, what) if isinstance(step, str) else self._own(node, Sequence, what)
            if isinstance(full, Mapping):
                pair = find(full, str(step))
                if pair is None:
                    raise TextError(full.start, f"{what} comes by a merge key (<<); write it out here instead")
                node = pair[1]
            else:
                node = full.items[int(step)]
        return self._own(node, Mapping, what)

    def _own(self, node: Node, kind: type[_KindT], what: str) -> _KindT:
        if isinstance(node, Alias):
            raise TextError(node.start, f"{what} comes by the alias *{node.name}; write it out here instead")
        self._refuse_shared(node, what)
        if not isinstance(node, kind):
            raise TextError(node.start, f"{what} is not where it belongs")
        return node

    def _refuse_shared(self, node: Node, what: str) -> None:
        alias = self.layout.aliases.get(id(node))
        if alias is not None:
            line = self.document.chunk.line_at(alias.start)
            raise TextError(
                node.start, f"{what} is in the anchor &{alias.name}, which line {line} also uses; write one of them out"
            )

    def _replace_scalar(self, node: Node, text: str) -> None:
        if not isinstance(node, Scalar | Alias):
            raise TextError(node.start, f"{names.STATUS} is not text")
        blank = " " if node.start == node.end else ""
        self.splices.append(Splice(node.start, self.layout.leaf_end(node), blank + text))
