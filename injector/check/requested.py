"""Checks of what happens without an answer of the webhook: `failurePolicy`, and the policy `requested`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from injector.check.chart import INJECT_ENTRIES, MUTATING, REQUESTED, UPGRADE
from injector.check.installation import is_redundant, policy_of
from injector.check.model import Category, Check, Outcome, failed, warning
from injector.check.registration import own_entries
from injector.core import names
from injector.kube.errors import ForbiddenError
from injector.kube.resources import POLICIES, POLICY_BINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object, Objects

_POLICY: Final = f"ValidatingAdmissionPolicy {REQUESTED}"
_BINDING: Final = f"ValidatingAdmissionPolicyBinding {REQUESTED}"
# SHA-256 of what the chart renders, with and without `webhook.default.enabled`; see `_digest`.
_DIGESTS: Final = frozenset(
    {
        "aa2a1f8bc093e189c9909d34f3bda7e7439e3cca829831ef50b69e75a5b7be5b",
        "03802881ba8aef88d483b8801d57603b92a807b451166f17de037e9c247a4211",
    }
)
_EXPRESSIONS: Final = ("matchConditions", "variables", "validations")
_DENY: Final = "Deny"


async def _failure_policy(reader: ClusterReader) -> Outcome:
    policies = await _failure_policies(reader)
    if not policies:
        return Outcome(seen=f"{MUTATING} has no entry of ours", is_skipped=True)
    seen = "; ".join(f"{name}: {policy}" for name, policy in policies.items())
    ignoring = [name for name, policy in policies.items() if policy != "Fail"]
    if not ignoring:
        return Outcome(seen=seen)
    policy, binding = await asyncio.gather(reader.get(POLICIES, REQUESTED), reader.get(POLICY_BINDINGS, REQUESTED))
    if policy is not None or binding is not None:
        return Outcome(seen=f"{seen}; the policy requested is installed")
    upgrade, what = UPGRADE.format(await reader.namespace()), "the webhook does not answer"
    kind, fix = warning, f"{upgrade} --set webhook.failurePolicy=Fail"
    if await is_redundant(reader):
        try:
            installed = await policy_of(reader)
        except ForbiddenError:
            installed = None  # when in doubt, it has failed
        is_shadow = installed is not None and installed.shadow
        kind, fix = warning if is_shadow else failed, f"{upgrade} --set requested.action=Deny"
        what = "no group answers"
    problems = tuple(
        kind(
            f"{name} has failurePolicy Ignore: while {what}, Pods are created without the token that they request",
            fix,
        )
        for name in ignoring
    )
    return Outcome(seen=seen, problems=problems)


async def _failure_policies(reader: ClusterReader) -> dict[str, str]:
    """Return the failure policy of each entry of ours, by name."""
    return {entry["name"]: entry.get("failurePolicy") or "Fail" for entry in await own_entries(reader)}


async def _requested_bound(reader: ClusterReader) -> Outcome:
    policy, binding, registrations = await asyncio.gather(
        reader.get(POLICIES, REQUESTED), reader.get(POLICY_BINDINGS, REQUESTED), reader.registrations()
    )
    wanted = reader.expected.requested
    fix = UPGRADE.format(await reader.namespace())
    if policy is None and binding is None:
        seen = "the policy is not installed (requested.action=Off)"
        if not wanted:
            return Outcome(seen=seen, is_skipped=True)
        missing = failed(f"{_POLICY} and its binding do not exist", f"{fix} --set requested.action={wanted}")
        return Outcome(seen=seen, problems=(missing,))
    actions = ", ".join(((binding or {}).get("spec") or {}).get("validationActions") or ()) or "no action"
    # Nothing else protects while no entry has Fail.
    is_needed = wanted == _DENY or "Fail" not in (await _failure_policies(reader)).values()
    problems = (
        *_of_policy(policy, registrations, fix),
        *_of_binding(binding, fix, wanted, failed if is_needed else warning),
    )
    return Outcome(seen=f"{_POLICY}, bound with {actions}", problems=problems)


def _of_policy(policy: Object | None, registrations: Objects, fix: str) -> Iterator[CheckProblem]:
    if policy is None:
        yield failed(f"{_POLICY} does not exist, and its binding has no effect", fix)
        return
    spec = policy.get("spec") or {}
    # An empty selector is a default of the API server.
    if _digest(spec) not in _DIGESTS or (spec.get("matchConstraints") or {}).get("objectSelector"):
        yield failed(f"{_POLICY} does not match this version of the chart", fix)
    entries = [entry for one in registrations for entry in one.get("webhooks") or ()]
    inject = next((entry for entry in entries if entry["name"] in INJECT_ENTRIES), None)
    if inject is not None and _namespaces(inject) != _namespaces(spec.get("matchConstraints") or {}):
        yield failed(f"{_POLICY} selects other namespaces than the webhook", fix)


def _digest(spec: Mapping[str, Any]) -> str:
    """Return the hash of what a policy judges, without white space of its expressions, messages and namespaces."""
    constraints = {key: value for key, value in (spec.get("matchConstraints") or {}).items() if key in _RULES}
    parts = [
        {key: " ".join(str(value).split()) for key, value in one.items() if not key.startswith("message")}
        for key in _EXPRESSIONS
        for one in spec.get(key) or ()
    ]
    text = json.dumps([parts, constraints, spec.get("failurePolicy"), spec.get("paramKind")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# `matchPolicy` is a default of the API server; the selectors are compared elsewhere.
_RULES: Final = ("resourceRules", "excludeResourceRules")


def _namespaces(selected: Mapping[str, Any]) -> list[str]:
    """Return the requirements of a namespace selector, without the label that separates the webhook's two entries."""
    selector = selected.get("namespaceSelector") or {}
    found = selector.get("matchExpressions") or ()
    other = {key: value for key, value in selector.items() if key != "matchExpressions" and value}
    return sorted(
        json.dumps(one, sort_keys=True) for one in (*found, other) if one.get("key") != names.INJECT_DEFAULT_LABEL
    )


