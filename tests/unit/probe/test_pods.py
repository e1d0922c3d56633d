"""What is read off a Pod that no node is needed for."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from injector.core.exposure import CallResult, Exposure, PortResult, Purpose
from injector.core.token import parse_token
from injector.kube.client import Api
from injector.probe import pods
from injector.probe.prober import ExpectedToken
from tests.sealing import file_env, sealed_spec
from tests.unit.cli.objects import Json, pod
from tests.unit.probe.servers import MARKER


@pytest.mark.parametrize(
    ("addresses", "text"),
    [
        ((), "no --dapr-listen-addresses, so daprd listens on all addresses"),
        (("0.0.0.0", "[::]"), "--dapr-listen-addresses 0.0.0.0,[::]"),  # noqa: S104 - as people write it
        (("\x1b[2J",), "--dapr-listen-addresses (not addresses)"),
        (("x" * 101,), "--dapr-listen-addresses (not addresses)"),
    ],
)
def test_only_addresses_are_shown_as_addresses(addresses: tuple[str, ...], text: str) -> None:
    assert pods._redact_addresses(addresses) == text


@pytest.mark.parametrize("value", [f"{MARKER}\n", f"$(OTHER){MARKER}", f" {MARKER}", ""])
def test_invalid_literal_is_neither_sent_nor_shown(value: str) -> None:
    expected = pods._literal(value)

    assert expected.token is None
    assert expected.skipped_reason
    assert "marker" not in expected.skipped_reason


def test_literal_is_the_token_that_is_tried() -> None:
    expected = pods._literal(MARKER)

    assert expected.token is not None
    assert "marker" not in repr(expected)


# --- Pods that cannot be probed ---

UNSCHEDULABLE: Final = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}


def state(**of: Any) -> Json:  # noqa: ANN401 - as the kubelet reports it
    return {"phase": "Pending", "containerStatuses": [{"name": "app"}, {"name": "daprd", "state": of}]}


@pytest.mark.parametrize(
    ("status", "node", "message"),
    [
        ({"phase": "Pending"}, "", "the Pod is not scheduled yet"),
        ({"phase": "Pending", "conditions": None}, "", "the Pod is not scheduled yet"),
        (
            {"conditions": [{"type": "Ready"}, UNSCHEDULABLE]},
            "",
            "the Pod is not scheduled yet: 0/3 nodes are available",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "n", "the Pod has ended (phase Failed): Evicted"),
        ({"phase": "Pending"}, "n", "the kubelet has not reported that daprd runs (phase Pending)"),
        (None, "n", "the kubelet has not reported that daprd runs (phase Unknown)"),
        (
            state(waiting={"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}),
            "n",
            'daprd cannot start: a Secret, ConfigMap or key that it references does not exist: secret "s" not found',
        ),
        (state(waiting={"reason": "PodInitializing"}), "n", "daprd has not started yet: the init containers have not"),
        (state(waiting={"reason": "ImagePullBackOff"}), "n", "the image of daprd cannot be pulled"),
        (state(waiting={"reason": "CrashLoopBackOff"}), "n", "daprd ends again and again"),
        (state(waiting={}), "n", "daprd waits (no reason)"),
        (state(waiting={"reason": "\x1b[2J" + MARKER * 9}), "n", "daprd waits (?"),
        (state(terminated={"exitCode": 1, "reason": "Error"}), "n", "daprd has ended with exit code 1: Error"),
        (state(terminated={}), "n", "daprd has ended with exit code unknown"),
    ],
)
def test_reason_of_a_sidecar_that_does_not_run_is_explained(status: Json | None, node: str, message: str) -> None:
    found = {**pod("web"), "status": status}
    found["spec"]["nodeName"] = node

    assert pods._why_not_running(found).startswith(message)
    assert "marker" not in pods._why_not_running(found)


def test_running_native_sidecar_is_probed() -> None:
    status = {"initContainerStatuses": [{"name": "daprd", "state": {"running": {}}}]}

    assert pods._why_not_running({**pod("web"), "status": status}) == ""


def test_sidecar_under_another_name_is_probed() -> None:
    found = pod("web")
    found["spec"]["containers"] = [{"name": "app"}, {"name": "dapr", "image": "daprio/daprd:1.9.5"}]
    found["status"] = {"containerStatuses": [{"name": "dapr", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}

    assert pods._why_not_running(found) == "daprd ends again and again"

    found["status"]["containerStatuses"][0]["state"] = {"running": {}}
    report = asyncio.run(Open(Api.__new__(Api), ExpectedToken(), 1).probe(found))
    assert {one.exposure for one in report.found} == {Exposure.ENFORCEMENT_OFF, Exposure.LISTEN_ADDRESS}


# --- Dapr Shared ---


class Open(pods.Prober):
    """A prober whose API ports serve every call."""

    async def _api(self, pod: Json, port: int, purpose: Purpose, expected: ExpectedToken) -> PortResult:
        del pod, expected
        return PortResult(purpose, port, without=CallResult.SERVED)

    async def _other_port(self, pod: Json, port: int, purpose: Purpose) -> None:
        del pod, port, purpose


@pytest.mark.parametrize(
    ("key", "annotations", "expected"),
    [
        ("dapr-api-token", None, Exposure.DAPR_SHARED),
        ("dapr-api-token", {"dapr.io/app-id": "shop"}, Exposure.DAPR_SHARED),
        ("dapr-api-token", {"dapr.io/enabled": "true"}, Exposure.LISTEN_ADDRESS),
        ("token", None, Exposure.LISTEN_ADDRESS),
    ],
)
def test_dapr_shared_is_recognized(key: str, annotations: Json | None, expected: Exposure) -> None:
    found = pod("shared")
    found["metadata"]["annotations"] = annotations
    container = found["spec"]["containers"][0]
    container["env"][0]["valueFrom"]["secretKeyRef"]["key"] = key
    container["args"] = ["/daprd", "--dapr-listen-addresses=0.0.0.0"]
    prober = Open(Api.__new__(Api), ExpectedToken(parse_token(MARKER.encode())), 1)

    report = asyncio.run(prober.probe(found))

    assert [one.exposure for one in report.found] == [Exposure.ENFORCEMENT_OFF, Exposure.ENFORCEMENT_OFF, expected]
    assert report.found[0].cause == f"its DAPR_API_TOKEN comes from key {key} of Secret s"
    assert report.found[2].where == "--dapr-listen-addresses 0.0.0.0"


# --- sealed Pods ---


@pytest.mark.parametrize(
    ("volume", "cause"),
    [
        ({"medium": "Memory"}, "its DAPR_API_TOKEN comes from key token of Secret s"),
        ({}, "its DAPR_API_TOKEN is empty"),
    ],
)
def test_sealed_sidecar_has_the_token_of_the_seal_container(volume: Json, cause: str) -> None:
    daprd = {"name": "daprd", "image": "daprio/daprd:1.18.4", "env": [{"name": "X"}, file_env()]}
    found = pod("sealed")
    found["spec"] |= sealed_spec("s", daprd)
    found["spec"]["volumes"][0]["emptyDir"] = volume
    prober = Open(Api.__new__(Api), ExpectedToken(parse_token(MARKER.encode())), 1)

    for one in (found, pods._slim({**found, "metadata": {**found["metadata"], "uid": "1"}})):
        assert one is not None
        assert asyncio.run(prober.probe(one)).found[0].cause == cause
