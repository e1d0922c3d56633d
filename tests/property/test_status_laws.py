"""`status` on Pods of any shape: an answer in every format, and the assessment of the whole Pod or `unknown`."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from injector.cli.main import main
from injector.core.assess import assess
from injector.core.assessment import Known, Protection
from injector.core.token_state import Ref
from injector.rotation.observation import observation
from tests.fake_cluster.server import ApiServer
from tests.property import strategies as some

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.assessment import Assessment
    from tests.builders import Json

FORMATS: Final = ("table", "wide", "json")
SHOP: Final = "shop"
TIMES: Final = st.sampled_from(("", "x", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59"))
STATES: Final = st.sampled_from(
    ({}, {"running": {}}, {"running": None}, {"waiting": {"message": 'secret "s" not found'}}, {"terminated": {}})
) | st.builds(lambda at: {"running": {"startedAt": at}}, TIMES)
REPORTS: Final = some.objects({"name": st.sampled_from(some.CONTAINERS), "state": some.maybe(STATES)})
CONDITIONS: Final = some.objects(
    {"type": st.sampled_from(("PodScheduled", "Initialized")), "lastTransitionTime": some.maybe(TIMES)}
)
STATUSES: Final = some.objects(
    {
        "phase": some.maybe(st.sampled_from(("Running", "Failed", "", "?"))),
        "conditions": some.maybe(st.lists(CONDITIONS, max_size=2)),
        "containerStatuses": some.maybe(st.lists(REPORTS, max_size=3)),
        "initContainerStatuses": some.maybe(st.lists(REPORTS, max_size=2)),
    }
)
OWNERS: Final = some.objects(
    {
        "kind": some.sometimes(st.sampled_from(("ReplicaSet", "Job", "", "Widget"))),
        "name": some.sometimes(some.text),
        "controller": some.maybe(st.booleans()),
    }
)


@st.composite
def pods(draw: st.DrawFn) -> Json:
    """A Pod as `some.pods`, with a report and owners, and in one of three a member of another type."""
    found: Json = copy.deepcopy(draw(some.pods))
    found["metadata"] |= {
        "ownerReferences": draw(st.none() | st.lists(OWNERS, max_size=2)),
        "creationTimestamp": draw(TIMES),
    }
    found["status"] = draw(st.none() | STATUSES)
    if not draw(st.integers(0, 2)):
        parts = [one for one in _parts(found) if one is not found]
        part = draw(st.sampled_from(parts))
        part[draw(st.sampled_from(sorted(part)))] = draw(some.json_values)
    return found


def _parts(value: object) -> Iterator[Json]:
    """Every object that is not empty."""
    if isinstance(value, dict):
        if value:
            yield value
        for child in value.values():
            yield from _parts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _parts(child)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path_factory.mktemp("cluster")) as server:
        yield server


def shown(api: ApiServer, capsys: pytest.CaptureFixture[str], output: str) -> str:
    code = main(["status", "-A", "-o", output, "--kubeconfig", str(api.kubeconfig)])
    printed = capsys.readouterr()
    assert code in {0, 1, 2}, printed.err
    assert "Error" not in printed.err, printed.err
    return printed.out


@given(found=st.lists(pods(), min_size=1, max_size=6))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_every_pod_has_its_assessment_in_every_format(
    found: list[Json], api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    api.objects.clear()
    api.events.clear()
    expected: dict[str, Assessment] = {}
    for number, pod in enumerate(found):
        name = f"p-{number}"
        pod["metadata"] |= {"namespace": SHOP, "name": name}
        expected[name] = assess(observation(pod, Ref("Pod", SHOP, name)), Known(now=0))
        api.put("pods", pod)

    document: Any = json.loads(shown(api, capsys, "json"))
    for output in ("table", "wide"):
        assert "Dapr" in shown(api, capsys, output)

    for one in document["pods"]:
        whole = expected[one["name"]]
        if one["protection"] == Protection.PROTECTED:
            assert whole.protection is Protection.PROTECTED
        if whole.protection is Protection.OPEN:
            assert one["protection"] in {Protection.OPEN, Protection.UNKNOWN}
        if one["protection"] == whole.protection:
            assert [(found["finding"], found["container"]) for found in one["findings"]] == [
                (found.finding, found.container) for found in whole.findings
            ]
    missing = set(expected) - {one["name"] for one in document["pods"]}
    assert {expected[name].protection for name in missing} <= {Protection.NOT_APPLICABLE}
