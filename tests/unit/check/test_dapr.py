"""The checks of Dapr, against the store of the fake API server."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from injector.check.dapr import COMPONENTS, INJECTOR, sidecar_image, version_of
from injector.check.model import Result
from injector.kube.resources import DEPLOYMENTS
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.objects import forbidden, pod

if TYPE_CHECKING:
    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Json = dict[str, Any]
CHECKS = (
    "dapr-control-plane",
    "dapr-injector-registered",
    "dapr-injector-failure-policy",
    "dapr-injector-available",
    "daprd-advisories",
)


def component(name: str, tag: str = "1.18.3", **spec: object) -> Json:
    env = [{"name": "SIDECAR_IMAGE", "value": f"ghcr.io/dapr/daprd:{tag}"}] if name == INJECTOR else []
    containers = [{"name": name, "image": f"ghcr.io/dapr/x:{tag}", "env": env}]
    return {
        "metadata": {"namespace": "dapr-system", "name": name},
        "spec": {"replicas": 1, "template": {"spec": {"containers": containers}}, **spec},
        "status": {"readyReplicas": 1},
    }


def entry(policy: str | None = "Fail", namespace: str = "dapr-system", **fields: object) -> Json:
    service = {"namespace": namespace, "name": INJECTOR, "path": "/mutate"}
    return {
        "name": "sidecar-injector.dapr.io",
        "clientConfig": {"service": service},
        "namespaceSelector": {"matchLabels": {"dapr": "on"}},
        **({"failurePolicy": policy} if policy else {}),
        **fields,
    }


def slice_of(*ready: bool | None, namespace: str = "dapr-system") -> Json:
    endpoints = [{"addresses": ["10.0.0.1"], "conditions": {} if one is None else {"ready": one}} for one in ready]
    labels = {"kubernetes.io/service-name": INJECTOR}
    return {"metadata": {"namespace": namespace, "name": f"{INJECTOR}-1", "labels": labels}, "endpoints": endpoints}


def cluster(*webhooks: Json, tag: str = "1.18.3", components: tuple[str, ...] = tuple(COMPONENTS)) -> Store:
    """Return Dapr's control plane, and by default its registration with the failure policy Fail for some namespaces."""
    store = Store()
    for name in components:
        store.put(COMPONENTS[name][0].plural, component(name, tag))
    configuration = {"metadata": {"name": INJECTOR}, "webhooks": list(webhooks or (entry(),))}
    store.put("mutatingwebhookconfigurations", configuration)
    store.put("endpointslices", slice_of(True))
    return store


def messages(name: str, store: Store) -> tuple[Result, list[str]]:
    found = outcome(name, StoreApi(store))
    return found.result, [one.message for one in found.problems]


@pytest.mark.parametrize("name", CHECKS)
def test_sound_installation_passes(name: str) -> None:
    store = cluster()
    store.put("pods", pod())

    assert messages(name, store) == (Result.PASSED, [])


@pytest.mark.parametrize("name", CHECKS)
def test_no_permission_is_unknown(name: str) -> None:
    found = outcome(name, StoreApi(cluster(), forbidden))

    assert found.result is Result.UNKNOWN
    assert "not allowed" in found.problems[0].message


# --- the control plane ---


def test_versions_and_namespace_are_shown() -> None:
    store = cluster(entry(namespace="dapr"))
    for name, (resource, _) in COMPONENTS.items():
        store.put(
            resource.plural, {**component(name, "1.15.3-mariner"), "metadata": {"namespace": "dapr", "name": name}}
        )

    found = outcome("dapr-control-plane", StoreApi(store))

    assert found.problems == ()
    assert found.seen == f"Dapr 1.15.3 in namespace dapr: {', '.join(COMPONENTS)}"


def test_no_control_plane_fails_with_installation() -> None:
    found = outcome("dapr-control-plane", StoreApi(Store()))

    assert found.result is Result.FAILED
    assert found.problems[0].message == "Dapr is not installed in namespace dapr-system: no Pod gets a sidecar"
    assert found.problems[0].fix.startswith("helm upgrade --install dapr dapr --repo ")


@pytest.mark.parametrize("name", COMPONENTS)
def test_missing_component_fails_unless_it_is_optional(name: str) -> None:
    store = cluster(components=tuple(one for one in COMPONENTS if one != name))
    resource, is_always_there = COMPONENTS[name]

    wanted = f"{resource.kind} {name} does not exist in namespace dapr-system"
    expected = (Result.FAILED, [wanted]) if is_always_there else (Result.PASSED, [])
    assert messages("dapr-control-plane", store) == expected


