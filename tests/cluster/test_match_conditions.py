"""R7: the match conditions keep the API server from calling the webhook for Pods without a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, DAPR, pod, token_variable, tokens

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook


@pytest.mark.parametrize(
    "annotations",
    [{}, {"a": "b"}, DAPR, {**DAPR, "dapr.io/api-token-secret": ""}],
    ids=["no annotations", "another annotation", "dapr without a secret", "an empty secret"],
)
def test_pod_without_request_never_reaches_the_webhook(
    kubectl: Kubectl, injecting: Webhook, annotations: dict[str, str]
) -> None:
    before = injecting.requests_served()

    created = kubectl.create(pod(annotations))

    assert tokens(created) == []
    assert injecting.requests_served() == before


def test_pod_without_annotations_is_created(kubectl: Kubectl, injecting: Webhook) -> None:
    before = injecting.requests_served()
    bare = pod({})
    del bare["metadata"]["annotations"]

    kubectl.create(bare)

    assert injecting.requests_served() == before


def test_mirror_pod_of_a_kubelet_is_skipped(kubectl: Kubectl, injecting: Webhook) -> None:
    before = injecting.requests_served()
    mirror = pod({**ASKING, "kubernetes.io/config.mirror": "hash"})
    mirror["spec"]["nodeName"] = "n1"

    created = kubectl.create(mirror)

    assert tokens(created) == []
    assert injecting.requests_served() == before


def test_requesting_pod_is_counted(kubectl: Kubectl, injecting: Webhook) -> None:
    before = injecting.requests_served()

    created = kubectl.create(pod(ASKING))

    assert tokens(created) == [token_variable()]
    assert injecting.requests_served() == before + 1


def test_requesting_pod_without_sidecar_is_not_modified(kubectl: Kubectl, injecting: Webhook) -> None:
    before = injecting.requests_served()

    created = kubectl.create(pod(ASKING, APP))

    assert "env" not in created["spec"]["containers"][0]
    assert injecting.requests_served() == before + 1
