"""Checks of the webhook configurations: that they exist, and that their entries are as installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.check.model import Category, Check, Outcome, failed, warning
from injector.core import names
from injector.kube.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.check.model import Problem
    from injector.check.reader import Reader

# Entries of the configurations: charts/dapr-token-injector/templates/webhook.
INJECT_ENTRY: Final = "inject.dapr-token-injector.svc"
DEFAULT_ENTRY: Final = "default.dapr-token-injector.svc"
WARN_ENTRY: Final = "warn.dapr-token-injector.svc"
MUTATING: Final = f"MutatingWebhookConfiguration {names.MANAGER}"
VALIDATING: Final = f"ValidatingWebhookConfiguration {names.MANAGER}"
UPGRADE: Final = f"helm upgrade {names.MANAGER} CHART --namespace {{}} --reset-then-reuse-values"
# The entry of Dapr's own injector: https://github.com/dapr/dapr/blob/master/charts/dapr/charts/dapr_sidecar_injector
_DAPR_ENTRY: Final = "sidecar-injector.dapr.io"


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry as installed: its path, and the expression of each match condition."""

    path: str
    conditions: Mapping[str, str]


_NO_MIRROR: Final = "!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))"
_REQUESTS: Final = (
    "object.metadata.?annotations[?'dapr.io/api-token-secret'].orValue('') != '' || "
    "object.metadata.?annotations[?'dapr.io/app-token-secret'].orValue('') != ''"
)
_ENTRIES: Final = {
    INJECT_ENTRY: _Entry(names.MUTATE_PATH, {"asks-for-token": _REQUESTS, "no-mirror-pod": _NO_MIRROR}),
    DEFAULT_ENTRY: _Entry(
        names.MUTATE_DEFAULT_PATH,
        {
            "uses-dapr": f"object.metadata.?annotations[?'dapr.io/enabled'].orValue('') != '' || {_REQUESTS}",
            "no-mirror-pod": _NO_MIRROR,
        },
    ),
}
# Values that let the API server call the webhook for dry runs.
_NO_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
# The chart's default is 5: https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices
# recommends small timeouts.
_SHORTEST_SECONDS: Final = 2
_LONGEST_SECONDS: Final = 10


async def _registered(reader: Reader) -> Outcome:
    found = await reader.registration()
    if found is None:
        missing = failed(
            f"{MUTATING} does not exist: Pods are created without a token", UPGRADE.format(await reader.namespace())
        )
        return Outcome(seen=MUTATING, problems=(missing,))
    entries = [entry["name"] for entry in found.get("webhooks") or ()]
    if INJECT_ENTRY not in entries:
        lost = failed(f"{MUTATING} has no entry {INJECT_ENTRY}: Pods that request a token are created without it")
        return Outcome(seen=MUTATING, problems=(lost,))
    return Outcome(seen=f"{MUTATING} has the entries {', '.join(entries)}")


async def _entries_as_installed(reader: Reader) -> Outcome:
    found = (await reader.registration() or {}).get("webhooks") or ()
    known = [entry for entry in found if entry["name"] in _ENTRIES]
    if not known:
        return Outcome(seen=f"{MUTATING} has no entry of ours", is_skipped=True)
    problems: list[Problem] = [problem for entry in known for problem in _differences(entry, _ENTRIES[entry["name"]])]
    problems += [
        warning(f"{entry['name']} is not an entry of dapr-token-injector")
        for entry in found
        if entry["name"] not in _ENTRIES
    ]
    return Outcome(seen=f"entries {', '.join(entry['name'] for entry in known)}", problems=tuple(problems))


def _differences(entry: Mapping[str, Any], wanted: _Entry) -> Iterator[Problem]:
    """Yield how an entry of the mutating configuration differs from the installed one."""
    name = entry["name"]
    if not any(map(_includes_pods, entry.get("rules") or ())):
        yield failed(f"{name}: no rule includes the creation of Pods")
    path = _path(entry)
    if path != wanted.path:
        yield failed(f"{name}: reviews are sent to the path {path or '/'} instead of {wanted.path}")
    yield from _condition_differences(entry, wanted)
    if entry.get("reinvocationPolicy") != "IfNeeded":
        yield failed(
            f"{name}: reinvocationPolicy is not IfNeeded: a sidecar that Dapr's injector adds later gets no token"
        )
    if entry.get("sideEffects") not in _NO_SIDE_EFFECTS:
        yield failed(f"{name}: sideEffects is not None: the API server rejects dry runs of Pods")
    if "v1" not in (entry.get("admissionReviewVersions") or ()):
        yield failed(f"{name}: admissionReviewVersions does not include v1")
    seconds = entry.get("timeoutSeconds")
    if seconds is not None and not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        yield warning(
            f"{name}: timeoutSeconds is {seconds}: use {_SHORTEST_SECONDS} to {_LONGEST_SECONDS}; the default is 5"
        )