def _of_binding(
    binding: Object | None, fix: str, wanted: str, unbound: Callable[[str, str], CheckProblem]
) -> Iterator[CheckProblem]:
    if binding is None:
        yield failed(f"{_BINDING} does not exist: the policy has no effect", fix)
        return
    spec = binding.get("spec") or {}
    if spec.get("policyName") != REQUESTED:
        yield failed(f"{_BINDING} is bound to another policy", fix)
    resources = spec.get("matchResources") or {}
    if spec.get("paramRef") or any(value for key, value in resources.items() if key != "matchPolicy"):
        yield failed(f"{_BINDING} excludes Pods by matchResources or paramRef", fix)
    actions = spec.get("validationActions") or ()
    if wanted not in {"", _DENY, *actions}:
        yield failed(f"{_BINDING} does not have the action {wanted}", f"{fix} --set requested.action={wanted}")
    if _DENY not in actions:
        yield unbound(
            f"{_BINDING} does not deny: while the webhook is not called, Pods are created without the token that they "
            "request",
            f"{fix} --set requested.action=Deny",
        )


CHECKS: Final = (
    Check(
        id="DTC012",
        name="failure-policy",
        category=Category.REGISTRATION,
        summary="A Pod that requests a token is not created without it.",
        why="With `failurePolicy: Ignore` the API server creates Pods without the webhook while it does not answer in "
        "time. Such a Pod runs with an open API until it is replaced. The guard denies it, where the guard denies, and "
        "so does the policy `requested`. With two groups (`webhook.redundancy: 2`) all entries have `Ignore`, and only "
        "the policy `requested` denies what no group served.",
        how="Reads `failurePolicy` of the registered entries, and whether the policy `requested` or its binding "
        "exists: what they do is the subject of `requested-bound`. Without both, `Ignore` is a warning, because it "
        "may be intended; with two groups the check has failed, unless the webhook's Policy is in shadow mode. It "
        "cannot see whether Pods were created in such a time: `dapr-token-injector status -A` shows them.",
        fix="Set `webhook.failurePolicy=Fail`, with two groups `requested.action=Deny`. Or keep `Ignore` and install "
        "the guard with `guard.action=Deny`; with two groups and `webhook.failurePolicy=Ignore`, skip the check "
        "(`--skip`): [Choose a failure policy](../../how-to/choose-a-failure-policy.md).",
        run=_failure_policy,
    ),
    Check(
        id="DTC090",
        name="requested-bound",
        category=Category.VERSIONS,
        summary="The policy that denies Pods without their requested token is as installed, and denies.",
        why="If the webhook configuration is deleted, Pods are created without the token that they request, and the "
        "API server reports no error. The policy `requested` denies them, unless it was changed, lost its binding, or "
        "only audits since shadow mode ended.",
        how="Reads the ValidatingAdmissionPolicy and the ValidatingAdmissionPolicyBinding "
        "`dapr-token-injector-requested`. Compares a hash of rules and expressions (not of messages) with that of "
        "this version's chart, the namespace selector with that of the webhook's entry, and the binding's policy, "
        "actions and `matchResources`. A binding without `Deny` is a warning; if no entry has `failurePolicy: Fail`, "
        "such as with two groups (`webhook.redundancy: 2`), it fails the check. It is skipped if neither exists, as "
        "with `requested.action: Off`, in shadow mode and with `failurePolicy: Ignore`: whether both were deleted by "
        "mistake is visible only if `--canary-requested` names the action that is installed. Then both must exist, and "
        "have this action.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values --set requested.action=Deny`, or "
        "`kubectl apply -k` again: [The policy requested](../requested.md).",
        run=_requested_bound,
    ),
)
