"""The check that compares the selectors of the registered entries with the namespaces and Pods of the cluster."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from injector.check.chart import DEFAULT_ENTRIES, MUTATING
from injector.check.model import Category, Check, Outcome, failed, warning
from injector.check.pods import all_pods
from injector.check.registration import own_entries
from injector.check.selectors import NAME_LABEL, Selector, labels_of
from injector.core import names
from injector.core.messages import listed
from injector.kube.resources import NAMESPACES
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from injector.check.pods import PodFacts
    from injector.check.reader import ClusterReader

_SHOW: Final = f"kubectl get mutatingwebhookconfiguration {names.MANAGER} -o yaml"


class _EntrySelectors:
    """The selectors of a registered entry."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.is_default = raw["name"] in DEFAULT_ENTRIES
        self.namespaces: Final = Selector(raw.get("namespaceSelector"))
        self.pods: Final = Selector(raw.get("objectSelector"))


@dataclass(slots=True)
class _Pods:
    """What the Pods of a namespace use, with the labels of each Pod that requests a token."""

    uses_dapr: bool = False
    requesting: list[Mapping[str, str]] = field(default_factory=list)


# What the selectors mean for a namespace.
_COVERED: Final = "covered"
_EXCLUDED: Final = "excluded by name"
_LOST: Final = "have Pods that request a token and that no entry matches"
_WITHOUT_DEFAULT: Final = (
    f"have the label {names.INJECT_DEFAULT_LABEL}: enabled and are not matched by {DEFAULT_ENTRIES[0]}"
)
_TWICE: Final = "are matched by both entries, whose selectors should be disjoint"
_EXCLUDED_REQUESTING: Final = "are excluded by name and have Pods that request a token"
_UNMATCHED: Final = "have Dapr Pods and are matched by no entry"
# Those that are problems, in the order of the report.
_PROBLEMS: Final = {
    _LOST: failed,
    _WITHOUT_DEFAULT: failed,
    _TWICE: warning,
    _EXCLUDED_REQUESTING: warning,
    _UNMATCHED: warning,
}


async def _namespaces_covered(reader: ClusterReader) -> Outcome:
    entries = [_EntrySelectors(entry) for entry in await own_entries(reader)]
    if not entries:
        return Outcome(seen=f"{MUTATING} has no entry of ours", is_skipped=True)
    namespaces, pods = await asyncio.gather(reader.list(NAMESPACES), all_pods(reader))
    by_namespace = _by_namespace(pods)
    found: dict[str, list[str]] = defaultdict(list)
    for one in namespaces:
        name = one["metadata"]["name"]
        for state in _states(entries, labels_of(one), by_namespace[name]):
            found[state].append(name)
    seen = f"{counted(len(found[_COVERED]), 'namespace')} with Dapr matched by an entry"
    if found[_EXCLUDED]:
        seen += f"; {_EXCLUDED}: {listed(found[_EXCLUDED])}"
    problems = [
        kind(f"namespaces that {state}: {listed(found[state])}", _SHOW)
        for state, kind in _PROBLEMS.items()
        if found[state]
    ]
    return Outcome(seen=seen, problems=tuple(problems))


def _by_namespace(pods: Iterable[PodFacts]) -> defaultdict[str, _Pods]:
    found: defaultdict[str, _Pods] = defaultdict(_Pods)
    for pod in pods:
        if pod.uses_dapr or pod.requests_token:
            here = found[pod.workload.namespace]
            here.uses_dapr |= pod.uses_dapr
            if pod.requests_token:
                here.requesting.append(pod.labels)
    return found


def _states(entries: Sequence[_EntrySelectors], labels: Mapping[str, str], pods: _Pods) -> Iterator[str]:
    """Yield what the selectors mean for a namespace with these labels and Pods; nothing if it does not use Dapr."""
    by_default = labels.get(names.INJECT_DEFAULT_LABEL) == "enabled"
    if not (pods.uses_dapr or pods.requesting or by_default):
        return
    matching = [entry for entry in entries if entry.namespaces.matches(labels)]
    if not matching and all(entry.namespaces.excludes(labels[NAME_LABEL]) for entry in entries):
        yield _EXCLUDED_REQUESTING if pods.requesting else _EXCLUDED
    elif any(not any(entry.pods.matches(pod) for entry in matching) for pod in pods.requesting):
        yield _LOST
    elif by_default and not any(entry.is_default for entry in matching):
        yield _WITHOUT_DEFAULT
    elif not matching:
        yield _UNMATCHED
    else:
        yield _COVERED
    if len({entry.is_default for entry in matching}) > 1:
        yield _TWICE


CHECKS: Final = (
    Check(
        id="DTC013",
        name="namespaces-covered",
        category=Category.REGISTRATION,
        summary="An entry matches every namespace that uses Dapr.",
        why="The API server calls the webhook only for namespaces and Pods that the selectors of an entry match. A "
        "selector that is too narrow has no other sign than Pods without a token.",
        how="Evaluates `namespaceSelector` and `objectSelector` of the registered entries on every namespace and on "
        "every Pod that has not ended. It fails for a namespace that no entry matches and that has Pods with "
        "`dapr.io/api-token-secret` or `dapr.io/app-token-secret`, and for one with the label "
        "`dapr-token-injector/inject-default: enabled` that the entry for it does not match. Namespaces with Dapr "
        "Pods that request no token, excluded names (`webhook.excludedNamespaces`) with Pods that request one, and "
        "namespaces that both entries match are warnings. With two groups (`webhook.redundancy: 2`), one of them is "
        "enough: `entries-alike` compares their selectors. It cannot see Pods that do not exist now, such as those of "
        "a CronJob, and does not evaluate match conditions: `entries-as-installed` compares them.",
        fix="Correct `webhook.namespaceSelector` and `webhook.excludedNamespaces` and run "
        "`helm upgrade dapr-token-injector CHART --reset-then-reuse-values`, or label the namespace. Then restart the "
        "Pods that `dapr-token-injector status -A` shows as open.",
        run=_namespaces_covered,
    ),
)
