"""`inject`, `uninject` and `explain` from outside: outputs, exit codes, files in place, bad input."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.offline.commands import run

if TYPE_CHECKING:
    from pathlib import Path

DEPLOYMENT = """\
# Orders
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders
spec:
  template:
    metadata:
      annotations:
        dapr.io/enabled: "true"
        dapr.io/api-token-secret: dapr-api-token
    spec:
      containers:
        - name: daprd
          image: daprio/daprd
"""
WITHOUT = DEPLOYMENT.replace("name: daprd", "name: web")
DENIED = DEPLOYMENT.replace("dapr-api-token", "My_Secret")
PLAIN = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}"
CHANGED = DEPLOYMENT.replace(
    "token-secret: dapr-api-token\n",
    "token-secret: dapr-api-token\n"
    """        dapr-token-injector/status: '{"v":1,"injected":[{"container":"daprd","env":"DAPR_API_TOKEN","name":"""
    """"dapr-api-token","key":"token"}]}'\n""",
) + (
    "          env:\n            - name: DAPR_API_TOKEN\n              valueFrom:\n                secretKeyRef:\n"
    "                  name: dapr-api-token\n                  key: token\n"
)


def test_inject_reads_stdin_and_writes_stdout() -> None:
    output = run("inject", stdin=DEPLOYMENT.encode())
    assert (output.code, output.out.decode()) == (0, CHANGED)
    assert output.err == "1 file, 1 document, 1 Pod template; 1 file to change\n  inject   injected       1\n"
    assert run("inject", "-q", "-f", "-", stdin=DEPLOYMENT.encode()).err == ""
    assert run("uninject", "-q", stdin=output.out).out.decode() == DEPLOYMENT


def test_object_without_template_is_not_modified() -> None:
    text = b"\xef\xbb\xbf# c\r\n---\r\na:   [ 1 ,2]   # c\r\n...\r\n---\r\n" + PLAIN.encode()
    assert run("inject", stdin=text).out == text
    assert run("uninject", stdin=text).out == text


def test_several_files_become_one_stream(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PLAIN)
    (tmp_path / "b.yaml").write_text("---\n" + PLAIN + "\n")
    (tmp_path / "c.yml").write_text("\ufeff" + PLAIN + "\n")
    (tmp_path / "d.json").write_text('{"a": 1}\n')
    (tmp_path / "e.txt").write_text("{{ not read")
    expected = f"{PLAIN}\n---\n{PLAIN}\n---\n{PLAIN}\n---\n" + '{"a": 1}\n'
    assert run("inject", "-f", tmp_path).out.decode() == expected


def test_json_has_one_document_per_line() -> None:
    output = run("inject", "-o", "json", stdin=(DEPLOYMENT + "---\n# none\n---\n" + PLAIN).encode())
    first, second = map(json.loads, output.out.splitlines())
    assert first["spec"]["template"]["spec"]["containers"][0]["env"][0]["name"] == "DAPR_API_TOKEN"
    assert second == {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}}


def test_json_output_takes_layout_that_text_output_refuses() -> None:
    text = DEPLOYMENT + "          env: []\n"
    refused = run("inject", stdin=text.encode())
    assert (refused.code, refused.out) == (2, b"")
    assert "<stdin>:16: document 1: env is empty, and uninject could not restore it; remove it here" in refused.err
    output = run("inject", "-o", "json", stdin=text.encode())
    assert output.code == 0
    (container,) = json.loads(output.out)["spec"]["template"]["spec"]["containers"]
    assert [entry["name"] for entry in container["env"]] == ["DAPR_API_TOKEN"]


def test_diff_is_plain_in_a_pipe_and_applies(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"---\n{PLAIN}\n---\n{DEPLOYMENT}---\n{PLAIN}\n")
    (tmp_path / "b.yaml").write_text(PLAIN)
    output = run("inject", "-f", "a.yaml", "-f", "b.yaml", "-o", "diff", cwd=tmp_path)
    assert output.out.startswith(b"--- a/a.yaml\n+++ b/a.yaml\n@@ ")
    assert b"\x1b" not in output.out
    assert b"b.yaml" not in output.out.replace(b"b/a.yaml", b"")
    subprocess.run(["git", "apply", "-"], input=output.out, cwd=tmp_path, check=True)
    assert (tmp_path / "a.yaml").read_text() == f"---\n{PLAIN}\n---\n{CHANGED}---\n{PLAIN}\n"


