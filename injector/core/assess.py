"""Assess a Pod in a cluster: whether its sidecars demand a token, and whether all containers run the current one.

A pure function of the Pod, of the metadata of Secrets and of what is known of the installation. `Protection` needs the
Pod only. `Currency` needs the metadata of its Secrets. docs/reference/status.md explains each word.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from injector.core import names
from injector.core.advisories import advisories
from injector.core.assessment import (
    PROTECTIONS,
    SEVERITIES,
    Assessment,
    ContainerFinding,
    ContainerReason,
    Currency,
    KeyCurrency,
    Known,
    PodFinding,
    Protection,
    ProtectionReason,
    Severity,
)
from injector.core.containers import Target
from injector.core.decision import Inject, decide_pod
from injector.core.env import EntryKind, env_of
from injector.core.errors import MalformedObjectError
from injector.core.model import Annotations, Policy
from injector.core.observed import ENDED_PHASES
from injector.core.ownership import SecretKey, SecretRef, may_have
from injector.core.request import Enabled, enabled
from injector.core.sealed import FOUND_EXIT_CODE, SEAL_NAMES, file_ref, seal_of
from injector.core.sidecar import is_dapr_shared, is_daprd, listening
from injector.core.token_state import TokenState, revision_of, state_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from injector.core.assessment import Observation
    from injector.core.env import EnvEntry
    from injector.core.model import TokenRef
    from injector.core.observed import ObservedContainer, ObservedPod
    from injector.core.token_state import PodUsage

    # Why a container waits, and the Secret and key.
    _Missing: TypeAlias = tuple[ProtectionReason, str, str]

# Of several containers, the first of these counts. What cannot be determined precedes what is merely different.
_WORST_FIRST: Final = (
    Protection.OPEN,
    Protection.WAITING,
    Protection.UNKNOWN,
    Protection.CUSTOM,
    Protection.PROTECTED,
)
# Seconds. A kubelet looks again for a missing Secret, and its cache may lag: shorter waits are normal.
WAITS_NORMALLY: Final = 120


# By all that they depend on.
Seen: TypeAlias = "dict[tuple[object, ...], tuple[ContainerFinding, ...]]"


def assess(observed: Observation, known: Known, seen: Seen | None = None) -> Assessment:
    """Return the assessment of a Pod.

    `seen` has the findings of earlier Pods, as long as their specs exist: those with the same spec share them.
    """
    pod = observed.pod
    if pod is None:
        return _assessment(observed, known, ProtectionReason.MALFORMED)
    containers = sorted(pod.spec.every if pod.spec is not None else (), key=is_sidecar, reverse=True)
    sidecars = [one for one in containers if is_sidecar(one)]
    reason = _without_containers(pod, known, has_sidecar=bool(sidecars))
    if reason is not None:
        return _assessment(observed, known, reason)
    sealed = _sealed(pod)
    found = [
        ContainerReason(container=one.name, reason=_reason(one, pod, sealed.get(id(one), {}), observed, known))
        for one in sidecars
    ]
    found += _waits(containers, pod, sealed, observed, known)
    found.sort(key=lambda one: _WORST_FIRST.index(PROTECTIONS[one.reason]))
    worst = found[0]
    is_open = PROTECTIONS[worst.reason] is Protection.OPEN
    seen = {} if seen is None else seen
    key = (id(pod.spec), _annotations(pod), known.policy, known.injects_default, is_open)
    if key not in seen:
        seen[key] = tuple(_findings(pod, sidecars, sealed, known, is_open=is_open))
    return replace(
        _assessment(observed, known, worst.reason),
        container=worst.container,
        missing=worst.missing,
        containers=tuple({one.container: one for one in reversed(found)}.values())[::-1],
        findings=(*seen[key], *_partly_sealed(pod, sealed, observed.usage)),
    )


def _assessment(observed: Observation, known: Known, reason: ProtectionReason) -> Assessment:
    protection = PROTECTIONS[reason]
    severity = SEVERITIES[protection]
    since = observed.waits_since
    # A time far ahead is of a node whose clock is wrong, and shows nothing.
    if protection is Protection.WAITING and since is not None and abs(known.now - since) < WAITS_NORMALLY:
        severity = Severity.INFO
    is_dated = protection in {Protection.PROTECTED, Protection.CUSTOM, Protection.UNKNOWN}
    currencies = tuple(_currencies(observed.usage, known)) if is_dated and observed.usage is not None else ()
    return Assessment(
        namespace=observed.namespace,
        name=observed.name,
        protection=protection,
        reason=reason,
        severity=severity,
        currencies=currencies,
    )


# --- protection ---


def not_applicable(observed: Observation) -> ProtectionReason | None:
    """Return why a Pod is `not-applicable`, which needs nothing but the Pod; None if it is not."""
    pod = observed.pod
    if pod is None:
        return None
    has_sidecar = any(map(is_sidecar, pod.spec.every if pod.spec is not None else ()))
    return _not_applicable(pod, has_sidecar=has_sidecar)


def is_sidecar(container: ObservedContainer) -> bool:
    """Return whether a container is a sidecar: by its name, or because it runs daprd."""
    return container.name == names.SIDECAR or is_daprd(container.image or "", container.words)


def _without_containers(pod: ObservedPod, known: Known, *, has_sidecar: bool) -> ProtectionReason | None:
    """Return the reason that does not depend on a container, if there is one."""
    reason = _not_applicable(pod, has_sidecar=has_sidecar)
    if reason is not None:
        return reason
    exempt = pod.metadata.annotations.exempt if pod.metadata is not None and pod.metadata.annotations else None
    is_allowed = known.policy is not None and known.policy.allow_exemptions
    if is_allowed and exempt and exempt.strip():
        return ProtectionReason.ANNOTATION
    if known.guard == "off":
        return ProtectionReason.NAMESPACE
    return None if has_sidecar else ProtectionReason.NOT_ADDED


def _not_applicable(pod: ObservedPod, *, has_sidecar: bool) -> ProtectionReason | None:
    # First: a Pod that has ended without Dapr says nothing about Dapr.
    if not has_sidecar and enabled(_annotations(pod)) is not Enabled.TRUE:
        return ProtectionReason.NO_DAPR
    if pod.status is not None and pod.status.phase in ENDED_PHASES:
        return ProtectionReason.ENDED
    if pod.metadata is not None and pod.metadata.deletionTimestamp is not None:
        return ProtectionReason.ENDING
    return None


def _annotations(pod: ObservedPod) -> Annotations:
    return (pod.metadata.annotations if pod.metadata is not None else None) or Annotations()


# By the id of a container: the tokens that it has from the file of a sealed Pod, by variable.
_Sealed: TypeAlias = "dict[int, dict[str, TokenRef]]"


def _sealed(pod: ObservedPod) -> _Sealed:
    """Return the tokens from the file of a sealed Pod that cannot be empty."""
    spec = pod.spec
    if spec is None or not spec.volumes:
        return {}
    seal, init = seal_of(spec), len(spec.initContainers or ())
    found: _Sealed = {}
    for index, container in enumerate(spec.every if seal.tokens else ()):
        init_index = index if index < init else None
        for entry in _entries(container):
            ref = seal.ref(entry.file, init_index) if entry.file == file_ref(entry.name) else None
            if ref is not None and not entry.optional and container.name not in SEAL_NAMES:
                found.setdefault(id(container), {})[entry.name] = ref
    return found


def _entries(container: ObservedContainer) -> tuple[EnvEntry, ...]:
    """Return the effective entries of the token variables; none of a malformed list."""
    try:
        return env_of(container).entries
    except MalformedObjectError:
        return ()


def _reason(
    container: ObservedContainer, pod: ObservedPod, sealed: Mapping[str, TokenRef], observed: Observation, known: Known
) -> ProtectionReason:
    """Return why a sidecar demands a token or not; `sealed` are those that it has from the file of a sealed Pod."""
    try:
        entry = env_of(container).api
    except MalformedObjectError:
        return ProtectionReason.MALFORMED
    annotations = _annotations(pod)
    wanted = (annotations.api_token_secret or "").strip()
    is_requested = enabled(annotations) is Enabled.TRUE
    if entry is None:
        if _may_come_from(container, observed.namespace, known):
            return ProtectionReason.ENV_FROM
        asks = is_requested and (wanted or known.injects_default)
        return ProtectionReason.NOT_INJECTED if asks else ProtectionReason.NO_VARIABLE
    ref = sealed.get(entry.name, entry.ref)
    reason = ProtectionReason.SEALED if entry.name in sealed else _reason_of(entry)
    if PROTECTIONS[reason] is not Protection.PROTECTED or ref is None:
        return reason
    if is_dapr_shared(is_requested=is_requested, key=ref.key):
        return ProtectionReason.DAPR_SHARED
    default = known.policy.default_api_key if known.policy is not None else ref.key
    key = (annotations.api_token_key or "").strip() or default
    if is_requested and wanted and (ref.name, ref.key) != (wanted, key):
        return ProtectionReason.OTHER_REFERENCE
    return reason


def _reason_of(entry: EnvEntry) -> ProtectionReason:
    if entry.kind is EntryKind.EMPTY:
        return ProtectionReason.MAY_EXPAND_TO_EMPTY if entry.is_indirect else ProtectionReason.EMPTY_VALUE
    if entry.kind is EntryKind.LITERAL:
        return ProtectionReason.MAY_EXPAND_TO_EMPTY if entry.may_be_empty else ProtectionReason.LITERAL
    if entry.optional:
        return ProtectionReason.OPTIONAL_REFERENCE
    if entry.may_be_empty:
        return ProtectionReason.MAY_EXPAND_TO_EMPTY
    return ProtectionReason.REFERENCE if entry.secret is not None else ProtectionReason.OTHER_REFERENCE


def _may_come_from(container: ObservedContainer, namespace: str, known: Known) -> bool:
    """Return whether the variable may come from `envFrom`: not if all of its Secrets are known not to have the key."""
    for source in container.envFrom or ():
        prefix = source.prefix or ""
        if not names.API_TOKEN_ENV.startswith(prefix):
            continue
        ref = SecretRef(namespace, source.secretRef.name) if source.secretRef is not None else None
        if ref is None or ref not in known.secrets:
            return True
        if may_have(known.secrets[ref], names.API_TOKEN_ENV.removeprefix(prefix)):
            return True
    return False


# The kubelet's messages: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/kubelet_pods.go
_NO_SECRET: Final = re.compile(r'secret "([^"]*)" not found')
_NO_KEY: Final = re.compile(r"couldn't find key (\S+) in Secret [^/\s]+/(\S+)")


# What the two init containers of a sealed Pod find.
_FAILURES: Final = {
    names.SEAL_CONTAINER: ProtectionReason.BAD_TOKEN_VALUE,
    names.SEAL_CHECK_CONTAINER: ProtectionReason.KUBELET_WITHOUT_ENV_FILES,
}


def _waits(
    containers: Iterable[ObservedContainer], pod: ObservedPod, sealed: _Sealed, observed: Observation, known: Known
) -> Iterator[ContainerReason]:
    """Yield why containers wait for a token."""
    for name, code in (pod.status.exit_codes if pod.status is not None else {}).items():
        if code == FOUND_EXIT_CODE and name in _FAILURES:
            yield ContainerReason(container=name, reason=_FAILURES[name])
    messages = pod.status.waiting if pod.status is not None else {}
    runs: dict[str, bool] = {}
    for one in observed.usage.usages if observed.usage is not None else ():
        runs[one.container] = runs.get(one.container, False) or one.started is not None
    for container in containers:
        # What a running container will read at its next start decides nothing now; one that has ended is not in `runs`.
        is_waiting = runs.get(container.name) is False
        message = messages.get(container.name, "")
        if not message and not is_waiting:
            continue
        wanted = _wanted(container, sealed.get(id(container), {}))
        found = _reported(message, wanted)
        if found is None and is_waiting:
            found = _missing(wanted, observed.namespace, known)
        if found is not None:
            reason, name, key = found
            missing = SecretKey(observed.namespace, name, key)
            yield ContainerReason(container=container.name, reason=reason, missing=missing)


def _wanted(container: ObservedContainer, sealed: Mapping[str, TokenRef]) -> frozenset[tuple[str, str]]:
    """Return the Secrets and keys of tokens that the kubelet must find to start a container, or to seal its Pod."""
    refs = [sealed.get(entry.name, entry.secret) for entry in _entries(container) if not entry.optional]
    return frozenset((ref.name, ref.key) for ref in refs if ref is not None)


def _reported(message: str, wanted: Collection[tuple[str, str]]) -> _Missing | None:
    absent, keyless = _NO_SECRET.search(message), _NO_KEY.search(message)
    for name, key in sorted(wanted):
        if absent and absent[1] == name:
            return ProtectionReason.NO_SECRET, name, key
        if keyless and keyless.groups() == (key, name):
            return ProtectionReason.NO_KEY, name, key
    return None


def _missing(wanted: Iterable[tuple[str, str]], namespace: str, known: Known) -> _Missing | None:
    """Return why a container that has not started will wait, by the metadata of Secrets."""
    for name, key in sorted(wanted):
        ref = SecretRef(namespace, name)
        if ref in known.secrets and not may_have(known.secrets[ref], key):
            reason = ProtectionReason.NO_SECRET if known.secrets[ref] is None else ProtectionReason.NO_KEY
            return reason, name, key
    return None


# --- currency ---


def _currencies(usage: PodUsage, known: Known) -> Iterator[KeyCurrency]:
    # A container of a Pod that is partly sealed may have two values.
    states: dict[SecretKey, dict[str, set[TokenState | None]]] = defaultdict(lambda: defaultdict(set))
    for one in usage.usages:
        secret = known.secrets.get(one.key.secret)
        revision = revision_of(secret, one.key.key) if secret is not None else None
        state = state_of(one, usage, revision) if revision is not None else None
        is_undated = revision is not None and revision.changed is None and state is TokenState.UNCERTAIN
        states[one.key][one.container].add(None if is_undated else state)
    for key in sorted(states):
        currency = _currency(frozenset().union(*states[key].values()))
        others = tuple(sorted(name for name, found in states[key].items() if not found <= _FRESH))
        yield KeyCurrency(
            key=key,
            currency=currency,
            containers=() if currency is Currency.UNKNOWN else others,
            by_container=tuple((name, _currency(states[key][name])) for name in sorted(states[key])),
        )


_FRESH: Final[frozenset[TokenState | None]] = frozenset({TokenState.CURRENT, TokenState.NOT_STARTED})


def _currency(states: Collection[TokenState | None]) -> Currency:
    if None in states:
        return Currency.UNKNOWN
    if TokenState.OUTDATED in states:
        return Currency.SKEWED if TokenState.CURRENT in states else Currency.OUTDATED
    return Currency.UNCERTAIN if TokenState.UNCERTAIN in states else Currency.CURRENT


# --- findings ---


def _findings(
    pod: ObservedPod, sidecars: list[ObservedContainer], sealed: _Sealed, known: Known, *, is_open: bool
) -> Iterator[ContainerFinding]:
    for one in sidecars:
        if one.name != names.SIDECAR:
            yield ContainerFinding(finding=PodFinding.RENAMED_SIDECAR, container=one.name)
        if _listens_beyond_the_pod(one):
            yield ContainerFinding(finding=PodFinding.EXPOSED, container=one.name)
        for advisory in advisories(one.image or ""):
            yield ContainerFinding(finding=PodFinding.DAPRD_ADVISORY, container=one.name, detail=advisory)
    if not is_open:
        have = (
            {one.name for one in pod.spec.every if names.API_TOKEN_ENV in sealed.get(id(one), {})} if pod.spec else ()
        )
        apps = (name for name in _apps_without(pod, known) if name not in have)
        yield from (ContainerFinding(finding=PodFinding.APP_WITHOUT_TOKEN, container=name) for name in apps)


def _partly_sealed(pod: ObservedPod, sealed: _Sealed, usage: PodUsage | None) -> Iterator[ContainerFinding]:
    """Yield the containers that get the same token from elsewhere, or what is left of a seal that does not count."""
    init = pod.spec.initContainers if pod.spec is not None else ()
    pieces = [one.name for one in init or () if one.name in SEAL_NAMES]
    keys = {(ref.name, ref.key) for refs in sealed.values() for ref in refs.values()}
    others = set(pieces[:1]) if pieces and not sealed else set()
    if keys and usage is not None:
        others = {one.container for one in usage.usages if not one.is_sealed and (one.key.name, one.key.key) in keys}
        others |= {one.container for one in usage.missing}
    yield from (ContainerFinding(finding=PodFinding.PARTLY_SEALED, container=name) for name in sorted(others))


def _listens_beyond_the_pod(container: ObservedContainer) -> bool:
    try:
        where = listening(container.words)
    except ValueError:
        return False  # what it listens on depends on variables
    return where.is_certain and not where.is_local and not where.socket


def _apps_without(pod: ObservedPod, known: Known) -> tuple[str, ...]:
    """Return the app containers that the webhook would give the API token now."""
    try:
        decision = decide_pod(pod, known.policy or Policy(), use_default=known.injects_default)
    except MalformedObjectError:
        return ()
    changes = decision.plan.changes if isinstance(decision, Inject) else ()
    return tuple(
        change.place.container
        for change in changes
        if change.place.target is Target.APP and change.variable == names.API_TOKEN_ENV
    )
