"""Plan the changes of a Pod: which variable is set in which container, and which entries are kept.

Each pair of container and variable is resolved once, by the last entry of that name, which is the one that the kubelet
uses:

| existing entry                            | outcome                                                         |
| ----------------------------------------- | --------------------------------------------------------------- |
| none                                      | added, before the first entry that refers to it                 |
| the requested reference                   | unchanged                                                       |
| an empty value, or neither value nor source | replaced, warning: daprd takes it for "no authentication"     |
| `$(NAME)` of an entry before it           | as that entry                                                   |
| any reference with `optional: true`       | replaced, warning: it fails open                                |
| what Dapr's own injector wrote            | changed to the key that the Pod requests                        |
| anything else                             | kept, warning; or replaced where the Policy says so             |

App containers are resolved after the sidecars and get the reference that the sidecars will use. This module does not
know JSON.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from injector.core import names, seal
from injector.core.containers import Target, notes_of, places_of
from injector.core.env import EntryKind
from injector.core.messages import WarningList, warning
from injector.core.model import NO_RECORD, Conflict, Injected, SourceKind, TokenRef, Value, read_record, replace
from injector.core.sealed import file_ref, first_reader, sealed_tokens
from injector.core.secret_names import allow_list, forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from injector.core.containers import Place
    from injector.core.env import EnvEntry, EnvList
    from injector.core.model import Pod, Policy, Problem, StatusRecord
    from injector.core.request import InjectionRequest
    from injector.core.seal import SealingSpec, SealPlan

    ReadSpec = Callable[[], SealingSpec]


class Change(Value, frozen=True, gc=False):
    """One variable to set in one container.

    It takes the place of the entry at index `replaces`, precedes that at `before`, or goes to the end of the list.
    Kubernetes expands `$(NAME)` only if an earlier entry sets NAME. If `sealed`, the entry is a `fileKeyRef`, with
    which the container reads the value that the seal container has from `ref`.
    """

    place: Place
    variable: str
    ref: TokenRef
    replaces: int | None = None
    before: int | None = None
    sealed: bool = False


class Kept(Value, frozen=True, gc=False):
    """An existing variable that is kept, although it differs from the requested one."""

    place: Place
    variable: str


class Plan(Value, frozen=True, gc=True, eq=False, weakref=True):
    """All changes of one Pod. `record` is the value of the status annotation, if any; `problems` reject the whole plan.

    `seal` has the additions that seal the Pod; it is None for a Pod that is not sealed, or is sealed already.
    `pull_secrets` belong to the record, and `converted` are the requested references that are replaced in order to
    seal. Only the first warnings and problems have a text; `more_warnings` and `more_problems` count the others. Plans
    are compared by identity: equal Pods share one plan, and a cache can use it as its key.
    """

    changes: tuple[Change, ...]
    kept: tuple[Kept, ...]
    unchanged: frozenset[Injected]
    record: tuple[Injected, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    has_target: bool
    more_warnings: int = 0
    more_problems: int = 0
    seal: SealPlan | None = None
    pull_secrets: tuple[str, ...] = ()
    converted: frozenset[Injected] = frozenset()


def build(
    pod: Pod,
    request: InjectionRequest,
    policy: Policy,
    read_spec: ReadSpec | None = None,
    *,
    expects_sidecar: bool = False,
) -> Plan:
    """Resolve every requested variable in every sidecar and selected app container.

    Args:
        pod: The Pod.
        request: The tokens that it requests.
        policy: The Policy.
        read_spec: Decodes all fields that sealing needs; called only for a Pod that is to be sealed or may be sealed
            already. None: the plan has ordinary references.
        expects_sidecar: Whether to plan for a Pod as if it had a sidecar: a template has none yet.

    Raises:
        MalformedObjectError: A container's `env` is not a list of variables.
    """
    spec = pod.spec
    if spec is None:
        return _NOTHING
    renamed: list[Place] = []
    places = places_of(spec, request, policy, renamed)
    notes = notes_of(spec, request, renamed) if renamed or request.app_containers.names else None
    is_plain = _is_plain(places)
    sealing = _NOT_SEALED
    if read_spec is not None and (
        (request.seal and _has_sidecar(places, expects_sidecar)) or (not is_plain and _reads_seal(places))
    ):
        sealing = _sealing(read_spec(), places, request, policy, is_plain=is_plain)
    resolve = _resolve_all if is_plain else _resolve_all.__wrapped__
    plan = resolve(tuple(places), request.wanted, policy.conflict, policy.allowed_secrets, sealing)
    if notes is None and not plan.unchanged and not plan.converted:
        return plan
    return _with_existing_record(plan, pod, notes)


class _Sealing(Value, frozen=True, gc=False):
    """How the containers of a Pod are sealed.

    Regular containers and init containers from index `first` on read the file; None: no container does. `plan` has the
    additions, None for a Pod that is sealed already.
    """

    first: int | None = None
    plan: SealPlan | None = None
    warning: str = ""


_NOT_SEALED: Final = _Sealing()


def _indexes(env: EnvList, wanted: Sequence[tuple[str, TokenRef]]) -> Sequence[int]:
    """The indexes of the effective entries of the wanted variables."""
    if env.api is None and env.app is None:
        return ()
    return [entry.index for variable, _ in wanted if (entry := env.get(variable)) is not None]


def _is_plain(places: Sequence[Place]) -> bool:
    """Whether there are few places, with short names and none of our variables: as in most Pods.

    The plan of such places is cached: many Pods of a cluster are alike, and 1,024 small plans take a few megabytes.
    Plans that a hostile Pod could make large are not cached.
    """
    if len(places) > _MOST_PLACES:
        return False
    for place in places:
        if place.env.api is not None or place.env.app is not None or len(place.container) > _LONGEST_NAME:
            return False
    return True


_MOST_PLACES: Final = 8
_LONGEST_NAME: Final = 63  # characters; a DNS label, as the API server demands


def _has_sidecar(places: Sequence[Place], expects_sidecar: bool) -> bool:  # noqa: FBT001 - as in _injected
    return expects_sidecar or (bool(places) and places[0].target is _SIDECAR)


def _reads_seal(places: Sequence[Place]) -> bool:
    """Whether the Pod has an entry that only a sealed Pod has."""
    return any(_is_sealed(place.env.api) or _is_sealed(place.env.app) for place in places)


def _is_sealed(entry: EnvEntry | None) -> bool:
    return entry is not None and entry.file is not None and entry.file == file_ref(entry.name)


def _sealing(
    spec: SealingSpec, places: Sequence[Place], request: InjectionRequest, policy: Policy, *, is_plain: bool
) -> _Sealing:
    wanted = request.wanted

    def targets() -> seal.Targets:
        return {(place.list_name, place.index): _indexes(place.env, wanted) for place in places}

    is_usual = seal.is_usual(spec)
    tokens = _NO_TOKENS if is_usual else sealed_tokens(spec)
    if tokens and all(tokens.get(variable) == ref for variable, ref in wanted):
        reader = next(seal.other_readers(spec, wanted, targets()), None)
        return _Sealing(first_reader(spec), warning="" if reader is None else seal.loophole(reader))
    if not request.seal:
        return _NOT_SEALED
    if tokens:
        return _Sealing(warning=seal.refusal("its seal has another Secret or key; render the manifest again"))
    problem = seal.policy_problem(spec, wanted, policy)
    kept = None if problem or is_plain else _first_kept(places, wanted, policy.conflict)
    if kept is not None:
        problem = f"a value of its own is kept; remove {kept.variable} from container {kept.place.container}"
    if problem is None and not is_usual:
        # Last, because it reads all variables of all containers.
        problem = seal.pod_problem(spec, wanted, targets())
    if problem is not None:
        return _Sealing(warning=seal.refusal(problem))
    planned = seal.prepare(spec, wanted, targets, policy)
    return _Sealing(planned.index, planned)


_NO_TOKENS: Final[Mapping[str, TokenRef]] = {}


@lru_cache(maxsize=1024)
def _resolve_all(
    places: tuple[Place, ...],
    wanted: tuple[tuple[str, TokenRef], ...],
    conflict: Conflict,
    allowed_secrets: tuple[str, ...],
    sealing: _Sealing,
) -> Plan:
    builder = _PlanBuilder(conflict, allowed_secrets, wanted, sealing)
    sidecars = [place for place in places if place.target is _SIDECAR]
    apps = [place for place in places if place.target is not _SIDECAR]
    for variable, ref in wanted:
        demanded = builder.resolve_sidecars(sidecars, variable, ref)
        for place in apps:
            if demanded is None:
                builder.skip(place, variable)
            elif place.env.api is None and place.env.app is None:
                # The common case, without a look at the entries: a Pod may have thousands of containers.
                builder.add(place, variable, demanded)
            else:
                builder.resolve(place, variable, demanded)
    return builder.finish(has_target=bool(places))


class _PlanBuilder:
    """Collects the parts of a plan."""

    def __init__(
        self,
        conflict: Conflict,
        allowed_secrets: tuple[str, ...],
        wanted: tuple[tuple[str, TokenRef], ...] = (),
        sealing: _Sealing = _NOT_SEALED,
    ) -> None:
        self.conflict = conflict
        self.allowed_secrets = allowed_secrets
        self.wanted = wanted
        self.sealing = sealing
        self.converted: list[Injected] = []
        self.allow_list = allow_list(allowed_secrets)
        self.changes: list[Change] = []
        self.kept: list[Kept] = []
        self.unchanged: list[Injected] = []
        self.problems: list[Problem] = []
        self.more_problems = 0
        self.warnings = WarningList()
        if sealing.warning:
            self.warnings.add(sealing.warning)

    def resolve_sidecars(self, sidecars: Sequence[Place], variable: str, wanted: TokenRef) -> TokenRef | None:
        """The reference that the sidecars will use; None if it cannot be repeated in an app container."""
        demands = {self.resolve(place, variable, wanted) for place in sidecars}
        if not demands:
            return wanted
        return demands.pop() if len(demands) == 1 else None

    def resolve(self, place: Place, variable: str, wanted: TokenRef) -> TokenRef | None:
        """Resolve one variable of one container; return its reference, None if it will not be a reference."""
        last = place.env.get(variable)
        if last is None:
            self.add(place, variable, wanted)
            return wanted
        if place.env.first_use(variable) is not None:
            self._warn(place, variable, "is set after an entry that refers to it; move it before that entry")
        if last.copies > 1:
            self._warn(place, variable, f"appears {last.copies} times; the last entry is used")
        is_sealed = self._reads_file(place, variable, wanted)
        if last.ref == wanted and not last.optional:
            if is_sealed:
                self.changes.append(Change(place, variable, wanted, last.index, sealed=True))
                self.converted.append(_injected(place, variable, wanted))
            else:
                self.unchanged.append(_injected(place, variable, wanted))
            return wanted
        has_file = _is_sealed(last) and not last.optional
        if has_file and is_sealed:
            self.unchanged.append(_injected(place, variable, wanted, sealed=True))
            return wanted
        is_early = has_file and self._precedes_seal(place)
        why = "" if is_early else _why_replace(last, place.target, wanted, self.conflict)
        if why is None:
            self._keep(place, variable, last)
            return last.ref
        self.changes.append(Change(place, variable, wanted, last.index, sealed=is_sealed))
        if why:
            self._warn(place, variable, f"{why}; replaced")
        return wanted

    def add(self, place: Place, variable: str, ref: TokenRef) -> None:
        """Add a variable that a container does not have."""
        is_sealed = self._reads_file(place, variable, ref)
        self.changes.append(Change(place, variable, ref, before=place.env.first_use(variable), sealed=is_sealed))

    def skip(self, place: Place, variable: str) -> None:
        """Skip an app container. Its existing reference is still checked against allowedSecrets."""
        self.warnings.add(
            variable, " not given to container ", place.container, ": its sidecar's value cannot be referenced"
        )
        own = place.env.get(variable)
        if own is not None:
            self._check_list(own, place, variable)

    def _reads_file(self, place: Place, variable: str, ref: TokenRef) -> bool:
        """Whether the container reads the variable from the file of a sealed Pod, which has the requested values."""
        first = self.sealing.first
        if first is None or (variable, ref) not in self.wanted:
            return False
        if place.list_name == "containers" or place.index >= first:
            return True
        self._warn(place, variable, f"is not sealed: it runs before {names.SEAL_CHECK_CONTAINER}")
        return False

    def _precedes_seal(self, place: Place) -> bool:
        first = self.sealing.first
        return first is not None and place.list_name == "initContainers" and place.index < first

    def finish(self, *, has_target: bool) -> Plan:
        """The finished plan."""
        return Plan(
            changes=tuple(self.changes),
            kept=tuple(self.kept),
            unchanged=frozenset(self.unchanged),
            record=tuple(_injected(c.place, c.variable, c.ref, c.replaces is not None, c.sealed) for c in self.changes),
            problems=tuple(self.problems),
            warnings=tuple(self.warnings.lines),
            has_target=has_target,
            more_warnings=self.warnings.more,
            more_problems=self.more_problems,
            seal=self.sealing.plan,
            pull_secrets=self.sealing.plan.pull_secrets if self.sealing.plan is not None else (),
            converted=frozenset(self.converted),
        )

    def _warn(self, place: Place, variable: str, what: str) -> None:
        self.warnings.add(variable, " of container ", place.container, " ", what)

    def _keep(self, place: Place, variable: str, entry: EnvEntry) -> None:
        self.kept.append(Kept(place, variable))
        if entry.may_be_empty:
            self._warn(place, variable, f"{_MAY_BE_EMPTY}; kept")
            return
        if entry.kind is _LITERAL:
            self._warn(place, variable, "is a value in clear text and was kept; use a Secret")
            return
        other = "the annotation" if place.target is _SIDECAR else "its sidecar"
        self._warn(place, variable, f"references a different Secret or key than {other}; kept")
        self._check_list(entry, place, variable)

    def _check_list(self, entry: EnvEntry, place: Place, variable: str) -> None:
        """Check a reference that is kept against allowedSecrets."""
        ref = entry.ref
        if ref is None or ref.kind is not _SECRET or self.allow_list.has(ref.name):
            return
        if len(self.problems) == names.MAX_WORDED_PROBLEMS:
            self.more_problems += 1
        else:
            where = warning(f"variable {variable} of container {place.container}")
            self.problems.append(forbidden(where, names.REQUESTS[variable][0], ref.name, self.allowed_secrets))


def _first_kept(places: Sequence[Place], wanted: Iterable[tuple[str, TokenRef]], conflict: Conflict) -> Kept | None:
    """The first value that the plan of a Pod to be sealed would keep.

    No value is kept before it, so that every container up to it is to get the wanted reference itself.
    """
    for variable, ref in wanted:
        for place in places:
            entry = place.env.get(variable)
            if entry is None or ((entry.ref == ref or _is_sealed(entry)) and not entry.optional):
                continue
            if _why_replace(entry, place.target, ref, conflict) is None:
                return Kept(place, variable)
    return None


def _why_replace(entry: EnvEntry, target: Target, wanted: TokenRef, conflict: Conflict) -> str | None:
    """The reason to replace an entry, as text for a warning; "" without a warning; None to keep the entry."""
    if entry.kind is _EMPTY:
        return _MAY_BE_EMPTY if entry.is_indirect else "was empty, which turns authentication off"
    if entry.optional:
        return "was optional, which fails open"
    is_changeable = target is _SIDECAR and not entry.is_indirect
    if is_changeable and entry.ref == TokenRef(wanted.name, names.DAPR_FIXED_KEY):
        return ""
    return "was set differently" if conflict is _REPLACE else None


_MAY_BE_EMPTY: Final = "may expand to an empty token, which turns authentication off"


def without_record(plan: Plan) -> Plan:
    """The same plan without a record, for a Pod whose annotations have no room for it."""
    return replace(plan, record=(), pull_secrets=(), converted=frozenset())


_NOTHING: Final = _PlanBuilder(Conflict.KEEP, ()).finish(has_target=False)


def _with_existing_record(plan: Plan, pod: Pod, warnings: WarningList | None) -> Plan:
    """The plan with the warnings of this Pod, and with the entries of an earlier record that still apply."""
    before = _recorded(pod) if plan.unchanged or plan.converted else NO_RECORD
    if not before.injected and warnings is None:
        return plan
    recorded = tuple(dict.fromkeys(entry for entry in before.injected if _plain(entry) in plan.unchanged))
    added = {_plain(entry) for entry in before.injected if not entry.replaced} & plan.converted
    warnings = warnings or WarningList()
    warnings.extend(plan.warnings, plan.more_warnings)
    return replace(
        plan,
        record=(*recorded, *(_as_added(entry, added) for entry in plan.record)),
        warnings=tuple(warnings.lines),
        more_warnings=warnings.more,
        pull_secrets=tuple(dict.fromkeys((*before.pullSecrets, *plan.pull_secrets))),
        converted=frozenset(),
    )


def _recorded(pod: Pod) -> StatusRecord:
    annotations = pod.metadata.annotations if pod.metadata is not None else None
    return read_record(annotations.status if annotations is not None else None)


def _as_added(entry: Injected, added: AbstractSet[Injected]) -> Injected:
    """An entry of the record: one that took the place of an entry that an earlier round had added counts as added."""
    if entry.sealed and Injected(entry.container, entry.env, entry.name, entry.key, entry.source) in added:
        return _plain(entry)
    return entry


# Looking up an enum member in its class is slow in Python 3.11.
_EMPTY: Final = EntryKind.EMPTY
_LITERAL: Final = EntryKind.LITERAL
_REPLACE: Final = Conflict.REPLACE
_SECRET: Final = SourceKind.SECRET
_SIDECAR: Final = Target.SIDECAR


def _injected(place: Place, variable: str, ref: TokenRef, replaced: bool = False, sealed: bool = False) -> Injected:  # noqa: FBT001, FBT002 - positional for speed: called for each variable
    return Injected(place.container, variable, ref.name, ref.key, ref.kind, replaced, sealed)


def _plain(entry: Injected) -> Injected:
    return Injected(entry.container, entry.env, entry.name, entry.key, entry.source, sealed=entry.sealed)
