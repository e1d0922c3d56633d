"""What to do about the states of Pods: each with the complete commands that do it."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.assessment import Currency, PodFinding, ProtectionReason
from injector.core.messages import listed
from injector.core.ownership import SecretKey
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeAlias

    from injector.core.token_state import Ref
    from injector.rotation.status import AssessedPod

# Pods that a line names.
_MOST_PODS: Final = 5
_USUAL_SECRET: Final = "dapr-api-token"


@dataclass(frozen=True, slots=True)
class StatusProblem:
    """A state of a Pod that needs an action. `detail`: the id of an advisory, or a key."""

    word: ProtectionReason | Currency | PodFinding
    workload: Ref
    pod: str
    container: str = ""
    detail: str = ""
    missing: SecretKey | None = None


_Command: TypeAlias = "Callable[[StatusProblem], str]"


def advice(pods: Iterable[AssessedPod]) -> Iterator[str]:
    """Yield lines: what needs an action, and below it the commands; Pods with the same commands are named together."""
    groups: dict[tuple[str, ...], dict[tuple[str, str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in pods:
        for problem in problems(one):
            text, commands = REMEDIES[problem.word]
            where = ", ".join(f"container {name}" for name in (problem.container,) if name)
            what = " ".join(part for part in (problem.word.value, problem.detail) if part)
            found = groups[tuple(dict.fromkeys(command(problem) for command in commands))]
            found[where, what, text].append(f"{problem.workload.namespace}/{problem.pod}")
    for lines, grouped in groups.items():
        for (where, what, text), objects in grouped.items():
            shown = list(dict.fromkeys(objects))
            place = ", ".join(part for part in (listed(shown, _MOST_PODS), where) if part)
            yield escaped(f"  {place}: {what}: {text}")
        yield from (f"    {line}" for line in lines)


def problems(pod: AssessedPod) -> Iterator[StatusProblem]:
    """Yield the states of a Pod that need an action."""
    found, ref = pod.assessment, pod.workload
    if found.reason in REMEDIES:
        yield StatusProblem(found.reason, ref, found.name, found.container, missing=found.missing)
    for key in found.currencies:
        if key.currency in REMEDIES:
            yield StatusProblem(key.currency, ref, found.name, detail=f"(Secret {key.key.name}, key {key.key.key})")
    for one in found.findings:
        yield StatusProblem(one.finding, ref, found.name, one.container, one.detail)


# --- commands: every name is quoted for a shell ---


def _run(*words: str) -> str:
    return escaped(shlex.join(words))


def _object(problem: StatusProblem) -> tuple[str, str, str]:
    """Return the workload as arguments of kubectl."""
    ref = problem.workload
    return f"{ref.kind.lower()}/{ref.name}", "-n", ref.namespace


def _restart(problem: StatusProblem) -> str:
    ref = problem.workload
    if ref.kind in _ROLLED_OUT:
        return _run("kubectl", "rollout", "restart", *_object(problem))
    if ref.kind == "Rollout":
        return _run("kubectl", "argo", "rollouts", "restart", ref.name, "-n", ref.namespace)
    if ref.kind == "Pod":  # no controller creates it again
        return f"{_run('kubectl', 'get', *_object(problem), '-o', 'yaml')} | kubectl replace --force -f -"
    return _run("kubectl", "delete", f"pod/{problem.pod}", "-n", ref.namespace)


_ROLLED_OUT: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
# Kinds whose template can change, and that `kubectl set` knows.
_WITH_TEMPLATE: Final = _ROLLED_OUT | {"ReplicaSet"}


def _edit(problem: StatusProblem) -> str:
    if problem.workload.kind == "Pod":
        return _read(problem)
    return _run("kubectl", "edit", *_object(problem))


def _read(problem: StatusProblem) -> str:
    return _run("kubectl", "get", f"pod/{problem.pod}", "-n", problem.workload.namespace, "-o", "yaml")


def _remove_variable(problem: StatusProblem) -> str:
    if problem.workload.kind not in _WITH_TEMPLATE:
        return _edit(problem)
    return _run("kubectl", "set", "env", *_object(problem), "-c", problem.container, f"{names.API_TOKEN_ENV}-")


def _annotate(annotations: Mapping[str, str]) -> _Command:
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": annotations}}}}, separators=(",", ":"))
    assigned = [f"{name}={value}" for name, value in annotations.items()]

    def command(problem: StatusProblem) -> str:
        if problem.workload.kind == "Pod":
            annotate = _run("kubectl", "annotate", *_object(problem), "--overwrite", *assigned)
            return f"{annotate} && {_restart(problem)}"
        if problem.workload.kind not in _WITH_TEMPLATE | {"Rollout"}:
            return _edit(problem)
        return _run("kubectl", "patch", *_object(problem), "--type", "merge", "-p", patch)

    return command


def _create_secret(problem: StatusProblem) -> str:
    key = _wanted(problem)
    option = () if key.key == names.DAPR_FIXED_KEY else ("--key", key.key)
    return _run("dapr-token-injector", "secret", "create", str(key.secret), *option)


def _describe_secret(problem: StatusProblem) -> str:
    key = _wanted(problem)
    return _run("kubectl", "describe", f"secret/{key.name}", "-n", key.namespace)


def _wanted(problem: StatusProblem) -> SecretKey:
    return problem.missing or SecretKey(problem.workload.namespace, _USUAL_SECRET, names.DAPR_FIXED_KEY)


def _probe(problem: StatusProblem) -> str:
    return _run("dapr-token-injector", "probe", f"pod/{problem.pod}", "-n", problem.workload.namespace)


def _canary(problem: StatusProblem) -> str:
    return _run("dapr-token-injector", "check", "--canary", "--canary-namespace", problem.workload.namespace)


def _describe(problem: StatusProblem) -> str:
    return _run("kubectl", "describe", f"pod/{problem.pod}", "-n", problem.workload.namespace)


def _always(command: str) -> _Command:
    return lambda _: command


# What to do, for the states that need it; docs/reference/status.md has the same in more words.
REMEDIES: Final[Mapping[str, tuple[str, tuple[_Command, ...]]]] = {
    ProtectionReason.NOT_INJECTED: (
        "the webhook did not process it; check the webhook, then restart it",
        (_canary, _restart),
    ),
    ProtectionReason.NO_VARIABLE: (
        "request a token on the Pod template, for the sidecar and its app",
        (_annotate({names.API_TOKEN_SECRET: _USUAL_SECRET, names.APP_CONTAINERS: "*"}),),
    ),
    ProtectionReason.EMPTY_VALUE: ("remove the empty DAPR_API_TOKEN from the Pod template", (_remove_variable,)),
    ProtectionReason.OPTIONAL_REFERENCE: (
        "remove the optional DAPR_API_TOKEN from the Pod template, or its optional: true",
        (_remove_variable,),
    ),
    ProtectionReason.MAY_EXPAND_TO_EMPTY: (
        "remove DAPR_API_TOKEN from the Pod template, or reference a Secret",
        (_remove_variable,),
    ),
    ProtectionReason.NO_SECRET: ("create the Secret", (_create_secret,)),
    ProtectionReason.NO_KEY: ("add the key to the Secret, or correct the annotation", (_describe_secret,)),
    ProtectionReason.BAD_TOKEN_VALUE: ("its last message says what is wrong; correct the Secret", (_describe,)),
    ProtectionReason.KUBELET_WITHOUT_ENV_FILES: (
        "upgrade its node to Kubernetes 1.35 or newer, or do not seal the Pod",
        (_describe, _always("dapr-token-injector check --only env-file-nodes")),
    ),
    ProtectionReason.MALFORMED: ("read the Pod and report it", (_read,)),
    ProtectionReason.ENV_FROM: ("write DAPR_API_TOKEN as an entry of env; check it", (_probe,)),
    ProtectionReason.DAPR_SHARED: ("set shared.daprd.token of the chart dapr-shared, then check it", (_probe,)),
    ProtectionReason.NOT_ADDED: (
        "check Dapr's injector, then restart it",
        (_always("kubectl get pods -n dapr-system -l app=dapr-sidecar-injector"), _restart),
    ),
    Currency.SKEWED: ("its containers have different tokens; restart it", (_restart,)),
    Currency.OUTDATED: ("it has a previous token; restart it", (_restart,)),
    PodFinding.RENAMED_SIDECAR: ("name it daprd, or give it DAPR_API_TOKEN", (_edit,)),
    PodFinding.EXPOSED: (
        "listen on loopback, or restrict callers by a NetworkPolicy",
        (_annotate({"dapr.io/sidecar-listen-addresses": "[::1],127.0.0.1"}),),
    ),
    PodFinding.APP_WITHOUT_TOKEN: ("the app has no token; restart it", (_restart,)),
    PodFinding.DAPRD_ADVISORY: (
        "update Dapr to the version that the check names, then restart the workloads",
        (_always("dapr-token-injector check --only daprd-advisories"),),
    ),
    PodFinding.PARTLY_SEALED: ("let every container read the token from the file, then restart it", (_read, _restart)),
}
