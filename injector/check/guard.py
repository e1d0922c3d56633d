"""The check of the guard: its policy, and the bindings that put it into force."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from injector.check.chart import GUARD, GUARD_BINDINGS, UPGRADE
from injector.check.model import Category, Check, Outcome, failed, warning
from injector.check.selectors import NAME_LABEL, Selector, labels_of
from injector.core import names
from injector.core.messages import listed
from injector.kube.resources import NAMESPACES, POLICIES, POLICY_BINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

# The word in the label, and the actions of its binding. The binding without a word is for namespaces without the label.
_ACTIONS: Final = {"audit": {"Audit"}, "warn": {"Warn", "Audit"}, "deny": {"Deny", "Audit"}}
_NARROWING: Final = ("objectSelector", "resourceRules", "excludeResourceRules")


async def _guard_bound(reader: ClusterReader) -> Outcome:
    policy, listed_bindings = await asyncio.gather(reader.get(POLICIES, GUARD), reader.list(POLICY_BINDINGS))
    bindings = {
        one["metadata"]["name"]: one
        for one in listed_bindings
        if one["metadata"]["name"].startswith(GUARD) or (one.get("spec") or {}).get("policyName") == GUARD
    }
    if policy is None and not bindings:
        return Outcome(seen="the guard is not installed (guard.action=Off)", is_skipped=True)
    fix = UPGRADE.format(await reader.namespace())
    if policy is None:
        lost = failed(f"ValidatingAdmissionPolicy {GUARD} does not exist, and its bindings have no effect", fix)
        return Outcome(seen=f"bindings: {', '.join(bindings)}", problems=(lost,))
    spec = policy.get("spec") or {}
    problems = [*_of_policy(spec), *_of_bindings(bindings, await reader.list(NAMESPACES), fix)]
    return Outcome(seen=f"ValidatingAdmissionPolicy {GUARD}, bindings: {_shown(bindings)}", problems=tuple(problems))


def _shown(bindings: Mapping[str, Object]) -> str:
    words = [
        f"{name} ({', '.join((one.get('spec') or {}).get('validationActions') or ()) or 'no action'})"
        for name, one in sorted(bindings.items())
    ]
    return listed(words) or "none"


def _of_policy(spec: Mapping[str, Any]) -> Iterator[CheckProblem]:
    if names.API_TOKEN_ENV not in json.dumps([spec.get("variables"), spec.get("validations")]):
        yield failed(f"ValidatingAdmissionPolicy {GUARD} is not the guard: it does not check {names.API_TOKEN_ENV}")
    if spec.get("paramKind"):
        yield failed(f"ValidatingAdmissionPolicy {GUARD} has paramKind: without a parameter it does not run")
    rules = (spec.get("matchConstraints") or {}).get("resourceRules") or ()
    if not any("pods" in (one.get("resources") or ()) and "CREATE" in (one.get("operations") or ()) for one in rules):
        yield failed(f"ValidatingAdmissionPolicy {GUARD} does not match the creation of Pods")
    if (spec.get("failurePolicy") or "Fail") != "Fail":
        yield warning(f"ValidatingAdmissionPolicy {GUARD} has failurePolicy Ignore: an error of it lets a Pod pass")


def _of_bindings(bindings: Mapping[str, Object], namespaces: Iterable[Object], fix: str) -> Iterator[CheckProblem]:
    selectors = {}
    for name, word in GUARD_BINDINGS.items():
        spec = (bindings.get(name) or {}).get("spec") or {}
        if spec.get("policyName") != GUARD:
            where = f"label {names.GUARD_LABEL}: {word}" if word else f"no label {names.GUARD_LABEL}"
            state = "is bound to another policy" if name in bindings else "does not exist"
            yield failed(f"ValidatingAdmissionPolicyBinding {name} {state}: no guard in namespaces with {where}", fix)
            continue
        yield from _of_binding(name, word, spec)
        selectors[word] = Selector((spec.get("matchResources") or {}).get("namespaceSelector"))
    yield from _unguarded(selectors, namespaces)


def _of_binding(name: str, word: str, spec: Mapping[str, Any]) -> Iterator[CheckProblem]:
    found = set(spec.get("validationActions") or ())
    if word and found != _ACTIONS[word]:
        actions = ", ".join(sorted(found)) or "none"
        kind = warning if (word, found) == ("deny", {"Audit"}) else failed  # as with policy.shadow
        yield kind(f"ValidatingAdmissionPolicyBinding {name} has the actions {actions}: {word} has no effect")
    if not word and found not in _ACTIONS.values():
        yield failed(f"ValidatingAdmissionPolicyBinding {name} has not the actions of audit, warn or deny")
    if spec.get("paramRef"):
        yield failed(f"ValidatingAdmissionPolicyBinding {name} has paramRef, and the policy has no parameter")
    narrowed = [key for key in _NARROWING if (spec.get("matchResources") or {}).get(key)]
    if narrowed:
        yield failed(f"ValidatingAdmissionPolicyBinding {name} excludes Pods by {', '.join(narrowed)}")


def _unguarded(selectors: Mapping[str, Selector], namespaces: Iterable[Object]) -> Iterator[CheckProblem]:
    """Yield a problem if a namespace with one of the words, or without the label, is not matched by its binding."""
    lost: dict[str, list[str]] = {}
    for one in namespaces:
        labels = labels_of(one)
        name, word = labels[NAME_LABEL], labels.get(names.GUARD_LABEL, "")
        selector = selectors.get(word)
        if selector is not None and not selector.matches(labels) and not selector.excludes(name):
            lost.setdefault(word, []).append(name)
    for word, found in lost.items():
        if word:
            yield failed(f"namespaces with the label {names.GUARD_LABEL}: {word} and no guard: {listed(found)}")
        else:
            yield warning(f"namespaces without the label {names.GUARD_LABEL} and without a guard: {listed(found)}")


CHECKS: Final = (
    Check(
        id="DTC018",
        name="guard-bound",
        category=Category.REGISTRATION,
        summary="The guard's policy and its bindings are in force.",
        why="A ValidatingAdmissionPolicy without a binding does nothing, and the API server reports no error. A "
        "binding that is missing or narrowed means namespaces in which Pods with an open sidecar are created.",
        how="Reads the ValidatingAdmissionPolicy `dapr-token-injector-guard` and the four bindings that the chart "
        "installs: one for namespaces without the label `dapr-token-injector/guard`, and one for each of its values "
        "`audit`, `warn` and `deny`. Compares policy name, actions, parameters and `matchResources`, and evaluates "
        "the namespace selectors on all namespaces. A namespace that `guard.namespaceSelector` leaves out and that has "
        "no label is a warning, as are `deny` that only audits (`policy.shadow`) and `failurePolicy: Ignore`. It is "
        "skipped if neither the policy nor a binding exists. It does not evaluate the policy's expressions.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values --set guard.action=Deny`, or "
        "`kubectl apply -k` again: [The guard](../guard.md).",
        run=_guard_bound,
    ),
)
