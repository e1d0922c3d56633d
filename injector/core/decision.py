"""Decide one review: Inject, Skip or Deny, each with a Reason and the warnings for its sender.

A pure function of the review, the endpoint and the Policy. A denial is a value; an exception means that no decision was
possible.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from injector.core import names, plan, spelling
from injector.core.containers import Target
from injector.core.errors import MalformedObjectError, PolicyGapError
from injector.core.messages import WarningList, warning
from injector.core.model import (
    POD,
    WORKLOADS,
    Annotations,
    Endpoint,
    Pod,
    PodTemplate,
    Problem,
    Reason,
    ReviewedWorkload,
    Value,
    WorkloadMeta,
)
from injector.core.request import (
    COUNTS_AS_ABSENT,
    ENABLED_MISTAKES,
    Enabled,
    InjectionRequest,
    RequestError,
    blank_secrets,
    enabled,
    not_on_template,
    parse,
    requests_token,
    unsealed_requests,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from injector.core.model import Policy, Review
    from injector.core.plan import Change, Kept, Plan, ReadSpec


class Inject(Value, frozen=True, gc=False):
    """The Pod is patched as planned."""

    plan: Plan
    reason: Reason = Reason.INJECTED
    warnings: tuple[str, ...] = ()


class Skip(Value, frozen=True, gc=False):
    """The Pod is admitted unchanged. `audit` lists the entries that were kept; it is empty for Pods without a token."""

    reason: Reason
    warnings: tuple[str, ...] = ()
    audit: tuple[tuple[str, str], ...] = ()


class Deny(Value, frozen=True, gc=False):
    """The Pod is rejected; `message` lists all problems. `more_problems` counts the problems without a text."""

    reason: Reason
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    more_problems: int = 0

    @property
    def message(self) -> str:
        """All problems, one sentence each; of a long list, the first ones and the number of the others."""
        messages = [problem.message for problem in self.problems[: names.MAX_PROBLEMS]]
        more = len(self.problems) - len(messages) + self.more_problems
        return "; ".join([*messages, f"and {more} more"] if more else messages)


Decision = Inject | Skip | Deny

# The beginnings of warnings that callers recognize.
SHADOW_WARNING: Final = "shadow mode: "
DENIED_WARNING: Final = "Pods will be denied: "

ExpectedT = TypeVar("ExpectedT", Pod, ReviewedWorkload)


# Used for every Pod: looking up an enum member in its class takes a quarter of a microsecond in Python 3.11.
_WARN: Final = Endpoint.WARN
_DEFAULT: Final = Endpoint.MUTATE_DEFAULT
_TRUE: Final = Enabled.TRUE


def decide(
    review: Review,
    endpoint: Endpoint,
    policy: Policy,
    read_spec: ReadSpec | None = None,
    *,
    is_small: bool = False,
) -> Decision:
    """Decide one review.

    `read_spec` decodes the spec of its Pod or template again, with the fields for sealing: `plan.build` calls it if it
    needs them. `is_small`: see `decide_pod`.

    Raises:
        MalformedObjectError: The object under review is missing or malformed.
        PolicyGapError: `endpoint` needs a default Secret and the Policy has none.
    """
    request = review.request
    if endpoint is _WARN:
        if request.kind not in WORKLOADS or request.subResource or request.operation not in {"CREATE", "UPDATE"}:
            return Skip(Reason.NOT_A_WORKLOAD)
        return Skip(
            Reason.REVIEWED, _advice(_expect(request.object, ReviewedWorkload), request.kind.kind, policy, read_spec)
        )
    if endpoint is _DEFAULT and policy.default_secret is None:
        raise PolicyGapError("the policy has no defaultSecret, which the default endpoint needs")
    if request.kind != POD:
        return Skip(Reason.NOT_A_POD)
    if request.operation != "CREATE" or request.subResource:
        return Skip(Reason.NOT_A_CREATE)
    pod = _expect(request.object, Pod)
    decision = decide_pod(pod, policy, use_default=endpoint is _DEFAULT, read_spec=read_spec, is_small=is_small)
    return _shadowed(decision) if policy.shadow else decision


def decide_pod(
    pod: Pod,
    policy: Policy,
    *,
    use_default: bool,
    read_spec: ReadSpec | None = None,
    expects_sidecar: bool = False,
    is_small: bool = False,
) -> Decision:
    """Decide about a Pod, or about the Pods of a template, without regard to shadow mode.

    `read_spec` and `expects_sidecar` are those of `plan.build`. If `is_small`, the meaning of the Pod's annotations is
    kept for equal ones.

    Raises:
        MalformedObjectError: A container's `env` is not a list of variables.
    """
    annotations = (pod.metadata.annotations if pod.metadata else None) or Annotations()
    # The values in `dapr.io/env` must not stay in memory.
    read = _remembered if is_small and annotations.dapr_env is None else _read
    asked = read(annotations, policy, use_default)
    if not isinstance(asked, _Asked):
        return asked
    request, warnings = asked.request, asked.warnings
    if _containers(pod) > names.MAX_CONTAINERS:
        return Deny(Reason.TOO_MANY_CONTAINERS, (_TOO_MANY,), warnings)
    planned = plan.build(pod, request, policy, read_spec, expects_sidecar=expects_sidecar)
    if warnings or planned.warnings:
        warnings = _limited((*warnings, *planned.warnings), planned.more_warnings)
    if planned.problems:
        return Deny(planned.problems[0].reason, planned.problems, warnings, planned.more_problems)
    if planned.changes or planned.seal is not None:
        return Inject(planned, warnings=warnings)
    if planned.kept:
        return Skip(Reason.KEPT, warnings, _kept(planned))
    return Skip(Reason.UP_TO_DATE if planned.has_target else Reason.NO_SIDECAR, warnings)


class _Asked(Value, frozen=True, gc=False):
    """What the annotations of a Pod request, and the warnings about them."""

    request: InjectionRequest
    warnings: tuple[str, ...]


def _read(annotations: Annotations, policy: Policy, use_default: bool) -> _Asked | Skip | Deny:  # noqa: FBT001 - positional, for the key of a cache
    """What the annotations request; or the decision, if it needs nothing else of the Pod."""
    if enabled(annotations) is not _TRUE:
        return Skip(Reason.DAPR_NOT_ENABLED, _without_dapr(annotations, policy))
    warnings = _blank(annotations) + clear_text_tokens(annotations) + unsealed_requests(annotations, policy)
    try:
        request = parse(annotations, policy, use_default=use_default)
    except RequestError as error:
        return Deny(error.problems[0].reason, error.problems, warnings)
    return Skip(Reason.NO_TOKEN_REQUESTED, warnings) if request is None else _Asked(request, warnings)


# The Pods of a workload have equal annotations. Those of small reviews take a few megabytes at most.
_remembered: Final = lru_cache(maxsize=256)(_read)


def _containers(pod: Pod) -> int:
    spec = pod.spec
    return 0 if spec is None else len(spec.containers or ()) + len(spec.initContainers or ())


_TOO_MANY: Final = Problem(
    "spec.containers",
    Reason.TOO_MANY_CONTAINERS,
    f"the Pod has more than {names.MAX_CONTAINERS} containers, which no cluster can store",
    f"more than {names.MAX_CONTAINERS} containers",
)


def audit(decision: Decision) -> dict[str, str]:
    """Audit annotations of a decision: the change, or the change in shadow mode, by container. No Secret names."""
    match decision:
        case Inject(plan=planned):
            done = _by_target(planned.changes, names.AUDIT_INJECTED_SIDECAR, names.AUDIT_INJECTED_APP)
            return dict((*done, *_kept(planned)))
        case Skip(audit=pairs):
            return dict(pairs)
        case _:
            return {names.AUDIT_DENIED: _denied(decision.problems)}


def _shadowed(decision: Decision) -> Decision:
    """The decision as shadow mode reports it: a Skip with the same warnings."""
    match decision:
        case Inject(plan=planned, warnings=warnings):
            pairs = _by_target(planned.changes, names.AUDIT_WOULD_INJECT, names.AUDIT_WOULD_INJECT_APP)
            reported = (warning(f"{SHADOW_WARNING}would inject {what}") for _, what in pairs)
            return Skip(Reason.WOULD_INJECT, (*reported, *warnings), (*pairs, *_kept(planned)))
        case Deny(problems=problems, warnings=warnings, more_problems=more):
            reported = (_would_deny(problem) for problem in problems)
            notes = ((names.AUDIT_WOULD_DENY, _denied(problems)),)
            return Skip(Reason.WOULD_DENY, _limited((*reported, *warnings), more), notes)
        case _:
            return decision


def _would_deny(problem: Problem) -> str:
    return warning(f"{SHADOW_WARNING}would deny: {problem.brief}")


def _denied(problems: Iterable[Problem]) -> str:
    return _clipped(",".join(f"{problem.reason.value}:{problem.annotation}" for problem in problems))


def _kept(planned: Plan) -> tuple[tuple[str, str], ...]:
    return _by_target(planned.kept, names.AUDIT_KEPT, names.AUDIT_KEPT_APP)


def _by_target(items: Iterable[Change | Kept], sidecar_key: str, app_key: str) -> tuple[tuple[str, str], ...]:
    keys = {Target.SIDECAR: sidecar_key, Target.APP: app_key}
    values: dict[str, str] = {}
    for item in items:
        key = keys[item.place.target]
        before = values.get(key)
        if before is None or len(before) <= names.MAX_AUDIT_VALUE:
            word = f"{item.place.container}/{item.variable}"
            values[key] = word if before is None else f"{before},{word}"
    return tuple((key, _clipped(value)) for key, value in values.items())


def _clipped(value: str) -> str:
    return value if len(value) <= names.MAX_AUDIT_VALUE else value[: names.MAX_AUDIT_VALUE - 3] + "..."


def _limited(warnings: tuple[str, ...], more: int = 0) -> tuple[str, ...]:
    found = WarningList()
    found.extend(warnings, more)
    return found.result()


def _without_dapr(annotations: Annotations, policy: Policy) -> tuple[str, ...]:
    """Warnings for a Pod that requests a token but does not enable Dapr: probably a mistake."""
    found: list[str] = []
    if requests_token(annotations) and (mistake := ENABLED_MISTAKES.get(enabled(annotations))):
        found.append(f"a token is requested but {mistake}")
    try:
        parse(annotations, policy, use_default=False)
    except RequestError as error:
        found.extend(problem.brief for problem in error.problems)
    return tuple(map(warning, found))


def _blank(annotations: Annotations) -> tuple[str, ...]:
    blank = blank_secrets(annotations)
    return tuple([warning(f"{name} {COUNTS_AS_ABSENT}; name a Secret or remove it") for name in blank])


def clear_text_tokens(annotations: Annotations) -> tuple[str, ...]:
    """Warnings for tokens in `dapr.io/env`, which holds `NAME=value` pairs, separated by commas."""
    if not annotations.dapr_env:
        return ()
    given = set(_TOKEN_PAIR.findall(annotations.dapr_env))
    return tuple(
        warning(f"{names.DAPR_ENV} sets {variable} in clear text; it was not changed; use a Secret")
        for variable in names.TOKEN_VARIABLES
        if variable in given
    )


_TOKEN_PAIR: Final = re.compile(rf"(?:^|,)\s*({names.API_TOKEN_ENV}|{names.APP_TOKEN_ENV})\s*=")


def _advice(workload: ReviewedWorkload, kind: str, policy: Policy, read_spec: ReadSpec | None) -> tuple[str, ...]:
    """Warnings for the author of a workload: the template's problems, and misplaced or unknown annotations."""
    template = workload.template or PodTemplate()
    above, below = workload.metadata or WorkloadMeta(), template.metadata or WorkloadMeta()
    own, pod_annotations = above.read, below.read
    misplaced = (
        warning(not_on_template(annotation, kind))
        for annotation, on_workload, on_pod in (
            (names.API_TOKEN_SECRET, own.api_token_secret, pod_annotations.api_token_secret),
            (names.APP_TOKEN_SECRET, own.app_token_secret, pod_annotations.app_token_secret),
        )
        if on_workload and on_workload.strip() and not (on_pod and on_pod.strip())
    )
    decision = decide_pod(template.pod, policy, use_default=False, read_spec=read_spec, expects_sidecar=True)
    problems, more = (decision.problems, decision.more_problems) if isinstance(decision, Deny) else ((), 0)
    refused = (_would_deny(p) if policy.shadow else warning(f"{DENIED_WARNING}{p.brief}") for p in problems)
    unknown = tuple(dict.fromkeys(spelling.unknown((*(above.annotations or ()), *(below.annotations or ())))))
    worded = map(spelling.message, unknown[: names.MAX_WARNINGS])
    more += max(0, len(unknown) - names.MAX_WARNINGS)
    return _limited((*misplaced, *refused, *decision.warnings, *worded), more)


def _expect(found: object, kind: type[ExpectedT]) -> ExpectedT:
    if not isinstance(found, kind):
        raise MalformedObjectError("the review's request has no object")
    return found