@pytest.mark.parametrize(
    ("name", "fields", "is_found"),
    [
        ("dapr-sentry", {"status": {"readyReplicas": 0}}, True),
        ("dapr-sentry", {"status": None}, True),
        ("dapr-sentry", {"spec": {"replicas": 0}, "status": {}}, True),
        ("dapr-sentry", {"spec": None, "status": {}}, True),
        ("dapr-placement-server", {"spec": {"replicas": 0}, "status": {}}, False),
        ("dapr-placement-server", {"spec": {"replicas": 3}, "status": {}}, True),
        ("dapr-placement-server", {"spec": {"replicas": None}, "status": {}}, True),
    ],
)
def test_component_without_ready_replica(name: str, fields: Json, is_found: bool) -> None:  # noqa: FBT001 - a column
    store = cluster()
    store.put(COMPONENTS[name][0].plural, {**component(name), **fields})

    result, found = messages("dapr-control-plane", store)

    assert bool(found) is is_found
    assert result is (Result.FAILED if is_found else Result.PASSED)
    assert all(line.endswith(f"{name} in namespace dapr-system has no ready replica") for line in found)


@pytest.mark.parametrize(
    ("image", "label", "version"),
    [
        ("registry:5000/dapr/sentry:1.15.0-linux-amd64", "1.14.0", "1.15.0"),
        ("registry:5000/dapr/sentry@sha256:00", "1.14.0", "1.14.0"),
        ("sentry:EDGE", "edge", ""),
        (None, None, ""),
    ],
)
def test_version_is_of_image_or_label(image: str | None, label: str | None, version: str) -> None:
    labels = {"app.kubernetes.io/version": label} if label else None
    found = {
        "metadata": {"labels": labels},
        "spec": {
            "template": {"spec": {"containers": [{"name": "x", "image": "x:9.9.9"}, {"name": "s", "image": image}]}}
        },
    }

    assert version_of("s", found) == version
    assert version_of("s", {**found, "spec": None}) == (label if label == "1.14.0" else "")


# --- the sidecar injector ---


@pytest.mark.parametrize("store", [Store(), cluster({"name": "other.example.com"})])
def test_missing_registration_fails_and_skips_the_checks_of_it(store: Store) -> None:
    result, found = messages("dapr-injector-registered", store)

    assert result is Result.FAILED
    assert found[0].endswith(": Pods with dapr.io/enabled are created without a sidecar")
    for name in ("dapr-injector-failure-policy", "dapr-injector-available"):
        assert outcome(name, StoreApi(store)).result is Result.SKIPPED


def test_null_list_of_webhooks_is_a_missing_entry() -> None:
    store = Store()
    store.put("mutatingwebhookconfigurations", {"metadata": {"name": INJECTOR}, "webhooks": None})

    assert messages("dapr-injector-registered", store)[0] is Result.FAILED


def test_failure_policy_ignore_is_a_warning_with_the_command() -> None:
    found = outcome("dapr-injector-failure-policy", StoreApi(cluster(entry("Ignore"))))

    assert found.result is Result.WARNING
    assert found.problems[0].message.startswith("the failure policy is Ignore: Pods with dapr.io/enabled are created")
    words = shlex.split(found.problems[0].fix)
    name, _, value = words[words.index("--set-json") + 1].partition("=")
    assert name == "dapr_sidecar_injector.namespaceSelector"
    assert json.loads(value)["matchExpressions"][0]["values"] == ["kube-system", "dapr-system"]


@pytest.mark.parametrize("policy", ["Fail", None])
@pytest.mark.parametrize("selector", [None, {}])
def test_failure_policy_fail_for_all_namespaces_is_a_warning(policy: str | None, selector: Json | None) -> None:
    result, found = messages("dapr-injector-failure-policy", cluster(entry(policy, namespaceSelector=selector)))

    assert result is Result.WARNING
    assert "no Pod can be created, not even theirs" in found[0]


@pytest.mark.parametrize("slices", [[], [slice_of(False, False)], [slice_of()], [{**slice_of(), "endpoints": None}]])
@pytest.mark.parametrize(
    ("policy", "result"),
    [
        ("Fail", "Pods in the namespaces that it selects cannot be created"),
        ("Ignore", "Pods with dapr.io/enabled are created without a sidecar"),
    ],
)
def test_injector_without_ready_endpoint_fails(slices: list[Json], policy: str, result: str) -> None:
    store = cluster(entry(policy))
    store.remove("endpointslices", "dapr-system", f"{INJECTOR}-1")
    for one in slices:
        store.put("endpointslices", one)

    wanted = f"Service dapr-system/{INJECTOR} has no ready endpoint: {result}"
    assert messages("dapr-injector-available", store) == (Result.FAILED, [wanted])


def test_endpoint_of_unknown_readiness_counts_as_ready() -> None:
    store = cluster()
    store.put("endpointslices", slice_of(False, None))

    assert outcome("dapr-injector-available", StoreApi(store)).seen.endswith("has 1 ready endpoint")


def test_injector_by_url_is_unknown() -> None:
    found = outcome("dapr-injector-available", StoreApi(cluster(entry(clientConfig={"url": "https://example.com"}))))

    assert found.result is Result.UNKNOWN


