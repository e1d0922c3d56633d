"""Sealed Pods on a kubelet: one token for all containers of a Pod, and no sidecar without one."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import main
from injector.core import names
from injector.core.claims import TokenSpec
from injector.tokens.minting import mint_jwt
from tests.cluster.objects import ASKING, SECRET
from tests.controlplane.polling import wait_for
from tests.node.calls import REFUSED, SERVED, call_sidecar
from tests.node.sealed import RESTRICTED, Fleet, pod, processes, sealed, secret, token_of, wait_ready

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

VALUE: Final = b"marker-0123456789abcdef"
# Everything that a shell, or another parser of env files, would take for something else.
SPECIAL: Final = rb'marker-$HOME$(x)${y}\n\\"#=`;!~*&|<>{}[]?%^'
REJECTED: Final = "a token is 16 to 4,096 bytes of printable ASCII without spaces"
# By Pod: the value of the key, and the sentence that `kubectl describe` shows.
BAD: Final = {
    "absent": (None, "couldn't find key token in Secret"),
    "empty": (b"", "it is empty (Dapr takes an empty token for none and serves clients without a token)"),
    "newline": (VALUE + b"\n", "it ends with a newline (editors and `echo` add one; `printf %s` does not)"),
    "space": (b"marker 0123456789abcdef", "byte 7 is a space"),
    "nul": (VALUE + b"\0x", "DAPR_API_TOKEN"),  # the runtime's own words, with the value: of any container that has it
    "not-ascii": (VALUE + "ü".encode(), "byte 24 is not ASCII"),
    "quote": (VALUE + b"'", "byte 24 is a single quote"),
}


@pytest.fixture
def own(target: Target) -> Target:
    if target.own is None:
        pytest.skip("kills processes of containers, and the kubelet: only of a node on this machine")
    return target


def init_status(item: Json, name: str) -> Json:
    found: list[Json] = [one for one in item["status"].get("initContainerStatuses", ()) if one["name"] == name]
    return found[0] if found else {}


def message(item: Json, name: str) -> str:
    """Why an init container of ours does not complete, or its message if it did."""
    states = (init_status(item, name).get(key, {}) for key in ("state", "lastState"))
    parts = [part for state in states for part in state.values()]
    return " ".join(part["message"] for part in parts if part.get("message"))


def has_run(item: Json, name: str = "daprd") -> bool:
    """Whether a container was ever started."""
    status = item["status"]
    found = [
        one
        for one in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))
        if one["name"] == name
    ]
    return any(one["restartCount"] or "waiting" not in one["state"] or one.get("lastState") for one in found)


def test_sealed_containers_keep_one_token_while_the_secret_changes(kubectl: Kubectl, own: Target) -> None:
    fleet = Fleet(kubectl, own, 1, calls=10)
    before = fleet.sealed_tokens()

    with fleet:
        for _ in range(5):
            fleet.kill_one_of_each()
            fleet.wait_for_answers()

    fleet.read_answers()
    sealed_pods, others = fleet.counts["sealed"], fleet.counts["unsealed"]
    assert fleet.versions > 5
    assert [len(tokens) for tokens in before.values()] == [1, 1]
    assert fleet.sealed_tokens() == before
    assert sealed_pods.kills == others.kills == 10
    assert (sealed_pods.skewed, sealed_pods.refused) == (0, 0), fleet.counts
    assert sealed_pods.answers["http 200"] > 0, fleet.counts
    assert sealed_pods.answers["grpc OK"] > 0, fleet.counts
    assert others.skewed > 0, fleet.counts
    assert others.refused > 0, fleet.counts


@pytest.mark.usefixtures("release")
def test_webhook_seals_pods_that_request_it(kubectl: Kubectl, own: Target, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl.create(secret(VALUE))
    asking = {**ASKING, names.APP_CONTAINERS: "app", "dapr-token-injector/seal": "true"}
    for name, native in (("regular", False), ("native", True)):
        item = pod(own, name, native=native)
        item["metadata"]["annotations"] = asking
        for one in (*item["spec"]["containers"], *item["spec"]["initContainers"]):
            del one["env"]
        kubectl.create(item)
    ready = wait_ready(kubectl, ["regular", "native"])
    init = {name: [one["name"] for one in ready[name]["spec"]["initContainers"]] for name in ready}
    ours = [names.SEAL_CONTAINER, names.SEAL_CHECK_CONTAINER]
    assert init == {"regular": ours, "native": [*ours, "daprd"]}

    kubectl.run("patch", "secret", SECRET, "--patch", json.dumps({"data": secret(b"another-" + VALUE)["data"]}))
    uids = [one["metadata"]["uid"] for one in ready.values()]
    killed = {pid for (_, program), pid in processes(uids).items() if program == "daprd"}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    def run_again() -> bool:
        now = processes(uids)
        return len(now) == 4 and killed.isdisjoint(now.values())

    wait_for("two new sidecars", run_again)
    wait_ready(kubectl, ["regular", "native"])

    assert {token_of(pid) for pid in processes(uids).values()} == {VALUE.decode()}
    assert [call_sidecar(kubectl, name, how) for name in ready for how in ("none", "own")] == [REFUSED, SERVED] * 2
    assert main(["status", "-n", kubectl.namespace, "--kubeconfig", str(kubectl.kubeconfig)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("sealed") == 2
    assert "outdated" in shown


def test_bad_value_keeps_every_container_from_running(kubectl: Kubectl, target: Target) -> None:
    for name, (value, _) in BAD.items():
        kubectl.create(secret(value, name))
        item = sealed(target, pod(target, name))
        item["spec"]["initContainers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"] = name
        kubectl.create(item)
    # A Job whose Pod may not be restarted: the bad value counts against its limit.
    template = sealed(target, pod(target, "job", restartPolicy="Never"))
    template["spec"]["initContainers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"] = "quote"
    spec = {"backoffLimit": 0, "template": {"metadata": {}, "spec": template["spec"]}}
    kubectl.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec})

    def reported() -> bool:
        messages = {name: message(kubectl.get("pod", name), names.SEAL_CONTAINER) for name in BAD}
        return all(sentence in messages[name] for name, (_, sentence) in BAD.items())

    def messages() -> str:
        return json.dumps({name: kubectl.get("pod", name)["status"].get("initContainerStatuses") for name in BAD})

    wait_for("seven sentences", reported, timeout_seconds=90, describe=messages)
    wait_for("the failed Job", lambda: kubectl.get("job", "job")["status"].get("failed") == 1)
    for name, (_, sentence) in BAD.items():
        item = kubectl.get("pod", name)
        described = kubectl.run("describe", "pod", name).stdout
        logs = kubectl.try_run("logs", name, f"--container={names.SEAL_CONTAINER}").stdout
        assert sentence in described
        assert (REJECTED in described) is (name not in {"absent", "nul"})
        assert name == "nul" or "marker" not in described + logs + json.dumps(item)
        assert not any(has_run(item, one) for one in ("daprd", "app", names.SEAL_CHECK_CONTAINER))
        assert logs == "" or logs.startswith(f"Error: {names.API_TOKEN_ENV}: {sentence}")  # it may just start again

    # A valid value repairs the Pod.
    kubectl.run("patch", "secret", "quote", "--patch", json.dumps({"data": secret(VALUE)["data"]}))
    wait_ready(kubectl, ["quote"])


def test_pod_waits_for_a_missing_secret_and_keeps_special_characters(kubectl: Kubectl, target: Target) -> None:
    minted = mint_jwt(TokenSpec(), None, now=0)
    item = pod(target, "shop")
    item["spec"]["containers"][1]["env"].append(
        {"name": names.APP_TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": "other", "key": "token"}}}
    )
    kubectl.create(sealed(target, item, variables=names.TOKEN_VARIABLES))
    kubectl.create(secret(minted.value.reveal().encode(), "other"))
    wait_for("why it waits", lambda: "not found" in message(kubectl.get("pod", "shop"), names.SEAL_CONTAINER))
    assert not has_run(kubectl.get("pod", "shop"))

    kubectl.create(secret(SPECIAL))

    ready = wait_ready(kubectl, ["shop"])["shop"]
    assert message(ready, names.SEAL_CONTAINER) == f"APP_API_TOKEN: id {minted.id}"
    script = "import os; print(os.environ['DAPR_API_TOKEN'], end='')"
    assert kubectl.run("exec", "shop", "--container=app", "--", "python", "-c", script).stdout == SPECIAL.decode()
    assert [call_sidecar(kubectl, "shop", how) for how in ("none", "wrong", "own")] == [REFUSED, REFUSED, SERVED]


def test_pods_of_every_kind_become_ready(kubectl: Kubectl, target: Target) -> None:
    """Other users, shared processes, the lowest and highest QoS class, a LimitRange, and a quota with nothing left.

    `hostUsers: false` is not among it: the runc of Debian 12 has no user namespaces.
    """
    kubectl.create(secret(SPECIAL))
    amounts = {"cpu": "100m", "memory": "128Mi"}
    own: Json = {"resources": {"limits": amounts, "requests": amounts}}
    root = {**RESTRICTED, "runAsUser": 65532}
    pods = [
        sealed(target, pod(target, "root", securityContext={"runAsUser": 0}), securityContext=root),
        sealed(target, pod(target, "any-user", securityContext={"runAsUser": 12345, "fsGroup": 7})),
        sealed(target, pod(target, "shared", shareProcessNamespace=True)),
        sealed(target, pod(target, "native", native=True)),
    ]
    for item in pods:
        kubectl.create(item)
    ready = wait_ready(kubectl, [item["metadata"]["name"] for item in pods])
    assert {ready[item["metadata"]["name"]]["status"]["qosClass"] for item in pods} == {"BestEffort"}

    kubectl.run("delete", "pods", "--all", "--wait", "--grace-period=0", "--force")
    limits = {"limits": [{"type": "Container", "min": {"memory": "128Mi"}}]}
    kubectl.create({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "least"}, "spec": limits})
    hard = {"requests.cpu": "200m", "requests.memory": "256Mi", "limits.memory": "256Mi", "pods": "1"}
    kubectl.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": hard}})
    kubectl.run("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    item = pod(target, "restricted")
    item["spec"]["containers"] = [{**one, **own, "securityContext": RESTRICTED} for one in item["spec"]["containers"]]
    item = sealed(target, item, **own)
    wait_for(
        "the quota's controller", lambda: kubectl.get("resourcequota", "full").get("status", {}).get("hard") == hard
    )
    kubectl.create(item)
    ready = wait_ready(kubectl, ["restricted"])
    assert ready["restricted"]["status"]["qosClass"] == "Guaranteed"
    assert call_sidecar(kubectl, "restricted", "own") == SERVED


def test_kubelet_without_env_files_keeps_new_pods_in_init(kubectl: Kubectl, own: Target) -> None:
    assert own.own is not None
    kubectl.create(secret(VALUE))
    kubectl.create(sealed(own, pod(own, "running")))
    uid = wait_ready(kubectl, ["running"])["running"]["metadata"]["uid"]
    sentence = "DAPR_API_TOKEN: empty, so the kubelet of this node does not read env files; upgrade the node"

    own.own.restart_kubelet(EnvFiles=False)
    try:
        kubectl.create(sealed(own, pod(own, "new")))
        wait_for("the reason", lambda: sentence in message(kubectl.get("pod", "new"), names.SEAL_CHECK_CONTAINER))
        item = kubectl.get("pod", "new")
        assert sentence in kubectl.run("describe", "pod", "new").stdout
        assert not has_run(item)
        assert not has_run(item, "app")
        # The case that stays open: a running Pod whose sidecar restarts in place.
        assert call_sidecar(kubectl, "running", "none") == REFUSED
        old = processes([uid])[uid, "daprd"]
        os.kill(old, signal.SIGKILL)
        wait_for("another daprd", lambda: processes([uid]).get((uid, "daprd"), old) != old)
        assert token_of(processes([uid])[uid, "daprd"]) == ""
    finally:
        own.own.restart_kubelet()
    wait_ready(kubectl, ["new"])
    assert call_sidecar(kubectl, "new", "none") == REFUSED
