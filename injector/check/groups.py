"""Checks that both groups of replicas treat a Pod alike: docs/decisions/0039-two-entries.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from injector.check.chart import DEFAULT_ENTRIES, INJECT_ENTRIES, UPGRADE
from injector.check.installation import deployments_of_groups
from injector.check.model import Category, Check, Outcome, failed
from injector.check.registration import includes_pods
from injector.check.versions import image_of
from injector.core import names
from injector.core.messages import listed
from injector.kube.resources import MUTATING_WEBHOOKS
from injector.rotation import webhook_policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_COMPARED: Final = ("rules", "namespaceSelector", "objectSelector", "matchPolicy")
# charts/dapr-token-injector/templates/webhook/deployment.yaml
_CHECKSUM: Final = "checksum/policy"


async def _entries_alike(reader: ClusterReader) -> Outcome:
    found = await reader.registrations()
    if len(found) < len(names.GROUPS):
        return Outcome(seen=f"the {MUTATING_WEBHOOKS.kind} of only one group exists", is_skipped=True)
    fix = UPGRADE.format(await reader.namespace())
    first, second = ({entry["name"]: entry for entry in one.get("webhooks") or ()} for one in found)
    problems: list[CheckProblem] = []
    for pair in (INJECT_ENTRIES, DEFAULT_ENTRIES):
        one, other = first.get(pair[0]), second.get(pair[1])
        if one is not None and other is not None:
            differing = list(_differing(one, other))
            if differing:
                problems.append(failed(f"{pair[0]} and {pair[1]} have different {', '.join(differing)}", fix))
        elif pair is DEFAULT_ENTRIES and (one or other) is not None:
            there, missing = pair if other is None else pair[::-1]
            problems.append(failed(f"{there} exists and {missing} does not: one group serves these namespaces", fix))
    return Outcome(seen=f"the entries of {listed(list(names.GROUPS))}", problems=tuple(problems))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for key in _COMPARED:
        values = {json.dumps(entry.get(key) or None, sort_keys=True) for entry in (one, other)}
        # That Pods are missing is the subject of another check.
        if len(values) > 1 and (key != "rules" or (includes_pods(one) and includes_pods(other))):
            yield key


async def _groups_alike(reader: ClusterReader) -> Outcome:
    found = await deployments_of_groups(reader)
    if len(found) < len(names.GROUPS):
        return Outcome(seen="the Deployment of only one group exists", is_skipped=True)
    words = [f"Deployment {one['metadata']['name']}" for one in found]
    problems = []
    for what, values in (("images", map(image_of, found)), ("Policies", map(_policy, found))):
        each = list(values)
        if len(set(each)) > 1:
            shown = "; ".join(f"{word}: {value}" for word, value in zip(words, each, strict=True))
            text = f"the groups have different {what}, so a Pod depends on which one answers: {shown}"
            problems.append(failed(text, UPGRADE.format(await reader.namespace())))
    return Outcome(seen=listed(words), problems=tuple(problems))


def _policy(deployment: Object) -> str:
    """Return the ConfigMap with the Policy, and the hash of its content at the time of the installation."""
    try:
        _, name = webhook_policy.config_map_of([deployment])
    except LookupError:
        name = "none"
    annotations = (deployment["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    return f"ConfigMap {name} {str(annotations.get(_CHECKSUM) or '')[:8]}".strip()


CHECKS: Final = (
    Check(
        id="DTC091",
        name="entries-alike",
        category=Category.VERSIONS,
        summary="The webhook entries of both groups are called for the same Pods.",
        why="With two groups (`webhook.redundancy: 2`), a Pod that only one group is called for is rejected, or "
        "created without its token, while that group does not answer.",
        how="Compares rules, `namespaceSelector`, `objectSelector` and `matchPolicy` of each entry with those of the "
        "other group's, and whether both groups have an entry for the default Secret. It is skipped if only one "
        "MutatingWebhookConfiguration exists: whether one is missing is the subject of `registered`. Match conditions "
        "are compared by `entries-as-installed`.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values`, or `kubectl apply -k` again.",
        run=_entries_alike,
    ),
    Check(
        id="DTC092",
        name="groups-alike",
        category=Category.VERSIONS,
        summary="Both groups have the same version and Policy.",
        why="With two groups (`webhook.redundancy: 2`), the API server calls one group if the other does not answer. "
        "If they differ, equal Pods are treated differently, and no process reports it.",
        how="Compares the image of the container `webhook`, the ConfigMap that is mounted as the Policy, and the "
        "annotation `checksum/policy` of both Deployments. It is skipped if only one exists. Whether the Pods run the "
        "current template is the subject of `rolled-out`; which image a registry serves under a tag is not visible.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values`, or `kubectl apply -k` again.",
        run=_groups_alike,
    ),
)
