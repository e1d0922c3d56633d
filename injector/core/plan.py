"""What to change in a Pod, in Kubernetes' words: which variable goes into which container, and what is left alone.

Each pair of container and variable is settled once, by the last entry of that name, as the kubelet reads it:

| what stands there                         | outcome                                                         |
| ----------------------------------------- | --------------------------------------------------------------- |
| nothing                                   | added                                                           |
| the wanted reference                      | nothing to do                                                   |
| an empty value, or neither value nor source | replaced, warning: daprd takes it for "no authentication"     |
| any reference with `optional: true`       | replaced, warning: it fails open                                |
| what Dapr's own injector wrote            | re-pointed to the key that the Pod asks for                     |
| anything else                             | kept, warning; or replaced where the Policy says so             |

App containers are settled after the sidecars and get what those will really demand. Nothing here knows JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from injector.core import names
from injector.core.model import (
    Conflict,
    Container,
    EntryKind,
    EnvEntry,
    EnvList,
    Injected,
    Pod,
    Policy,
    SourceKind,
    TokenRef,
    env_of,
    read_status,
)
from injector.core.request import InjectionRequest, forbidden, is_allowed, shown, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from injector.core.errors import Problem


class Target(StrEnum):
    """Whose container it is."""

    SIDECAR = "sidecar"
    APP = "app"


@dataclass(frozen=True, slots=True)
class Place:
    """A container's position in the Pod, and its managed variables."""

    target: Target
    list_name: Literal["containers", "initContainers"]
    index: int
    container: str
    env: EnvList


