from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, container, deployment, pods_of, token_variable, tokens
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl

pytestmark = pytest.mark.usefixtures("injecting")


def test_deployment_pods_have_the_variable_and_kubectl_no_error(kubectl: Kubectl) -> None:
    """R1."""
    applied = kubectl.apply(deployment(ASKING))

    pods = wait_for("two Pods", lambda: pods_of(kubectl, "shop"))

    assert applied.stdout == "deployment.apps/shop created\n"
    assert applied.stderr == ""
    assert [container(pod, "daprd")["env"] for pod in pods] == [[token_variable()]] * 2
    assert [tokens(pod, "web") for pod in pods] == [[], []]


def test_key_and_app_containers_follow_the_annotations(kubectl: Kubectl) -> None:
    chosen = {"dapr-token-injector/api-token-key": "api.key", "dapr-token-injector/app-containers": "web"}
    kubectl.apply(deployment({**ASKING, **chosen}))

    pods = wait_for("two Pods", lambda: pods_of(kubectl, "shop"))

    for pod in pods:
        assert tokens(pod) == [token_variable(key="api.key")]
        assert tokens(pod, "web") == [token_variable(key="api.key")]


def test_other_fields_of_the_pod_are_not_modified(kubectl: Kubectl) -> None:
    mine = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    kubectl.apply(deployment(ASKING, {**APP, "env": mine}, {**SIDECAR, "env": mine, "args": ["--log-level", "info"]}))

    pod = wait_for("two Pods", lambda: pods_of(kubectl, "shop"))[0]

    sidecar = container(pod, "daprd")
    names = [entry["name"] for entry in sidecar["env"]]
    assert names == ["A", "B", "DAPR_API_TOKEN"]
    assert sidecar["args"] == ["--log-level", "info"]
    assert [entry["name"] for entry in container(pod, "web")["env"]] == ["A", "B"]


def test_variable_precedes_the_entry_that_refers_to_it(kubectl: Kubectl) -> None:
    mine = [
        {"name": "A", "value": "$$(DAPR_API_TOKEN)"},
        {"name": "HEADERS", "value": "dapr-api-token=$(DAPR_API_TOKEN)"},
        {"name": "BOTH", "value": "$(APP_API_TOKEN) $(DAPR_API_TOKEN)"},
    ]
    chosen = {"dapr.io/app-token-secret": "app-token", "dapr-token-injector/app-containers": "web"}
    kubectl.apply(deployment({**ASKING, **chosen}, {**APP, "env": mine}, SIDECAR))

    pod = wait_for("two Pods", lambda: pods_of(kubectl, "shop"))[0]

    web = container(pod, "web")["env"]
    assert [entry["name"] for entry in web] == ["A", "DAPR_API_TOKEN", "HEADERS", "APP_API_TOKEN", "BOTH"]
    assert [entry for entry in web if "value" in entry] == mine
    assert tokens(pod, "web") == [token_variable()]
