"""Checks, before anything is written, that the new Pods of a workload would get the token.

A Pod made from the workload's template is sent as a server-side dry run: every webhook and policy of the cluster sees
it, and nothing is stored. The containers that have the reference in the answer are the expected ones of every new Pod.
https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.decision import SHADOW_WARNING
from injector.core.rollout import BROKEN_SEAL, State
from injector.kube.errors import ForbiddenError, KubeError
from injector.kube.resources import MUTATING_WEBHOOKS, PODS
from injector.rotation import decode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from injector.core.ownership import SecretKey
    from injector.core.rollout import PlannedAction
    from injector.core.token_state import ContainerUsage, PodUsage, Ref
    from injector.kube.client import Api
    from injector.kube.resources import Object
    from injector.rotation.observe import Observed, Owners

# Only for a template whose running Pods have no sidecar to take the image from; a dry run never pulls it.
_PLACEHOLDER_IMAGE: Final = "daprio/daprd"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionCheck:
    """Whether a workload's new Pods would get the token.

    `expected`: per key, the containers that get a reference that is not optional. `problem`: empty, or why the new Pods
    would have no token (`state` is `not-injected`), or why that cannot be determined (`unknown`).
    """

    ref: Ref
    expected: Mapping[SecretKey, frozenset[str]] = field(default_factory=dict)
    problem: str = ""
    state: State = State.PLANNED


async def check(
    api: Api, actions: Iterable[PlannedAction], seen: Observed, owners: Owners
) -> dict[Ref, AdmissionCheck]:
    """Return the admission of each workload that is to be restarted, by one dry run for each.

    Raises:
        KubeError: A workload cannot be read.
    """
    by_workload: dict[Ref, list[PodUsage]] = {}
    for pod in seen.pods:
        by_workload.setdefault(pod.workload, []).append(pod)
    found: dict[Ref, AdmissionCheck] = {}
    registration = _Registration(api)
    for action in actions:
        if not action.is_restart:
            continue
        workload = await owners.read(action.ref)
        if workload is None:
            continue  # nothing is left to restart
        body = pod_of_template(workload, seen.sidecars.get(action.ref))
        one = await _check_one(api, action, body, by_workload.get(action.ref, []), registration)
        if one.state is State.NOT_INJECTED and names.OBSERVED_DEFAULT in (
            workload["metadata"].get("annotations") or ()
        ):
            advice = f"if they should have none, remove its annotation {names.OBSERVED_DEFAULT}"
            one = replace(one, problem=f"{one.problem}; {advice}")
        found[action.ref] = one
    return found


def assumed(actions: Iterable[PlannedAction], pods: Iterable[PodUsage]) -> dict[Ref, AdmissionCheck]:
    """Return what new Pods must have if no check was made: the references of running Pods."""
    restarted = {action.ref for action in actions if action.is_restart}
    expected: dict[Ref, dict[SecretKey, set[str]]] = {ref: {} for ref in restarted}
    for pod in pods:
        if pod.workload in restarted:
            for key, containers in _referenced(pod).items():
                expected[pod.workload].setdefault(key, set()).update(containers)
            for one in pod.missing:
                expected[pod.workload].setdefault(one.key, set()).add(one.container)
    return {
        ref: AdmissionCheck(ref=ref, expected={key: frozenset(containers) for key, containers in by_key.items()})
        for ref, by_key in expected.items()
    }


async def _check_one(
    api: Api, action: PlannedAction, body: Object, running: Sequence[PodUsage], registration: _Registration
) -> AdmissionCheck:
    try:
        answer, warnings = await api.dry_run_create(PODS, body, action.ref.namespace)
    except KubeError as error:
        return AdmissionCheck(ref=action.ref, problem=f"a dry run of its new Pod failed: {error}", state=State.UNKNOWN)
    expected = expected_of(answer, action.ref, action.keys)
    lacking = lacking_of(answer, action.ref, running, expected)
    if not lacking:
        return AdmissionCheck(ref=action.ref, expected=expected)
    if any(one.startswith(SHADOW_WARNING) for one in warnings):
        why = "the webhook's Policy is in shadow mode"
    elif decode.has_broken_seal(answer):
        why = BROKEN_SEAL
    else:
        why = await registration.cause()
    problem = f"new Pods would have no token in {', '.join(lacking)}: {why}"
    return AdmissionCheck(ref=action.ref, expected=expected, problem=problem, state=State.NOT_INJECTED)


class _Registration:
    """The webhook's registration; read at most once, and only if a Pod has no token."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._cause = ""

    async def cause(self) -> str:
        """Return why the webhook did not inject, as far as its registration shows."""
        self._cause = self._cause or await registration_cause(self._api)
        return self._cause


