"""`probe` of running Pods through the kubelet: closed, open, with another token, and other open ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.objects import ASKING, DAPR, SECRET, token_variable
from tests.cluster.test_probe import limited
from tests.node.objects import app_container, deployment, roll_out, sidecar
from tests.selfhosted.running import OTHER, probed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

TOKEN: Final = "marker-4f1c97d2a5e8-node"
# Where Dapr's injector has the API listen.
LOCAL: Final = "--dapr-listen-addresses=[::1],127.0.0.1"
# The open ports of every sidecar of these tests besides its API.
BESIDE: Final = ("--accept", "metadata-port", "--accept", "metrics-port")
CLOSED: Final = ["refused", "refused", "served"]
OPEN: Final = ["served", "served", "-"]
TO_ALL: Final = ["served", "-", "-"]
ASK_PODS: Final = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
)


@pytest.fixture
def secret(kubectl: Kubectl) -> str:
    kubectl.run("create", "secret", "generic", SECRET, f"--from-literal=token={TOKEN}")
    return SECRET


def local(target: Target, **more: Any) -> Json:  # noqa: ANN401 - a part of a container
    """A sidecar whose API listens on loopback only."""
    made = sidecar(target, **more)
    return {**made, "args": [*made["args"], LOCAL]}


def started(kubectl: Kubectl, target: Target, daprd: Json, annotations: dict[str, str] = DAPR) -> str:
    """Run an app with this sidecar; return the Pod's name. Without an annotation the webhook skips it."""
    is_native = "restartPolicy" in daprd
    containers = [app_container(target), *([] if is_native else [daprd])]
    pod = roll_out(kubectl, deployment(containers, [daprd] if is_native else [], annotations))
    return str(pod["metadata"]["name"])


def ask(kubectl: Kubectl, *arguments: str, kubeconfig: Path | None = None) -> tuple[int, Any]:
    """The exit code and the report about the Pod."""
    code, (report,), error = probed(
        *arguments, "-n", kubectl.namespace, "--kubeconfig", kubeconfig or kubectl.kubeconfig
    )
    assert error == ""
    return code, report


def findings(report: Json) -> list[str]:
    return [found["finding"] for found in report["findings"]]


def answers(report: Json) -> dict[str, list[str]]:
    return {port["purpose"]: [port["without"], port["wrong"], port["right"]] for port in report["ports"]}


@pytest.mark.usefixtures("release", "secret")
def test_annotated_sidecar_is_closed(kubectl: Kubectl, target: Target) -> None:
    """Create the Secret, annotate, probe: the right token comes from the Secret that the webhook put in."""
    name = started(kubectl, target, local(target), ASKING)

    code, report = ask(kubectl, "deployment/shop", *BESIDE)

    assert report["target"] == f"pod/{name}"
    assert answers(report) == {"http": CLOSED, "grpc": CLOSED, "public": TO_ALL, "metrics": TO_ALL}
    assert (code, report["verdict"], findings(report)) == (0, "closed", ["metadata-port", "metrics-port"])
    code, report = ask(kubectl, f"pod/{name}")
    assert (code, report["verdict"]) == (1, "open")


@pytest.mark.parametrize("native", [{}, {"restartPolicy": "Always"}], ids=["regular", "native"])
@pytest.mark.usefixtures("secret")
def test_sidecar_that_was_not_injected_is_open(kubectl: Kubectl, target: Target, native: dict[str, str]) -> None:
    started(kubectl, target, local(target, **native))

    code, report = ask(kubectl, "deployment/shop", *BESIDE)

    assert (code, report["verdict"]) == (1, "open")
    assert findings(report) == ["enforcement-off", "enforcement-off", "metadata-port", "metrics-port"]
    assert report["findings"][0]["cause"] == "daprd has no DAPR_API_TOKEN"
    assert answers(report)["http"] == answers(report)["grpc"] == OPEN


