"""Checks of the cluster itself: its version, its APIs, its clock, and other installations."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from injector.check.chart import DEFAULT_ENTRIES, FENCE, GUARD, GUARD_BINDINGS, INJECT_ENTRIES, MUTATING, REQUESTED
from injector.check.model import Category, Check, Outcome, failed, unknown, warning
from injector.core import names
from injector.core.durations import span
from injector.core.messages import listed
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.kube.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    MUTATING_WEBHOOKS,
    POLICIES,
    POLICY_BINDINGS,
    VALIDATING_WEBHOOKS,
    WEBHOOK_CONFIGURATIONS,
    Resource,
)

if TYPE_CHECKING:
    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_VERSION_PATH: Final = "/version"
# `kubeVersion` of the chart: match conditions and ValidatingAdmissionPolicy became stable, and cannot be switched off
# since: https://github.com/kubernetes/kubernetes/blob/v1.30.0/pkg/features/kube_features.go (LockToDefault).
OLDEST: Final = (1, 30)
_VERSION: Final = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?!\d)")
_KINDS: Final = (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, POLICIES, POLICY_BINDINGS)
_DISCOVERY_PATH: Final = f"/apis/{MUTATING_WEBHOOKS.api_version}"
# Ages of tokens and ends of certificates are computed with the caller's clock.
_LARGE_SKEW_SECONDS: Final = 60
# Objects of the cluster whose names an installation uses.
_FIXED: Final = (
    *WEBHOOK_CONFIGURATIONS,
    *((kind, FENCE) for kind in (POLICIES, POLICY_BINDINGS)),
    (CLUSTER_ROLES, names.MANAGER),
    (CLUSTER_ROLE_BINDINGS, names.MANAGER),
    (POLICIES, GUARD),
    *((kind, REQUESTED) for kind in (POLICIES, POLICY_BINDINGS)),
    *((POLICY_BINDINGS, name) for name in GUARD_BINDINGS),
)
_OWN_ENTRIES: Final = frozenset({*INJECT_ENTRIES, *DEFAULT_ENTRIES})
# https://github.com/helm/helm/blob/main/pkg/action/validate.go
_RELEASE: Final = "meta.helm.sh/release-name"
_RELEASE_NAMESPACE: Final = "meta.helm.sh/release-namespace"


async def _kubernetes_version(reader: ClusterReader) -> Outcome:
    version = str((await reader.raw(_VERSION_PATH))["gitVersion"])[: names.MAX_SHOWN_VALUE]
    found = parse_version(version)
    if found is None:
        problem = unknown("the API server does not report a version of Kubernetes")
        return Outcome(seen=_VERSION_PATH, problems=(problem,))
    seen = f"the API server has version {version}"
    if found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Outcome(seen=seen, problems=(failed(f"Kubernetes {version} is older than {oldest}"),))
    return Outcome(seen=seen)


def parse_version(version: str) -> tuple[int, int] | None:
    """Return the major and minor version in the version of a program of Kubernetes; None if there is none."""
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found is not None else None


async def _admission_apis(reader: ClusterReader) -> Outcome:
    wanted = [kind.plural for kind in _KINDS]
    try:
        served = {one["name"] for one in (await reader.raw(_DISCOVERY_PATH)).get("resources") or ()}
    except NotFoundError:
        served = set()
    missing = [name for name in wanted if name not in served]
    seen = f"{MUTATING_WEBHOOKS.api_version}: {', '.join(name for name in wanted if name in served) or 'not served'}"
    if missing:
        problem = failed(f"the API server does not serve {', '.join(missing)} in {MUTATING_WEBHOOKS.api_version}")
        return Outcome(seen=seen, problems=(problem,))
    return Outcome(seen=seen)


async def _clock(reader: ClusterReader) -> Outcome:
    await reader.raw(_VERSION_PATH)  # any answer has the time
    skew = reader.api.skew_seconds
    if abs(skew) < _LARGE_SKEW_SECONDS:
        return Outcome(seen="the clock here and that of the API server agree")
    direction = "ahead of" if skew > 0 else "behind"
    problem = warning(
        f"the API server's clock is {span(abs(skew))} {direction} the clock here: ages of tokens and ends of "
        "certificates are reported wrongly",
        "timedatectl status",
    )
    return Outcome(seen="the clock here and that of the API server", problems=(problem,))


async def _one_installation(reader: ClusterReader) -> Outcome:
    read = await asyncio.gather(*(_find(reader, kind, name) for kind, name in _FIXED))
    problems: list[CheckProblem] = [one for one in read if not isinstance(one, tuple)]
    found = [one for one in read if isinstance(one, tuple) and one[1]]
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for word, item in found:
        annotations = item["metadata"].get("annotations") or {}
        owners[annotations.get(_RELEASE, ""), annotations.get(_RELEASE_NAMESPACE, "")].append(word)
    namespace = await reader.namespace()
    if len(owners) > 1:
        whose = "; ".join(f"{listed(words, 3)}: {_owner(owner)}" for owner, words in sorted(owners.items()))
        problems.append(failed(f"objects with the names of one installation have several owners: {whose}"))
    problems += [
        failed(f"an installation exists as {_owner(owner)}, not in namespace {namespace}: a cluster has one")
        for owner in owners
        if owner[1] not in {"", namespace}
    ]
    if found and not any(word == MUTATING for word, _ in found):
        left = listed([word for word, _ in found], 3)
        problems.append(warning(f"{left}: left by an earlier installation, or the registration was deleted"))
    problems += [
        failed(
            f"MutatingWebhookConfiguration {one['metadata']['name']} has an entry of dapr-token-injector: a cluster "
            "has one installation"
        )
        for one in await reader.list(MUTATING_WEBHOOKS)
        if one["metadata"]["name"] not in names.GROUPS
        and any(entry["name"] in _OWN_ENTRIES for entry in one.get("webhooks") or ())
    ]
    seen = ", ".join(map(_owner, sorted(owners))) if owners else "no installation exists"
    return Outcome(seen=seen, problems=tuple(problems))


async def _find(reader: ClusterReader, kind: Resource, name: str) -> tuple[str, Object] | CheckProblem:
    """Return kind and name of an object with the object, empty if it does not exist; or the missing permission."""
    try:
        return f"{kind.kind} {name}", await reader.get(kind, name) or {}
    except ForbiddenError as error:
        return unknown(str(error))


def _owner(owner: tuple[str, str]) -> str:
    release, namespace = owner
    return f"Helm release {release} in namespace {namespace}" if release else "an installation without a Helm release"


_UPGRADE_CLUSTER: Final = "Upgrade the cluster to Kubernetes 1.30 or newer: [Install](../../how-to/install.md)."

CHECKS: Final = (
    Check(
        id="DTC001",
        name="kubernetes-version",
        category=Category.CLUSTER,
        summary="The API server has Kubernetes 1.30 or newer.",
        why="The registration uses match conditions and the guard is a ValidatingAdmissionPolicy. Both are stable "
        "since Kubernetes 1.30. An older API server drops the match conditions without an error, and every new Pod "
        "depends on the webhook.",
        how="Reads `/version` of the API server, and compares it with `kubeVersion` of the chart. Of several API "
        "servers it sees the one that answers; it cannot see the versions of the nodes.",
        fix=_UPGRADE_CLUSTER,
        run=_kubernetes_version,
        is_pre=True,
    ),
    Check(
        id="DTC002",
        name="admission-apis",
        category=Category.CLUSTER,
        summary="The API server serves the admission APIs that the chart uses.",
        why="`--runtime-config` of an API server can switch off an API. Then the chart cannot be installed, or the "
        "guard has no effect.",
        how="Reads the list of resources of `admissionregistration.k8s.io/v1` and looks for both kinds of webhook "
        "configurations, for ValidatingAdmissionPolicy and for its bindings. Their feature gates "
        "(`AdmissionWebhookMatchConditions`, `ValidatingAdmissionPolicy`) cannot be switched off since Kubernetes "
        "1.30. It cannot see admission plugins that `--disable-admission-plugins` switches off: only Pods show their "
        "effect, as in the checks of admission.",
        fix="Remove `admissionregistration.k8s.io` from `--runtime-config` of the API server. " + _UPGRADE_CLUSTER,
        run=_admission_apis,
        is_pre=True,
    ),
    Check(
        id="DTC003",
        name="clock-skew",
        category=Category.CLUSTER,
        summary="The clock here and that of the API server agree.",
        why="Ages of tokens and ends of certificates are computed with the clock of the machine that runs the "
        "command. If it is wrong, `status` and `check` report outdated Pods as current, or a valid certificate as "
        "expired.",
        how="Compares the header `Date` of an answer of the API server with the clock here. A minute or more is a "
        "warning. It cannot see which of the two is right, nor the clocks of the nodes.",
        fix="Synchronize the clock, and compare it with `timedatectl status`.",
        run=_clock,
        is_pre=True,
    ),
    Check(
        id="DTC004",
        name="one-installation",
        category=Category.CLUSTER,
        summary="The cluster has at most one installation.",
        why="Names of cluster-wide objects are fixed. A second installation fails, takes over objects of the first "
        "one, or injects other values into the same Pods.",
        how="Reads the cluster-wide objects whose names an installation uses, and compares the Helm releases that own "
        "them with each other and with the namespace of the installation. It also looks for entries of "
        "dapr-token-injector in other configurations. It cannot see two installations with manifests and the same "
        "names, because the second one replaces the first.",
        fix="Uninstall the other release with `helm uninstall NAME --namespace NAMESPACE`, or name its namespace with "
        "`-n`. Delete what an earlier installation left with `kubectl delete KIND NAME`.",
        run=_one_installation,
        is_pre=True,
    ),
)
