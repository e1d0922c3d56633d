"""Decodes lists of objects, page by page: a page may have megabytes, of which a caller reads a few members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from injector.core.depth import decode_any_depth
from injector.kube.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
Kept: TypeAlias = list[T]
# From the JSON text of an item to what is kept of it; None: nothing. It may raise `msgspec.DecodeError`.
Read: TypeAlias = Callable[[bytes | bytearray], T | None]


class _ListMeta(msgspec.Struct, frozen=True):
    after: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct, frozen=True):
    """A list of any kind. The items may be null, but both members are always there: `{}` is not an empty list."""

    items: list[msgspec.Raw] | None
    metadata: _ListMeta


class ItemMeta(msgspec.Struct, frozen=True):
    """Where an object is."""

    name: str
    namespace: str = ""


class _Item(msgspec.Struct, frozen=True):
    metadata: ItemMeta


_list: Final = msgspec.json.Decoder(_List)
_item: Final = msgspec.json.Decoder(_Item)
_NOT_A_LIST: Final = "the answer is not a list of objects; is this a Kubernetes API server?"


def item_meta(text: bytes | bytearray) -> ItemMeta:
    """Return name and namespace of an object; its other members are skipped."""
    return _item.decode(text).metadata


def page(operation: str, content: bytes, read: Read[T], *, namespaced: bool) -> tuple[Kept[T], str]:
    """Return what is kept of the items of a page, and where the next page starts; empty: it is the last.

    Raises:
        UnavailableError: It is not a list of objects with a name, and a namespace if their kind has one.
    """
    try:
        found = decode_any_depth(_list.decode, content)
        items = list(_kept(found.items or (), read, namespaced=namespaced))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnavailableError(operation, why=_NOT_A_LIST) from None
    return items, found.metadata.after or ""


def _kept(items: Iterable[msgspec.Raw], read: Read[T], *, namespaced: bool) -> Iterator[T]:
    def decoded(text: bytes | bytearray) -> T | None:
        if not item_meta(text).namespace and namespaced:
            raise msgspec.ValidationError
        return read(text)

    for raw in items:
        # A copy: what keeps a part of its text must not keep the page.
        kept = decode_any_depth(decoded, bytes(raw))
        if kept is not None:
            yield kept