@pytest.mark.parametrize("name", CHECKS)
def test_malformed_registration_is_unknown(name: str) -> None:
    store = Store()
    store.put("mutatingwebhookconfigurations", {"metadata": {"name": INJECTOR}, "webhooks": ["x"]})

    assert outcome(name, StoreApi(store)).result is Result.UNKNOWN


# --- versions of daprd ---


@pytest.mark.parametrize(
    ("image", "what", "fixed"),
    [
        ("registry:5000/daprd:1.13.0-linux-amd64", "1.13.0, which has GO-2024-2879, GO-2026-5242", "1.15.14"),
        ("registry:5000/daprd:v1.17.0@sha256:00", "1.17.0, which has GO-2026-5242", "1.17.5"),
    ],
)
def test_daprd_with_advisory_fails_and_names_the_fix(image: str, what: str, fixed: str) -> None:
    store = cluster()
    store.put("pods", pod(image=image))

    found = outcome("daprd-advisories", StoreApi(store))

    assert found.result is Result.FAILED
    assert found.problems[0].message == (
        f"1 Pod with daprd {what}: Deployment shop/web; update to {fixed} or newer, then restart them"
    )
    assert f" --version {fixed} " in found.problems[0].fix


@pytest.mark.parametrize(
    "image", ["daprd@sha256:00", "registry:5000/daprd", "daprd:latest", "daprd:EDGE", "daprd:1.15"]
)
def test_daprd_without_version_is_unknown(image: str) -> None:
    store = cluster()
    for number in range(30):
        store.put("pods", pod(image=image, deployment=f"web-{number:02}"))

    result, found = messages("daprd-advisories", store)

    assert result is Result.UNKNOWN
    assert found[0].startswith(f"30 Pods with image {image}, without a version in its tag: Deployment shop/web-00, ")
    assert found[0].endswith("and 10 more")


def test_images_without_a_version_are_one_problem() -> None:
    store = cluster()
    for number in range(300):
        store.put("pods", pod(image=f"daprd@sha256:{number:064}", number=number))

    (message,) = messages("daprd-advisories", store)[1]

    assert message == (
        f"300 Pods with image daprd@sha256:{0:064}, and 299 more, without a version in its tag: Deployment shop/web"
    )


def test_image_of_any_text_is_shown_in_part_and_escaped() -> None:
    store = cluster()
    store.put("pods", pod(image="daprd:\x1b[31m\n" + "x" * 100_000))

    (message,) = messages("daprd-advisories", store)[1]

    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize("spec", [{"containers": None}, None, {"containers": [{"name": "daprd", "image": None}]}])
def test_pod_of_odd_shape(spec: Json | None) -> None:
    store = cluster()
    store.put("pods", {**pod(), "spec": spec})

    assert messages("daprd-advisories", store) == (Result.PASSED, [])


def test_daprd_by_its_program_without_an_image_is_unknown() -> None:
    store = cluster()
    store.put("pods", {**pod(), "spec": {"containers": [{"name": "x", "command": ["/daprd"]}]}})

    assert messages("daprd-advisories", store)[1][0].startswith("1 Pod with an image without a name")


@pytest.mark.parametrize(
    ("tag", "result", "message"),
    [
        (
            "1.13.0",
            Result.WARNING,
            "Dapr's injector adds daprd 1.13.0 to new Pods, which has GO-2024-2879, GO-2026-5242",
        ),
        ("edge", Result.UNKNOWN, "Dapr's injector adds image ghcr.io/dapr/daprd:edge to new Pods, without a"),
    ],
)
def test_image_of_new_pods_is_checked_without_any_pod(tag: str, result: Result, message: str) -> None:
    found, (line,) = messages("daprd-advisories", cluster(tag=tag))

    assert found is result
    assert line.startswith(message)


def test_advisories_of_pods_are_found_without_a_view_of_dapr() -> None:
    store = cluster()
    store.put("pods", pod(image="daprd:1.13.0"))

    def fault(verb: str, resource: Resource) -> KubeError | None:
        return forbidden(verb, resource) if resource == DEPLOYMENTS else None

    found = outcome("daprd-advisories", StoreApi(store, fault))

    assert [one.result for one in found.problems] == [Result.FAILED, Result.UNKNOWN]


def test_no_daprd_is_skipped() -> None:
    store = Store()
    store.put("pods", {**pod(), "status": {"phase": "Succeeded"}})

    assert outcome("daprd-advisories", StoreApi(store)).result is Result.SKIPPED


@pytest.mark.parametrize(
    "env", [None, [], [{"name": "X", "value": "daprd:1.13.0"}], [{"name": "SIDECAR_IMAGE", "valueFrom": {}}]]
)
def test_image_of_new_pods_that_cannot_be_seen(env: list[Json] | None) -> None:
    containers = [{"name": "other", "env": [{"name": "SIDECAR_IMAGE", "value": "x"}]}, {"name": INJECTOR, "env": env}]

    assert sidecar_image({"spec": {"template": {"spec": {"containers": containers}}}}) == ""
    assert sidecar_image({"spec": None}) == ""
