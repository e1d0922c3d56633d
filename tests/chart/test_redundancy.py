"""The two groups of replicas, as docs/decisions/0039-two-entries.md describes them, and no trace of them with one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import pytest

from tests.chart.conftest import only, selects
from tests.controlplane.helm import CHART

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chart.conftest import Render
    from tests.controlplane.api import Json

DOCS: Final = CHART.parents[1] / "docs"
FIRST: Final = "dapr-token-injector"
SECOND: Final = "dapr-token-injector-2"
OF_ONE: Final = sorted({*CHART.glob("ci/*.yaml"), *CHART.glob("profiles/*.yaml")} - {*CHART.glob("ci/redundant*.yaml")})
TWO: Final = ("--values", str(CHART / "ci/redundant-values.yaml"))
CERT_MANAGER: Final = ("--values", str(CHART / "ci/redundant-cert-manager-values.yaml"))
NAME_LABEL: Final = "app.kubernetes.io/name"


def sets(*values: str) -> tuple[str, ...]:
    return tuple(part for value in values for part in ("--set", value))


def both(objects: list[Json], kind: str) -> tuple[Json, Json]:
    """The objects of this kind of the first and the second group."""
    return only(objects, kind, FIRST), only(objects, kind, SECOND)


@pytest.mark.parametrize("values", OF_ONE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_one_group_has_no_trace_of_a_second(render: Render, values: Path) -> None:
    text = str(render("--values", str(values), hooks=True))

    # The emergency command always deletes both configurations.
    text = text.replace("validatingadmissionpolicybinding/dapr-token-injector-requested "
                        f"mutatingwebhookconfiguration/{FIRST} mutatingwebhookconfiguration/{SECOND} ", "")  # fmt: skip
    for mark in (SECOND, "fail-over", "not-yet-served", "matchExpressions': [{'key': 'app.kubernetes.io/name"):
        assert mark not in text


@pytest.mark.parametrize(
    ("total", "split"), [("2", (1, 1)), ("3", (2, 1)), ("5", (3, 2)), ("100", (50, 50)), ("null", (None, None))]
)
def test_replicas_are_split_over_the_groups(render: Render, total: str, split: tuple[int | None, int | None]) -> None:
    objects = render(*TWO, *sets(f"replicas={total}"))

    assert tuple(one["spec"].get("replicas") for one in both(objects, "Deployment")) == split


@pytest.mark.parametrize("values", [TWO, CERT_MANAGER], ids=["self", "cert-manager"])
def test_second_deployment_differs_only_in_its_names(render: Render, values: tuple[str, ...]) -> None:
    first, second = both(render(*values), "Deployment")
    arguments = [one["spec"]["template"]["spec"]["containers"][0]["args"] for one in (first, second)]
    shared = [argument for argument in arguments[0] if argument in arguments[1]]

    assert f"--second-webhook-configuration-name={SECOND}" in shared
    assert [[one for one in each if one not in shared] for each in arguments] == [
        ["--fail-over"], [f"--service-name={SECOND}"],
    ]  # fmt: skip
    assert labels(second)[NAME_LABEL] == SECOND
    for one in (first, second):
        assert selects(one["spec"]["selector"], labels(one))
    assert unnamed(first) == unnamed(second)


def labels(deployment: Json) -> Json:
    found: Json = deployment["spec"]["template"]["metadata"]["labels"]
    return found


def unnamed(deployment: Json) -> str:
    """A Deployment without its arguments and without what is a name of the group."""
    kept = copy.deepcopy(deployment)
    del kept["spec"]["template"]["spec"]["containers"][0]["args"]
    values = "'values': ['dapr-token-injector', 'dapr-token-injector-2']"
    return str(kept).replace(values, "").replace(SECOND, FIRST)


@pytest.mark.parametrize("values", [TWO, CERT_MANAGER], ids=["self", "cert-manager"])
def test_each_service_selects_one_group_and_the_rest_both(render: Render, values: tuple[str, ...]) -> None:
    objects = render(*values)
    pods = tuple(labels(one) for one in both(objects, "Deployment"))
    services = both(objects, "Service")

    assert [[selects({"matchLabels": one["spec"]["selector"]}, pod) for pod in pods] for one in services] == [
        [True, False], [False, True],
    ]  # fmt: skip
    shared = [
        constraint["labelSelector"]
        for deployment in both(objects, "Deployment")
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    ]
    shared += [one["spec"]["selector"] for one in objects if one["kind"] == "PodDisruptionBudget"]
    shared += [one["spec"]["podSelector"] for one in objects if one["kind"] == "NetworkPolicy"]
    assert len(shared) == (6 if values == CERT_MANAGER else 4)
    assert all(selects(selector, pod) for selector in shared for pod in pods)
    monitors = [one["spec"]["selector"] for one in objects if one["kind"] == "ServiceMonitor"]
    assert all(selects(selector, one["metadata"]["labels"]) for selector in monitors for one in services)


def test_entries_of_the_second_group_are_those_of_the_first(render: Render) -> None:
    objects = render(*TWO, *sets("webhook.timeoutSeconds=7"))
    first, second = both(objects, "MutatingWebhookConfiguration")

    assert [entry["name"].split(".")[0] for entry in second["webhooks"]] == ["inject-2", "default-2"]
    for entry, other in zip(first["webhooks"], second["webhooks"], strict=True):
        assert (entry["timeoutSeconds"], other["timeoutSeconds"]) == (1, 7)
        assert other["clientConfig"]["service"].pop("name") == SECOND
        assert entry["clientConfig"]["service"].pop("name") == FIRST
        assert other["matchConditions"].pop()["name"] == "not-yet-served"
        assert other["name"] == entry["name"].replace(".", "-2.", 1)
        assert entry["failurePolicy"] == "Ignore"
        varying = ("name", "timeoutSeconds")
        assert {k: v for k, v in entry.items() if k not in varying} == {
            k: v for k, v in other.items() if k not in varying
        }
    (warning,) = (one for one in objects if one["kind"] == "ValidatingWebhookConfiguration")
    assert [entry["clientConfig"]["service"]["name"] for entry in warning["webhooks"]] == [FIRST]


def test_second_configuration_is_called_directly_after_the_first(render: Render) -> None:
    names = [one["metadata"]["name"] for one in both(render(*TWO), "MutatingWebhookConfiguration")]

    assert sorted([*names, "dapr-sidecar-injector", "dapr-token-injectors"]) == [
        "dapr-sidecar-injector", *names, "dapr-token-injectors",
    ]  # fmt: skip


def test_permission_for_the_second_configuration_only_with_two_groups(render: Render) -> None:
    rules = only(render(*TWO), "ClusterRole")["rules"]

    assert rules[:1] == only(render(), "ClusterRole")["rules"]
    assert rules[1:] == [
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [SECOND],
            "verbs": ["get", "watch", "patch"],
        }
    ]


@pytest.mark.parametrize("issuer", [(), ("tls.certManager.issuerRef.name=company",)], ids=["own CA", "issuer"])
def test_cert_manager_issues_a_certificate_per_group(render: Render, issuer: tuple[str, ...]) -> None:
    objects = render(*CERT_MANAGER, *sets(*issuer), namespace="elsewhere")
    secrets = [
        volume["secret"]["secretName"]
        for deployment in both(objects, "Deployment")
        for volume in deployment["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "tls"
    ]

    certificates = both(objects, "Certificate")
    assert [one["spec"]["secretName"] for one in certificates] == secrets
    assert [one["spec"]["dnsNames"][0] for one in certificates] == [f"{FIRST}.elsewhere.svc", f"{SECOND}.elsewhere.svc"]
    # With another issuer only the Secret of a group's own certificate has the CA.
    sources = [f"elsewhere/{name if issuer else FIRST + '-ca'}" for name in (FIRST, SECOND)]
    assert [
        one["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        for one in both(objects, "MutatingWebhookConfiguration")
    ] == sources


def test_files_serve_both_groups_from_one_secret(render: Render) -> None:
    files = ("--values", str(CHART / "ci/files-values.yaml"))
    objects = render(
        *files, *sets("webhook.redundancy=2", "requested.action=Deny", "tls.files.coversSecondService=true")
    )

    volumes = [one["spec"]["template"]["spec"]["volumes"] for one in both(objects, "Deployment")]
    assert volumes[0] == volumes[1]
    bundles = {
        entry["clientConfig"]["caBundle"]
        for one in both(objects, "MutatingWebhookConfiguration")
        for entry in one["webhooks"]
    }
    assert len(bundles) == 1


def test_default_entry_is_absent_in_both_configurations(render: Render) -> None:
    values = sets("webhook.default.enabled=false")

    assert [len(one["webhooks"]) for one in both(render(*TWO, *values), "MutatingWebhookConfiguration")] == [1, 1]


def test_notes_describe_two_groups(notes: Callable[..., str]) -> None:
    text = notes(*TWO, "--namespace", "elsewhere")

    assert "in two groups, dapr-token-injector and dapr-token-injector-2" in text
    assert text.splitlines()[-1].strip() == (
        f"kubectl -n elsewhere rollout status deployment/{FIRST} && "
        f"kubectl -n elsewhere rollout status deployment/{SECOND} && helm test release -n elsewhere"
    )
    assert "two groups" not in notes()


def test_every_page_has_the_emergency_command_of_the_policy(render: Render) -> None:
    policy = only(render(*TWO), "ValidatingAdmissionPolicy", f"{FIRST}-requested")
    command = policy["spec"]["validations"][0]["messageExpression"].partition("emergency: ")[2].removesuffix("'")
    pages = {page: " ".join(page.read_text().replace("\\\n", " ").split()) for page in DOCS.rglob("*.md")}
    deleting = {page: text for page, text in pages.items() if f"mutatingwebhookconfiguration/{FIRST} " in text}

    assert command.startswith("kubectl delete --ignore-not-found validatingadmissionpolicybinding/")
    assert command.split()[4:6] == [f"mutatingwebhookconfiguration/{name}" for name in (FIRST, SECOND)]
    assert {page.name for page in deleting} == {"choose-a-failure-policy.md", "uninstall.md"}
    for page, text in deleting.items():
        assert text.count(command) == text.count(f"mutatingwebhookconfiguration/{FIRST} "), page
