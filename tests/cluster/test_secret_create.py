"""`secret create` and `secret list` on a real API server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.annotator import mutator
from tests.cluster.objects import SECRET
from tests.cluster.tokencommands import Commands, limited, marker, workload
from tests.controlplane.cluster import create_namespace
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl


@pytest.fixture
def commands(kubectl: Kubectl) -> Commands:
    return Commands(kubectl, kubectl.kubeconfig)


@pytest.fixture
def second(kubectl: Kubectl) -> Iterator[Kubectl]:
    name = f"{kubectl.namespace}-b"
    create_namespace(kubectl, name)
    try:
        yield kubectl.within(name)
    finally:
        kubectl.delete("namespace", name)


def test_create_makes_opaque_labelled_secret_and_shows_no_value(commands: Commands) -> None:
    token = marker()
    done = commands.run("secret", "create", commands.secret, "--token-stdin", stdin=token)

    assert (done.code, done.out) == (0, f"{commands.secret}: created\n")
    found = commands.kubectl.get("secret", SECRET)
    assert commands.value() == token
    assert found["type"] == "Opaque"
    assert set(found["data"]) == {"token"}
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "dapr-token-injector",
        "dapr-token-injector/token": "api",
    }
    assert set(found["metadata"]["annotations"]) == {
        "dapr-token-injector/token-id",
        "dapr-token-injector/token-issued",
    }
    managers = commands.kubectl.run("get", "secret", SECRET, "-o", "json", "--show-managed-fields").stdout
    assert [one["manager"] for one in json.loads(managers)["metadata"]["managedFields"]] == ["dapr-token-injector"]
    assert token not in "".join(commands.output)


def test_create_generates_jwt_for_the_namespace_with_expiry(commands: Commands, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    flags = ["--signing-key", str(key), "--create-key", "--app-token", "--key", "app"]
    assert commands.run("secret", "create", commands.secret, *flags).code == 0
    found = commands.kubectl.get("secret", SECRET)
    assert found["metadata"]["labels"]["dapr-token-injector/token"] == "app"
    assert "dapr-token-injector/token-expires" in found["metadata"]["annotations"]
    verified = commands.run("token", "verify", "--signing-key", str(key), stdin=commands.value(key="app"))
    assert verified.code == 0
    assert f"id {commands.token_id()}" in verified.out


def test_create_reports_existing_secret_with_its_owner(commands: Commands, second: Kubectl) -> None:
    commands.kubectl.run("create", "secret", "generic", SECRET, "--from-literal=token=another-managers-token")
    before = commands.kubectl.get("secret", SECRET)
    done = commands.run("secret", "create", commands.secret, f"{second.namespace}/{SECRET}")

    assert done.code == 0
    assert f"{commands.secret}: exists (not modified; managed by kubectl-create" in done.out
    assert f"{second.namespace}/{SECRET}: created" in done.out
    assert commands.kubectl.get("secret", SECRET) == before
    assert commands.run("secret", "create", commands.secret, "--fail-if-exists").code == 1


def test_create_by_selector_gives_each_namespace_its_own_token(commands: Commands, second: Kubectl) -> None:
    label = f"dapr={commands.kubectl.namespace}"
    for namespace in (commands.kubectl.namespace, second.namespace):
        commands.kubectl.run("label", "namespace", namespace, label)
    assert commands.run("secret", "create", SECRET, "--namespace-selector", label).code == 0
    other = Commands(second, commands.kubeconfig)
    assert commands.value() != other.value()
    assert commands.run("secret", "create", "x", "--namespace-selector", f"{label}-nope").code == 2


def test_create_same_token_resumes_after_a_crash(commands: Commands, second: Kubectl, tmp_path: Path) -> None:
    names = [commands.secret, f"{second.namespace}/{SECRET}"]
    dead = commands.run_and_crash(tmp_path / "log", 1, "secret", "create", *names, "--same")
    assert dead.code == 137
    first = commands.value()
    again = commands.run("secret", "create", *names, "--same")
    assert again.code == 0
    other = Commands(second, commands.kubeconfig)
    assert commands.value() == first == other.value()
    assert commands.token_id() == other.token_id()


@pytest.mark.parametrize("same", [True, False])
def test_command_killed_at_any_write_completes_when_run_again(
    commands: Commands, second: Kubectl, tmp_path: Path, *, same: bool
) -> None:
    flags = ["--same"] if same else []
    names = [f"{namespace}/{name}" for namespace in (commands.kubectl.namespace, second.namespace) for name in "ab"]
    log = tmp_path / "log"
    assert commands.run_and_crash(log, 99, "secret", "create", *names, *flags).code == 0
    writes = log.read_text().splitlines()
    assert len(writes) == len(names)
    for limit in range(len(writes)):
        for namespace in (commands.kubectl, second):
            namespace.run("delete", "secret", "a", "b", "--ignore-not-found")
        assert commands.run_and_crash(tmp_path / "other", limit, "secret", "create", *names, *flags).code == 137
        assert commands.run("secret", "create", *names, *flags).code == 0
        values = [
            Commands(space, commands.kubeconfig).value(name) for space in (commands.kubectl, second) for name in "ab"
        ]
        assert len(set(values)) == (1 if same else len(names))


def test_concurrent_creates_make_one_secret(commands: Commands) -> None:
    processes = [commands.start("secret", "create", commands.secret) for _ in range(3)]
    ended = [commands.ended(process) for process in processes]

    assert sorted(done.code for done in ended) == [0, 0, 0]
    assert sum("created" in done.out for done in ended) == 1
    assert sum("exists (not modified; no other tool manages it)" in done.out for done in ended) == 2


@pytest.mark.parametrize("how", ["client", "server"])
def test_create_dry_run_writes_no_secret_and_no_signing_key(commands: Commands, tmp_path: Path, how: str) -> None:
    flags = ["--dry-run", how, "--signing-key", str(tmp_path / "key"), "--create-key"]
    done = commands.run("secret", "create", commands.secret, *flags)

    assert (done.code, done.out) == (0, f"{commands.secret}: would-create\n")
    assert commands.kubectl.list("secrets") == ()
    assert not (tmp_path / "key").exists()


def test_signing_key_can_live_in_a_secret(commands: Commands) -> None:
    signing_key = f"secret:{commands.kubectl.namespace}/signing"
    assert commands.run("secret", "create", commands.secret, "--signing-key", signing_key, "--create-key").code == 0
    assert commands.run("token", "verify", "--signing-key", signing_key, stdin=commands.value()).code == 0
    done = commands.run("token", "generate", "--signing-key", signing_key, "--rotate-key")
    assert done.code == 0
    public = commands.run("token", "jwks", "--signing-key", signing_key)
    assert len(public.json["keys"]) == 2
    assert commands.run("token", "verify", "--signing-key", signing_key, stdin=commands.value()).code == 0
    assert commands.run("token", "verify", "--signing-key", signing_key, stdin=done.out).code == 0
    commands.output.clear()


def test_create_in_missing_namespace_is_one_error_and_writes_nothing(commands: Commands) -> None:
    done = commands.run("secret", "create", commands.secret, f"{commands.kubectl.namespace}-no/x")

    assert done.code == 2
    assert done.err == f"Error: namespace {commands.kubectl.namespace}-no not found; create it, or check --context\n"
    assert commands.kubectl.list("secrets") == ()


def test_foreign_signing_key_is_used_and_not_rotated(commands: Commands) -> None:
    namespace = commands.kubectl.namespace
    signing_key = f"secret:{namespace}/signing"
    assert commands.run("token", "generate", "--signing-key", signing_key, "--create-key").code == 0
    value = commands.kubectl.get("secret", "signing")["data"]["jwks.json"]
    commands.kubectl.run("label", "secret", "signing", "app.kubernetes.io/managed-by=Helm", "--overwrite")

    assert commands.run("token", "generate", "--signing-key", signing_key).code == 0
    done = commands.run("token", "generate", "--signing-key", signing_key, "--rotate-key")
    assert (done.code, done.out) == (2, "")
    assert f"Secret {namespace}/signing: managed by Helm (it has the label app.kubernetes.io/managed-by)" in done.err
    assert commands.kubectl.get("secret", "signing")["data"]["jwks.json"] == value
    commands.output.clear()


def test_generate_reports_errors_of_the_signing_key_secret(commands: Commands, tmp_path: Path) -> None:
    namespace = commands.kubectl.namespace
    few = limited(commands, tmp_path)
    flags = ("--signing-key", f"secret:{namespace}/signing", "--create-key")
    assert one_line(few, "token", "generate", *flags).endswith("request that permission, or use another --context\n")
    away = ("--signing-key", f"secret:{namespace}-no/signing", "--create-key")
    assert one_line(commands, "token", "generate", *away) == (
        f"Error: --signing-key namespace {namespace}-no not found; create it, or check --context\n"
    )
    commands.kubectl.run("create", "quota", "none", "--hard=secrets=0")
    wait_for("the quota", lambda: commands.kubectl.get("quota", "none").get("status", {}).get("used"))
    assert "exceeded quota: none" in one_line(commands, "token", "generate", *flags)


def one_line(commands: Commands, *arguments: str, stdin: str = "") -> str:
    """The error of a rejected command: one line, without a token."""
    done = commands.run(*arguments, stdin=stdin)
    assert (done.code, done.out) == (2, ""), done
    assert done.err.count("\n") == 1, done.err
    return done.err


def test_exceeded_quota_is_not_reported_as_missing_permission(commands: Commands) -> None:
    commands.kubectl.run("create", "quota", "none", "--hard=secrets=0")
    wait_for("the quota", lambda: commands.kubectl.get("quota", "none").get("status", {}).get("used"))
    error = one_line(commands, "secret", "create", commands.secret)

    assert error == (
        f"Error: cannot create secrets/{SECRET} in namespace {commands.kubectl.namespace}: denied by a rule of the "
        "cluster: exceeded quota: none, requested: secrets=1, used: secrets=0, limited: secrets=0; "
        "your permissions are sufficient; contact the owner of that rule\n"
    )
    assert commands.kubectl.list("secrets") == ()


@pytest.mark.parametrize("reason", ["Forbidden", "RequestEntityTooLarge"])
def test_policy_denial_is_quoted_without_secret_values(
    commands: Commands, register: Callable[[Json], None], reason: str
) -> None:
    name = commands.kubectl.namespace
    leaky = "'name a team, not ' + string(object.data.token)"
    for item in policy(name, reason=reason, expression="has(object.metadata.labels.team)", words=leaky):
        register(item)

    def is_denied() -> bool:
        probe = ("create", "secret", "generic", "probe", "--from-literal=token=x", "--dry-run=server")
        return bool(commands.kubectl.try_run(*probe).returncode)

    wait_for("the policy", is_denied)
    token = marker()
    error = one_line(commands, "secret", "create", commands.secret, "--token-stdin", stdin=token)
    rule = f"ValidatingAdmissionPolicy '{name}' with binding '{name}'"
    assert f"{rule} denied request: its message contains a part" in error
    assert "your permissions are sufficient" in error
    assert token not in error


def test_webhook_that_changes_the_token_is_reported_before_a_write(
    commands: Commands, register: Callable[[Json], None]
) -> None:
    change = [{"op": "replace", "path": "/data/token", "value": "b3RoZXItdG9rZW4tb3RoZXI="}]
    namespace = commands.kubectl.namespace
    with mutator(f"changer-{namespace}", change, namespace=namespace, resource="secrets") as configuration:
        register(configuration)
        wait_for("the webhook", lambda: tried(commands.kubectl)["data"] != {"token": "eA=="})
        error = one_line(commands, "secret", "create", commands.secret)

    assert "not confirmed: the cluster changed what was written (data.token)" in error
    assert commands.kubectl.list("secrets") == ()


def test_webhook_that_adds_a_label_is_accepted(commands: Commands, register: Callable[[Json], None]) -> None:
    change = [{"op": "add", "path": "/metadata/labels/team", "value": "shop"}]
    namespace = commands.kubectl.namespace
    with mutator(f"labeller-{namespace}", change, namespace=namespace, resource="secrets") as configuration:
        register(configuration)
        wait_for("the webhook", lambda: "team" in tried(commands.kubectl)["metadata"]["labels"])
        done = commands.run("secret", "create", commands.secret)
        rotated = commands.run("secret", "rotate", commands.secret)

    assert (done.code, done.out) == (0, f"{commands.secret}: created\n"), done
    assert rotated.code == 0, rotated
    assert commands.kubectl.get("secret", SECRET)["metadata"]["labels"]["team"] == "shop"


def tried(kubectl: Kubectl) -> Json:
    """What the cluster would make of a Secret."""
    meta = {"name": "tried", "labels": {"a": "b"}}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"token": "eA=="}}
    return kubectl.dry_run(body)


def policy(name: str, *, reason: str, expression: str, words: str) -> tuple[Json, Json]:
    """A rule for Secrets of the namespace of the same name."""
    kind = {"apiVersion": "admissionregistration.k8s.io/v1"}
    secrets = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}
    validation = {"expression": expression, "messageExpression": words, "reason": reason}
    within = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    return (
        {
            **kind,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {"matchConstraints": {"resourceRules": [secrets]}, "validations": [validation]},
        },
        {
            **kind,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": within},
        },
    )


@pytest.mark.usefixtures("foreign_kinds")
@pytest.mark.parametrize("flags", [(), ("--app-token", "--key", "app", "--remote-key", "teams/shop")])
def test_printed_manifest_is_valid_for_external_secrets(
    commands: Commands, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """By the schema of its kind, and without a field that the kind does not have."""
    printed = commands.run("secret", "create", commands.secret, "--print-manifest", "--store", "vault", *flags)
    assert printed.code == 0
    manifest = tmp_path / "external-secret.yaml"
    manifest.write_text(printed.out, "utf-8")
    commands.kubectl.run("apply", "--server-side", "--validate=strict", "-f", str(manifest))
    found = commands.kubectl.get("externalsecret", SECRET)["spec"]["target"]
    assert (found["name"], found["creationPolicy"]) == (SECRET, "Owner")


def test_list_without_cluster_permission_suggests_a_namespace(commands: Commands, tmp_path: Path) -> None:
    commands.kubectl.create(workload("Deployment", "web", replicas=1))
    wait_for("the Pod of web", lambda: commands.kubectl.list("pods"))
    assert commands.run("secret", "create", commands.secret).code == 0
    commands.kubectl.run("label", "secret", SECRET, "dapr-token-injector/token-")
    few = limited(commands, tmp_path, "list pods", "list secrets", "get replicasets.apps,deployments.apps")
    error = one_line(few, "secret", "list")
    assert "cannot list pods in all namespaces: not allowed" in error
    assert error.endswith("; list one namespace with -n NAMESPACE, or request that permission\n")
    (row,) = few.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert (row["exists"], row["workloads"]) == (True, ["Deployment/web"])


def test_list_has_every_key_of_a_labelled_secret(commands: Commands) -> None:
    assert commands.run("secret", "create", commands.secret).code == 0
    commands.kubectl.run("patch", "secret", SECRET, "-p", '{"data":{"app":"eA=="}}')
    commands.kubectl.create(workload("Deployment", "web", replicas=1))
    wait_for("the Pod of web", lambda: commands.kubectl.list("pods"))
    rows = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert [(row["key"], row["pods"]) for row in rows] == [("app", 0), ("token", 1)]


def test_list_shows_age_expiry_and_owner_and_never_a_value(commands: Commands) -> None:
    assert commands.run("secret", "create", commands.secret).code == 0
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert row["id"] == commands.token_id()
    assert (row["owner"], row["exists"], row["hasKey"], row["for"]) == (None, True, True, "api")
    table = commands.run("secret", "list", "-n", commands.kubectl.namespace).out.splitlines()
    assert table[0].split()[:3] == ["SECRET", "AGE", "EXPIRES"]
    # Whole days of what is left of 90: all of them within the second of the creation.
    assert re.search(r"  in (89|90) days  0     0         0          0$", "\n".join(table), re.MULTILINE)
    assert f"  token (api), id {commands.token_id()}, ours; not used" in table
    assert max(map(len, table)) <= 80
    assert commands.value() not in "".join(commands.output)


def test_list_finds_referenced_secrets_including_missing_ones(commands: Commands) -> None:

    commands.kubectl.create(workload("Deployment", "web"))
    wait_for("the Pods of web", lambda: len(commands.kubectl.list("pods")) == 2)
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert (row["exists"], row["workloads"], row["pods"], row["outdated"]) == (False, ["Deployment/web"], 2, [])
    assert "MISSING" in commands.run("secret", "list", "-n", commands.kubectl.namespace).out


def test_list_distinguishes_two_keys_of_one_secret(commands: Commands) -> None:
    web = workload("Deployment", "web", replicas=1)
    web["spec"]["template"]["spec"]["containers"][1]["env"].append(
        {"name": "APP_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "app"}}}
    )
    commands.kubectl.create(web)
    wait_for("the Pod of web", lambda: commands.kubectl.list("pods"))
    assert commands.run("secret", "create", commands.secret).code == 0
    rows = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert [(row["key"], row["for"], row["hasKey"], row["pods"]) for row in rows] == [
        ("app", "app", False, 1),
        ("token", "api", True, 1),
    ]
    assert "NO SUCH KEY" in commands.run("secret", "list", "-n", commands.kubectl.namespace).out
