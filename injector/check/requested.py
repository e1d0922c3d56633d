"""The check of the policy `requested`: as the chart renders it, bound, and for the namespaces of the webhook."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from injector.check.model import Category, Check, Outcome, failed, warning
from injector.check.registration import INJECT_ENTRY, UPGRADE
from injector.core import names
from injector.kube.resources import POLICIES, POLICY_BINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.check.model import Problem
    from injector.check.reader import Reader
    from injector.kube.resources import Object

# charts/dapr-token-injector/templates/requested
REQUESTED: Final = f"{names.MANAGER}-requested"
_POLICY: Final = f"ValidatingAdmissionPolicy {REQUESTED}"
_BINDING: Final = f"ValidatingAdmissionPolicyBinding {REQUESTED}"
# SHA-256 of what the chart renders, with and without `webhook.default.enabled`; see `_digest`.
_DIGESTS: Final = frozenset(
    {
        "d2567f74129e32b3000d51583596c2c2aac0010317c5e31d0758d2e9730ef5d3",
        "23d5259b64ec5783069e7e934a55907d4ce87c8d1fabf21eebd88a0961b226e1",
    }
)
_EXPRESSIONS: Final = ("matchConditions", "variables", "validations")


async def _requested_bound(reader: Reader) -> Outcome:
    policy, binding, registration = await asyncio.gather(
        reader.get(POLICIES, REQUESTED), reader.get(POLICY_BINDINGS, REQUESTED), reader.registration()
    )
    if policy is None and binding is None:
        return Outcome(seen="the policy is not installed (requested.action=Off)", is_skipped=True)
    fix = UPGRADE.format(await reader.namespace())
    actions = ", ".join(((binding or {}).get("spec") or {}).get("validationActions") or ()) or "no action"
    problems = (*_of_policy(policy, registration, fix), *_of_binding(binding, fix))
    return Outcome(seen=f"{_POLICY}, bound with {actions}", problems=problems)


def _of_policy(policy: Object | None, registration: Object | None, fix: str) -> Iterator[Problem]:
    if policy is None:
        yield failed(f"{_POLICY} does not exist, and its binding has no effect", fix)
        return
    spec = policy.get("spec") or {}
    if _digest(spec) not in _DIGESTS:
        yield failed(f"{_POLICY} is not that of this version", fix)
    for entry in (registration or {}).get("webhooks") or ():
        if entry["name"] == INJECT_ENTRY and _namespaces(entry) != _namespaces(spec.get("matchConstraints") or {}):
            yield failed(f"{_POLICY} is not for the namespaces of the webhook", fix)


def _digest(spec: Mapping[str, Any]) -> str:
    """Return the hash of what a policy judges, without the white space of its expressions and the namespaces."""
    constraints = {key: value for key, value in (spec.get("matchConstraints") or {}).items() if key in _RULES}
    parts = [
        {key: " ".join(str(value).split()) for key, value in one.items()}
        for key in _EXPRESSIONS
        for one in spec.get(key) or ()
    ]
    text = json.dumps([parts, constraints, spec.get("failurePolicy"), spec.get("paramKind")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# `matchPolicy` and an empty `objectSelector` are defaults of the API server.
_RULES: Final = ("resourceRules", "excludeResourceRules")


def _namespaces(selected: Mapping[str, Any]) -> list[str]:
    """Return the requirements of a namespace selector, without the label that separates the webhook's two entries."""
    selector = selected.get("namespaceSelector") or {}
    found = selector.get("matchExpressions") or ()
    other = {key: value for key, value in selector.items() if key != "matchExpressions" and value}
    return sorted(
        json.dumps(one, sort_keys=True) for one in (*found, other) if one.get("key") != names.INJECT_DEFAULT_LABEL
    )


def _of_binding(binding: Object | None, fix: str) -> Iterator[Problem]:
    if binding is None:
        yield failed(f"{_BINDING} does not exist: the policy has no effect", fix)
        return
    spec = binding.get("spec") or {}
    if spec.get("policyName") != REQUESTED:
        yield failed(f"{_BINDING} is bound to another policy", fix)
    if spec.get("paramRef") or _is_narrowed(spec.get("matchResources") or {}):
        yield failed(f"{_BINDING} excludes Pods by matchResources or paramRef", fix)
    if "Deny" not in (spec.get("validationActions") or ()):
        yield warning(
            f"{_BINDING} does not deny: while the webhook is not called, Pods are created without the token that they "
            "request",
            f"{fix} --set requested.action=Deny",
        )


def _is_narrowed(resources: Mapping[str, Any]) -> bool:
    return any(value for key, value in resources.items() if key != "matchPolicy")


CHECKS: Final = (
    Check(
        id="DTC090",
        name="requested-bound",
        category=Category.VERSIONS,
        summary="The policy that denies Pods without their requested token is as installed, and denies.",
        why="If the webhook configuration is deleted, Pods are created without the token that they request, and the "
        "API server reports no error. The policy `requested` denies them, unless it was changed, lost its binding, or "
        "only audits since shadow mode ended.",
        how="Reads the ValidatingAdmissionPolicy and the ValidatingAdmissionPolicyBinding "
        "`dapr-token-injector-requested`. Compares a hash of rules and expressions with that of this version's chart, "
        "the namespace selector with that of the webhook's entry, and the binding's policy, actions and "
        "`matchResources`. A binding without `Deny` is a warning. It is skipped if neither exists, as with "
        "`requested.action: Off`, in shadow mode and with `failurePolicy: Ignore`; it cannot see whether both were "
        "deleted by mistake.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values --set requested.action=Deny`, or "
        "`kubectl apply -k` again: [The policy requested](../requested.md).",
        run=_requested_bound,
    ),
)
