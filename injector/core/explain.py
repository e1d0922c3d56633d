"""Explain a decision rule by rule: the value that each rule read, and its outcome.

This module decides nothing. Every row comes from what the real rules return for the same Pod: `request.enabled`,
`request.parse`, `plan.build`, and the decision itself. Values are redacted as in messages (`messages.redact`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core import names, plan, seal
from injector.core.containers import renamed_sidecars
from injector.core.decision import Inject, Skip
from injector.core.env import EntryKind
from injector.core.messages import redact
from injector.core.model import Annotations, Endpoint, Reason, SourceKind, TokenRef, Value
from injector.core.request import Enabled, RequestError, enabled, env_from_secret, parse, unsealed_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.containers import Place
    from injector.core.decision import Decision
    from injector.core.env import EnvEntry
    from injector.core.model import Pod, Policy
    from injector.core.plan import Plan, ReadSpec
    from injector.core.request import InjectionRequest


class RuleName(StrEnum):
    """The names of the rules, in the order in which they apply. The words are stable."""

    USES_DAPR = "uses-dapr"
    WELL_FORMED = "well-formed"
    REQUESTS_TOKEN = "requests-token"
    APP_CONTAINERS = "app-containers"
    SEAL = "seal"
    VARIABLE = "variable"
    ALLOWED_SECRET = "allowed-secret"
    SHADOW_MODE = "shadow-mode"
    DECISION = "decision"


class AppliedRule(Value, frozen=True, gc=False):
    """One rule, applied to one subject: `value` is what it read, `outcome` the result.

    `reason` is set if the rule decided.
    """

    rule: RuleName
    subject: str
    value: str
    outcome: str
    reason: Reason | None = None


def explain(
    pod: Pod, decided: Decision, policy: Policy, endpoint: Endpoint, read_spec: ReadSpec | None = None
) -> tuple[AppliedRule, ...]:
    """The rows that lead to a decision.

    Args:
        pod: The Pod.
        decided: The result of `decision.decide` for the Pod.
        policy: The Policy of the decision.
        endpoint: The endpoint of the decision, `MUTATE` or `MUTATE_DEFAULT`.
        read_spec: That of `plan.build`.
    """
    return tuple(_rows(pod, decided, policy, endpoint, read_spec))


def _rows(
    pod: Pod, decided: Decision, policy: Policy, endpoint: Endpoint, read_spec: ReadSpec | None
) -> Iterator[AppliedRule]:
    annotations = (pod.metadata.annotations if pod.metadata else None) or Annotations()
    word = enabled(annotations)
    value = _value(annotations.enabled)
    if word is not Enabled.TRUE:
        yield AppliedRule(RuleName.USES_DAPR, names.ENABLED, value, _NOT_ENABLED[word], Reason.DAPR_NOT_ENABLED)
        yield _decision(decided)
        return
    yield AppliedRule(RuleName.USES_DAPR, names.ENABLED, value, "true: the Pod uses Dapr")
    request: InjectionRequest | None = None
    problems: dict[str, AppliedRule] = {}
    try:
        request = parse(annotations, policy, use_default=endpoint is Endpoint.MUTATE_DEFAULT)
    except RequestError as error:
        problems = {
            problem.annotation: AppliedRule(
                RuleName.WELL_FORMED, problem.annotation, "", problem.message, problem.reason
            )
            for problem in error.problems
        }
    yield from _well_formed(annotations, problems)
    if request is not None:
        planned = plan.build(pod, request, policy, read_spec)
        yield from _asked(annotations, request)
        yield _sealed(annotations, request, policy, planned)
        yield from _planned(planned, pod)
    elif not problems:
        for variable, ref in env_from_secret(annotations):
            outcome = f"{names.DAPR_ENV_FROM_SECRET}: Dapr sets it in {names.SIDECAR} only"
            yield AppliedRule(RuleName.REQUESTS_TOKEN, variable, _reference(ref), outcome)
        yield AppliedRule(
            RuleName.REQUESTS_TOKEN,
            names.API_TOKEN_SECRET,
            "absent",
            "no token is requested",
            Reason.NO_TOKEN_REQUESTED,
        )
    if policy.shadow and decided.reason in {Reason.WOULD_INJECT, Reason.WOULD_DENY}:
        yield AppliedRule(RuleName.SHADOW_MODE, "shadow", "true", "reported, not applied", decided.reason)
    yield _decision(decided)


_NOT_ENABLED: Final = {
    Enabled.FALSE: "false: the Pod does not use Dapr",
    Enabled.ABSENT: "absent: the Pod does not use Dapr",
    Enabled.UNKNOWN: "neither true nor false: Dapr treats it as false",
}


def _well_formed(annotations: Annotations, problems: dict[str, AppliedRule]) -> Iterator[AppliedRule]:
    for name, given in (
        (names.API_TOKEN_SECRET, annotations.api_token_secret),
        (names.APP_TOKEN_SECRET, annotations.app_token_secret),
        (names.API_TOKEN_KEY, annotations.api_token_key),
        (names.APP_TOKEN_KEY, annotations.app_token_key),
    ):
        problem = problems.get(name)
        if problem is not None:
            yield AppliedRule(RuleName.WELL_FORMED, name, _value(given), problem.outcome, problem.reason)
        elif given is not None:
            yield AppliedRule(
                RuleName.WELL_FORMED, name, _value(given), "well-formed" if given.strip() else "empty: as if absent"
            )


def _asked(annotations: Annotations, request: InjectionRequest) -> Iterator[AppliedRule]:
    for variable, ref in request.wanted:
        yield AppliedRule(RuleName.REQUESTS_TOKEN, variable, _reference(ref), "will be set in the sidecar")
    apps = request.app_containers
    chosen = ["all except infrastructure containers"] if apps.every else []
    chosen += map(redact, apps.names)
    origin = _value(annotations.app_containers) if annotations.app_containers is not None else "absent"
    yield AppliedRule(RuleName.APP_CONTAINERS, names.APP_CONTAINERS, origin, ", ".join(chosen) or "none")


def _sealed(annotations: Annotations, request: InjectionRequest, policy: Policy, planned: Plan) -> AppliedRule:
    """Whether the Pod will be sealed, or why not."""
    refused = [line for line in planned.warnings if line.startswith(_NOT_SEALED)]
    refusals = [*unsealed_requests(annotations, policy), *refused]
    if planned.seal is not None:
        outcome = "sealed: a volume and two init containers are added"
    elif any(entry.sealed for entry in planned.unchanged):
        outcome = "sealed already"
    elif refusals:
        outcome = refusals[0]
    elif request.seal:
        outcome = "not sealed until the sidecar is there: Dapr adds it at admission"
    else:
        outcome = f"not requested (the policy has seal: {policy.seal.value})"
    return AppliedRule(RuleName.SEAL, names.SEAL, _value(annotations.seal), outcome)


_NOT_SEALED: Final = seal.refusal("")


def _planned(planned: Plan, pod: Pod) -> Iterator[AppliedRule]:
    for change in planned.changes:
        stood = change.place.env.get(change.variable)
        done = "added" if stood is None else "replaced"
        yield _variable(
            change.place, change.variable, stood, f"{done}: {_given(_reference(change.ref), change.sealed)}"
        )
    for kept in planned.kept:
        yield _variable(kept.place, kept.variable, kept.place.env.get(kept.variable), "kept")
    for entry in sorted(planned.unchanged, key=lambda one: (one.container, one.env)):
        value = _given(_reference(TokenRef(entry.name, entry.key, entry.source)), entry.sealed)
        yield AppliedRule(RuleName.VARIABLE, f"{redact(entry.container)} {entry.env}", value, "already as requested")
    if not planned.has_target:
        there = _container_names(pod)
        yield AppliedRule(
            RuleName.VARIABLE, names.SIDECAR, there, "no sidecar here: Dapr adds it at admission", Reason.NO_SIDECAR
        )
    for place in renamed_sidecars(pod.spec) if pod.spec is not None else ():
        outcome = f"runs {names.SIDECAR} under another name: neither a sidecar nor an app"
        yield _variable(place, names.API_TOKEN_ENV, place.env.api, outcome)
    for problem in planned.problems:
        yield AppliedRule(RuleName.ALLOWED_SECRET, problem.annotation, "", problem.message, problem.reason)


def _container_names(pod: Pod) -> str:
    spec = pod.spec
    found = () if spec is None else (*(spec.containers or ()), *(spec.initContainers or ()))
    return ", ".join(redact(container.name) for container in found) or "no containers"


def _variable(place: Place, variable: str, stood: EnvEntry | None, outcome: str) -> AppliedRule:
    return AppliedRule(RuleName.VARIABLE, f"{redact(place.container)} {variable}", _stood(stood), outcome)


def _stood(entry: EnvEntry | None) -> str:
    if entry is None:
        return "absent"
    match entry.kind:
        case EntryKind.EMPTY:
            return "empty"
        case EntryKind.LITERAL:
            return "a reference to an unset variable" if entry.may_be_empty else "a value in clear text"
        case _:
            text = _reference(entry.ref) if entry.ref is not None else "a reference" if entry.file is None else "a file"
            text = f"{text}, through another variable" if entry.is_indirect else text
            return f"{text}, optional" if entry.optional else text


def _decision(decided: Decision) -> AppliedRule:
    match decided:
        case Inject(plan=planned):
            return AppliedRule(RuleName.DECISION, "inject", "", f"{len(planned.changes)} to change", decided.reason)
        case Skip():
            return AppliedRule(RuleName.DECISION, "skip", "", "the Pod is not changed", decided.reason)
        case _:
            return AppliedRule(RuleName.DECISION, "deny", "", "the Pod is rejected", decided.reason)


def _value(text: str | None) -> str:
    return "absent" if text is None else redact(text)


def _given(reference: str, sealed: bool) -> str:  # noqa: FBT001 - a fact about the reference
    return f"{reference}, sealed" if sealed else reference


def _reference(ref: TokenRef) -> str:
    what = "Secret" if ref.kind is SourceKind.SECRET else "ConfigMap"
    return f"{what} {redact(ref.name)}, key {redact(ref.key)}"
