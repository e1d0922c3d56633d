"""Decodes workloads of the API server into the values that `core.rollout` decides on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core.rollout import SkipReason, Workload
from injector.core.token_state import Ref
from injector.kube.api_messages import redact_words, strip_object_name
from injector.kube.resources import ROLLOUTS
from injector.times import unix_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from injector.kube.resources import Object


def workload(found: Object) -> Workload:
    """Return the object at the end of a chain of owners, if its kind is known."""
    meta, spec, status = found["metadata"], found.get("spec") or {}, found.get("status") or {}
    kind = found["kind"]
    template = ((spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}
    is_seen = _is_seen(meta, status)
    is_rollout = kind == ROLLOUTS.kind
    return Workload(
        ref=Ref(kind, meta["namespace"], meta["name"]),
        skip_reason=_skip_reason(kind, spec),
        partition=_partition(spec),
        restarted_for=dict(template),
        rollout_complete=is_seen and (kind not in _COMPLETE or _COMPLETE[kind](spec, status)),
        failure=_failure(status) if is_seen else "",
        trouble=_trouble(status),
        recreates=_count(spec, "replicas", 1) == 1
        if is_rollout
        else (spec.get("strategy") or {}).get("type") == "Recreate",
        restarts_by_time=is_rollout,
        restart_at=_time(spec.get("restartAt")) if is_rollout else None,
    )


# Digits of an int64.
_GENERATION_DIGITS: Final = 19


def _is_seen(meta: Object, status: Object) -> bool:
    """Return whether the status is that of the current spec. Argo Rollouts writes a text, which older ones hash."""
    text = str(status.get("observedGeneration") or 0)
    is_number = text.isdecimal() and len(text) <= _GENERATION_DIGITS
    return not is_number or int(text) >= int(meta.get("generation") or 0)


def _time(text: object) -> int | None:
    return unix_time(text) if isinstance(text, str) else None


def _partition(spec: Object) -> int:
    return int(((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)


def _skip_reason(kind: str, spec: Object) -> SkipReason | None:
    if kind == "Deployment":
        return SkipReason.PAUSED if spec.get("paused") else None
    if kind in {"StatefulSet", "DaemonSet"}:
        return SkipReason.ON_DELETE if (spec.get("updateStrategy") or {}).get("type") == "OnDelete" else None
    if kind == ROLLOUTS.kind:
        return None  # a paused Rollout is restarted, too
    return _SKIPPED.get(kind, SkipReason.OTHER_CONTROLLER)


_SKIPPED: Final = {
    "Job": SkipReason.JOB,
    "CronJob": SkipReason.JOB,
    "ReplicaSet": SkipReason.NO_ROLLOUT,  # its template reaches no Pod that exists
}


def _deployment_complete(spec: Object, status: Object) -> bool:
    wanted = _count(spec, "replicas", 1)
    return (
        _count(status, "updatedReplicas") >= wanted
        and _count(status, "replicas") <= _count(status, "updatedReplicas")
        and _count(status, "availableReplicas") >= wanted
    )


def _stateful_set_complete(spec: Object, status: Object) -> bool:
    wanted = _count(spec, "replicas", 1)
    return (
        _count(status, "updatedReplicas") >= max(wanted - _partition(spec), 0)
        and _count(status, "availableReplicas") >= wanted  # ready for minReadySeconds, the last Pod as well
        and _count(status, "replicas") == wanted
    )


def _daemon_set_complete(_spec: Object, status: Object) -> bool:
    wanted = _count(status, "desiredNumberScheduled")
    return _count(status, "updatedNumberScheduled") >= wanted and _count(status, "numberAvailable") >= wanted


def _rollout_complete(spec: Object, status: Object) -> bool:
    """Return whether an Argo Rollout has done its last restart, and enough of its Pods are available."""
    restart_at = _time(spec.get("restartAt"))
    is_restarted = restart_at is None or _time(status.get("restartedAt")) == restart_at
    return is_restarted and _count(status, "availableReplicas") >= _count(spec, "replicas", 1)


_COMPLETE: Final[Mapping[str, Callable[[Object, Object], bool]]] = {
    "Deployment": _deployment_complete,
    "StatefulSet": _stateful_set_complete,
    "DaemonSet": _daemon_set_complete,
    ROLLOUTS.kind: _rollout_complete,
}


def _count(of: Object, name: str, default: int = 0) -> int:
    value = of.get(name)
    return default if value is None else int(value)


def _failure(status: Object) -> str:
    """Return why a Deployment reports that its rollout does not progress."""
    for one in status.get("conditions") or ():
        if one.get("type") == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded":
            return "its new Pods are not ready within its progressDeadlineSeconds"
    return ""


def _trouble(status: Object) -> str:
    """Return why a Deployment's Pods are not created: the message of a quota, a policy or a webhook."""
    for one in status.get("conditions") or ():
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return redact_words(strip_object_name(str(one.get("message", ""))))
    return ""
