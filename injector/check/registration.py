"""Checks of the webhook configurations: that they exist, and that their entries are as installed."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from injector.check.chart import DEFAULT_ENTRIES, INJECT_ENTRIES, MUTATING, UPGRADE, VALIDATING, WARN_ENTRY
from injector.check.dapr import INJECTOR_ENTRY
from injector.check.installation import is_redundant
from injector.check.model import Category, Check, Outcome, failed, unknown, warning
from injector.core import names
from injector.kube.errors import ForbiddenError
from injector.kube.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Objects


@dataclass(frozen=True, slots=True)
class _InstalledEntry:
    """An entry as installed: its path, and the expression of each match condition, or its SHA-256."""

    path: str
    conditions: Mapping[str, str]


_NO_MIRROR: Final = "!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))"
_REQUESTS: Final = (
    "object.metadata.?annotations[?'dapr.io/api-token-secret'].orValue('') != '' || "
    "object.metadata.?annotations[?'dapr.io/app-token-secret'].orValue('') != ''"
)
_USES_DAPR: Final = f"object.metadata.?annotations[?'dapr.io/enabled'].orValue('') != '' || {_REQUESTS}"
# The condition that only entries of group 2 have, by its SHA-256: docs/decisions/0039-two-entries.md.
_NOT_YET_SERVED: Final = "not-yet-served"
_INJECT: Final = _InstalledEntry(names.MUTATE_PATH, {"asks-for-token": _REQUESTS, "no-mirror-pod": _NO_MIRROR})
_DEFAULT: Final = _InstalledEntry(names.MUTATE_DEFAULT_PATH, {"uses-dapr": _USES_DAPR, "no-mirror-pod": _NO_MIRROR})


def _second(first: _InstalledEntry, digest: str) -> _InstalledEntry:
    return _InstalledEntry(first.path, {**first.conditions, _NOT_YET_SERVED: digest})


# By configuration and name.
ENTRIES: Final[Mapping[str, Mapping[str, _InstalledEntry]]] = {
    names.GROUPS[0]: {INJECT_ENTRIES[0]: _INJECT, DEFAULT_ENTRIES[0]: _DEFAULT},
    names.GROUPS[1]: {
        INJECT_ENTRIES[1]: _second(_INJECT, "babeb18cf724f906db6447bd1e22cc8390d445e786e19e93714a1d0ac875cd21"),
        DEFAULT_ENTRIES[1]: _second(_DEFAULT, "bdf591c27fecf678bb94475fbec4e5eef09c5b841178489cb9d52d12061c2473"),
    },
}
# Values that let the API server call the webhook for dry runs.
_NO_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
# Shortest and longest timeout. The chart's default is 5; small ones are recommended:
# https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices
_SECONDS: Final = (2, 10)
# While group 1 is silent, each Pod waits so long for it, once or twice.
_TIMEOUTS: Final = dict.fromkeys(ENTRIES[names.GROUPS[0]], (1, 1))


async def own_entries(reader: ClusterReader) -> Objects:
    """Return the registered entries of Pods that the chart installs, of all groups.

    Raises:
        KubeError: The registration cannot be read.
    """
    return [
        entry
        for one in await reader.registrations()
        for entry in one.get("webhooks") or ()
        if entry["name"] in ENTRIES[one["metadata"]["name"]]
    ]


async def _registered(reader: ClusterReader) -> Outcome:
    found = {one["metadata"]["name"]: one for one in await reader.registrations()}
    upgrade = UPGRADE.format(await reader.namespace())
    problems, seen, doubts = [], [], []
    try:
        has_two = await is_redundant(reader)
    except ForbiddenError as error:
        has_two = False
        doubts.append(unknown(f"whether a second group of replicas is installed is not known: {error}"))
    wanted = names.GROUPS if has_two else names.GROUPS[:1]
    for name, entry in zip(wanted, INJECT_ENTRIES, strict=False):
        what = f"{MUTATING_WEBHOOKS.kind} {name}"
        others = [f"{MUTATING_WEBHOOKS.kind} {one}" for one in found if one != name]
        without = f"only {others[0]} protects Pods" if others else "Pods are created without a token"
        entries = [one["name"] for one in (found.get(name) or {}).get("webhooks") or ()]
        if name not in found:
            problems.append(failed(f"{what} does not exist: {without}", upgrade))
        elif entry not in entries:
            problems.append(failed(f"{what} has no entry {entry}: {without if others else _LOST}", upgrade))
        seen.append(f"{what} has the entries {', '.join(entries)}" if entries else what)
    return Outcome(seen="; ".join(seen), problems=(*problems, *doubts))


_LOST: Final = "Pods that request a token are created without it"


async def _entries_as_installed(reader: ClusterReader) -> Outcome:
    registrations = await reader.registrations()
    has_two = await is_redundant(reader)
    timeouts = _TIMEOUTS if has_two else {}
    problems: list[CheckProblem] = []
    seen = []
    for one in registrations:
        installed = ENTRIES[one["metadata"]["name"]]
        for entry in one.get("webhooks") or ():
            name = entry["name"]
            if name in installed:
                seen.append(name)
                problems += _differences(entry, installed[name], timeouts.get(name, _SECONDS), has_two=has_two)
            else:
                problems.append(warning(f"{name} is not an entry of {one['metadata']['name']}"))
    if not seen:
        return Outcome(seen=f"{MUTATING} has no entry of ours", is_skipped=True)
    return Outcome(seen=f"entries {', '.join(seen)}", problems=tuple(problems))


def _differences(
    entry: Mapping[str, Any], wanted: _InstalledEntry, allowed: tuple[int, int], *, has_two: bool
) -> Iterator[CheckProblem]:
    """Yield how an entry of the mutating configuration differs from the installed one."""
    name = entry["name"]
    if not includes_pods(entry):
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
    shortest, longest = allowed
    if seconds is not None and not shortest <= seconds <= longest:
        use = f"{shortest} to {longest}; the default is 5" if longest > shortest else f"{shortest} with two groups"
        yield warning(f"{name}: timeoutSeconds is {seconds}: use {use}")
    if has_two and entry.get("failurePolicy") != "Ignore":
        yield failed(f"{name}: failurePolicy is not Ignore: Pods are rejected although the other group answers")


def _condition_differences(entry: Mapping[str, Any], wanted: _InstalledEntry) -> Iterator[CheckProblem]:
    name = entry["name"]
    conditions = {one["name"]: " ".join(one["expression"].split()) for one in entry.get("matchConditions") or ()}
    for condition, expression in wanted.conditions.items():
        if condition not in conditions:
            yield failed(f"{name}: the match condition {condition} is missing: more Pods than needed reach the webhook")
        elif expression not in {conditions[condition], sha256(conditions[condition].encode()).hexdigest()}:
            yield failed(f"{name}: the match condition {condition} does not match this version of the chart")
    for condition in conditions.keys() - wanted.conditions.keys():
        yield failed(f"{name}: the match condition {condition} is added: it can exclude Pods that request a token")


def includes_pods(entry: Mapping[str, Any]) -> bool:
    """Return whether a rule of an entry includes the creation of Pods."""
    return any(map(_includes_pods, entry.get("rules") or ()))


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


async def _called_after_dapr(reader: ClusterReader) -> Outcome:
    ours = [one for one in await reader.registrations() if one.get("webhooks")]
    daprs = [
        one["metadata"]["name"]
        for one in await reader.list(MUTATING_WEBHOOKS)
        if any(entry["name"] == INJECTOR_ENTRY for entry in one.get("webhooks") or ())
    ]
    if not ours or not daprs:
        return Outcome(seen=f"{MUTATING} or that of Dapr's injector does not exist", is_skipped=True)
    is_later, problems = False, []
    for one in ours:
        later = [name for name in daprs if name > one["metadata"]["name"]]
        never = [entry["name"] for entry in one["webhooks"] if entry.get("reinvocationPolicy") != "IfNeeded"]
        is_later |= bool(later)
        if later and never:
            problems.append(
                failed(
                    f"{', '.join(never)}: called before {', '.join(later)} and not again, without reinvocationPolicy "
                    "IfNeeded: the sidecar gets no token",
                    UPGRADE.format(await reader.namespace()),
                )
            )
    seen = (
        f"API servers call the injector of Dapr ({', '.join(daprs)}) {'after' if is_later else 'before'} this webhook"
    )
    return Outcome(seen=seen, problems=tuple(problems))


async def _warnings_registered(reader: ClusterReader) -> Outcome:
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
        f"`{INJECT_ENTRIES[0]}`; with two groups (`webhook.redundancy: 2`), also `dapr-token-injector-2` and its entry "
        f"`{INJECT_ENTRIES[1]}`. There are two groups if one object of group 2 exists, or if the Deployment has the "
        "argument `--fail-over`; if you may not read Deployments, it is unknown. `--canary-groups` says it instead. "
        "Whether the entries work is the subject of other checks.",
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
        "and `timeoutSeconds` of each entry with those that the chart of this version installs. A timeout outside 2 "
        "to 10 seconds (with two groups, another one than 1 second for group 1), and an entry of another name, are "
        "warnings. With two groups, `failurePolicy` must be `Ignore`. Two groups are compared with each other by "
        "`entries-alike`. It does not evaluate the expressions of match conditions: it compares their text, so an "
        "entry of another version of the chart can differ.",
        fix=f"{_INSTALL_AGAIN}again. If the version differs, use the command of the same version as the chart.",
        run=_entries_as_installed,
    ),
    Check(
        id="DTC017",
        name="called-after-dapr",
        category=Category.REGISTRATION,
        summary="The webhook sees the sidecar that Dapr's injector adds.",
        why="The API server calls mutating webhooks in the order of the names of their configurations. If this webhook "
        "is called before Dapr's injector and not again, the sidecar gets no token.",
        how="Compares the name of each configuration with an entry `sidecar-injector.dapr.io` with "
        "`dapr-token-injector` and `dapr-token-injector-2`. If Dapr's is later, the entries of this webhook need "
        "`reinvocationPolicy: IfNeeded`. It is skipped if either is not registered. It cannot see other webhooks that "
        "add containers.",
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
