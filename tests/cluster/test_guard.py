"""The guard finds what no webhook does: a sidecar without a token, or with an empty, literal or optional one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.annotator import annotator
from tests.cluster.objects import APP, ASKING, DAPR, SIDECAR, deployment, failed_creations, pod, pods_of
from tests.cluster.policies import GUARD_LABEL, refusal
from tests.controlplane import registration
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

NAME: Final = "DAPR_API_TOKEN"
MARKER: Final = "never-show-me-3f9a"
LITERAL: Final = {"name": NAME, "value": MARKER}
EMPTY: Final = {"name": NAME, "value": ""}
NEITHER: Final = {"name": NAME}
OTHER: Final = {"name": "LOG_LEVEL", "value": "info"}
FIELD: Final = {"name": NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
FROM_CONFIG_MAP: Final = {"name": NAME, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "token"}}}


def reference(**more: object) -> Json:
    return {"name": NAME, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", **more}}}


# What the entries of `daprd` are, and the words of the finding; none where it is protected.
CASES: Final[dict[str, tuple[list[Json] | None, str | None]]] = {
    "no env at all": (None, "has no DAPR_API_TOKEN"),
    "an empty env": ([], "has no DAPR_API_TOKEN"),
    "other variables only": ([OTHER], "has no DAPR_API_TOKEN"),
    "a reference": ([OTHER, reference()], None),
    "a reference that is not optional": ([reference(optional=False)], None),
    "an optional reference": ([reference(optional=True)], "with optional: true"),
    "a literal": ([LITERAL], "as a literal"),
    "an empty literal": ([EMPTY], "an empty DAPR_API_TOKEN"),
    "neither value nor source": ([NEITHER], "an empty DAPR_API_TOKEN"),
    "a ConfigMap": ([FROM_CONFIG_MAP], "from something that is not a Secret"),
    "a field": ([FIELD], "from something that is not a Secret"),
    "a reference after a literal": ([LITERAL, reference()], None),
    "a literal after a reference": ([reference(), LITERAL], "as a literal"),
    "an optional one after a good one": ([reference(), OTHER, reference(optional=True)], "with optional: true"),
    "a good one after an optional one": ([reference(optional=True), reference()], None),
    "an empty one after a good one": ([reference(), EMPTY], "an empty DAPR_API_TOKEN"),
}


def with_env(env: list[Json] | None) -> Json:
    return SIDECAR | ({} if env is None else {"env": env})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("native", [False, True], ids=["regular", "native"])
def test_guard_evaluates_the_effective_entry_of_the_sidecar(denying: Kubectl, case: str, native: bool) -> None:  # noqa: FBT001
    env, finding = CASES[case]
    sidecar = with_env(env)
    item = (
        pod(DAPR, APP, init_containers=({**sidecar, "restartPolicy": "Always"},)) if native else pod(DAPR, APP, sidecar)
    )

    message = refusal(denying, item)

    if finding is None:
        assert message == ""
    else:
        assert 'container "daprd" has ' in message
        assert finding in message
        assert "Forbidden" in message
        assert MARKER not in message


def test_guard_evaluates_sidecar_without_annotations(denying: Kubectl) -> None:
    bare = pod({})
    del bare["metadata"]["annotations"]

    assert "has no DAPR_API_TOKEN" in refusal(denying, bare)


@pytest.mark.parametrize("annotations", [{}, DAPR, ASKING], ids=["plain", "dapr", "asking"])
def test_guard_ignores_pod_without_sidecar(denying: Kubectl, annotations: dict[str, str]) -> None:
    assert refusal(denying, pod(annotations, APP, init_containers=({"name": "migrate", "image": "m"},))) == ""


def test_guard_denial_explains_the_fix(denying: Kubectl) -> None:
    message = refusal(denying, pod(DAPR))

    assert "dapr.io/api-token-secret" in message
    assert "dapr-token-injector-guard" in message


def test_guard_skips_mirror_pod(denying: Kubectl) -> None:
    mirror = pod({**DAPR, "kubernetes.io/config.mirror": "hash"})
    mirror["spec"]["nodeName"] = "n1"

    assert refusal(denying, mirror) == ""


def test_guard_evaluates_huge_pod_within_the_cost_budget(denying: Kubectl) -> None:
    many: list[dict[str, Any]] = [{"name": f"V{n}", "value": "x"} for n in range(500)]
    containers = [{"name": f"c{n}", "image": "i", "env": many} for n in range(60)]

    assert refusal(denying, pod(DAPR, *containers, with_env([*many, reference()]))) == ""
    assert "with optional: true" in refusal(
        denying, pod(DAPR, *containers, with_env([*many, reference(optional=True)]))
    )


def test_guard_denial_appears_in_replica_set_events(enforcing: Kubectl) -> None:
    enforcing.create(deployment(DAPR, APP, with_env([LITERAL])))

    messages = wait_for("the ReplicaSet's event", lambda: failed_creations(enforcing))

    assert any("as a literal" in message for message in messages)
    assert not any(MARKER in message for message in messages)


def test_guard_admits_pods_of_annotated_deployment(enforcing: Kubectl, injecting: Webhook) -> None:
    enforcing.create(deployment(ASKING))

    wait_for("the Pods", lambda: pods_of(enforcing, "shop"))

    assert injecting.requests_served() > 0


def test_guard_runs_after_the_webhook(enforcing: Kubectl, injecting: Webhook) -> None:
    before = injecting.requests_served()

    assert refusal(enforcing, pod(ASKING)) == ""
    assert injecting.requests_served() == before + 1


def test_guard_finds_pod_created_during_webhook_outage(enforcing: Kubectl, register: Callable[[Json], None]) -> None:
    away = registration.token_injector(
        registration.Endpoint("https://127.0.0.1:9", b"no CA"), namespace=enforcing.namespace
    )
    for entry in away["webhooks"]:
        entry["failurePolicy"] = "Ignore"
        del entry["clientConfig"]["caBundle"]
    register(away)

    message = refusal(enforcing, pod(ASKING))

    assert "has no DAPR_API_TOKEN" in message
    assert "create it again if it has both" in message


def test_guard_finds_annotation_added_by_a_later_webhook(
    enforcing: Kubectl, injecting: Webhook, register: Callable[[Json], None]
) -> None:
    annotation = "dapr.io/api-token-secret"
    with annotator("zz-annotator", annotation, "s", namespace=enforcing.namespace) as configuration:
        register(configuration)
        before = injecting.requests_served()

        message = wait_for(
            "the other webhook at work",
            lambda: message if "create it again if it has both" in (message := refusal(enforcing, pod(DAPR))) else "",
        )

        assert "has no DAPR_API_TOKEN" in message
        assert injecting.requests_served() == before


def test_guard_denies_literal_kept_by_the_webhook(enforcing: Kubectl, injecting: Webhook) -> None:
    before = injecting.requests_served()

    assert "as a literal" in refusal(enforcing, pod(ASKING, APP, with_env([LITERAL])))
    assert injecting.requests_served() == before + 1


@pytest.mark.parametrize(
    ("choice", "warned", "noted"),
    [("warn", True, True), ("audit", False, True), (None, False, True), ("off", False, False)],
)
def test_guard_action_follows_the_namespace_label(
    enforcing: Kubectl,
    own_control_plane: ControlPlane,
    choice: str | None,
    warned: bool,  # noqa: FBT001
    noted: bool,  # noqa: FBT001
) -> None:
    change = f"{GUARD_LABEL}-" if choice is None else f"{GUARD_LABEL}={choice}"
    enforcing.run("label", "--overwrite", "namespace", enforcing.namespace, change)
    wait_for("the label noticed", lambda: not refusal(enforcing, pod(DAPR)))

    done = enforcing.run("create", "-f", "-", stdin=pod(DAPR, APP, with_env([LITERAL])))

    assert any("as a literal" in warning for warning in done.warnings) == warned
    assert MARKER not in done.stderr
    annotation = audit_annotations(own_control_plane, enforcing.namespace).get(
        "validation.policy.admission.k8s.io/validation_failure", ""
    )
    assert ("as a literal" in annotation) == noted
    assert MARKER not in annotation


def audit_annotations(own: ControlPlane, namespace: str) -> dict[str, str]:
    """Those of the creation (no dry run) of the namespace's Pod."""
    found = wait_for(f"audit event of a Pod in {namespace}", lambda: own.creation_in(namespace))
    annotations: dict[str, str] = found.get("annotations", {})
    return annotations


def test_policy_has_no_type_checking_warnings(denying: Kubectl) -> None:
    def checked() -> Json | None:
        status: Json = denying.get("validatingadmissionpolicy", "dapr-token-injector-guard").get("status", {})
        return status if "typeChecking" in status else None

    assert wait_for("the policy type checked", checked)["typeChecking"] == {}