def on_terminal(*arguments: str, cwd: Path, **env: str) -> str:
    """What a person sees."""
    main, side = pty.openpty()
    environment = {**{key: value for key, value in os.environ.items() if key != "NO_COLOR"}, "TERM": "xterm", **env}
    child = subprocess.Popen(
        [sys.executable, "-m", "injector", *arguments], cwd=cwd, stdin=side, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    seen = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not block:
            break
        seen += block
    os.close(main)
    child.wait()
    return seen.decode()


def test_terminal_gets_colours_unless_no_color_is_set(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(DEPLOYMENT)
    assert "\x1b[32m+" in on_terminal("inject", "-f", "a.yaml", "-o", "diff", cwd=tmp_path)
    assert "\x1b[" not in on_terminal("inject", "-f", "a.yaml", "-o", "diff", cwd=tmp_path, NO_COLOR="1")
    assert "\x1b[1m" in on_terminal("explain", "-f", "a.yaml", cwd=tmp_path)


def test_terminal_without_files_is_a_usage_error(tmp_path: Path) -> None:
    for command in ("inject", "uninject", "explain"):
        assert "nothing to read" in on_terminal(command, cwd=tmp_path)


def test_folder_shows_progress_on_a_terminal_and_ends_with_a_summary(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i:02}.yaml").write_text((DEPLOYMENT, WITHOUT, PLAIN, DENIED)[i % 4])
    seen = on_terminal("inject", "-f", ".", "--in-place", cwd=tmp_path)
    assert "10 of 40 files" in seen
    assert "40 files, 40 documents, 30 Pod templates; 10 files changed" in seen
    assert ["deny", "invalid-secret-name", "10"] in [line.split() for line in seen.splitlines()]


def test_workload_without_sidecar_gets_a_note() -> None:
    output = run("inject", stdin=WITHOUT.encode())
    assert (output.code, output.out.decode()) == (0, WITHOUT)
    assert "<stdin>:7: Deployment/orders: no container daprd in the template: Dapr adds it at admission" in output.err


def test_denial_is_a_finding() -> None:
    output = run("inject", stdin=DENIED.encode())
    assert (output.code, output.out.decode()) == (1, DENIED)
    assert "Deployment/orders: denied: annotation dapr.io/api-token-secret" in output.err


def test_warnings_have_a_place() -> None:
    text = DEPLOYMENT.replace("metadata:\n  name", "metadata:\n  annotations: {dapr.io/api-token-secret: s}\n  name", 1)
    text = text.replace("        dapr.io/api-token-secret: dapr-api-token\n", "")
    output = run("inject", stdin=text.encode())
    assert (
        "<stdin>:8: Deployment/orders: warning: dapr.io/api-token-secret is on the Deployment and not on" in output.err
    )


# --- in place ---


def test_in_place_keeps_mode_links_and_untouched_files(tmp_path: Path) -> None:
    file, plain = tmp_path / "a.yaml", tmp_path / "plain.yaml"
    file.write_text(DEPLOYMENT)
    plain.write_text(PLAIN)
    file.chmod(0o640)
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    before = (plain.stat().st_ino, plain.stat().st_mtime_ns)
    output = run("inject", "-f", tmp_path / "link.yaml", "-f", plain, "--in-place", "-o", "diff")
    assert (output.code, file.read_text()) == (0, CHANGED)
    assert output.out.startswith(b"--- a/")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (tmp_path / "link.yaml").is_symlink()
    assert (plain.stat().st_ino, plain.stat().st_mtime_ns) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "link.yaml", "plain.yaml"]
    assert run("uninject", "-f", file, "--in-place").code == 0
    assert file.read_text() == DEPLOYMENT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_in_place_keeps_the_owner(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(DEPLOYMENT)
    os.chown(file, 12345, 23456)
    assert run("inject", "-f", file, "--in-place").code == 0
    assert (file.stat().st_uid, file.stat().st_gid, file.read_text()) == (12345, 23456, CHANGED)


def test_in_place_never_leaves_half_a_file(tmp_path: Path) -> None:
    file, good = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_text(f"{DEPLOYMENT}---\na: {{{{ .x }}}}\n---\n{DEPLOYMENT}---\n[\n")
    good.write_text(DEPLOYMENT)
    before = file.read_bytes()
    output = run("inject", "-f", tmp_path, "--in-place")
    assert output.code == 2
    assert file.read_bytes() == before
    assert good.read_text() == CHANGED
    errors = [line for line in output.err.splitlines() if line.startswith("Error")]
    assert [line.split(": ")[1:3] for line in errors] == [[f"{file}:17", "document 2"], [f"{file}:35", "document 4"]]
    assert "1 file changed; 1 file not done" in output.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inject", "--in-place"), "standard input cannot be changed in place"),
        (("inject", "--in-place", "-f", "x", "-o", "yaml"), "--in-place cannot be combined with -o yaml; use -o diff"),
        (("inject", "-o", "text"), "is not one of"),
        (("inject", "--use-default-secret"), "needs a --policy-file with defaultSecret"),
        (("inject", "--policy-file", "/nowhere"), "cannot be read"),
        (("explain", "-f", "/nowhere"), "no such file"),
    ],
)
def test_usage_error_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    output = run(*arguments)
    assert (output.code, output.out) == (2, b"")
    assert words in output.err
    assert "Traceback" not in output.err


