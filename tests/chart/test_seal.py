"""What the chart makes of `seal`: keys of the Policy, by the version of Kubernetes, and no permission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from injector.config.policy import parse_policy
from injector.core.model import Policy, SealMode
from tests.chart.conftest import only
from tests.controlplane.helm import CHART, HelmError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chart.conftest import Render
    from tests.controlplane.api import Json

IMAGE: Final = "ghcr.io/dapr-token-injector/dapr-token-injector"
DIGESTS: Final = tuple(f"sha256:{digit * 64}" for digit in "01")
OLDER: Final = ("1.30.0", "1.34.9", "1.34.9-gke.1234")
NEWER: Final = ("1.35.0", "1.35.0-eks-1a2b3c", "1.37.2")


def policy(render: Render, *arguments: str) -> Policy:
    text = only(render(*arguments), "ConfigMap", "dapr-token-injector-policy")["data"]["policy.yaml"]
    return parse_policy(text, "policy.yaml")


def for_version(version: str, *values: str) -> tuple[str, ...]:
    return (f"--kube-version={version}", *(part for value in values for part in ("--set", value)))


@pytest.mark.parametrize(
    ("versions", "mode"), [(OLDER, SealMode.OFF), (NEWER, SealMode.ON_REQUEST)], ids=["older", "newer"]
)
def test_unset_mode_is_off_below_kubernetes_1_35(render: Render, versions: tuple[str, ...], mode: SealMode) -> None:
    for version in versions:
        assert policy(render, *for_version(version)).seal is mode
        assert policy(render, *for_version(version, "seal.mode=null")).seal is mode


@pytest.mark.parametrize("mode", [SealMode.ON_REQUEST, SealMode.ALWAYS])
def test_mode_that_seals_is_rejected_below_kubernetes_1_35(render: Render, mode: SealMode) -> None:
    for version in OLDER:
        with pytest.raises(HelmError) as refused:
            render(*for_version(version, f"seal.mode={mode}"))
        assert f"seal.mode: {mode} needs Kubernetes 1.35, and this cluster has v{version}:" in refused.value.message
    for version in NEWER:
        assert policy(render, *for_version(version, f"seal.mode={mode}")).seal is mode


@pytest.mark.parametrize("version", [*OLDER, *NEWER])
def test_sealing_can_be_disabled_on_every_version(render: Render, version: str) -> None:
    assert policy(render, *for_version(version, "seal.mode=off")).seal is SealMode.OFF


@pytest.mark.parametrize("profile", sorted(CHART.glob("profiles/*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.30.0", "1.34.0", "1.35.0", "1.37.0"])
def test_profiles_can_be_installed_on_every_version(render: Render, profile: Path, version: str) -> None:
    expected = SealMode.OFF if version in {"1.30.0", "1.34.0"} else SealMode.ON_REQUEST

    assert policy(render, *for_version(version), "--values", str(profile)).seal is expected


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ((), f"{IMAGE}:0.1.0"),
        (("image.repository=r.example/i", "image.tag=v2"), "r.example/i:v2"),
        ((f"image.digest={DIGESTS[0]}",), f"{IMAGE}@{DIGESTS[0]}"),
        ((f"image.digest={DIGESTS[0]}", "seal.image.tag=v2"), f"{IMAGE}:v2"),
        ((f"image.digest={DIGESTS[0]}", "seal.image.repository=m.example/i"), "m.example/i:0.1.0"),
        (("image.tag=v2", "seal.image.repository=m.example/i"), "m.example/i:v2"),
        (("image.tag=v2", "seal.image.repository=m.example/i", "seal.image.tag=v3"), "m.example/i:v3"),
        ((f"image.digest={DIGESTS[0]}", f"seal.image.digest={DIGESTS[1]}"), f"{IMAGE}@{DIGESTS[1]}"),
        (("image.repository=r.example/i", "seal.image.tag=v2", f"seal.image.digest={DIGESTS[1]}"),
         f"r.example/i@{DIGESTS[1]}"),
    ],
)  # fmt: skip
def test_seal_image_is_the_chart_image_unless_set(render: Render, values: tuple[str, ...], image: str) -> None:
    assert policy(render, *(part for value in values for part in ("--set", value))).seal_image == image


def test_pull_secrets_of_the_seal_are_not_those_of_the_webhook(render: Render) -> None:
    found = policy(render, "--set", "seal.imagePullSecrets={a,b}", "--set", "imagePullSecrets={c}")

    assert found.seal_image_pull_secrets == ("a", "b")
    assert policy(render, "--set", "imagePullSecrets={c}").seal_image_pull_secrets == ()


def test_sealing_changes_no_object_but_the_policy(render: Render) -> None:
    """Permissions, too, are those of a webhook that seals no Pod."""
    everything = ("--values", str(CHART / "ci/everything-values.yaml"), "--set")
    off, on_request, always = (
        unrelated(render(*everything, f"seal.mode={mode}", hooks=True)) for mode in ("off", "on-request", "always")
    )

    assert off == on_request == always
    assert {item["kind"] for item in off} >= {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def unrelated(objects: list[Json]) -> list[Json]:
    """The objects other than the policy, without the checksum with which a change of it restarts the Pods."""
    for item in objects:
        if item["kind"] == "Deployment":
            del item["spec"]["template"]["metadata"]["annotations"]["checksum/policy"]
    return [item for item in objects if item["kind"] != "ConfigMap"]


def test_notes_name_what_sealed_pods_need(notes: Callable[..., str]) -> None:
    nodes_first = "upgrade all node pools to Kubernetes 1.35 first"

    assert f'those with dapr-token-injector/seal: "true"): {nodes_first}' in notes(*for_version("1.37.2"))
    assert f"all that request a token): {nodes_first}" in notes(*for_version("1.37.2", "seal.mode=always"))
    assert "Kubernetes v1.34.9 cannot run sealed Pods" in notes(*for_version("1.34.9"))
    assert "ealed" not in notes(*for_version("1.37.2", "seal.mode=off"))
