"""Which value of a Secret each container of a Pod runs, compared with the Secret.

A Pod shows it: its template has the id of the token that it was restarted for, or its containers started before or
after the Secret's data changed (docs/decisions/0010).
https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-environment-variables
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from injector.core.ownership import SecretKey, TokenSecret

# Seconds: how long after a change a kubelet may still use the previous value, because its watch lags.
LAG: Final = 2
# Seconds: how far a node's clock may be ahead of the API server's, and how long a kubelet takes to update a mounted
# Secret. A container that started so soon after the change may hold the previous value.
SKEW: Final = 120
# Seconds: upper bound for container start-up. If the kubelet has reported nothing by then, assume that the container is
# not running.
STARTS_WITHIN: Final = 600
# The longest name part of an annotation's key.
_MAX_NAME_PART: Final = 63
# Digits of a count in a mark. Longer ones are not ours: users can write any annotation into a template.
_MAX_DIGITS: Final = 9


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """An object that owns Pods, or a Pod without an owner."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """One container that reads a key of a Secret when it starts, or (`is_sealed`) from the file of a sealed Pod.

    `started`: seconds since 1970 by the node's clock, None if it does not run; of a sealed one, the start of the seal
    container, which decides its value also while it does not run. `is_starting`: the kubelet has not yet reported
    whether it runs. `is_optional`: it also starts while the Secret or the key is missing. `variable`: empty for mounted
    files and `envFrom`. `ran_before`: it was seen running before the value changed.
    """

    container: str
    key: SecretKey
    started: int | None
    is_starting: bool = False
    is_optional: bool = False
    variable: str = ""
    ran_before: bool = False
    is_sealed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingToken:
    """A token that a container should have, and has no value for, or one that may be empty.

    A Pod requests it for its sidecar, or the container reads it from a file, and the Pod is not sealed as it must be
    (`is_broken_seal`). `is_default`: it is the Policy's default one, which the Pod does not name.
    """

    key: SecretKey
    container: str
    variable: str
    is_broken_seal: bool = False
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUsage:
    """A Pod with the containers that read tokens.

    `created` is by the API server's clock, as is the change of a Secret; container starts are by the node's clock,
    which is at most `clock_lead` seconds ahead (None: unknown). `restarted_for`: the Pod's annotations. `position`: its
    place in a StatefulSet. `missing`: tokens that it requests and does not have. `optional_keys`: keys of tokens that
    its sidecar references as optional. `ended`: containers that ended for good, and keys that each could not have
    started without. `defaults`: keys that its sidecar reads as its API token, and no annotation requests: those of the
    Policy's default Secret. `lacks_request`: its sidecar has not every token that it requests, of whichever Secret.
    """

    namespace: str
    name: str
    workload: Ref
    uid: str = ""
    usages: tuple[ContainerUsage, ...] = ()
    missing: tuple[MissingToken, ...] = ()
    optional_keys: frozenset[SecretKey] = frozenset()
    ended: frozenset[tuple[SecretKey, str]] = frozenset()
    defaults: frozenset[SecretKey] = frozenset()
    lacks_request: bool = False
    created: int | None = None
    clock_lead: int | None = None
    restarted_for: Mapping[str, str] = field(default_factory=dict)
    is_ending: bool = False
    position: int | None = None

    @property
    def keys(self) -> frozenset[SecretKey]:
        """The keys that it reads or requests."""
        return frozenset({one.key for one in self.usages} | {one.key for one in self.missing})

    @property
    def open_keys(self) -> frozenset[SecretKey]:
        """The keys of tokens that it can serve without."""
        return self.optional_keys.union(one.key for one in self.missing)

    @property
    def default_keys(self) -> frozenset[SecretKey]:
        """The keys that its sidecar has from the Policy's default Secret, or should have."""
        return self.defaults.union(one.key for one in self.missing if one.is_default)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRevision:
    """The current value under a key: the token's id if it has one, and when it changed and the Secret was created.

    Times are in seconds since 1970 by the API server's clock; None: unknown.
    """

    id: str | None
    changed: int | None
    created: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether the Secret has never held another value under this key."""
        return self.changed is not None and self.changed == self.created


class TokenState(StrEnum):
    """How the value that a container runs compares with the Secret."""

    CURRENT = "current"
    OUTDATED = "outdated"
    UNCERTAIN = "uncertain"  # within the tolerances of clocks and caches
    NOT_STARTED = "not-started"  # it will read the current value


def revision_of(secret: TokenSecret, key: str) -> SecretRevision:
    """Return the revision of a key; our id counts only if no other manager has written that value since."""
    written = secret.changed(key)
    others = [writer.time for writer in secret.writers_of(key) if writer.manager != names.MANAGER]
    # Managed fields get their time before webhooks run, and a restored Secret may have those of its backup.
    changed = written if written is None or secret.created is None else max(written, secret.created)
    if secret.token_id is not None and (written is None or written not in others):
        return SecretRevision(id=secret.token_id, changed=changed, created=secret.created)
    return SecretRevision(id=None if changed is None else f"changed-{changed}", changed=changed, created=secret.created)


def annotation_for(secret: str) -> str:
    """Return the annotation of a template that names the token of this Secret that it was restarted for."""
    return names.RESTARTED_FOR + secret[:_MAX_NAME_PART].rstrip("-.")


def is_mark(value: str | None, revision: SecretRevision) -> bool:
    """Return whether an annotation's value says: restarted for this revision. ` (2)` follows the id on a second try."""
    return revision.id is not None and value is not None and value.partition(" ")[0] == revision.id


