"""Every example of the how-to is run: with the token, and with another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.controlplane import binaries
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess, free_port
from tests.pages.blocks import Block, blocks, named_blocks
from tests.pages.families import run_by
from tests.selfhosted import dependencies
from tests.selfhosted.running import MARKER, OTHER
from tests.selfhosted.sidecar import Sidecar, get, sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SNIPPETS: Final = named_blocks(dependencies.PAGE)
APPS: Final = ("fastapi", "grpc-interceptor")
HERE: Final = Path(__file__).parent
REFUSED: Final = ("401", "nauthenticated", "UNAUTHENTICATED")


@pytest.fixture(scope="module")
def daprd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(tmp_path_factory.mktemp("daprd"), env={"DAPR_API_TOKEN": MARKER}) as running:
        yield running


def test_no_example_is_left_out() -> None:
    assert run_by(__file__) == (dependencies.PAGE,)
    assert len(SNIPPETS) == len(blocks(dependencies.PAGE))
    assert set(APPS) < set(SNIPPETS)


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name not in APPS])
def test_daprd_serves_right_token_and_refuses_wrong_one(name: str, daprd: Sidecar, tmp_path: Path) -> None:
    command = _command(SNIPPETS[name], tmp_path)

    served, refused = (
        subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **daprd.env, "DAPR_API_TOKEN": token},
            capture_output=True,
            text=True,
            check=False,
        )
        for token in (MARKER, OTHER)
    )

    assert served.returncode == 0, served.stderr
    assert "shop" in served.stdout
    assert served.stdout.count("1.16.0") >= 1
    assert refused.returncode != 0
    assert any(word in refused.stdout + refused.stderr for word in REFUSED)
    assert "marker" not in served.stdout + served.stderr + refused.stdout + refused.stderr


def _command(snippet: Block, folder: Path) -> list[str]:
    """Return the command of an example, with its dependencies installed next to it."""
    match snippet.language:
        case "bash":
            if snippet.about == "grpcurl":
                (folder / "grpcurl").symlink_to(binaries.resolve(binaries.GRPCURL))
            return ["bash", "-euc", f'PATH="$PWD:$PATH"\n{snippet.text}']
        case "python":
            return [sys.executable, "-c", snippet.text]
        case "go":
            return [str(dependencies.go_program(folder, snippet))]
        case "javascript":
            (folder / "node_modules").symlink_to(dependencies.node_modules())
            (folder / "call.mjs").write_text(snippet.text)
            return ["node", "call.mjs"]
        case _:
            raise AssertionError(f"no way to run {snippet.language}")


# --- the app's own check ---


def test_fastapi_app_serves_only_daprd(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "app.py").write_text(SNIPPETS["fastapi"].text)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]

    with (
        _app(tmp_path, command, {"PYTHONPATH": str(tmp_path)}) as app,
        sidecar(tmp_path / "a", *_app_flags(port, "http"), env={"APP_API_TOKEN": MARKER}) as right,
        sidecar(tmp_path / "b", *_app_flags(port, "http"), env={"APP_API_TOKEN": OTHER}) as wrong,
        sidecar(tmp_path / "c", *_app_flags(port, "http")) as without,
    ):
        answers = [_answer_of_the_app(one, app) for one in (right, wrong, without)]

        assert answers[0] == (200, b'["one"]')
        assert [status for status, _ in answers[1:]] == [401, 401]
        assert get(port, "/orders", {})[0] == 401
        assert get(port, "/orders", {"dapr-api-token": OTHER})[0] == 401
        assert get(port, "/orders", {"dapr-api-token": "\xfc"})[0] == 401
        assert get(port, "/no-such-route", {"dapr-api-token": MARKER})[0] == 404
        assert "marker" not in app.log()


def test_grpc_app_serves_only_daprd(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "app.py").write_text(SNIPPETS["grpc-interceptor"].text)

    with (
        _app(tmp_path, [sys.executable, str(tmp_path / "app.py")], {"APP_PORT": str(port)}) as app,
        sidecar(tmp_path / "a", *_app_flags(port, "grpc"), env={"APP_API_TOKEN": MARKER}) as right,
        sidecar(tmp_path / "b", *_app_flags(port, "grpc"), env={"APP_API_TOKEN": OTHER}) as wrong,
        sidecar(tmp_path / "c", *_app_flags(port, "grpc")) as without,
    ):
        answers = [_answer_of_the_app(one, app) for one in (right, wrong, without)]

        assert answers[0][0] == 200
        for status, body in answers[1:]:
            assert status == 401
            assert b"not from Dapr" in body
        assert "marker" not in app.log()


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("env", [{}, {"APP_API_TOKEN": ""}], ids=["missing", "empty"])
def test_app_without_token_does_not_start(name: str, env: dict[str, str]) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "APP_API_TOKEN"}

    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[name].text], env={**clean, **env}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "APP_API_TOKEN" in done.stderr


def _app(folder: Path, command: list[str], env: dict[str, str]) -> ManagedProcess:
    return ManagedProcess.start("app", command, log_path=folder / "app.log", env={"APP_API_TOKEN": MARKER, **env})


def _app_flags(port: int, protocol: str) -> list[str]:
    return ["--app-port", str(port), "--app-protocol", protocol]


def _answer_of_the_app(through: Sidecar, app: ManagedProcess) -> tuple[int, bytes]:
    """What the app says through a sidecar, which is ready before it has reached the app and says 5xx until then."""

    def probe() -> tuple[int, bytes] | None:
        status, body = through.get("/v1.0/invoke/shop/method/orders")
        return None if status >= 500 else (status, body)

    return wait_for("an answer of the app", probe, timeout_seconds=180, describe=app.log)
