"""A command connects once: each connection runs the user's credential plugin, which may take seconds."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import main
from tests.fake_cluster.server import ApiServer
from tests.unit.cli.objects import deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN: Final = """
import json, sys
with open(sys.argv[1], "a") as log:
    log.write("called\\n")
credential = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "t"}}
print(json.dumps(credential))
"""


@pytest.mark.parametrize(
    "command",
    [
        ("create", "shop/new"),
        ("create", "shop/new", "--signing-key", "secret:shop/keys", "--create-key"),
        ("rotate", "shop/s", "--restart"),
        ("rotate", "shop/s", "--signing-key", "secret:shop/keys", "--create-key"),
        ("revoke", "shop/s", "--dry-run"),
        ("list",),
    ],
    ids=" ".join,
)
def test_secret_command_runs_the_credential_plugin_once(tmp_path: Path, command: tuple[str, ...]) -> None:
    calls, plugin = tmp_path / "calls", tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    with ApiServer(folder=tmp_path) as server:
        server.put("namespaces", namespace("shop"))
        server.put("secrets", secret("s"))
        for plural, item in (
            ("pods", pod("web")),
            ("replicasets", replica_set("web")),
            ("deployments", deployment("web")),
        ):
            server.put(plural, item)
        kubeconfig = json.loads(server.kubeconfig.read_text())
        exec_ = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(plugin), str(calls)],
            "interactiveMode": "Never",
        }
        kubeconfig["users"] = [{"name": "u", "user": {"exec": exec_}}]
        kubeconfig["contexts"][0]["context"]["user"] = "u"
        server.kubeconfig.write_text(json.dumps(kubeconfig))

        code = main(["secret", *command, "--kubeconfig", str(server.kubeconfig)])

    assert code in {0, 1}
    assert calls.read_text() == "called\n"
