"""Whether the Pods of the webhook start, and whether its Deployments are rolled out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from injector.check.installation import condition, pods_of, selector_of
from injector.check.model import Outcome, failed, warning
from injector.core.assess import WAITS_NORMALLY
from injector.core.durations import span
from injector.core.messages import listed
from injector.kube.api_messages import single_line
from injector.kube.resources import DEPLOYMENTS, SERVICES
from injector.rotation.decode import STARTING_REASONS
from injector.times import unix_time
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.check.installation import CalledService
    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_MOST_NAMES: Final = 3  # Pods that a problem names


async def pods_start(reader: ClusterReader, service: CalledService) -> Outcome:
    """Check that the Pods behind a Service can start."""
    pods = await pods_of(reader, service)
    seen = f"{counted(len(pods), 'Pod')} of {service}"
    if not pods:
        selector = await selector_of(reader, service)
        missing = failed(
            f"{service} has no Pod with the labels {selector}: {service.consequence}",
            f"kubectl get deployments --namespace {service.namespace} --selector {selector}",
        )
        return Outcome(seen=seen, problems=(missing,))
    now = reader.now
    # Replicas usually have the same problem: it is shown once, with the words that the first one has.
    groups: dict[tuple[str, ...], tuple[CheckProblem, list[str]]] = {}
    for pod in pods:
        for kind, problem in _problems(pod, now):
            groups.setdefault(kind, (problem, []))[1].append(str(pod["metadata"]["name"]))
    problems = tuple(replace(one, message=f"{_named(names)}: {one.message}") for one, names in groups.values())
    return Outcome(seen=seen, problems=problems)


def _named(pods: list[str]) -> str:
    return f"{'Pod' if len(pods) == 1 else 'Pods'} {listed(pods, _MOST_NAMES)}"


def _problems(pod: Object, now: int) -> Iterator[tuple[tuple[str, ...], CheckProblem]]:
    """Yield the problems of a Pod, each with what it has in common with the same problem of other Pods."""
    meta, status = pod["metadata"], pod.get("status") or {}
    describe = f"kubectl describe pod {meta['name']} --namespace {meta['namespace']}"
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        reason = str(scheduled.get("reason") or "not scheduled")
        yield (reason,), failed(_words("cannot be scheduled", reason, scheduled.get("message")), describe)
        return
    found = [
        one
        for key in ("initContainerStatuses", "containerStatuses")
        for container in status.get(key) or ()
        for one in _container_problems(container, meta, describe)
    ]
    yield from found
    if found or condition(pod, "Ready").get("status") == "True":
        return
    since = unix_time(condition(pod, "Ready").get("lastTransitionTime") or meta.get("creationTimestamp"))
    if since is None or now - since >= WAITS_NORMALLY:
        waited = f" for {span(now - since)}" if since is not None else ""
        state = "" if pod["spec"].get("nodeName") else "; no scheduler has assigned it to a node"
        yield ("not ready",), warning(f"not ready{waited}{state}", describe)


def _container_problems(
    container: Object, meta: Object, describe: str
) -> Iterator[tuple[tuple[str, ...], CheckProblem]]:
    name, state = str(container["name"]), container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason = str(waiting.get("reason") or "")
    if reason not in STARTING_REASONS:
        last = (container.get("lastState") or {}).get("terminated") or {}
        words = _words(f"container {name} does not start", reason, waiting.get("message"))
        how = f"; it ended with {_end(last)}" if last else ""
        logs = f"kubectl logs {meta['name']} --namespace {meta['namespace']} --container {name} --previous"
        yield (name, reason), failed(words + how, logs if last else describe)
    elif ended.get("exitCode"):
        yield (name, "ended"), failed(f"container {name} ended with {_end(ended)}", describe)


def _end(terminated: Object) -> str:
    reason = terminated.get("reason")
    code = f"exit code {terminated.get('exitCode')}"
    return f"{code} ({reason})" if reason else code


def _words(what: str, reason: str, message: object) -> str:
    return ": ".join(part for part in (what, reason, single_line(str(message or ""))) if part)


async def rolled_out(reader: ClusterReader, service: CalledService) -> Outcome:
    """Check that the Deployments behind a Service run their current template."""
    wanted = dict(one.split("=", 1) for one in (await selector_of(reader, service)).split(","))
    found = [one for one in await reader.list(DEPLOYMENTS, service.namespace) if _has_labels(one, wanted)]
    if not found:
        await reader.get(SERVICES, service.name, service.namespace)  # without it, its labels are not known
        return Outcome(seen=f"no Deployment has Pods of {service}", is_skipped=True)
    problems = [problem for one in found for problem in _rollout_problems(one)]
    deployments = [str(one["metadata"]["name"]) for one in found]
    if len(found) > 1:
        problems.append(
            warning(f"{service} sends requests to the Pods of several Deployments: {listed(deployments, _MOST_NAMES)}")
        )
    return Outcome(seen=f"Deployment {listed(deployments, _MOST_NAMES)}", problems=tuple(problems))


def _has_labels(deployment: Object, wanted: dict[str, str]) -> bool:
    template = ((deployment.get("spec") or {}).get("template") or {}).get("metadata") or {}
    return wanted.items() <= (template.get("labels") or {}).items()


def _rollout_problems(deployment: Object) -> Iterator[CheckProblem]:
    meta, spec, status = deployment["metadata"], deployment.get("spec") or {}, deployment.get("status") or {}
    name = f"Deployment {meta['name']}"
    show = f"kubectl rollout status deployment/{meta['name']} --namespace {meta['namespace']}"
    replicas = spec.get("replicas", 1)
    if not replicas:
        scale = f"kubectl scale deployment/{meta['name']} --namespace {meta['namespace']} --replicas 2"
        yield failed(f"{name} is scaled to 0 replicas", scale)
        return
    if (failure := condition(deployment, "ReplicaFailure")).get("status") == "True":
        yield failed(_words(f"{name} cannot create Pods", str(failure.get("reason")), failure.get("message")), show)
    is_seen = (status.get("observedGeneration") or 0) >= (meta.get("generation") or 0)
    updated = (status.get("updatedReplicas") or 0) if is_seen else 0
    if updated >= replicas and (status.get("replicas") or 0) <= updated:
        return
    progress = f"{updated} of {counted(replicas, 'Pod')} run its current template"
    progressing = condition(deployment, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        yield failed(f"{name} is stuck: {progress}, and Pods of a previous one remain", show)
    elif spec.get("paused"):
        resume = f"kubectl rollout resume deployment/{meta['name']} --namespace {meta['namespace']}"
        yield warning(f"{name} is paused: {progress}", resume)
    else:
        yield warning(f"{name} is being rolled out: {progress}", show)
