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

    from injector.core.model import TokenRef
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
        # The annotations exist: a Pod without annotations requests no token and gets no patch.
        operations.append(PatchOp("add", _STATUS_PATH, write_status(plan.record, plan.pull_secrets)))
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
    # The lists that did not exist and have their first entry now.
    made: set[str] = set()
    # Where the first variable was inserted, by list: the entries from there on have moved by one. There are two
    # variables, so no third one has to know about two.
    inserted: dict[str, int] = {}
    entries: list[Mapping[str, object]] = []
    last_variable: str | None = None
    last_ref: TokenRef | None = None
    last_sealed = False
    for change in changes:
        place, variable, ref, sealed = change.place, change.variable, change.ref, change.sealed
        # A plan lists the containers of one variable in sequence: they share one value.
        if variable is not last_variable or ref is not last_ref or sealed is not last_sealed:
            last_variable, last_ref, last_sealed = variable, ref, sealed
            entries = [file_entry(variable) if sealed else secret_entry(variable, ref)]
        path = f"/spec/{place.list_name}/{place.index}/env"
        if change.before is not None:
            yield PatchOp("add", f"{path}/{_moved(change.before, inserted.get(path))}", entries[0])
            inserted[path] = change.before
        elif change.replaces is not None:
            yield PatchOp("replace", f"{path}/{_moved(change.replaces, inserted.get(path))}", entries[0])
        elif place.env.exists or path in made:
            yield PatchOp("add", f"{path}/-", entries[0])
        else:
            # The list is absent or null: `add` creates the member or replaces the null.
            made.add(path)
            yield PatchOp("add", path, entries)


def _moved(index: int, inserted: int | None) -> int:
    """The index of an entry after another one was inserted at `inserted`."""
    return index if inserted is None or inserted > index else index + 1


def _escape(token: str) -> str:
    """The name of a member as a JSON Pointer token: https://www.rfc-editor.org/rfc/rfc6901#section-3."""
    return token.replace("~", "~0").replace("/", "~1")


_STATUS_PATH = f"/metadata/annotations/{_escape(names.STATUS)}"
