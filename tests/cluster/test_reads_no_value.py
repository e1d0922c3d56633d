"""Commands that only read, by an administrator, in the API server's audit log: no write, and no value of a Secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, pod, token_variable
from tests.cluster.tokencommands import Commands, marker

if TYPE_CHECKING:
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

SECRET = "dapr-api-token"


@pytest.mark.parametrize("arguments", [("status",), ("status", "-o", "json"), ("status", "-o", "wide")], ids=" ".join)
@pytest.mark.parametrize("scope", ["-A", "-n"])
def test_command_requests_no_value_and_writes_nothing(
    arguments: tuple[str, ...], scope: str, own_control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    token = marker()
    kubectl.run("create", "secret", "generic", SECRET, f"--from-literal=token={token}")
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [token_variable(SECRET)]}))
    kubeconfig = own_control_plane.audited_kubeconfig()
    before = len(own_control_plane.audited_requests())

    namespace = () if scope == "-A" else (kubectl.namespace,)
    done = Commands(kubectl, kubeconfig).run(*arguments, scope, *namespace)

    assert (done.code, done.err) == (0, "")
    assert "protected" in done.out
    events = own_control_plane.audited_requests()[before:]
    assert {event["verb"] for event in events} == {"list"} | ({"get"} if scope == "-n" else set())
    secrets = [event for event in events if event["objectRef"]["resource"] == "secrets"]
    assert [event["responseObject"]["kind"] for event in secrets] == ["PartialObjectMetadataList"]
    names = [one["metadata"]["name"] for event in secrets for one in event["responseObject"]["items"]]
    assert SECRET in names
    assert not any("data" in one for event in secrets for one in event["responseObject"]["items"])
    assert token not in json.dumps(events) + done.out
