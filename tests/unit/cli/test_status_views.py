"""`status KIND/NAME` and `status secret/NAME` against a stand-in for an API server."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from injector.cli.status.advice import REMEDIES, StatusProblem, advice
from injector.core.assessment import (
    Assessment,
    ContainerFinding,
    Currency,
    PodFinding,
    Protection,
    ProtectionReason,
    Severity,
)
from injector.core.ownership import SecretKey
from injector.core.token_state import Ref
from injector.rotation.status import AssessedPod
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.objects import SHOP, controlled_by, deployment, pod, put_outdated_workload, secret
from tests.unit.cli.output_page import OutputPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
PAGE: Final = OutputPage("status-output.md")
WAITS: Final = {"reason": "CreateContainerConfigError", "message": 'secret "none" not found'}


def event(name: str, kind: str, about: str, message: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    found = {"type": "Warning", "reason": "Failed", "message": message, "lastTimestamp": "2026-01-01T00:00:00Z"}
    meta = {"namespace": SHOP, "name": name}
    return {"metadata": meta, "involvedObject": {"kind": kind, "name": about}, **found, **more}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """A Deployment of two Pods that read one Secret, and a Pod that waits for another one."""
    with ApiServer(folder=tmp_path) as server:
        put_outdated_workload(server)
        made = pod("waits", owner=False, secret="none")
        made["spec"]["containers"].append({"name": "app", "env": made["spec"]["containers"][0]["env"]})
        made["status"] = {"containerStatuses": [{"name": "daprd", "state": {"waiting": WAITS}}]}
        server.put("pods", made)
        yield server


def shown(api: ApiServer, capsys: Capture, *arguments: str, within: str = SHOP) -> tuple[int, str, str]:
    code = main(["status", "-n", within, "--kubeconfig", str(api.kubeconfig), *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


# --- KIND/NAME ---


@pytest.mark.parametrize("target", ["deployment/web", "deploy/web", "Deployments/web", "rs/web-1"])
def test_workload_has_a_line_for_each_container(target: str, api: ApiServer, capsys: Capture) -> None:
    code, out, error = shown(api, capsys, target)

    lines = out.splitlines()
    assert (code, error) == (0, "")
    assert [line.split() for line in lines[:3]] == [
        ["POD", "CONTAINER", "PROTECTION", "REASON", "CURRENCY", "FINDINGS"],
        ["web-1-1", "daprd", "protected", "reference", "outdated", "exposed"],
        ["web-1-2", "daprd", "protected", "reference", "outdated", "exposed"],
    ]
    assert "    kubectl rollout restart deployment/web -n shop" in lines
    assert lines[-1] == "2 Dapr Pods in 1 namespace: 2 protected (2 outdated)"
    assert shown(api, capsys, target, "--fail-on", "outdated")[0] == 1


def test_each_container_has_its_own_currency(api: ApiServer, capsys: Capture) -> None:
    made = pod("skew", owner=False)
    made["spec"]["containers"].append({"name": "app", "env": made["spec"]["containers"][0]["env"]})
    made["status"]["containerStatuses"].append(
        {"name": "app", "state": {"running": {"startedAt": "2026-02-01T00:00:00Z"}}}
    )
    api.put("pods", made)

    code, out, _ = shown(api, capsys, "pod/skew-1-1", "-o", "json", "--fail-on", "skewed")

    found = json.loads(out)
    PAGE.check("status KIND/NAME", {"pods": [{"containers": found["pods"][0].pop("containers")}]})
    assert code == 1
    out = shown(api, capsys, "pod/skew-1-1")[1]
    assert [line.split()[-4:] for line in out.splitlines()[1:3]] == [
        ["protected", "reference", "outdated", "exposed"],
        ["-", "-", "current", "-"],
    ]


def test_pod_may_have_ended_or_not_use_dapr(api: ApiServer, capsys: Capture) -> None:
    made = pod("plain", owner=False)
    made["spec"] = {"containers": [{"name": "app"}]}
    api.put("pods", made)

    code, out, _ = shown(api, capsys, "po/plain-1-1")

    assert (code, out.splitlines()[1].split()) == (0, ["plain-1-1", "-", "not-applicable", "no-dapr", "-", "-"])


def test_same_kind_of_another_group_is_another_workload(api: ApiServer, capsys: Capture) -> None:
    made = pod("web", 3)
    owner = {**controlled_by("Deployment", "web"), "apiVersion": "apps.example.com/v1"}
    made["metadata"]["ownerReferences"] = [owner]
    api.put("pods", made)

    assert "web-1-3" not in shown(api, capsys, "deployment/web")[1]
    for target in ("deployment.apps.example.com/web", "Deployment.apps.example.com/web"):
        out = shown(api, capsys, target)[1]
        assert out.splitlines()[1].split()[0] == "web-1-3"
        assert "    kubectl delete pod/web-1-3 -n shop" in out.splitlines()
    assert "deployment.apps.example.com/web" in shown(api, capsys)[1]


def test_static_pod_is_its_own_workload(api: ApiServer, capsys: Capture) -> None:
    made = pod("static")
    made["metadata"]["ownerReferences"] = [{**controlled_by("Node", "node"), "apiVersion": "v1"}]
    api.put("pods", made)

    assert "pod/static-1-1" in shown(api, capsys)[1]


def test_workload_without_dapr_is_one_line(api: ApiServer, capsys: Capture) -> None:
    api.put("deployments", deployment("plain"))

    assert shown(api, capsys, "deployment/plain") == (0, "No Pod of deployment/plain uses Dapr.\n", "")


@pytest.mark.parametrize("target", ["deployment/none", "secret/absent", "pod/none"])
def test_object_that_does_not_exist_is_an_error(target: str, api: ApiServer, capsys: Capture) -> None:
    code, out, error = shown(api, capsys, target)

    assert (code, out) == (2, "")
    assert f"/{target.partition('/')[2]} in namespace shop: not found" in error
    assert "check the spelling" in error


def test_unreadable_workload_without_pods_is_unknown(api: ApiServer, capsys: Capture) -> None:
    message = 'is forbidden: User "x" cannot get resource'
    api.refusals.append(Refusal("GET .*/(deployments|replicasets)", 403, f"deployments {message}", "Forbidden"))

    code, out, error = shown(api, capsys, "deployment/web")

    assert (code, out) == (2, "No Pod of deployment/web uses Dapr.\n")
    assert "note: workloads are shown by their ReplicaSets and Jobs: cannot list replicasets" in error
    assert "note: whether it exists is not known: cannot get deployments/web" in error
    assert shown(api, capsys, "deployment/web", "--fail-on", "outdated")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unknown/x"], 'invalid target "unknown/x": expected pod/NAME, deployment/NAME'),
        (["deployment"], "invalid target"),
        (["deployment/"], "invalid target"),
        (["deployment/a/b"], "invalid target"),
        (["pod/a,metadata.namespace=b"], "invalid target"),
        (["secret/\x1b[31m"], "invalid target"),
        (["secret/s", "-A"], "-A shows all namespaces; for secret/s, set its namespace with -n"),
        (["deploy/web", "-A"], "-A shows all namespaces; for deploy/web, set its namespace with -n"),
        (["-w", "-o", "json"], "--watch shows a table; it cannot be combined with -o json"),
        (["-w", "--interval", "0s"], "--interval:"),
    ],
)
def test_malformed_target_is_a_usage_error(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(["status", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "\x1b" not in error


# --- secret/NAME ---


def test_secret_has_what_secret_list_shows_and_its_pods(api: ApiServer, capsys: Capture) -> None:
    api.put("events", event("1", "Secret", "s", "rotated \x1b[31m"))
    api.put("events", event("2", "Pod", "web-1-1", 'secret "s" not found', lastTimestamp="2026-01-02T00:00:00Z"))
    api.put("events", event("3", "Pod", "web-1-1", 'secret "other-s" not found'))
    api.put("events", event("4", "Pod", "elsewhere", 'secret "s" not found'))

    code, out, error = shown(api, capsys, "secret/s")

    lines = out.splitlines()
    assert (code, error) == (0, "")
    assert lines[0].split()[0] == "SECRET"
    assert lines[1].split()[0] == "shop/s"
    assert lines[2:5] == [
        "  token (api), id bcdfghjklm, ours; used by Deployment/web",
        "  issued 2026-01-01T00:00:00Z, expires -",
        "  key token: last change 2026-01-01T00:00:00Z by dapr-token-injector",
    ]
    assert [line.partition(": ")[2] for line in lines[5:7]] == [
        'Warning Failed, Pod/web-1-1: secret "s" not found',
        "Warning Failed, Secret/s: rotated ?[31m",
    ]
    assert lines[8].split() == ["deployment/web", "protected", "reference", "2/2", "outdated"]
    assert lines[-1] == "2 Dapr Pods in 1 namespace: 2 protected (2 outdated)"
    assert shown(api, capsys, "secret/s", "--fail-on", "outdated")[0] == 1


def test_json_of_a_secret_has_the_fields_of_the_page(api: ApiServer, capsys: Capture) -> None:
    api.put("events", event("1", "Secret", "s", "rotated"))

    code, out, _ = shown(api, capsys, "secret/s", "-o", "json")

    found = json.loads(out)
    more = {name: found.pop(name) for name in ("secrets", "events")}
    assert code == 0
    PAGE.check("status secret/NAME", more)
    (row,) = more["secrets"]
    assert (row["id"], row["outdated"], row["owner"]) == ("bcdfghjklm", ["web-1-1", "web-1-2"], None)
    assert {one["name"] for one in found["pods"]} == {"web-1-1", "web-1-2"}


def test_secret_that_is_missing_shows_the_pods_that_wait(api: ApiServer, capsys: Capture) -> None:
    code, out, _ = shown(api, capsys, "secret/none", "--fail-on", "waiting")

    assert code == 1
    assert "  token (api), MISSING; used by Pod/waits-1-1" in out.splitlines()
    assert "    dapr-token-injector secret create shop/none" in out.splitlines()


def test_secret_that_a_pod_requests_and_has_not(api: ApiServer, capsys: Capture) -> None:
    made = pod("missed", owner=False)
    made["metadata"]["annotations"] = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "s"}
    made["spec"]["containers"][0]["env"] = []
    api.put("pods", made)

    code, out, _ = shown(api, capsys, "secret/s")

    assert code == 1
    assert out.splitlines()[1].split()[-4:] == ["3", "2", "0", "1"]
    assert "open" in out
    assert "    kubectl get pod/missed-1-1 -n shop -o yaml | kubectl replace --force -f -" in out.splitlines()


def open_in_both(api: ApiServer, capsys: Capture, name: str) -> list[str]:
    """Return the open Pods of a Secret, which `secret list` and `status secret/NAME` must agree on."""
    main(["secret", "list", "-n", SHOP, "--kubeconfig", str(api.kubeconfig), "-o", "json"])
    listed: list[str]
    (listed,) = [row["open"] for row in json.loads(capsys.readouterr().out)["secrets"] if row["name"] == name]
    (row,) = json.loads(shown(api, capsys, f"secret/{name}", "-o", "json")[1])["secrets"]
    assert row["open"] == listed
    return listed


def test_pod_without_the_token_of_another_secret_is_open_for_that(api: ApiServer, capsys: Capture) -> None:
    made = pod("mixed", owner=False)
    made["metadata"]["annotations"] = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "b"}
    daprd = made["spec"]["containers"][0]
    made["spec"]["containers"] = [{"name": "daprd"}, {"name": "app", "env": daprd["env"]}]
    api.put("pods", made)
    api.put("secrets", secret("b"))

    assert open_in_both(api, capsys, "s") == []
    assert open_in_both(api, capsys, "b") == ["mixed-1-1"]


def test_pod_with_an_optional_reference_is_open(api: ApiServer, capsys: Capture) -> None:
    made = pod("lax", owner=False)
    source = made["spec"]["containers"][0]["env"][0]["valueFrom"]
    source["secretKeyRef"]["optional"] = True
    made["spec"]["containers"][0]["env"].insert(0, {"name": "OTHER", "valueFrom": source})
    api.put("pods", made)

    assert open_in_both(api, capsys, "s") == ["lax-1-1"]


def test_pod_without_its_app_token_is_open(api: ApiServer, capsys: Capture) -> None:
    made = pod("half", owner=False)
    made["metadata"]["annotations"] = {"dapr.io/enabled": "true", "dapr.io/app-token-secret": "b"}
    api.put("pods", made)

    assert open_in_both(api, capsys, "b") == ["half-1-1"]
    assert open_in_both(api, capsys, "s") == []


def test_secret_that_no_pod_uses(api: ApiServer, capsys: Capture) -> None:
    api.put("secrets", secret("spare"))
    api.put("secrets", {"metadata": {"namespace": SHOP, "name": "foreign"}, "data": {"a": "eA=="}})

    assert "  token (api), id bcdfghjklm, ours; not used" in shown(api, capsys, "secret/spare")[1].splitlines()
    assert shown(api, capsys, "secret/foreign")[1].splitlines() == [
        "Secret shop/foreign: no key is used as a token.",
        "  issued -, expires -",
        "No Pod of secret/foreign uses Dapr.",
    ]


def test_missing_permissions_are_named_and_the_rest_is_answered(api: ApiServer, capsys: Capture) -> None:
    for plural in ("secrets", "events"):
        message = f'{plural} is forbidden: User "x" cannot list resource "{plural}"'
        api.refusals.append(Refusal(f"GET .*/{plural}", 403, message, "Forbidden"))

    code, out, error = shown(api, capsys, "secret/s")

    assert code == 0
    assert "  token (api), its metadata cannot be read; used by Deployment/web" in out.splitlines()
    assert "note: whether Pods run the current token is unknown: cannot list secrets" in error
    assert "note: Events are not shown: cannot list events in namespace shop" in error
    found = json.loads(shown(api, capsys, "secret/s", "-o", "json")[1])
    assert found["secrets"][0]["exists"] is None
    code, _, error = shown(api, capsys, "secret/unused")
    assert code == 2
    assert "unknown: the protection of some Pods could not be determined" in error


def test_only_metadata_of_secrets_is_requested(api: ApiServer, capsys: Capture) -> None:
    shown(api, capsys, "secret/s")

    assert [call.partition("?")[0] for call in api.calls if "secrets" in call] == [
        "GET /api/v1/namespaces/shop/secrets"
    ]


# --- attacks ---


def test_pod_of_500_containers_and_long_annotations(api: ApiServer, capsys: Capture) -> None:
    made = pod("many", owner=False)
    made["metadata"]["annotations"] = {"a": "x" * 50_000, "dapr-token-injector/exempt": "y" * 50_000}
    made["spec"]["containers"] += [
        {"name": f"c{number}", "env": made["spec"]["containers"][0]["env"]} for number in range(500)
    ]
    api.put("pods", made)
    kept = api.objects["secrets", SHOP, "s"]["metadata"]
    kept["annotations"] = dict.fromkeys(kept["annotations"], "z" * 50_000)

    out = shown(api, capsys, "pod/many-1-1")[1]
    assert len(out.splitlines()) > 500
    assert max(map(len, out.splitlines())) < 1000
    out = shown(api, capsys, "secret/s")[1]
    assert max(map(len, out.splitlines())) < 1000
    assert "id (not shown)" in out


def test_control_characters_of_names_are_escaped(api: ApiServer, capsys: Capture) -> None:
    made = pod("evil", owner=False)
    made["metadata"]["ownerReferences"] = [controlled_by("Deployment", "x\x1b[31m\n; rm -rf /")]
    made["spec"]["containers"][0]["name"] = "daprd"
    made["spec"]["containers"][0]["env"] = []
    api.put("pods", made)

    out = "".join(shown(api, capsys, *arguments)[1] for arguments in ((), ("-o", "wide"), ("pod/evil-1-1",)))
    assert "\x1b" not in out
    assert "\n; rm" not in out
    assert "'deployment/x\\u001b[31m\\u000a; rm -rf /'" in out


# --- what to do ---


def status_of(kind: str, reason: ProtectionReason, **more: Any) -> AssessedPod:  # noqa: ANN401 - of an assessment
    found = Assessment(
        namespace=SHOP,
        name="web-1",
        protection=Protection.OPEN,
        reason=reason,
        severity=Severity.ERROR,
        container="daprd",
        **more,
    )
    return AssessedPod(Ref(kind, SHOP, "web"), found)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        *((kind, f"kubectl rollout restart {kind.lower()}/web -n shop") for kind in ("Deployment", "StatefulSet")),
        ("Rollout", "kubectl argo rollouts restart web -n shop"),
        ("Job", "kubectl delete pod/web-1 -n shop"),
        ("Pod", "kubectl get pod/web -n shop -o yaml | kubectl replace --force -f -"),
    ],
)
def test_restart_is_that_of_the_kind(kind: str, command: str) -> None:
    lines = list(advice([status_of(kind, ProtectionReason.NOT_INJECTED)]))

    assert lines == [
        f"  shop/web-1, container daprd: not-injected: {REMEDIES['not-injected'][0]}",
        "    dapr-token-injector check --canary --canary-namespace shop",
        f"    {command}",
    ]


@pytest.mark.parametrize("kind", ["Deployment", "Rollout", "CronJob", "Pod", "ReplicaSet", "Workflow.argoproj.io"])
@pytest.mark.parametrize("word", sorted(REMEDIES))
def test_every_remedy_is_a_complete_command(word: str, kind: str) -> None:
    key = SecretKey(SHOP, "s", "k")
    problem = StatusProblem(ProtectionReason.NO_KEY, Ref(kind, SHOP, "web"), "web-1", "daprd", missing=key)

    for command in REMEDIES[word][1]:
        line = command(problem)
        assert shlex.split(line)[0] in {"kubectl", "dapr-token-injector", "helm"}
        assert not set(line) & {"<", ">", "…"}
        assert "NAME" not in line


def test_secret_and_key_that_a_pod_waits_for_are_in_the_command() -> None:
    missing = SecretKey(SHOP, "s", "k")

    assert "    dapr-token-injector secret create shop/s --key k" in advice(
        [status_of("Deployment", ProtectionReason.NO_SECRET, missing=missing)]
    )
    assert "    kubectl describe secret/s -n shop" in advice(
        [status_of("Deployment", ProtectionReason.NO_KEY, missing=missing)]
    )


def test_pods_with_one_command_are_named_together_and_counted() -> None:
    finding = ContainerFinding(finding=PodFinding.DAPRD_ADVISORY, container="daprd", detail="GO-1")
    pods = [status_of(f"K{number}", ProtectionReason.REFERENCE, findings=(finding,)) for number in range(20)]
    for number, one in enumerate(pods):
        object.__setattr__(one.assessment, "name", f"web-{number:02}")

    first, second = advice(pods)

    assert first.startswith("  shop/web-00, shop/web-01, ")
    assert "and 15 more, container daprd: daprd-advisory GO-1: update Dapr" in first
    assert second == "    dapr-token-injector check --only daprd-advisories"
    assert Currency.UNCERTAIN not in REMEDIES