async def registration_cause(api: Api) -> str:
    """Return why the webhook did not inject, as far as its registration shows."""
    try:
        found = await api.list(MUTATING_WEBHOOKS)
    except ForbiddenError:
        return "the webhook did not inject it, and you may not list mutatingwebhookconfigurations to see why"
    except KubeError as error:
        return f"the webhook did not inject it ({error})"
    entries = [
        (configuration["metadata"]["name"], entry)
        for configuration in found
        for entry in configuration.get("webhooks") or ()
        if names.is_own_entry(entry.get("name", ""))
    ]
    if not entries:
        return f"there is no MutatingWebhookConfiguration of {names.MANAGER}"
    name = " and ".join(dict.fromkeys(name for name, _ in entries))
    if any(entry.get("failurePolicy") == "Ignore" for _, entry in entries):
        return (
            f"the webhook did not answer (failurePolicy Ignore), or the selectors in {name} do not match these Pods; "
            "look at its Pods and its log"
        )
    return (
        f"the selectors in MutatingWebhookConfiguration {name} do not match these Pods, or the webhook's Policy "
        "excludes them"
    )


def pod_of_template(workload: Object, sidecar: tuple[str, Object] | None) -> Object:
    """Return a Pod made from a workload's template as its controller makes it, with a placeholder for its sidecar.

    Dapr's injector adds the sidecar only for controllers, so one that the template lacks is added: like `sidecar`, the
    list and the frame of that of a running Pod, if there is one.
    """
    template = copy.deepcopy((workload.get("spec") or {}).get("template") or {})
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{workload['metadata']['name']}-",
            "namespace": workload["metadata"]["namespace"],
            "labels": meta.get("labels") or {},
            "annotations": meta.get("annotations") or {},
        },
        "spec": spec,
    }
    for claim in (workload.get("spec") or {}).get("volumeClaimTemplates") or ():
        name = claim["metadata"]["name"]
        volume = {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{workload['metadata']['name']}-0"}}
        spec["volumes"] = [*(one for one in spec.get("volumes") or () if one["name"] != name), volume]
    if (sidecar is not None or decode.requests_sidecar(body)) and not list(decode.sidecars(body)):
        part, placeholder = sidecar or ("containers", {"name": names.SIDECAR, "image": _PLACEHOLDER_IMAGE})
        spec[part] = [*(spec.get(part) or ()), placeholder]
    return body


def _answered(answer: Object, ref: Ref, keys: Collection[SecretKey]) -> PodUsage | None:
    named = {**answer, "metadata": {**answer["metadata"], "name": answer["metadata"].get("name") or ref.name}}
    named["metadata"]["namespace"] = ref.namespace
    return decode.pod_usage(named, decode.index(keys).get(ref.namespace, {}), ref, 0)


def expected_of(answer: Object, ref: Ref, keys: Collection[SecretKey]) -> dict[SecretKey, frozenset[str]]:
    """Return, per key, the containers of an answered Pod with a reference that the kubelet must resolve."""
    usage = _answered(answer, ref, keys)
    referenced = _referenced(usage) if usage is not None else {}
    return {key: frozenset(referenced.get(key, ())) for key in keys}


def _referenced(pod: PodUsage) -> dict[SecretKey, set[str]]:
    found: dict[SecretKey, set[str]] = {}
    for usage in pod.usages:
        if not usage.is_optional:
            found.setdefault(usage.key, set()).add(usage.container)
    return found


def lacking_of(
    answer: Object, ref: Ref, running: Iterable[PodUsage], expected: Mapping[SecretKey, Collection[str]]
) -> tuple[str, ...]:
    """Return the containers of the answer's Pod that should have a token but have none, or only an optional reference.

    A container should have one when the Pod requests it by annotation, when running Pods have it in a variable, or when
    they should have it from the Policy's default Secret. A container that has a value from elsewhere, or that the
    template no longer has, lacks nothing. Optional references of app containers are the users' own.
    """
    usage = _answered(answer, ref, expected)
    wanted = {
        (one.key, one.container, one.variable)
        for pod in running
        for one in pod.usages
        if one.variable in names.TOKEN_VARIABLES and (not one.is_optional or one.container == names.SIDECAR)
    }
    if usage is not None:
        wanted |= {(one.key, one.container, one.variable) for one in usage.usages if _is_optional_sidecar(one)}
    sealed = decode.sealed_references(answer)
    spec = answer.get("spec") or {}
    containers = {one["name"]: one for part in ("initContainers", "containers") for one in spec.get(part) or ()}
    lacking = {
        container
        for key, container, variable in wanted
        if key in expected
        and container in containers
        and container not in expected[key]
        and not decode.has_certain_value(containers[container], variable, sealed)
    }
    # Also where the other token of the same key is there.
    requested = {one.container for one in (usage.missing if usage is not None else ())}
    # A restart must not take away the token of another Secret.
    has_default = any(pod.default_keys for pod in running)
    if any(True for _ in decode.missing_requests(answer)) or (has_default and decode.lacks_unrequested_token(answer)):
        requested.add(names.SIDECAR)
    return tuple(sorted(lacking | requested))


def _is_optional_sidecar(usage: ContainerUsage) -> bool:
    return bool(usage.is_optional and usage.container == names.SIDECAR and usage.variable in names.TOKEN_VARIABLES)
