"""The result of `secret rotate` and `secret revoke`, as JSON and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.cli.secret.progress import message_of, some
from injector.core.rollout import State
from injector.words import counted

if TYPE_CHECKING:
    from injector.core.token_state import PodUsage
    from injector.rotation.rotator import RotationOptions, RotationOutcome


def pod_path(pod: PodUsage) -> str:
    """Return `NAMESPACE/POD`."""
    return f"{pod.namespace}/{pod.name}"


def unfinished_text(outcome: RotationOutcome) -> str:
    """Return the workloads that are not complete, by state, and Pods of others, in brackets; empty without any."""
    found: dict[State, list[str]] = {}
    for one in outcome.progress.values():
        if one.is_unfinished:
            found.setdefault(one.state, []).append(str(one.ref))
    parts = [f"{_INCOMPLETE.get(state, state.value)}: {some(refs)}" for state, refs in sorted(found.items())]
    shown = {ref for ref, one in outcome.progress.items() if one.is_unfinished}
    pods = {"outdated": outcome.outdated, "uncertain": outcome.uncertain, "open": outcome.missing}
    for word, left in pods.items():
        others = [pod_path(pod) for pod in left if pod.workload not in shown]
        parts += [f"{word} Pods: {some(others)}"] if others else []
    return f" ({'; '.join(parts)})" if parts else ""


_INCOMPLETE: Final = {State.READY: "with outdated Pods"}


def revoked_line(outcome: RotationOutcome) -> str:
    """Return whether the previous token is revoked, and if not, why."""
    reasons = []
    if held := (*outcome.outdated, *outcome.uncertain):
        reasons.append(f"still held by {', '.join(map(pod_path, held))}")
    if outcome.missing:
        reasons.append(f"open: {', '.join(map(pod_path, outcome.missing))}")
    if not reasons and not outcome.is_complete:
        reasons.append("see the workloads above")
    left_out = f"; {counted(len(outcome.skipped), 'Secret')} left out" if outcome.skipped else ""
    return (
        f"NOT revoked: {'; '.join(reasons)}" if reasons else f"revoked: no process holds the previous token{left_out}"
    )


def as_json(outcome: RotationOutcome, options: RotationOptions) -> dict[str, object]:
    """Return the result with the fields of docs/reference/secret-output.md."""
    fields: dict[str, object] = {
        "secrets": [
            {"namespace": ref.namespace, "name": ref.name, "id": token_id} for ref, token_id in outcome.secrets.items()
        ],
        "skipped": [str(ref) for ref in outcome.skipped],
        "blocked": outcome.is_blocked,
        "workloads": [
            {
                "kind": one.ref.kind,
                "namespace": one.ref.namespace,
                "name": one.ref.name,
                "state": one.state.value,
                "message": message_of(one),
                "outdated": list(one.outdated),
                "uncertain": list(one.uncertain),
                "open": list(one.missing),
            }
            for one in outcome.progress.values()
        ],
        "outdated": [pod_path(pod) for pod in outcome.outdated],
        "uncertain": [pod_path(pod) for pod in outcome.uncertain],
        "open": [pod_path(pod) for pod in outcome.missing],
    }
    return {**fields, "revoked": outcome.is_complete and not options.dry_run} if options.revoke else fields
