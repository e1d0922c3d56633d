"""Checks that Pods are admitted as they should be: what dry-run Pods come back with."""

from __future__ import annotations

import asyncio
import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.check import canary
from injector.check.chart import GUARD
from injector.check.model import Category, Check, Outcome, failed, unknown, warning
from injector.check.selectors import NAME_LABEL, Selector, labels_of
from injector.core import names
from injector.kube.errors import KubeError, UnauthorizedError
from injector.kube.resources import NAMESPACES, PODS, POLICIES, POLICY_BINDINGS
from injector.rotation.admission import registration_cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader, Expectations
    from injector.kube.resources import Object


async def _injects(reader: ClusterReader) -> Outcome:
    return await _send(reader, reader.expected, await namespace_of_canary(reader))


async def _injects_default(reader: ClusterReader) -> Outcome:
    found = await reader.list(NAMESPACES, label_selector=f"{names.INJECT_DEFAULT_LABEL}=enabled")
    labelled: list[str] = sorted(
        one["metadata"]["name"] for one in found if not one["metadata"].get("deletionTimestamp")
    )
    if not labelled:
        seen = f"no namespace has the label {names.INJECT_DEFAULT_LABEL}: enabled"
        return Outcome(seen=seen, is_skipped=True)
    wanted = reader.expected.namespace
    chosen = wanted if wanted in labelled else labelled[0]
    return await _send(reader, dataclasses.replace(reader.expected, secret=""), chosen)


async def _send(reader: ClusterReader, wanted: Expectations, namespace: str) -> Outcome:
    return await canary.send(reader.api, wanted, namespace, lambda: registration_cause(reader.api))


async def namespace_of_canary(reader: ClusterReader) -> str:
    """Return the namespace that dry-run Pods are sent to.

    Raises:
        KubeError: The registration cannot be read, and no namespace was given.
    """
    return reader.expected.namespace or canary.served_namespace(await reader.namespace())


class _Answer(StrEnum):
    """How the guard treats a Pod; also how reports name it."""

    THROUGH = "let through"
    WARNED = "let through with a warning"
    DENIED = "denied"


# By the value of the namespace's label: charts/dapr-token-injector/templates/guard/bindings.yaml.
_BY_LABEL: Final = {
    "off": _Answer.THROUGH,
    "audit": _Answer.THROUGH,
    "warn": _Answer.WARNED,
    "deny": _Answer.DENIED,
}


async def _guard_answers(reader: ClusterReader) -> Outcome:
    policy, found = await asyncio.gather(reader.get(POLICIES, GUARD), reader.list(POLICY_BINDINGS))
    bindings = [one["spec"] for one in found if one["spec"].get("policyName") == GUARD]
    if policy is None and not bindings:
        return Outcome(seen="the guard is not installed", is_skipped=True)
    name = await namespace_of_canary(reader)
    namespace = await reader.get(NAMESPACES, name)
    if namespace is None:
        return Outcome(seen="the guard", problems=(unknown(f"namespace {name} does not exist"),))
    try:
        answer = await _answer(reader, name)
    except UnauthorizedError:
        raise
    except KubeError as error:
        return Outcome(seen="the guard", problems=(canary.refusal(error, name),))
    seen = f"a Pod whose daprd has no token, as a dry run in namespace {name}, is {answer.value}"
    return Outcome(seen=seen, problems=tuple(_guard_problems(answer, policy, bindings, labels_of(namespace))))


async def _answer(reader: ClusterReader, namespace: str) -> _Answer:
    """Return how the guard treats a Pod with a sidecar without a token, of a kind that the webhook is not called for.

    Raises:
        KubeError: Another rule rejects the Pod, or the API server does not answer.
    """
    try:
        _, warnings = await reader.api.dry_run_create(PODS, canary.pod(namespace, {}), namespace)
    except KubeError as error:
        if canary.own_rule(error) == "guarded":
            return _Answer.DENIED
        raise
    return _Answer.WARNED if any(GUARD in one for one in warnings) else _Answer.THROUGH


