"""Annotations that other admission plugins add, before or after the webhook."""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.annotator import annotator
from tests.cluster.objects import DAPR, SECRET, pod, token_variable, tokens
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.target import Cluster
    from tests.controlplane.webhook import Webhook

ANNOTATION = "dapr.io/api-token-secret"
REGISTRATION: Final = "admissionregistration.k8s.io/v1"


def annotated(kubectl: Kubectl, item: Json) -> Json:
    """What a dry run makes of a Pod once the other webhook is called, too."""

    def probe() -> Json | None:
        made = kubectl.dry_run(item)
        return made if made["metadata"]["annotations"].get(ANNOTATION) == SECRET else None

    return wait_for("the other mutator at work", probe)


def test_annotation_of_a_later_webhook_does_not_trigger_ours(
    kubectl: Kubectl, injecting: Webhook, register: Callable[[Json], None]
) -> None:
    with annotator("zz-annotator", ANNOTATION, SECRET, namespace=kubectl.namespace) as configuration:
        register(configuration)
        before = injecting.requests_served()

        made = annotated(kubectl, pod(DAPR))

        assert tokens(made) == []
        assert injecting.requests_served() == before


def test_annotation_of_an_earlier_webhook_is_injected(
    kubectl: Kubectl, injecting: Webhook, register: Callable[[Json], None]
) -> None:
    with annotator("aa-annotator", ANNOTATION, SECRET, namespace=kubectl.namespace) as configuration:
        register(configuration)

        assert tokens(annotated(kubectl, pod(DAPR))) == [token_variable()]
        assert injecting.requests_served() > 0


def test_annotation_of_a_later_webhook_is_injected_on_reinvocation(
    kubectl: Kubectl, injecting: Webhook, register: Callable[[Json], None]
) -> None:
    with annotator("zz-annotator", ANNOTATION, SECRET, namespace=kubectl.namespace) as configuration:
        register(configuration)
        asking_otherwise = {**DAPR, "dapr.io/app-token-secret": "other"}

        assert tokens(annotated(kubectl, pod(asking_otherwise))) == [token_variable()]
        assert injecting.requests_served() > 0


def test_annotation_of_a_mutating_policy_is_injected(kubectl: Kubectl, injecting: Webhook, cluster: Cluster) -> None:
    if "mutatingadmissionpolicies" not in served(cluster.kubectl):
        pytest.skip(f"this API server has no MutatingAdmissionPolicy in {REGISTRATION} (1.37 has, 1.33 has not)")
    name = f"zz-annotator-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        for item in annotating_policy(name, kubectl.namespace):
            cluster.kubectl.create(item)
            stack.callback(cluster.kubectl.delete, item["kind"], name)

        assert tokens(annotated(kubectl, pod(DAPR))) == [token_variable()]
        assert injecting.requests_served() > 0


def served(kubectl: Kubectl) -> set[str]:
    """The resources of the API group that webhooks and policies are registered in."""
    listed = json.loads(kubectl.run("get", "--raw", f"/apis/{REGISTRATION}").stdout)
    return {item["name"] for item in listed["resources"]}


def annotating_policy(name: str, namespace: str) -> tuple[Json, Json]:
    """A MutatingAdmissionPolicy with the annotation, and its binding to a namespace."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    added = f'Object{{metadata: Object.metadata{{annotations: {{"{ANNOTATION}": "{SECRET}"}}}}}}'
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": added}}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [mutation],
    }
    only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}
    binding = {"policyName": name, "matchResources": {"namespaceSelector": {"matchExpressions": [only]}}}
    about = {"apiVersion": REGISTRATION, "metadata": {"name": name}}
    return (
        {**about, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**about, "kind": "MutatingAdmissionPolicyBinding", "spec": binding},
    )
