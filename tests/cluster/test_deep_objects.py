"""Objects that an API server accepts although they are nested deeply: each is decided, and none costs a token."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import ASKING, pod, token_variable, tokens

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook


def _managed_fields(levels: int) -> str:
    """A manager's fields, nested as the server's own format allows."""
    fields = '{"f:metadata":{"f:annotations":' + '{"f:a":' * levels + "{}" + "}" * levels + "}}"
    return (
        '[{"manager":"deep","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z",'
        f'"fieldsType":"FieldsV1","fieldsV1":{fields}}}]'
    )


def _create_pod(kubectl: Kubectl, text: str, folder: Path) -> Json:
    """Send the text as it is, since a client would decode it first; the answer comes without managedFields."""
    body = folder / "body.json"
    body.write_text(text)
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods"
    command = [*kubectl.command(), "create", "--raw", path, "-f", str(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(kubectl.run("get", "pod", "shop", "-o", "json").stdout)
    return found


@pytest.mark.parametrize("levels", [10, 900, 1000, 2000, 9000])
def test_pod_with_deep_managed_fields_gets_its_token(
    kubectl: Kubectl, injecting: Webhook, tmp_path: Path, levels: int
) -> None:
    found = pod(ASKING)
    found["metadata"]["managedFields"] = "FIELDS"
    text = json.dumps(found).replace('"FIELDS"', _managed_fields(levels))
    before = injecting.requests_served()

    made = _create_pod(kubectl, text, tmp_path)

    assert tokens(made) == [token_variable()]
    assert injecting.requests_served() > before
