"""Commands that only read, by an administrator, in the API server's audit log: no write, and no value of a Secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, pod, token_variable
from tests.cluster.tokencommands import Commands, marker

if TYPE_CHECKING:
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

SECRET = "dapr-api-token"


STATUS: Final = (
    *(("status", "-o", word, "-A") for word in ("table", "wide", "json", "html")),
    ("status", "-n", "NAMESPACE"),
    ("status", f"secret/{SECRET}", "-n", "NAMESPACE"),
    ("status", "pod/shop", "-n", "NAMESPACE"),
)
CHECK: Final = (("check",), ("check", "-o", "json"), ("check", "--pre"))
# What `check` creates is never stored.
REVIEWS: Final = {"selfsubjectaccessreviews", "subjectaccessreviews", "localsubjectaccessreviews"}


@pytest.mark.parametrize("arguments", [*STATUS, *CHECK], ids=" ".join)
def test_command_requests_no_value_and_writes_nothing(
    arguments: tuple[str, ...], own_control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    token = marker()
    kubectl.run("create", "secret", "generic", SECRET, f"--from-literal=token={token}")
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [token_variable(SECRET)]}))
    kubeconfig = own_control_plane.audited_kubeconfig()
    before = len(own_control_plane.audited_requests())

    done = Commands(kubectl, kubeconfig).run(*(kubectl.namespace if one == "NAMESPACE" else one for one in arguments))

    assert done.out
    if arguments in STATUS:
        assert "protected" in done.out  # with -A, Pods of an earlier test may still be there, and open
    events = own_control_plane.audited_requests()[before:]
    writes = [one for one in events if one["verb"] not in {"list", "get"}]
    assert all(one["verb"] == "create" for one in writes)
    stored = [
        one for one in writes if one["objectRef"]["resource"] not in REVIEWS and "dryRun=All" not in one["requestURI"]
    ]
    assert stored == []
    assert not writes or arguments in CHECK
    secrets = [event for event in events if (event.get("objectRef") or {}).get("resource") == "secrets"]
    assert {event["responseObject"]["kind"] for event in secrets} <= {
        "PartialObjectMetadataList",
        "PartialObjectMetadata",
    }
    items = [one for event in secrets for one in event["responseObject"].get("items") or [event["responseObject"]]]
    assert SECRET in {one["metadata"]["name"] for one in items} or "--pre" in arguments
    assert not any("data" in one for one in items)
    assert token not in json.dumps(events) + done.out + done.err