@dataclass(frozen=True, slots=True)
class Change:
    """One variable to put into one container: at the end of its list, or over the entry at `replaces`."""

    place: Place
    variable: str
    ref: TokenRef
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A variable of the Pod's own that stays, though another was asked for."""

    place: Place
    variable: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything to do to one Pod. `record` is the status to leave behind; `problems` forbid the whole plan."""

    changes: tuple[Change, ...]
    kept: tuple[Kept, ...]
    record: tuple[Injected, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    has_target: bool


def build(pod: Pod, request: InjectionRequest, policy: Policy) -> Plan:
    """Settle every wanted variable in every container concerned.

    Raises:
        MalformedObjectError: A container's `env` is not a list of variables.
    """
    draft = _Draft(policy)
    containers = _containers(pod)
    sidecars = [_place(Target.SIDECAR, *at) for at in containers if at[2].name == names.SIDECAR]
    apps = [_place(Target.APP, *at) for at in _chosen(containers, request, policy, draft)]
    for variable, wanted in request.wanted:
        demanded = _settle_sidecars(sidecars, variable, wanted, draft)
        if demanded is None:
            draft.warnings.extend(_not_repeatable(place, variable) for place in apps)
            continue
        for place in apps:
            _settle(place, variable, demanded, draft)
    annotations = pod.metadata.annotations if pod.metadata is not None else None
    return draft.finish(read_status(annotations.status) if annotations else (), has_target=bool(sidecars or apps))


_ContainerAt = tuple[Literal["containers", "initContainers"], int, Container]


@dataclass(slots=True)
class _Draft:
    policy: Policy
    changes: list[Change] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    unchanged: set[tuple[str, str, TokenRef]] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def replace(self, place: Place, variable: str, ref: TokenRef, entry: EnvEntry) -> None:
        self.changes.append(Change(place, variable, ref, entry.index))

    def keep(self, place: Place, variable: str, entry: EnvEntry) -> None:
        self.kept.append(Kept(place, variable))
        ref = entry.ref
        if ref is not None and ref.kind is SourceKind.SECRET and not is_allowed(ref.name, self.policy):
            where = f"variable {variable} of container {place.container}"
            self.problems.append(forbidden(where, _annotation_of(variable), ref.name, self.policy))

    def finish(self, before: Iterable[Injected], *, has_target: bool) -> Plan:
        # What an earlier round put in and still stands stays on record, so that `uninject` finds it.
        standing = [i for i in before if (i.container, i.env, TokenRef(i.name, i.key, i.source)) in self.unchanged]
        return Plan(
            changes=tuple(self.changes),
            kept=tuple(self.kept),
            record=(*standing, *map(_injected, self.changes)),
            problems=tuple(self.problems),
            warnings=tuple(map(warning, self.warnings)),
            has_target=has_target,
        )


def _containers(pod: Pod) -> Sequence[_ContainerAt]:
    spec = pod.spec
    if spec is None:
        return ()
    found: list[_ContainerAt] = [("containers", i, c) for i, c in enumerate(spec.containers or ())]
    found.extend(("initContainers", i, c) for i, c in enumerate(spec.initContainers or ()))
    return found


def _place(
    target: Target, list_name: Literal["containers", "initContainers"], index: int, container: Container
) -> Place:
    return Place(target, list_name, index, container.name, env_of(container))


def _chosen(
    containers: Sequence[_ContainerAt], request: InjectionRequest, policy: Policy, draft: _Draft
) -> Iterable[_ContainerAt]:
    chosen = request.app_containers
    if not chosen.every and not chosen.names:
        return ()
    present = {container.name for _, _, container in containers}
    if chosen.from_pod:
        there = ", ".join(sorted(present - {names.SIDECAR}))
        unknown = (name for name in chosen.names if name not in present and name != names.SIDECAR)
        draft.warnings.extend(
            f"no container {shown(name)} to give the token to; there are: {there}" for name in unknown
        )
    return [at for at in containers if _is_chosen(at, request, policy)]


def _is_chosen(at: _ContainerAt, request: InjectionRequest, policy: Policy) -> bool:
    list_name, _, container = at
    chosen = request.app_containers
    if container.name == names.SIDECAR:
        return False
    if container.name in chosen.names:
        return True
    if not chosen.every or container.name in policy.infrastructure_containers:
        return False
    # A native sidecar runs beside the app; any other init container has ended before daprd serves.
    return list_name == "containers" or container.restartPolicy == "Always"


def _settle_sidecars(sidecars: Sequence[Place], variable: str, wanted: TokenRef, draft: _Draft) -> TokenRef | None:
    """What the sidecars will demand of their callers; None when it is nothing that an app container could be given."""
    demands = {_settle(place, variable, wanted, draft) for place in sidecars}
    if not demands:
        return wanted
    return demands.pop() if len(demands) == 1 else None


def _settle(place: Place, variable: str, wanted: TokenRef, draft: _Draft) -> TokenRef | None:
    """Settle one variable of one container; the reference that it will have, None for one that cannot be repeated."""
    entries = [entry for entry in place.env.entries if entry.name == variable]
    if not entries:
        draft.changes.append(Change(place, variable, wanted))
        return wanted
    if len(entries) > 1:
        draft.warnings.append(
            f"{variable} stands {len(entries)} times in container {place.container}; the last one counts"
        )
    last = entries[-1]
    if last.ref == wanted and not last.optional:
        draft.unchanged.add((place.container, variable, wanted))
        return wanted
    why = _why_replace(last, place, wanted, draft.policy)
    if why is None:
        draft.keep(place, variable, last)
        draft.warnings.append(_kept_warning(place, variable, last))
        return last.ref
    draft.replace(place, variable, wanted, last)
    if why:
        draft.warnings.append(f"{variable} of container {place.container} {why}; replaced")
    return wanted


def _why_replace(entry: EnvEntry, place: Place, wanted: TokenRef, policy: Policy) -> str | None:
    """Why an entry gives way, in words for a warning; "" when nobody needs to be told; None when it stays."""
    if entry.kind is EntryKind.EMPTY:
        return "was empty, which turns authentication off"
    if entry.optional:
        return "was optional, which fails open"
    if place.target is Target.SIDECAR and entry.ref == TokenRef(wanted.name, names.DAPR_FIXED_KEY):
        return ""
    return "was another one" if policy.conflict is Conflict.REPLACE else None


def _kept_warning(place: Place, variable: str, entry: EnvEntry) -> str:
    if entry.kind is EntryKind.LITERAL:
        return f"{variable} of container {place.container} is a value in clear text and was kept; use a Secret"
    asked = "the annotation's" if place.target is Target.SIDECAR else "its sidecar's"
    return f"{variable} of container {place.container} is a reference of its own and was kept; it is not {asked}"


def _not_repeatable(place: Place, variable: str) -> str:
    return f"{variable} not given to container {place.container}: its sidecar keeps a value that cannot be referenced"


def _annotation_of(variable: str) -> str:
    return names.API_TOKEN_SECRET if variable == names.API_TOKEN_ENV else names.APP_TOKEN_SECRET


def _injected(change: Change) -> Injected:
    ref = change.ref
    return Injected(
        change.place.container, change.variable, ref.name, ref.key, ref.kind, replaced=change.replaces is not None
    )
