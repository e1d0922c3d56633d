"""A plan as RFC 6902 operations on positions in the caller's own JSON; the only place that knows JSON Pointer.

Only `add`, and `replace` of one entry: never a `test`, never a whole list of the user's. An operation can always be
applied, because every position was read from the very object that it is meant for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.core import names
from injector.core.model import Injected, PatchOp, TokenRef, write_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from injector.core.plan import Change, Plan


def build(plan: Plan) -> tuple[PatchOp, ...]:
    """Operations for all changes of `plan`, and for the record of them if it has one; none without changes."""
    if not plan.changes:
        return ()
    operations = list(_operations(plan.changes))
    if plan.record:
        operations.append(_status(plan.record))
    return tuple(operations)


def _operations(changes: Iterable[Change]) -> Iterator[PatchOp]:
    made: set[tuple[str, int]] = set()
    entry: Mapping[str, object] = {}
    of: tuple[str, TokenRef] | None = None
    for change in changes:
        place, variable, ref = change.place, change.variable, change.ref
        # A plan gives one variable to one container after the other: their entries are one object.
        if of is None or variable is not of[0] or ref is not of[1]:
            of = (variable, ref)
            entry = _entry(variable, ref)
        path = f"/spec/{place.list_name}/{place.index}/env"
        if change.replaces is not None:
            yield PatchOp("replace", f"{path}/{change.replaces}", entry)
        elif place.env.exists or (place.list_name, place.index) in made:
            yield PatchOp("add", f"{path}/-", entry)
        else:
            # Absent or null: `add` makes the member or takes the place of the null.
            made.add((place.list_name, place.index))
            yield PatchOp("add", path, [entry])


def _entry(variable: str, ref: TokenRef) -> Mapping[str, object]:
    return {"name": variable, "valueFrom": {ref.kind.value: {"name": ref.name, "key": ref.key}}}


def _status(record: tuple[Injected, ...]) -> PatchOp:
    # The annotations exist: a Pod without them has asked for nothing and gets no patch.
    return PatchOp("add", _STATUS_PATH, write_status(record))


def _escape(token: str) -> str:
    """A member's name as a JSON Pointer token: https://www.rfc-editor.org/rfc/rfc6901#section-3."""
    return token.replace("~", "~0").replace("/", "~1")


_STATUS_PATH = f"/metadata/annotations/{_escape(names.STATUS)}"
