"""`make bench BENCH=--admission`: what a second webhook entry costs, as Pod creates through a real API server.

One entry, two entries with and without the match condition `not-yet-served`, the same change by a
MutatingAdmissionPolicy inside the API server, and none. Each has a namespace of its own. They take turns, and each run
is compared with that of one entry in the same turn.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from tests.bench import golden, outside, peers
from tests.bench.certs import make_pair
from tests.bench.errors import BenchError
from tests.bench.measure import spread
from tests.bench.wrk import Wrk
from tests.cluster.two_entries import first_entries, second_entries
from tests.controlplane.cluster import Programs, control_plane, wait_for_service_account
from tests.controlplane.errors import HarnessError
from tests.controlplane.registration import token_injector
from tests.served import CONDITION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from tests.bench import bodies
    from tests.bench.measure import Spread
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.registration import Endpoint

    # Creates per second of each turn, by variant, by number of connections.
    Found = dict[int, dict[str, list[float]]]

ONE: Final = "one entry"
TWO: Final = "two entries"
UNCONDITIONAL: Final = "two entries without the condition"
POLICY: Final = "MutatingAdmissionPolicy"
NONE: Final = outside.NONE
LEAST: Final = 0.9
_VARIANTS: Final = {ONE: "one", TWO: "two", UNCONDITIONAL: "unconditional", POLICY: "policy", NONE: NONE}
_ADMISSION: Final = "admissionregistration.k8s.io/v1"


def measure(rounds: int, report: Callable[[str], None]) -> Found:
    """Create Pods in all namespaces in turn.

    Raises:
        BenchError: The cluster could not be had, or a Pod came out without its variable.
    """
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        wrk = Wrk(int(cores.rpartition(",")[2]), folder)
        site = outside.Site(make_pair(folder, now=dt.datetime.now(dt.UTC)), folder, wrk, cores, report)
        try:
            with control_plane(Programs.resolve(report)) as plane:
                first, second = (outside.endpoint(peers.us(), which, site, stack) for which in ("first", "second"))
                for item in _objects(first, second):
                    plane.kubectl.create(item)
                return _measure(plane, site, rounds)
        except HarnessError as error:
            raise BenchError(f"no control plane: {error}") from error


def _objects(first: Endpoint, second: Endpoint) -> Iterator[bodies.Json]:
    one = token_injector(first, namespace=_namespace(ONE))
    two = [groups(endpoint, namespace=_namespace(TWO)) for groups, endpoint in _groups(first, second)]
    both = [groups(endpoint, namespace=_namespace(UNCONDITIONAL)) for groups, endpoint in _groups(first, second)]
    for entry in both[1]["webhooks"]:
        entry["matchConditions"] = [found for found in entry["matchConditions"] if found["name"] != CONDITION]
    for number, configuration in enumerate((one, *two, *both)):
        configuration["metadata"]["name"] = f"bench-{number}"
        yield configuration
    yield from _mutating_policy(_namespace(POLICY))


def _groups(first: Endpoint, second: Endpoint) -> tuple[tuple[Callable[..., bodies.Json], Endpoint], ...]:
    return (first_entries, first), (second_entries, second)


def _mutating_policy(namespace: str) -> tuple[bodies.Json, bodies.Json]:
    """The same change for a Pod whose regular sidecar has variables, and nothing else that the webhook does."""
    entry = "Object.spec.containers.env"
    ref = f"{entry}.valueFrom.secretKeyRef"
    secret = "object.metadata.annotations['dapr.io/api-token-secret']"
    expression = (
        "[JSONPatch{op: 'add', path: '/spec/containers/' + "
        "string(object.spec.containers.map(c, c.name).indexOf('daprd')) + '/env/-', "
        f"value: {entry}{{name: '{golden.TOKEN_ENV}', valueFrom: {entry}.valueFrom{{"
        f"secretKeyRef: {ref}{{name: {secret}, key: 'token'}}}}}}}}]"
    )
    condition = (
        "object.metadata.?annotations[?'dapr.io/api-token-secret'].orValue('') != '' && "
        f"object.spec.containers.exists(c, c.name == 'daprd' && !c.env.exists(e, e.name == '{golden.TOKEN_ENV}'))"
    )
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "asks-for-token", "expression": condition}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
    }
    only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}
    binding = {"policyName": "bench", "matchResources": {"namespaceSelector": {"matchExpressions": [only]}}}
    common = {"apiVersion": _ADMISSION, "metadata": {"name": "bench"}}
    return (
        {**common, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**common, "kind": "MutatingAdmissionPolicyBinding", "spec": binding},
    )


def _namespace(variant: str) -> str:
    return f"bench-{_VARIANTS[variant]}"


def _measure(plane: ControlPlane, site: outside.Site, rounds: int) -> Found:
    for variant in _VARIANTS:
        plane.kubectl.run("create", "namespace", _namespace(variant))
        wait_for_service_account(plane.kubectl.within(_namespace(variant)))
        plane.kubectl.create(outside.pod(_namespace(variant)))  # the first one is slow
    headers = outside.credentials(plane.kubectl, site.folder)
    found: Found = {}
    for connections in (outside.BUSY, outside.ALONE):
        site.report(f"creating Pods over {connections} connections, to warm up and then {rounds} times in turn")
        found[connections] = {variant: [] for variant in _VARIANTS}
        for turn in range(-1, rounds):
            for variant, rates in found[connections].items():
                run = outside.create(plane, _namespace(variant), site, headers, connections=connections)
                if turn >= 0:
                    rates.append(run.requests_per_second)
    for variant in _VARIANTS:
        outside.check_stored(plane.kubectl.within(_namespace(variant)), variant)
    return found


def show(console: Console, found: Found) -> bool:
    """Print the rates, the ratios and the goals; return whether they are met."""
    table = Table(title="Pod creates per second, and those of one entry in the same turn (median, lowest, highest)")
    for heading in ("connections", "variant", "creates/s", f"/ {ONE}", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for connections, rates in found.items():
        for variant in rates:
            ratio = _ratio(rates, variant)
            numbers = (f"{value:.2f}" for value in (ratio.median, ratio.low, ratio.high))
            table.add_row(str(connections), variant, f"{spread(rates[variant]).median:.0f}", *numbers)
    console.print(table)
    is_met = True
    for connections, rates in found.items():
        got = _ratio(rates, TWO).median
        is_met &= got >= LEAST
        verdict = "met" if got >= LEAST else "MISSED"
        console.print(f"goal: {TWO} / {ONE} >= {LEAST:g}, {connections} at once: {got:.2f}: {verdict}", highlight=False)
    return is_met


def _ratio(rates: dict[str, list[float]], variant: str) -> Spread:
    return spread(rate / one for rate, one in zip(rates[variant], rates[ONE], strict=True))
