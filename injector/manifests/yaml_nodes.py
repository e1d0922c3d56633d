"""YAML text to nodes, by the events of libyaml: the parser that kubectl's was made from.

Each alias is kept with its place. Merge keys act in the file's order, as they do for kubectl. What a hostile file could
make large is bounded: depth, and the size that aliases unfold to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml  # type: ignore[import-untyped] # it brings no types
from yaml import events

from injector.manifests.errors import TextError
from injector.manifests.nodes import MERGE, Alias, Full, Mapping, Node, Scalar, Sequence, is_merge, resolved, sources
from injector.manifests.scalars import ScalarError, key, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

# The same grammar in C and, where that was not built, in Python.
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Ours. Kubernetes' deepest known objects, schemas of custom resources, have some sixty levels.
MAX_DEPTH: Final = 256
# Ours: characters that a document may have once its aliases are written out: so many in any case, and so many times its
# own. The API server takes objects of 3 MiB; work must stay in proportion to what a person wrote.
MAX_UNFOLDED: Final = 512 * 1024
MAX_UNFOLDED_TIMES: Final = 16
# Quotes and commas around a value.
_AROUND: Final = 2


def parse(text: str, base: int) -> Iterator[Node]:
    """Every document of `text` that begins at `base`; `text` is a chunk, offsets count from its beginning.

    Raises:
        TextError: It is not YAML, or not such that it could be JSON.
    """
    try:
        loader = _Loader(text[base:] if base else text)
    except yaml.reader.ReaderError as error:
        raise _reader_fault(text, base, error) from None
    try:
        yield from _Composer(loader, base).documents()
    except yaml.reader.ReaderError as error:
        raise _reader_fault(text, base, error) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise TextError(base + (mark.index if mark is not None else 0), f"not YAML: {words}") from None
    finally:
        loader.dispose()


def _reader_fault(text: str, base: int, error: yaml.reader.ReaderError) -> TextError:
    # libyaml counts bytes here, the Python parser characters. A control character is what both stumble over.
    position = error.position if isinstance(error.position, int) else 0
    if _Loader is not yaml.SafeLoader:
        position = len(text[base:].encode()[:position].decode(errors="ignore"))
    return TextError(base + position, "not YAML: it holds a control character; is the file binary?")


class _Composer:
    """One pass over the events with a stack of its own, so that depth costs no recursion."""

    def __init__(self, loader: Any, base: int) -> None:  # noqa: ANN401 - the library has no types
        self._next = loader.get_event
        self._base = base
        self._anchors: dict[str, Full] = {}
        self._entered: set[int] = set()  # identities of the open nodes
        self._written = 0  # characters without those that aliases repeat
        self._open: list[Mapping | Sequence] = []
        self._keys: list[Scalar | None] = []

    def documents(self) -> Iterator[Node]:
        """Compose document after document."""
        while True:
            event = self._next()
            if isinstance(event, events.StreamEndEvent):
                return
            if isinstance(event, events.DocumentStartEvent):
                self._anchors.clear()
                yield self._document()

    def _document(self) -> Node:
        root: Node | None = None
        while True:
            event = self._next()
            kind = type(event)
            if kind is events.ScalarEvent:
                done: Node = self._scalar(event)
            elif kind is events.MappingStartEvent or kind is events.SequenceStartEvent:
                self._enter(event, Mapping if kind is events.MappingStartEvent else Sequence)
                continue
            elif kind is events.AliasEvent:
                done = self._alias(event)
            elif kind is events.DocumentEndEvent:
                assert root is not None  # noqa: S101 - the parser's grammar: a document has a root
                return root
            else:
                done = self._leave(event)
            if self._open:
                self._attach(done)
            else:
                root = done

    def _scalar(self, event: Any) -> Scalar:  # noqa: ANN401 - the library has no types
        start = event.start_mark.index + self._base
        text, style = event.value, event.style or None
        try:
            value = resolve(text, event.tag, plain=event.implicit[0])
        except ScalarError as error:
            raise TextError(start, str(error)) from None
        node = Scalar(start, event.end_mark.index + self._base, value, style, size=len(text) + _AROUND)
        self._written += node.size
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _enter(self, event: Any, kind: type[Mapping | Sequence]) -> None:  # noqa: ANN401 - the library has no types
        node = kind(event.start_mark.index + self._base, flow=bool(event.flow_style))
        if len(self._open) >= MAX_DEPTH:
            raise TextError(node.start, f"nested more than {MAX_DEPTH} levels deep")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._written += _AROUND
        self._entered.add(id(node))
        self._open.append(node)
        self._keys.append(None)

    def _alias(self, event: Any) -> Alias:  # noqa: ANN401 - the library has no types
        start = event.start_mark.index + self._base
        target = self._anchors.get(event.anchor)
        if target is None:
            raise TextError(start, "an alias without its anchor")
        if id(target) in self._entered:
            raise TextError(start, "an alias to what it is a part of")
        if len(self._open) + target.height > MAX_DEPTH:
            raise TextError(start, f"nested more than {MAX_DEPTH} levels deep once its aliases are written out")
        self._written += _AROUND
        return Alias(start, event.end_mark.index + self._base, event.anchor, target)

    def _leave(self, event: Any) -> Node:  # noqa: ANN401 - the library has no types
        node = self._open.pop()
        self._entered.discard(id(node))
        self._keys.pop()
        if node.flow:
            node.end = event.end_mark.index + self._base
        if isinstance(node, Mapping):
            _fill(node)
        return node

    def _attach(self, done: Node) -> None:
        parent = self._open[-1]
        parent.size += done.size
        if parent.size > MAX_UNFOLDED + MAX_UNFOLDED_TIMES * self._written:
            raise TextError(
                parent.start,
                "too large once its aliases are written out: allowed are "
                f"{MAX_UNFOLDED_TIMES} times its own size and {MAX_UNFOLDED >> 10} KiB",
            )
        parent.height = max(parent.height, done.height + 1)
        if not parent.flow:
            parent.end = done.end
        if isinstance(parent, Sequence):
            parent.items.append(done)
            parent.value.append(done.value)
            return
        name = self._keys[-1]
        if name is None:
            self._keys[-1] = _key(done)
        else:
            parent.pairs.append((name, done))
            self._keys[-1] = None


def _key(node: Node) -> Scalar:
    """A node as a key: its value becomes the text that JSON would have; one by alias is a scalar in its own place."""
    full = resolved(node)
    if not isinstance(full, Scalar):
        raise TextError(node.start, "a mapping or a list where a key belongs")
    if isinstance(full.value, (dict, list)):
        raise TypeError("a scalar holds no collection")
    try:
        name = key(full.value)
    except ScalarError as error:
        raise TextError(node.start, str(error)) from None
    if full is node and isinstance(full.value, str):
        return full
    return Scalar(node.start, node.end, name, full.style or '"')


def _fill(mapping: Mapping) -> None:
    """Make the mapping's value, merge keys in their place among the others."""
    own: set[str] = set()
    into = mapping.value
    for name, node in mapping.pairs:
        if is_merge(name):
            _merge(node, into)
            continue
        word = str(name.value)
        if word in own:
            raise TextError(name.start, "duplicate key in a mapping")
        own.add(word)
        into[word] = node.value


def _merge(node: Node, into: dict[str, Any]) -> None:
    for source in sources(node):
        if not isinstance(source, Mapping):
            raise TextError(node.start, f"{MERGE} takes a mapping or a list of mappings")
        into.update(source.value)
