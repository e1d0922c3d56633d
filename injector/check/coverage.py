"""The check that compares the selectors of the registered entries with the namespaces and Pods of the cluster."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from injector.check.model import Category, Check, Outcome, failed, warning
from injector.check.pods import all_pods
from injector.check.registration import DEFAULT_ENTRIES, MUTATING, own_entries
from injector.check.selectors import Selector, labels_of
from injector.core import names
from injector.core.request import listed
from injector.kube.resources import NAMESPACES
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from injector.check.model import Problem
    from injector.check.pods import PodFacts
    from injector.check.reader import Reader
    from injector.kube.resources import Object

_SHOW: Final = f"kubectl get mutatingwebhookconfiguration {names.MANAGER} -o yaml"


class _Entry:
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


@dataclass(slots=True)
class _Coverage:
    """Namespaces, by what the selectors mean for them."""

    covered: int = 0
    excluded: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    without_default: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    excluded_requesting: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def problems(self) -> tuple[Problem, ...]:
        """Return a problem for each list that has namespaces and should not."""
        table: tuple[tuple[list[str], Callable[[str, str], Problem], str], ...] = (
            (self.lost, failed, "have Pods that request a token and that no entry matches"),
            (
                self.without_default,
                failed,
                f"have the label {names.INJECT_DEFAULT_LABEL}: enabled and are not matched by {DEFAULT_ENTRIES[0]}",
            ),
            (self.twice, warning, "are matched by both entries, whose selectors should be disjoint"),
            (self.excluded_requesting, warning, "are excluded by name and have Pods that request a token"),
            (self.unmatched, warning, "have Dapr Pods and are matched by no entry"),
        )
        return tuple(kind(f"namespaces that {text}: {listed(found)}", _SHOW) for found, kind, text in table if found)


async def _namespaces_covered(reader: Reader) -> Outcome:
    entries = [_Entry(entry) for entry in await own_entries(reader)]
    if not entries:
        return Outcome(seen=f"{MUTATING} has no entry of ours", is_skipped=True)
    namespaces, pods = await asyncio.gather(reader.list(NAMESPACES), all_pods(reader))
    coverage = _coverage(entries, namespaces, _by_namespace(pods))
    seen = f"{counted(coverage.covered, 'namespace')} with Dapr matched by an entry"
    if coverage.excluded:
        seen += f"; excluded by name: {listed(coverage.excluded)}"
    return Outcome(seen=seen, problems=coverage.problems())


def _by_namespace(pods: Iterable[PodFacts]) -> dict[str, _Pods]:
    found: dict[str, _Pods] = defaultdict(_Pods)
    for pod in pods:
        if pod.uses_dapr or pod.requests_token:
            here = found[pod.workload.namespace]
            here.uses_dapr |= pod.uses_dapr
            if pod.requests_token:
                here.requesting.append(pod.labels)
    return found


def _coverage(entries: Sequence[_Entry], namespaces: Iterable[Object], by_namespace: Mapping[str, _Pods]) -> _Coverage:
    coverage = _Coverage()
    nothing = _Pods()
    for one in namespaces:
        name, labels = one["metadata"]["name"], labels_of(one)
        pods = by_namespace.get(name, nothing)
        by_default = labels.get(names.INJECT_DEFAULT_LABEL) == "enabled"
        matching = [entry for entry in entries if entry.namespaces.matches(labels)]
        if not (pods.uses_dapr or pods.requesting or by_default):
            continue
        if not matching and all(entry.namespaces.excludes(name) for entry in entries):
            (coverage.excluded_requesting if pods.requesting else coverage.excluded).append(name)
        elif any(not any(entry.pods.matches(pod) for entry in matching) for pod in pods.requesting):
            coverage.lost.append(name)
        elif by_default and not any(entry.is_default for entry in matching):
            coverage.without_default.append(name)
        elif not matching:
            coverage.unmatched.append(name)
        else:
            coverage.covered += 1
        if len({entry.is_default for entry in matching}) > 1:
            coverage.twice.append(name)
    return coverage


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