def optional(entry: Json) -> Json:
    entry["valueFrom"]["secretKeyRef"]["optional"] = True
    return entry


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (token_variable(key="empty"), f"its DAPR_API_TOKEN comes from key empty of Secret {SECRET}"),
        (
            optional(token_variable(key="none")),
            "key none of Secret dapr-api-token, which may be missing (optional: true)",
        ),
        ({"name": "DAPR_API_TOKEN", "value": ""}, "its DAPR_API_TOKEN is empty"),
    ],
    ids=["empty", "optional", "literal"],
)
def test_fail_open_variable_is_named(kubectl: Kubectl, target: Target, entry: Json, cause: str) -> None:
    kubectl.run("create", "secret", "generic", SECRET, "--from-literal=empty=")
    started(kubectl, target, local(target, env=[entry]))

    code, report = ask(kubectl, "deployment/shop", *BESIDE)

    assert (code, findings(report)[0]) == (1, "enforcement-off")
    assert report["findings"][0]["cause"].endswith(cause)


@pytest.mark.usefixtures("secret")
def test_native_sidecar_with_its_token_is_closed(kubectl: Kubectl, target: Target) -> None:
    started(kubectl, target, local(target, env=[token_variable()], restartPolicy="Always"))

    code, report = ask(kubectl, "deployment/shop", *BESIDE)

    assert (code, answers(report)["http"], answers(report)["grpc"]) == (0, CLOSED, CLOSED)


@pytest.mark.usefixtures("secret")
def test_secret_changed_after_the_start_is_reported(kubectl: Kubectl, target: Target) -> None:
    started(kubectl, target, local(target, env=[token_variable()]))
    kubectl.run("patch", "secret", SECRET, "-p", f'{{"stringData": {{"token": "{OTHER}"}}}}')

    code, report = ask(kubectl, "deployment/shop", *BESIDE)

    assert (code, findings(report)[:2]) == (1, ["right-token-refused"] * 2)
    assert answers(report)["http"] == ["refused"] * 3


@pytest.mark.usefixtures("secret")
def test_listen_address_and_profiling_are_reported(kubectl: Kubectl, target: Target) -> None:
    made = sidecar(target, env=[token_variable()])
    started(kubectl, target, {**made, "args": [*made["args"], "--enable-profiling"]})

    code, report = ask(kubectl, "deployment/shop")

    assert code == 1
    assert findings(report) == ["metadata-port", "metrics-port", "profiling-port", "listen-address"]
    assert report["findings"][-1]["where"] == "no --dapr-listen-addresses, so daprd listens on all addresses"
    assert answers(report)["http"] == CLOSED


@pytest.mark.usefixtures("secret")
def test_closed_port_is_reported(kubectl: Kubectl, target: Target) -> None:
    """The arguments in the Pod differ from those of daprd: a shell adds others."""
    made = local(target, env=[token_variable()])
    shell = ["/daprd", *made["args"]]
    started(kubectl, target, {**made, "command": shell, "args": ["--dapr-grpc-port=50009", "--", "--dapr-grpc-port=1"]})

    code, report = ask(kubectl, "deployment/shop", *BESIDE)

    assert code == 2
    assert [port.get("failure", "") for port in report["ports"][:2]] == [
        "",
        "nothing listens there (connection refused)",
    ]


@pytest.mark.usefixtures("secret")
def test_closed_sidecar_is_found_without_permission_to_get_secrets(
    kubectl: Kubectl, target: Target, tmp_path: Path
) -> None:
    name = started(kubectl, target, local(target, env=[token_variable()]))

    code, report = ask(kubectl, f"pod/{name}", *BESIDE, kubeconfig=limited(kubectl, tmp_path, *ASK_PODS))

    assert (code, report["verdict"]) == (0, "closed")
    assert answers(report)["http"] == ["refused", "refused", "-"]
    assert report["ports"][0]["skippedReason"].startswith(
        f"cannot get secrets/{SECRET} in namespace {kubectl.namespace}: not allowed"
    )