def test_each_invalid_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"a: \x00\x01")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    (tmp_path / "good.yaml").write_text(DEPLOYMENT)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    output = run("inject", "-f", tmp_path)
    assert (output.code, output.out.decode()) == (2, CHANGED)
    errors = sorted(line.split("/")[-1] for line in output.err.splitlines() if line.startswith("Error"))
    assert [line.split(":")[0] for line in errors] == ["binary.yaml", "large.yaml", "latin.yaml", "loop.yaml", "up"]


@pytest.mark.parametrize("command", ["inject", "uninject", "explain", "lint"])
def test_every_command_refuses_strategic_merge_patch(command: str, tmp_path: Path) -> None:
    """Kustomize merges the entry of `inject` with that of the base, into one that the API server rejects."""
    text = DEPLOYMENT + "          env:\n            - name: DAPR_API_TOKEN\n              $patch: delete\n"
    patch = tmp_path / "patch.yaml"
    patch.write_text(text)
    output = run(command, patch, *(["--in-place"] if command.endswith("inject") else []))
    assert (output.code, patch.read_text()) == (2, text)
    assert (
        f"Error: {patch}:18: document 1: a strategic merge patch ($patch) is not a whole object; render" in output.err
    )
    assert b"DTI" not in output.out
    assert run(command, "-", stdin=text.encode()).code == 2


def test_policy_is_that_of_the_webhook(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("defaultSecret: d\n")
    text = DEPLOYMENT.replace("        dapr.io/api-token-secret: dapr-api-token\n", "")
    assert run("inject", "--policy-file", policy, stdin=text.encode()).out == text.encode()
    output = run("inject", "--policy-file", policy, "--use-default-secret", stdin=text.encode())
    assert b"name: d\n" in output.out
    policy.write_text("shadow: true\n")
    shadow = run("inject", "--policy-file", policy, stdin=DEPLOYMENT.encode())
    assert (shadow.code, shadow.out.decode()) == (0, DEPLOYMENT)
    assert "would-inject" in shadow.err


# --- uninject and explain ---


def test_uninject_reports_entries_that_stay() -> None:
    changed = CHANGED.replace("key: token\n", "key: other\n")
    assert (
        "DAPR_API_TOKEN of container daprd stays: it was changed since" in run("uninject", stdin=changed.encode()).err
    )
    bad = CHANGED.replace('{"v":1', '{"v":9')
    output = run("uninject", stdin=bad.encode())
    assert (output.code, output.out.decode()) == (0, bad)
    assert "not a record of inject" in output.err


def test_explain_prints_a_table() -> None:
    output = run("explain", stdin=(DEPLOYMENT + "---\n" + DENIED).encode())
    lines = output.out.decode().splitlines()
    assert output.code == 0
    assert lines[0] == "<stdin>:7: Deployment/orders, spec.template"
    assert lines[1].split() == ["RULE", "LOOKED", "AT", "OUTCOME"]
    assert any(line.startswith("  decision") and "(injected)" in line for line in lines)
    assert "(invalid-secret-name)" in output.out.decode()
    assert max(map(len, lines)) <= 80


def test_explain_prints_json() -> None:
    (output,) = map(json.loads, run("explain", "-o", "json", stdin=DEPLOYMENT.encode()).out.splitlines())
    assert (output["object"], output["path"], output["line"]) == ("Deployment/orders", "spec.template", 7)
    assert (output["decision"], output["reason"]) == ("inject", "injected")
    assert output["rules"][0]["rule"] == "uses-dapr"


def test_explain_shows_the_namespace() -> None:
    items = [{"metadata": {"name": "web", "namespace": namespace}} for namespace in ("shop", "bank")]
    pods = [{"apiVersion": "v1", "kind": "Pod", **item, "spec": {"containers": [{"name": "a"}]}} for item in items]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}).encode()
    table = run("explain", stdin=text).out.decode()
    assert "<stdin>:1: Pod/web, namespace shop, items.0\n" in table
    assert "<stdin>:1: Pod/web, namespace bank, items.1\n" in table
    found = map(json.loads, run("explain", "-o", "json", stdin=text).out.splitlines())
    assert [one["namespace"] for one in found] == ["shop", "bank"]
    assert b'"namespace":""' in run("explain", "-o", "json", stdin=DEPLOYMENT.encode()).out


