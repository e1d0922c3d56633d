"""R4: the serving certificate is replaced and its authority rotated while Pods are created at full speed."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from tests.cluster.conftest import StartWebhook, wait_until_injecting
from tests.cluster.creates import creating_by_proxy
from tests.controlplane.pki import Authority
from tests.controlplane.registration import NAME, token_injector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

# Creates after which the API server has long taken notice of a changed configuration, which it does within 20 ms.
ENOUGH = 100


def trust(kubectl: Kubectl, *authorities: Authority) -> None:
    """Set the bundle. A comment makes it differ each time, so that the API server reconnects."""
    remark = f"# {secrets.token_hex(4)}\n".encode()
    bundle = base64.b64encode(remark + b"".join(authority.pem for authority in authorities)).decode()
    entries = range(2)
    patch = [{"op": "replace", "path": f"/webhooks/{i}/clientConfig/caBundle", "value": bundle} for i in entries]
    kubectl.patch("mutatingwebhookconfiguration", NAME, patch)


def test_creates_succeed_during_replacement(
    kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None], tmp_path: Path
) -> None:
    webhook = start_webhook(None, "--tls-reload-interval=0.1")
    register(token_injector(webhook.endpoint, namespace=kubectl.namespace))
    wait_until_injecting(kubectl)
    old, new = webhook.settings.authority, Authority.create("next-webhook-ca")

    with creating_by_proxy(kubectl, tmp_path) as seen:
        for serving, trusted in (
            (old, (old,)),  # a renewed certificate
            (old, (old, new)),  # the next authority is published ...
            (new, (old, new)),  # ... used ...
            (new, (new,)),  # ... and the old one pruned
        ):
            webhook.replace_certificate(serving)
            trust(kubectl, *trusted)
            seen.wait_for_more(ENOUGH)

    assert seen.wrong == []
    assert len(seen.done) >= 4 * ENOUGH