def _condition_differences(entry: Mapping[str, Any], wanted: _Entry) -> Iterator[Problem]:
    name = entry["name"]
    conditions = {one["name"]: " ".join(one["expression"].split()) for one in entry.get("matchConditions") or ()}
    for condition, expression in wanted.conditions.items():
        if condition not in conditions:
            yield failed(f"{name}: the match condition {condition} is missing: more Pods than needed reach the webhook")
        elif conditions[condition] != expression:
            yield failed(f"{name}: the match condition {condition} is not that of this version")
    for condition in conditions.keys() - wanted.conditions.keys():
        yield failed(f"{name}: the match condition {condition} is added: it can exclude Pods that request a token")


def _includes_pods(rule: Mapping[str, Any]) -> bool:
    return (
        _has(rule, "apiGroups", "")
        and _has(rule, "apiVersions", "v1")
        and _has(rule, "operations", "CREATE")
        and (_has(rule, "resources", "pods") or "*/*" in rule["resources"])
        and rule.get("scope") != "Cluster"
    )


def _has(rule: Mapping[str, Any], key: str, value: str) -> bool:
    values = rule.get(key) or ()
    return value in values or "*" in values


def _path(entry: Mapping[str, Any]) -> str:
    """Return the path to which reviews are sent; empty for the root."""
    config = entry.get("clientConfig") or {}
    service = config.get("service")
    if service is not None:
        return str(service.get("path") or "")
    after = str(config.get("url") or "").partition("://")[2]
    return after[after.find("/") :] if "/" in after else ""


async def _failure_policy(reader: Reader) -> Outcome:
    found = (await reader.registration() or {}).get("webhooks") or ()
    policies = {entry["name"]: entry.get("failurePolicy") or "Fail" for entry in found if entry["name"] in _ENTRIES}
    if not policies:
        return Outcome(seen=f"{MUTATING} has no entry of ours", is_skipped=True)
    seen = "; ".join(f"{name}: {policy}" for name, policy in policies.items())
    fix = f"{UPGRADE.format(await reader.namespace())} --set webhook.failurePolicy=Fail"
    problems = tuple(
        warning(
            f"{name} has failurePolicy Ignore: while the webhook does not answer, Pods are created without the token "
            "that they request",
            fix,
        )
        for name, policy in policies.items()
        if policy != "Fail"
    )
    return Outcome(seen=seen, problems=problems)


async def _called_after_dapr(reader: Reader) -> Outcome:
    ours = (await reader.registration() or {}).get("webhooks") or ()
    daprs = [
        one["metadata"]["name"]
        for one in await reader.list(MUTATING_WEBHOOKS)
        if any(entry["name"] == _DAPR_ENTRY for entry in one.get("webhooks") or ())
    ]
    if not ours or not daprs:
        return Outcome(seen=f"{MUTATING} or that of Dapr's injector does not exist", is_skipped=True)
    later = [name for name in daprs if name > names.MANAGER]
    seen = f"API servers call the injector of Dapr ({', '.join(daprs)}) {'after' if later else 'before'} this webhook"
    never = [entry["name"] for entry in ours if entry.get("reinvocationPolicy") != "IfNeeded"]
    if later and never:
        problem = failed(
            f"{', '.join(never)}: called before {', '.join(later)} and not again, without reinvocationPolicy IfNeeded: "
            "the sidecar gets no token",
            UPGRADE.format(await reader.namespace()),
        )
        return Outcome(seen=seen, problems=(problem,))
    return Outcome(seen=seen)


async def _warnings_registered(reader: Reader) -> Outcome:
    found = await reader.get(VALIDATING_WEBHOOKS, names.MANAGER)
    if found is None:
        return Outcome(seen=f"{VALIDATING} does not exist (webhook.warn.enabled)", is_skipped=True)
    entry = next((one for one in found.get("webhooks") or () if one["name"] == WARN_ENTRY), None)
    if entry is None:
        return Outcome(seen=VALIDATING, problems=(failed(f"{VALIDATING} has no entry {WARN_ENTRY}"),))
    problems = []
    if not entry.get("rules"):
        problems.append(failed(f"{WARN_ENTRY}: it has no rules, so that it is never called"))
    if _path(entry) != names.WARN_PATH:
        problems.append(failed(f"{WARN_ENTRY}: reviews are sent to the path {_path(entry) or '/'}"))
    if entry.get("sideEffects") not in _NO_SIDE_EFFECTS:
        problems.append(failed(f"{WARN_ENTRY}: sideEffects is not None: the API server rejects dry runs of workloads"))
    if entry.get("failurePolicy") != "Ignore":
        problems.append(
            warning(f"{WARN_ENTRY}: failurePolicy is not Ignore: without the webhook no workload can be changed")
        )
    return Outcome(seen=f"{VALIDATING} has the entry {WARN_ENTRY}", problems=tuple(problems))