def _guard_problems(
    answer: _Answer, policy: Object | None, bindings: Sequence[Object], labels: Mapping[str, str]
) -> Iterator[CheckProblem]:
    if policy is None:
        yield failed(f"ValidatingAdmissionPolicy {GUARD} does not exist: nothing reports a sidecar without a token")
        return
    if not bindings:
        yield failed(f"ValidatingAdmissionPolicy {GUARD} has no binding, so it has no effect")
        return
    selectors = [Selector((one.get("matchResources") or {}).get("namespaceSelector")) for one in bindings]
    matching = [one for one, selector in zip(bindings, selectors, strict=True) if selector.matches(labels)]
    actions = {action for one in matching for action in one["validationActions"]}
    wanted = _Answer.DENIED if "Deny" in actions else _Answer.WARNED if "Warn" in actions else _Answer.THROUGH
    if answer is not wanted:
        yield failed(f"the guard's bindings say that the Pod is {wanted.value}, and it is {answer.value}")
        return
    label = labels.get(names.GUARD_LABEL, "")
    by_label = _BY_LABEL.get(label, answer)
    if answer is by_label or all(one.excludes(labels[NAME_LABEL]) for one in selectors):
        return
    # As the chart binds it with `policy.shadow`.
    kind = warning if by_label is _Answer.DENIED and actions == {"Audit"} else failed
    yield kind(
        f"the namespace has the label {names.GUARD_LABEL}: {label}, and the bindings that match it do not do that "
        f"({', '.join(sorted(actions)) or 'none matches'})"
    )


_NAMESPACE: Final = (
    "The namespace is that of `--canary-namespace`; by default `default`, or `kube-public` if the installation is in "
    "`default`."
)

CHECKS: Final = (
    Check(
        id="DTC020",
        name="injects",
        category=Category.ADMISSION,
        summary="A Pod that requests a token comes back with it.",
        why="A registration that looks right does not prove that the webhook is called and answers. Only a Pod that "
        "passes the whole admission does.",
        how="Sends a Pod with a sidecar `daprd` and the annotation `dapr.io/api-token-secret` as a server-side dry "
        "run. The answer must have a reference to that Secret (`--canary-secret`) that is not optional; the Secret "
        "need not exist. The check has failed if the webhook did not inject, is in shadow mode, denies the Pod, or "
        "does not answer under `Fail`; `--canary-shadow` expects shadow mode. It is unknown if a quota, another "
        f"policy or a missing permission rejects the Pod. {_NAMESPACE} It shows nothing about namespaces with other "
        "labels. `check --canary` runs only this check, and reads only what `--canary-groups` and "
        "`--canary-requested` name.",
        fix="The message has the cause. If the namespace is one that the webhook does not serve, name another with "
        "`--canary-namespace`. Otherwise look at the Pods and the log of the webhook, and at the checks of the "
        "category registration; [Troubleshoot](../../how-to/troubleshoot.md) lists symptoms. Then restart the Pods "
        "that `status` shows as open.",
        run=_injects,
    ),
    Check(
        id="DTC021",
        name="injects-default",
        category=Category.ADMISSION,
        summary="A Pod in a namespace with the default label comes back with the default Secret.",
        why="In namespaces with the label `dapr-token-injector/inject-default: enabled`, users rely on a token that "
        "they do not request. Another entry of the registration and the Policy's `defaultSecret` provide it.",
        how="Sends a Pod with `dapr.io/enabled` and without the name of a Secret as a server-side dry run, in the "
        "namespace of `--canary-namespace` if it has the label, otherwise in the first one by name that has it. The "
        "answer must have a reference to a Secret that is not optional. Skipped if no namespace has the label.",
        fix="As for [injects](injects.md). HTTP 500 of the webhook means that its Policy has no `defaultSecret`.",
        run=_injects_default,
    ),
    Check(
        id="DTC022",
        name="guard-answers",
        category=Category.ADMISSION,
        summary="The guard treats a sidecar without a token as its bindings and the namespace's label say.",
        why="The guard is the last line of defence: it sees Pods that the webhook did not. A policy that is bound and "
        "does not act protects nothing.",
        how="Sends a Pod with a `daprd` without a token and without annotations as a server-side dry run. Compares "
        "whether it is denied, warned about or let through with the actions of the bindings whose selector matches "
        f"the namespace, and with the label `dapr-token-injector/guard`. {_NAMESPACE} `audit` and `off` look the "
        "same. The label `deny` with a binding that only audits is a warning: the chart does that in shadow mode. "
        "Skipped if there is no guard.",
        fix="Install the chart or the component again: it creates the policy and its bindings. [Guard](../guard.md) "
        "explains the actions.",
        run=_guard_answers,
    ),
)
