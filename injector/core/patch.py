"""Convert a plan to RFC 6902 operations on positions in the request's object. Only this module knows JSON Pointer.

The operations are `add` and `replace` of one entry: never `test`, and never a whole list of the user's. An operation
always applies, because every position was read from the object that it is meant for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.core import names
from injector.core.model import PatchOp, write_status
from injector.core.seal import file_entry, secret_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from injector.core.model import ListName, TokenRef
    from injector.core.plan import Change, Plan
    from injector.core.seal import SealPlan


def build(plan: Plan) -> tuple[PatchOp, ...]:
    """The operations for all changes of a plan, and for its record if it has one; empty if nothing changes."""
    if not plan.changes and plan.seal is None:
        return ()
    operations = list(_operations(plan.changes))
    if plan.seal is not None:
        # The last ones of the spec: they move no list that another operation refers to.
        operations += _additions(plan.seal)
    if plan.record:
        operations.append(_status(plan))
    return tuple(operations)


def _additions(plan: SealPlan) -> Iterator[PatchOp]:
    yield from _appended("volumes", [plan.volume], has_list=plan.has_volumes)
    yield from _appended(
        "imagePullSecrets", [{"name": name} for name in plan.pull_secrets], has_list=plan.has_pull_secrets
    )
    if plan.has_init_containers:
        for index, container in enumerate(plan.containers, plan.index):
            yield PatchOp("add", f"/spec/initContainers/{index}", container)
    else:
        yield PatchOp("add", "/spec/initContainers", [*plan.containers])


def _appended(member: str, values: Sequence[object], *, has_list: bool) -> Iterator[PatchOp]:
    if not has_list and values:
        # The list is absent or null: `add` creates the member or replaces the null.
        yield PatchOp("add", f"/spec/{member}", values)
        return
    for value in values:
        yield PatchOp("add", f"/spec/{member}/-", value)


def _operations(changes: Iterable[Change]) -> Iterator[PatchOp]:
    # Path for appending, by index of a container; its list exists after the first entry was added.
    ends: dict[ListName, dict[int, str]] = {"containers": {}, "initContainers": {}}
    # Where the first variable was inserted, by index of a container: the entries from there on have moved by one. There
    # are two variables, so no third one has to know about two.
    inserted: dict[ListName, dict[int, int]] = {"containers": {}, "initContainers": {}}
    entries: list[Mapping[str, object]] = []
    of: tuple[str, TokenRef, bool] | None = None
    for change in changes:
        place, variable, ref, sealed = change.place, change.variable, change.ref, change.sealed
        # A plan lists the containers of one variable in sequence: they share one value.
        if of is None or variable is not of[0] or ref is not of[1] or sealed is not of[2]:
            of = (variable, ref, sealed)
            entries = [file_entry(variable) if sealed else secret_entry(variable, ref)]
        at = change.replaces if change.before is None else change.before
        if at is not None:
            moved = inserted[place.list_name].get(place.index, at + 1) <= at
            path = f"/spec/{place.list_name}/{place.index}/env/{at + moved}"
            if change.before is None:
                yield PatchOp("replace", path, entries[0])
            else:
                yield PatchOp("add", path, entries[0])
                inserted[place.list_name][place.index] = at
            continue
        known = ends[place.list_name]
        end = known.get(place.index)
        if end is None:
            end = known[place.index] = f"/spec/{place.list_name}/{place.index}/env/-"
            if not place.env.exists:
                # The list is absent or null: `add` creates the member or replaces the null.
                yield PatchOp("add", end[:-2], entries)
                continue
        yield PatchOp("add", end, entries[0])


def _status(plan: Plan) -> PatchOp:
    # The annotations exist: a Pod without annotations requests no token and gets no patch.
    return PatchOp("add", _STATUS_PATH, write_status(plan.record, plan.pull_secrets))


def _escape(token: str) -> str:
    """The name of a member as a JSON Pointer token: https://www.rfc-editor.org/rfc/rfc6901#section-3."""
    return token.replace("~", "~0").replace("/", "~1")


_STATUS_PATH = f"/metadata/annotations/{_escape(names.STATUS)}"