def test_explain_continues_after_invalid_document() -> None:
    bad = DEPLOYMENT.replace('"true"', "true")
    output = run("explain", stdin=f"[\n---\n{bad}---\n{DEPLOYMENT}".encode())
    assert output.code == 2
    assert "document 2: the annotation dapr.io/enabled is a boolean" in output.err
    assert b"(injected)" in output.out
    assert "no Pod template found" in run("explain", stdin=PLAIN.encode()).err


UNQUOTED = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: basket
  annotations: {dapr.io/enabled: true, dapr.io/api-token-secret: dapr-api-token, example.com/port: 1}
spec:
  template:
    metadata:
      annotations: {dapr.io/app-port: 8080, dapr.io/log-as-json: true, dapr.io/config: [a]}
    spec:
      containers: [{name: basket}]
"""


@pytest.mark.parametrize("command", ["inject", "explain"])
def test_unquoted_annotation_is_a_warning_and_hides_no_other(command: str) -> None:
    output = run(command, stdin=UNQUOTED.encode())
    assert output.code == 0
    text = output.out.decode() + output.err
    misplaced = "dapr.io/api-token-secret is on the Deployment and not on its Pod template: the Pods will not have it"
    assert [line.partition("warning: ")[2] for line in text.splitlines() if "warning: " in line] == [
        '"dapr.io/enabled" of the Deployment is a boolean; put it into quotes',
        '"dapr.io/app-port" of the Pod template is a number; put it into quotes',
        '"dapr.io/log-as-json" of the Pod template is a boolean; put it into quotes',
        '"dapr.io/config" of the Pod template is a collection; put it into quotes',
        misplaced,
    ]


def test_unquoted_annotation_of_pod_is_a_warning() -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {dapr.io/app-port: 8080}}\nspec: {containers: []}\n"
    assert (
        'warning: "dapr.io/app-port" of the Pod is a number; put it into quotes'
        in run("explain", stdin=pod.encode()).out.decode()
    )


def test_warnings_are_below_the_table() -> None:
    text = DEPLOYMENT.replace(
        "        dapr.io/enabled", "        dapr.io/env: DAPR_API_TOKEN=x\n        dapr.io/enabled"
    )
    assert b"  warning: dapr.io/env sets DAPR_API_TOKEN in clear text" in run("explain", stdin=text.encode()).out


# --- help, completion, start-up ---


@pytest.mark.parametrize("command", ["inject", "uninject", "explain"])
def test_help_fits_80_columns(command: str) -> None:
    output = run(command, "--help")
    lines = output.out.decode().splitlines()
    assert output.code == 0
    assert max(map(len, lines)) <= 80
    assert "\\b" not in output.out.decode()
    assert any(line.strip().startswith("Exit codes: 0 fine") for line in lines)
    assert command in run("--help").out.decode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_choices(shell: str) -> None:
    script = run("completion", shell).out.decode()
    assert "_DAPR_TOKEN_INJECTOR_COMPLETE" in script

    def completed(*words: str) -> str:
        typed = " ".join(("dapr-token-injector", *words))
        env = {"_DAPR_TOKEN_INJECTOR_COMPLETE": f"{shell}_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words))}
        if shell == "fish":
            env["COMP_CWORD"] = words[-1]
        # The console script's name decides the variable's; `python -m` has the same entry point.
        return run(env=env).out.decode()

    assert "uninject" in completed("unin")
    assert "--in-place" in completed("inject", "--in")
    assert "diff" in completed("inject", "-o", "di")


def test_offline_commands_import_no_server_and_no_client() -> None:
    code = (
        "import sys; from injector.cli.main import main\n"
        "for command in ('inject', 'uninject', 'explain'): main([command, '-f', '/dev/null'])\n"
        "unwanted = ('kubernetes', 'fastapi', 'uvicorn', 'cryptography', 'asyncio')\n"
        "print([name for name in unwanted if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
