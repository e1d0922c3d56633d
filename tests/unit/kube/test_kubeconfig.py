"""Which credentials a command uses in a Pod: those of a kubeconfig if there is one, otherwise its ServiceAccount's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kubernetes.aio.config import incluster_config

from injector.kube.errors import KubeconfigError
from injector.kube.kubeconfig import default_namespace, uses_service_account

if TYPE_CHECKING:
    from pathlib import Path

HOST = "KUBERNETES_SERVICE_HOST"
PORT = "KUBERNETES_SERVICE_PORT"


@pytest.fixture
def in_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the ServiceAccount's files; that of the home is `home`, without a kubeconfig."""
    for name, content in {"token": "t", "namespace": "shop\n"}.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setenv(HOST, "10.0.0.1")
    monkeypatch.setenv(PORT, "443")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def test_pod_without_kubeconfig_uses_its_service_account(in_pod: Path) -> None:
    assert in_pod.is_dir()
    assert uses_service_account()
    assert default_namespace() == "shop"


def test_user_without_home_uses_the_service_account(in_pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # in no list of users, as the image's in some clusters

    assert in_pod.is_dir()
    assert uses_service_account()


@pytest.mark.parametrize("named", [("config", None), (None, "prod")])
def test_named_kubeconfig_or_context_is_used_in_a_pod(in_pod: Path, named: tuple[str | None, str | None]) -> None:
    assert in_pod.is_dir()
    assert not uses_service_account(*named)


def test_existing_kubeconfig_is_used_in_a_pod(in_pod: Path) -> None:
    (in_pod / "home/.kube").mkdir(parents=True)
    (in_pod / "home/.kube/config").write_text("{}")

    assert not uses_service_account()


def test_missing_kubeconfig_of_the_variable_is_an_error_in_a_pod(in_pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(in_pod / "none"))

    assert not uses_service_account()
    with pytest.raises(KubeconfigError, match=r"there is no file .*none"):
        default_namespace()


@pytest.mark.parametrize("missing", [HOST, PORT, "token"])
def test_incomplete_service_account_is_not_used(in_pod: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "token":
        (in_pod / missing).unlink()
    else:
        monkeypatch.setenv(missing, "")

    assert not uses_service_account()


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_unreadable_namespace_is_reported(in_pod: Path, content: bytes | None) -> None:
    (in_pod / "namespace").unlink()
    if content is not None:
        (in_pod / "namespace").write_bytes(content)

    with pytest.raises(KubeconfigError, match=f"cannot read the Pod's namespace from {in_pod}/namespace"):
        default_namespace()