_INSTALL_AGAIN: Final = "Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values`, or `kubectl apply -k` "

CHECKS: Final = (
    Check(
        id="DTC010",
        name="registered",
        category=Category.REGISTRATION,
        summary="The webhook is registered at the API server.",
        why="The API server calls only registered webhooks. If the registration is deleted, every Pod is created "
        "without a token, whatever the failure policy.",
        how="Reads the MutatingWebhookConfiguration `dapr-token-injector` and looks for its entry "
        f"`{INJECT_ENTRY}`. Whether the entry works is the subject of other checks.",
        fix=f"{_INSTALL_AGAIN}again: it creates the registration. Then restart the Pods that "
        "`dapr-token-injector status -A` shows as open.",
        run=_registered,
    ),
    Check(
        id="DTC011",
        name="entries-as-installed",
        category=Category.REGISTRATION,
        summary="The registered entries are as the chart installs them.",
        why="A changed rule, path or match condition can exclude Pods that request a token. Without reinvocation the "
        "webhook does not see a sidecar that is added after it. A missing match condition makes every new Pod of the "
        "cluster depend on the webhook.",
        how="Compares rules, path, match conditions, `reinvocationPolicy`, `sideEffects`, `admissionReviewVersions` "
        "and `timeoutSeconds` of each entry with those that the chart of this version installs. A timeout outside 2 to "
        "10 seconds, and an entry of another name, are warnings. It does not evaluate the expressions of match "
        "conditions: it compares their text, so an entry of another version of the chart can differ.",
        fix=f"{_INSTALL_AGAIN}again. If the version differs, use the command of the same version as the chart.",
        run=_entries_as_installed,
    ),
    Check(
        id="DTC012",
        name="failure-policy",
        category=Category.REGISTRATION,
        summary="A Pod that requests a token is not created without it.",
        why="With `failurePolicy: Ignore` the API server creates Pods without the webhook while it does not answer in "
        "time. Such a Pod runs with an open API until it is replaced. The guard denies it, where the guard denies.",
        how="Reads `failurePolicy` of the registered entries. `Ignore` is a warning, because it may be intended. It "
        "cannot see whether Pods were created in such a time: `dapr-token-injector status -A` shows them.",
        fix="Set `webhook.failurePolicy=Fail`, or keep `Ignore` and install the guard with `guard.action=Deny`: "
        "[Choose a failure policy](../../how-to/choose-a-failure-policy.md).",
        run=_failure_policy,
    ),
    Check(
        id="DTC017",
        name="called-after-dapr",
        category=Category.REGISTRATION,
        summary="The webhook sees the sidecar that Dapr's injector adds.",
        why="The API server calls mutating webhooks in the order of the names of their configurations. If this webhook "
        "is called before Dapr's injector and not again, the sidecar gets no token.",
        how="Compares the name of each configuration with an entry `sidecar-injector.dapr.io` with "
        "`dapr-token-injector`. If Dapr's is later, the entries of this webhook need `reinvocationPolicy: IfNeeded`. "
        "It is skipped if either is not registered. It cannot see other webhooks that add containers.",
        fix=f"{_INSTALL_AGAIN}again: it sets `reinvocationPolicy: IfNeeded`.",
        run=_called_after_dapr,
    ),
    Check(
        id="DTC019",
        name="warnings-registered",
        category=Category.REGISTRATION,
        summary="Workloads get their warnings.",
        why="The entry for workloads shows a wrong annotation to the user who applies it. Without it the user sees the "
        "problem only in the Events of a ReplicaSet.",
        how="Reads the ValidatingWebhookConfiguration `dapr-token-injector`: its entry, rules, path, `sideEffects` and "
        "`failurePolicy`. It is skipped if the configuration does not exist, as with `webhook.warn.enabled=false`. It "
        "cannot see whether it was deleted by mistake.",
        fix=f"{_INSTALL_AGAIN}again.",
        run=_warnings_registered,
    ),
)