def next_mark(value: str | None, revision: SecretRevision) -> str:
    """Return the value that restarts a template; another one than it has, also when it is marked already."""
    if value is None or not is_mark(value, revision):
        return str(revision.id)
    count = value.partition(" ")[2].strip("()")
    is_count = count.isdecimal() and len(count) <= _MAX_DIGITS
    return f"{revision.id} ({int(count) + 1 if is_count else 2})"


def state_of(usage: ContainerUsage, pod: PodUsage, revision: SecretRevision) -> TokenState:
    """Return how the value that a container runs compares with the Secret (docs/decisions/0010)."""
    if usage.started is None and not usage.is_starting:
        return TokenState.NOT_STARTED
    if is_mark(pod.restarted_for.get(annotation_for(usage.key.name)), revision):
        return TokenState.CURRENT
    if revision.changed is None:
        return TokenState.UNCERTAIN
    if pod.created is not None and pod.created > revision.changed + LAG:
        return TokenState.CURRENT
    if usage.started is None:
        is_young = pod.created is None or pod.created + STARTS_WITHIN >= revision.changed
        return TokenState.UNCERTAIN if is_young else TokenState.NOT_STARTED
    if usage.started < revision.changed or usage.ran_before:
        return TokenState.OUTDATED
    if usage.started > revision.changed + SKEW or _waited_for_first_value(usage, pod, revision):
        return TokenState.CURRENT
    return TokenState.UNCERTAIN


def _waited_for_first_value(usage: ContainerUsage, pod: PodUsage, revision: SecretRevision) -> bool:
    """Whether the container cannot have started before the Secret existed, however far its node's clock is ahead.

    A Secret of the same name may have existed before: a container that started earlier read that one.
    """
    if usage.started is None or revision.changed is None or not revision.is_first or usage.is_optional:
        return False
    return pod.clock_lead is not None and usage.started - pod.clock_lead > revision.changed


def pod_state(pod: PodUsage, revisions: Mapping[SecretKey, SecretRevision]) -> TokenState:
    """Return the worst state among the containers that read one of the keys."""
    states = {state_of(usage, pod, revisions[usage.key]) for usage in pod.usages if usage.key in revisions}
    return next((state for state in _WORST_FIRST if state in states), TokenState.CURRENT)


_WORST_FIRST: Final = (TokenState.OUTDATED, TokenState.UNCERTAIN, TokenState.NOT_STARTED, TokenState.CURRENT)


def in_state(
    state: TokenState, revisions: Mapping[SecretKey, SecretRevision], pods: Iterable[PodUsage]
) -> tuple[PodUsage, ...]:
    """Return the Pods in a state, including those that are ending."""
    return tuple(pod for pod in pods if pod_state(pod, revisions) is state)


def without_token(keys: Collection[SecretKey], pods: Iterable[PodUsage]) -> tuple[PodUsage, ...]:
    """Return the Pods that can serve without the token of one of the keys, including those that are ending."""
    wanted = frozenset(keys)
    return tuple(pod for pod in pods if wanted & pod.open_keys)


def not_surely_current(revisions: Mapping[SecretKey, SecretRevision], pods: Iterable[PodUsage]) -> tuple[PodUsage, ...]:
    """Return the Pods that run or may run an outdated value, or have no token, including those that are ending."""
    return tuple(
        pod
        for pod in pods
        if pod_state(pod, revisions) in {TokenState.OUTDATED, TokenState.UNCERTAIN}
        or without_token(revisions.keys(), [pod])
    )


def pod_names(pods: Iterable[PodUsage]) -> tuple[str, ...]:
    """Return the names of Pods, sorted."""
    return tuple(sorted(pod.name for pod in pods))
