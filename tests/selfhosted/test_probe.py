"""`probe` and `run` with the real daprd."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.controlplane import binaries
from tests.controlplane.netns import NODE_ADDRESS, network_namespace, reason_unavailable
from tests.controlplane.polling import wait_for
from tests.controlplane.requirement import require
from tests.selfhosted.running import COMMAND, MARKER, OTHER, probed, secret
from tests.selfhosted.sidecar import Ports, Sidecar, get, is_up, sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("closed")
    with sidecar(folder, "--enable-profiling", env={"DAPR_API_TOKEN": MARKER}) as running:
        yield running


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(tmp_path_factory.mktemp("open")) as running:
        yield running


def answers(target: dict[str, Any]) -> list[str]:
    (port,) = target["ports"]
    return [port["without"], port["wrong"], port["right"]]


def test_closed_sidecar_refuses_two_calls_and_serves_one(closed: Sidecar) -> None:
    code, targets, message = probed(*closed.ports.targets, token=MARKER)

    assert [answers(target) for target in targets] == [["refused", "refused", "served"]] * 2
    assert [(target["verdict"], target["findings"]) for target in targets] == [("closed", [])] * 2
    assert (code, message) == (0, "")


def test_closed_sidecar_is_closed_without_a_token_to_try(closed: Sidecar) -> None:
    code, targets, _ = probed(*closed.ports.targets)

    assert [answers(target) for target in targets] == [["refused", "refused", "-"]] * 2
    assert [target["ports"][0]["skippedReason"] for target in targets] == ["no token was given"] * 2
    assert code == 0


def test_open_sidecar_is_reported_with_meaning_and_remedy(unguarded: Sidecar) -> None:
    code, targets, _ = probed(*unguarded.ports.targets, token=MARKER)

    assert [answers(target) for target in targets] == [["served", "served", "-"]] * 2
    for target, port in zip(targets, (unguarded.ports.http, unguarded.ports.grpc), strict=True):
        (finding,) = target["findings"]
        assert (finding["finding"], finding["where"]) == ("enforcement-off", f"port {port}")
        assert "daprd demands no token" in finding["meaning"]
        assert "DAPR_API_TOKEN" in finding["remedy"]
    assert code == 1


def test_sidecar_with_another_token_is_reported(closed: Sidecar) -> None:
    code, targets, _ = probed(*closed.ports.targets, token=OTHER)

    assert [answers(target) for target in targets] == [["refused", "refused", "refused"]] * 2
    assert [target["findings"][0]["finding"] for target in targets] == ["right-token-refused"] * 2
    assert code == 1


def test_public_port_is_distinguished_from_open_api(closed: Sidecar) -> None:
    code, targets, _ = probed(f"http://127.0.0.1:{closed.ports.public}")

    assert [finding["finding"] for finding in targets[0]["findings"]] == ["metadata-port"]
    assert code == 1
    assert probed(f"http://127.0.0.1:{closed.ports.public}", "--accept", "metadata-port")[0] == 0


def test_public_port_takes_attributes_from_anyone(closed: Sidecar) -> None:
    """The advice says so."""
    done = subprocess.run(
        ["curl", "-s", "-X", "PUT", f"127.0.0.1:{closed.ports.public}/v1.0/metadata/by", "-d", "anyone"], check=False
    )

    assert done.returncode == 0
    assert b'"by":"anyone"' in get(closed.ports.public, "/v1.0/metadata", {})[1]


@pytest.mark.parametrize("port", ["metrics", "profile", "internal"])
def test_other_ports_are_not_the_api(closed: Sidecar, port: str) -> None:
    at = getattr(closed.ports, port)

    code, targets, _ = probed(f"http://127.0.0.1:{at}", f"grpc://127.0.0.1:{at}", token=MARKER)

    assert code == 2
    assert [target["verdict"] for target in targets] == ["unknown"] * 2
    assert all("failure" in target["ports"][0] for target in targets)


def test_health_endpoint_does_not_show_whether_token_is_required(unguarded: Sidecar, closed: Sidecar) -> None:
    """This is why `probe` requests metadata."""
    assert unguarded.get("/v1.0/healthz")[0] == closed.get("/v1.0/healthz")[0] == 204


def test_address_beyond_loopback_is_reported(tmp_path: Path) -> None:
    require(reason_unavailable())

    with network_namespace([NODE_ADDRESS]) as network, network.entered():
        listening = ("--dapr-listen-addresses", f"127.0.0.1,{NODE_ADDRESS}")
        with sidecar(tmp_path, *listening, env={"DAPR_API_TOKEN": MARKER}) as wide:
            targets = [f"http://{NODE_ADDRESS}:{wide.ports.http}", f"grpc://{NODE_ADDRESS}:{wide.ports.grpc}"]
            code, found, _ = probed(*targets, *wide.ports.targets, token=MARKER)

    assert code == 1
    assert [[one["finding"] for one in target["findings"]] for target in found] == [["listen-address"]] * 2 + [[]] * 2
    assert [answers(target) for target in found] == [["refused", "refused", "served"]] * 4


def test_http_allow_list_without_metadata_is_closed(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: few}\n"
        "spec: {api: {allowed: [{name: state, version: v1.0, protocol: http}, "
        "{name: state, version: v1, protocol: grpc}]}}\n"
    )

    with sidecar(tmp_path, "--config", str(config), env={"DAPR_API_TOKEN": MARKER}) as few:
        code, found, _ = probed(*few.ports.targets, token=MARKER)

    assert answers(found[0])[:2] == ["refused", "refused"]
    assert found[1]["ports"][0]["failure"].endswith("its list of allowed APIs does not include metadata")
    assert code == 2


def test_open_api_with_allow_list_is_not_the_public_port(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: few}\n"
        "spec: {api: {allowed: [{name: state, version: v1.0, protocol: http}, "
        "{name: metadata, version: v1.0, protocol: http}]}}\n"
    )

    with sidecar(tmp_path, "--config", str(config)) as few:
        accept = ("--accept", "metadata-port")
        _, (api,), _ = probed(f"http://127.0.0.1:{few.ports.http}", *accept)
        _, (public,), _ = probed(f"http://127.0.0.1:{few.ports.public}", *accept)

    assert [(found["finding"], api["verdict"]) for found in api["findings"]] == [("enforcement-off", "open")]
    assert [(found["finding"], public["verdict"]) for found in public["findings"]] == [("metadata-port", "closed")]


def test_probe_ignores_proxy_variables(closed: Sidecar) -> None:
    proxy = "http://127.0.0.1:1"
    names = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")

    code, _, _ = probed(*closed.ports.targets, token=MARKER, env=dict.fromkeys(names, proxy))

    assert code == 0


def test_grpc_tracing_does_not_log_the_token(closed: Sidecar) -> None:
    code, _, message = probed(
        *closed.ports.targets, token=MARKER, env={"GRPC_TRACE": "all,http", "GRPC_VERBOSITY": "debug"}
    )

    assert (code, message) == (0, "")


def test_table_shows_findings(closed: Sidecar) -> None:
    done = subprocess.run(
        [*COMMAND, "probe", *closed.ports.targets, f"http://127.0.0.1:{closed.ports.public}", "--token-stdin"],
        input=MARKER,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["TARGET", "PORT", "FOR", "NO", "TOKEN", "WRONG", "RIGHT", "VERDICT"]
    assert lines[1].split()[1:] == [str(closed.ports.http), "http", "refused", "refused", "served", "closed"]
    assert lines[2].split()[1:] == [str(closed.ports.grpc), "grpc", "refused", "refused", "served", "closed"]
    assert lines[3].split()[1:] == [str(closed.ports.public), "public", "served", "served", "-", "open"]
    assert any(line.strip().startswith("metadata-port: port") for line in lines)
    assert done.stderr == "3 targets: 2 closed, 1 open, 0 unknown\n"


# --- run ---


def test_run_closes_daprd_and_opens_it_to_the_app(tmp_path: Path) -> None:
    token = secret(tmp_path / "token", MARKER)
    ports = Ports()
    daprd = str(binaries.resolve(binaries.DAPRD))
    command = [*COMMAND, "run", "--token-file", str(token), "--", daprd, *ports.flags(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for("daprd", lambda: is_up(ports.http), timeout_seconds=180, describe=(tmp_path / "log").read_text)
        code, targets, _ = probed(*ports.targets, "--token-file", token)
        app = subprocess.run(
            [*COMMAND, "run", "--token-file", str(token), "--", "sh", "-c",
             f'curl -sf -o /dev/null -H "dapr-api-token: $DAPR_API_TOKEN" 127.0.0.1:{ports.http}/v1.0/metadata'],
            check=False,
        )  # fmt: skip
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)

    assert (code, [target["verdict"] for target in targets]) == (0, ["closed", "closed"])
    assert app.returncode == 0
    assert shown.startswith(daprd)  # run has become daprd
    assert MARKER not in shown
    assert MARKER not in (tmp_path / "log").read_text()


def test_rotation_is_a_new_file_and_a_restart(tmp_path: Path) -> None:
    token = secret(tmp_path / "token", MARKER)
    ports = Ports()
    command = [
        *(*COMMAND, "run", "--token-file", str(token), "--restart-on-change", "--check-every", "0.1"),
        *("--", str(binaries.resolve(binaries.DAPRD)), *ports.flags(tmp_path)),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for("daprd", lambda: is_up(ports.http), timeout_seconds=180, describe=(tmp_path / "log").read_text)
        assert probed(*ports.targets, token=MARKER)[0] == 0
        secret(token, OTHER)
        wait_for(
            "the new token", lambda: _serves(ports, OTHER), timeout_seconds=180, describe=(tmp_path / "log").read_text
        )
        code, targets, _ = probed(*ports.targets, token=OTHER)
        old, _, _ = probed(*ports.targets, token=MARKER)
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)

    assert (code, [target["verdict"] for target in targets]) == (0, ["closed", "closed"])
    assert old == 1
    assert "marker" not in (tmp_path / "log").read_text()


def _serves(ports: Ports, token: str) -> bool:
    try:
        return get(ports.http, "/v1.0/metadata", {"dapr-api-token": token})[0] == 200
    except OSError:
        return False
