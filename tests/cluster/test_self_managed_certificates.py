"""Self-managed certificates on a real API server, with exactly the permissions of the chart."""

from __future__ import annotations

import base64
import datetime as dt
import json
import signal
import ssl
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests import forkserver
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.creates import creating_by_proxy
from tests.cluster.installation import (
    MUTATING,
    SECRET,
    VALIDATING,
    Installation,
    Replica,
    eventually,
    installation,
    request_rotation,
)
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.kubectl import Kubectl

# A whole rotation, and several renewals, in a dozen seconds. On a busy machine a leaf may end before its successor is
# signed, so no test that calls the webhook takes these.
FAST = ("--leaf-lifetime=4s", "--ca-settle-time=1s", "--ca-lifetime=1h")
# The same for an authority, with leaves that outlive a test.
LASTING = ("--leaf-lifetime=5m", *FAST[1:])
# Creates after which the API server has long taken notice of a changed configuration, which it does within 20 ms.
ENOUGH = 100
# Another client's change must be undone within this many seconds, by the log of the replica that does it: kubectl, by
# which a test sees it, takes seconds of its own on a busy machine.
REPAIRED_WITHIN = 5.0


@pytest.fixture
def installed(kubectl: Kubectl, tmp_path: Path) -> Iterator[Installation]:
    with installation(kubectl, tmp_path) as made:
        yield made


def steps(*replicas: Replica) -> list[str]:
    """Steps of the authority's life, by whichever replica."""
    records = [record for replica in replicas for record in replica.records("CA changed")]
    return [record["step"] for record in sorted(records, key=lambda record: str(record["time"]))]


def repairs(*replicas: Replica, at_least: int) -> list[dt.datetime] | None:
    """The times at which replicas repaired changed bundles; None while there are fewer."""
    records = [record for replica in replicas for record in replica.records("caBundle written")]
    found = sorted(dt.datetime.fromisoformat(record["time"]) for record in records if record["cause"] == "healed")
    return found if len(found) >= at_least else None


def served(replica: Replica) -> x509.Certificate:
    """What a replica shows in a handshake."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", replica.port)).encode())


def authority(installed: Installation) -> bytes:
    return installed.secret()["ca.crt"]


def problem(replica: Replica) -> str:
    """The problem that a replica reports."""
    return " ".join(replica.readyz().get("problems", []))


# --- the beginning ---


def test_first_replica_fills_the_secret_and_every_bundle(installed: Installation) -> None:
    replica = installed.start()

    assert installed.bundles() == [authority(installed)] * 3
    wait_until_injecting(installed.kubectl)
    assert replica.metric('ca_phase{phase="steady"}') == 1
    assert replica.metric("ca_bundle_trusted") == 1
    eventually("one step reported", lambda: steps(replica) == ["create"], replica)
    for kind in (MUTATING, VALIDATING):
        assert installed.bundle_owners(kind) == {"dapr-token-injector-ca-bundle"}


def test_replicas_started_together_agree_on_one_ca(installed: Installation) -> None:
    replicas = [installed.start(ready=False) for _ in range(3)]

    for replica in replicas:
        eventually("a ready replica", replica.is_ready, replica)
    assert installed.bundles() == [authority(installed)] * 3
    eventually("one step reported", lambda: steps(*replicas) == ["create"])


def test_rsa_keys_are_generated_on_request(installed: Installation) -> None:
    replica = installed.start("--key-algorithm=rsa-2048")

    wait_until_injecting(installed.kubectl)
    assert type(served(replica).public_key()).__name__ == "RSAPublicKey"


def test_logs_and_metrics_contain_no_secret(installed: Installation) -> None:
    replica = installed.start(*FAST, "--log-level=debug")
    request_rotation(installed.kubectl)
    eventually("the whole rotation", lambda: steps(replica)[-1:] == ["prune"], replica)

    key = installed.secret()["ca.key"].decode()
    reported = replica.process.log() + json.dumps(replica.readyz())
    assert "PRIVATE KEY" not in reported
    assert not [line for line in key.splitlines() if len(line) > 20 and line in reported]


# --- another client changes a bundle ---


@pytest.mark.parametrize(
    "change",
    ["", base64.b64encode(Authority.create("another installation").pem).decode(), base64.b64encode(b"no PEM").decode()],
    ids=["blanked", "another-installations", "garbage"],
)
def test_changed_bundle_is_repaired(installed: Installation, change: str) -> None:
    replicas = [installed.start() for _ in range(2)]
    wanted = [authority(installed)] * 3

    for heals, (kind, index) in enumerate(((MUTATING, 0), (MUTATING, 1), (VALIDATING, 0)), 1):
        installed.set_bundle(kind, index, change)
        changed = dt.datetime.now(dt.UTC)
        wait_for("the bundle repaired", lambda: installed.bundles() == wanted)
        logged: list[dt.datetime] = eventually("the repair in a log", partial(repairs, *replicas, at_least=heals))
        assert (logged[-1] - changed).total_seconds() < REPAIRED_WITHIN

    def repaired() -> float:
        return sum(replica.metric('ca_bundle_writes_total{cause="healed"}') for replica in replicas)

    eventually("three repairs counted, each once", lambda: repaired() == 3)
    assert all(replica.is_ready() for replica in replicas)


def test_foreign_webhook_entry_is_not_modified(installed: Installation) -> None:
    foreign = base64.b64encode(Authority.create("another installation").pem).decode()
    entry = installed.kubectl.get(MUTATING, installed.name)["webhooks"][0]
    entry |= {"name": "other.example.com", "clientConfig": {**entry["clientConfig"], "caBundle": foreign}}
    change = [{"op": "add", "path": "/webhooks/-", "value": entry}]
    installed.kubectl.patch(MUTATING, installed.name, change)

    installed.start()

    entries = installed.kubectl.get(MUTATING, installed.name)["webhooks"]
    assert entries[2]["clientConfig"]["caBundle"] == foreign
    assert installed.bundles()[:2] == [authority(installed)] * 2


def test_deleted_configuration_is_reported_and_not_recreated(installed: Installation) -> None:
    replica = installed.start()
    wanted = authority(installed)
    installed.kubectl.delete(MUTATING, installed.name)

    words = f"mutatingwebhookconfigurations/{installed.name} does not exist"
    eventually("the deletion reported", lambda: words in problem(replica), replica)
    assert replica.metric("ca_bundle_trusted") == 0
    assert replica.is_ready()
    assert installed.kubectl.find(MUTATING, installed.name) is None

    installed.kubectl.delete(VALIDATING, installed.name)
    installed.register()
    eventually("the bundles written", lambda: installed.bundles() == [wanted] * 3, replica)
    eventually("no problem", lambda: not problem(replica), replica)


# --- time passes ---


@pytest.mark.timeout(400, func_only=True)
def test_creates_succeed_while_leaves_and_cas_are_rotated(installed: Installation, tmp_path: Path) -> None:
    # A third of a leaf's life is what a busy machine has to renew it in. The authority's two thirds pass soon after the
    # first rotation, so it is rotated twice: on request, and by time.
    flags = ("--leaf-lifetime=15s", "--ca-settle-time=1s", "--ca-lifetime=96s")
    replicas = [installed.start(*flags) for _ in range(3)]
    wait_until_injecting(installed.kubectl)
    first = authority(installed)

    with creating_by_proxy(installed.kubectl, tmp_path) as seen:

        def rotations() -> int:
            return steps(*replicas).count("prune")

        request_rotation(installed.kubectl)
        eventually("a requested rotation", lambda: rotations() >= 1 or seen.wrong, replicas[0])
        second = authority(installed)
        wait_for("a rotation whose time had come", lambda: rotations() >= 2 or seen.wrong, timeout_seconds=240)
        seen.wait_for_more(ENOUGH)

    assert seen.wrong == []
    assert len(seen.done) >= ENOUGH
    assert steps(*replicas)[:9] == ["create", *["add", "seen", "promote", "prune"] * 2]
    assert len({first, second, authority(installed)}) == 3
    # Every leaf was renewed, by each replica, many times; and each saw every authority.
    for replica in replicas:
        assert len({record["ca"] for record in replica.records("certificate signed")}) >= 3
        assert not replica.records("certificates need attention")


def test_suspended_process_renews_after_it_resumes(installed: Installation) -> None:
    replica = installed.start(*FAST, command=(sys.executable, "-m", "injector"))  # the signal reaches it alone
    before = served(replica)
    replica.signal(signal.SIGSTOP)
    wait_for("its certificate's end", lambda: dt.datetime.now(dt.UTC) > before.not_valid_after_utc)

    replica.signal(signal.SIGCONT)

    eventually("a new certificate", lambda: served(replica).not_valid_after_utc > dt.datetime.now(dt.UTC), replica)
    eventually("a ready replica", replica.is_ready, replica)


# --- permissions, and the content of the Secret ---


def test_missing_permission_is_named_and_retried(installed: Installation) -> None:
    installed.revoke("rolebinding")
    replica = installed.start(ready=False)

    eventually("the missing permission reported", lambda: 'cannot get resource "secrets"' in problem(replica), replica)
    assert not replica.is_ready()
    assert installed.secret() == {}

    installed.grant()
    eventually("a ready replica", replica.is_ready, replica)
    assert problem(replica) == ""
    # Three objects are watched, each was requested once, without a retry loop.
    assert replica.metric('kube_errors_total{reason="forbidden"}') <= 10


def test_replica_keeps_serving_after_permissions_are_revoked(installed: Installation) -> None:
    replica = installed.start(*LASTING)
    installed.revoke("clusterrolebinding")
    installed.set_bundle(MUTATING, 0, "")

    words = 'resource "mutatingwebhookconfigurations"'
    eventually("the missing permission reported", lambda: words in problem(replica), replica)
    assert replica.is_ready()

    installed.grant()
    eventually("the bundle repaired", lambda: len(set(installed.bundles())) == 1, replica)
    eventually("no problem", lambda: not problem(replica), replica)


def test_replica_renews_without_permission_to_its_secret(installed: Installation) -> None:
    replica = installed.start("--leaf-lifetime=12s", *FAST[1:])
    wait_until_injecting(installed.kubectl)
    installed.revoke("rolebinding")

    eventually("the missing permission reported", lambda: 'resource "secrets"' in problem(replica), replica)
    # It continues with the CA that it knows: every replica lost the permission.
    words = "certificate is signed without reading the Secret"
    eventually("a certificate signed in need", lambda: replica.records(words), replica)
    before = served(replica).not_valid_after_utc
    wait_until_injecting(installed.kubectl)
    assert replica.is_ready()
    reported = [record["problem"] for record in replica.records("certificates need attention")]
    assert len([one for one in reported if 'resource "secrets"' in one]) == 1
    eventually("one more after it", lambda: served(replica).not_valid_after_utc > before, replica)
    assert len(replica.records(words)) > 1


def _pair(authority: Authority) -> dict[str, bytes]:
    pair = authority.issue_server(hosts=["a"])
    return {"ca.crt": authority.pem, "ca.key": pair.key}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"ca.crt": b"junk", "ca.key": b"junk"}, "contains no readable PEM certificate"),
        (_pair(Authority.create("another installation")), "not from a CA of the injector"),
        ({"tls.crt": b"x", "tls.key": b"x"}, "it only has keys that the injector does not write"),
    ],
    ids=["garbage", "another-installations", "another-kind"],
)
def test_foreign_secret_is_reported_and_not_modified(
    installed: Installation, data: dict[str, bytes], words: str
) -> None:
    running = installed.start(*LASTING)
    ours = installed.secret()
    installed.set_secret(data)
    starting = installed.start(*LASTING, ready=False)

    eventually("the foreign Secret reported", lambda: words in problem(running), running)
    eventually("the foreign Secret reported", lambda: words in problem(starting), starting)
    assert not starting.is_ready()
    assert running.is_ready()
    wait_until_injecting(installed.kubectl)
    assert installed.secret() == data

    # An emptied Secret is filled with the CA that is still in use.
    installed.set_secret(None)
    eventually("the Secret restored", lambda: installed.secret().get("ca.crt") == ours["ca.crt"], running)
    eventually("a ready replica", starting.is_ready, starting)
    eventually("the step reported", lambda: steps(running)[-1] == "restore", running)


def test_missing_secret_is_reported_and_used_once_created(installed: Installation) -> None:
    installed.kubectl.delete("secret", SECRET)
    replica = installed.start(ready=False)

    words = f"secrets/{SECRET} in namespace {installed.namespace} does not exist"
    eventually("the missing Secret reported", lambda: words in problem(replica), replica)
    assert not replica.is_ready()

    installed.kubectl.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}})
    eventually("a ready replica", replica.is_ready, replica)


def test_immutable_secret_is_reported_until_recreated(installed: Installation) -> None:
    replica = installed.start(*LASTING)
    before = authority(installed)
    installed.kubectl.run("patch", "secret", SECRET, "--type=merge", '--patch={"immutable": true}')
    request_rotation(installed.kubectl)

    eventually("the immutable Secret reported", lambda: "is immutable" in problem(replica), replica)
    assert replica.metric('kube_errors_total{reason="invalid"}') == 0
    wait_until_injecting(installed.kubectl)

    installed.kubectl.delete("secret", SECRET)
    installed.kubectl.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}})
    eventually("the authority restored", lambda: installed.secret().get("ca.crt") == before, replica)
    eventually("no problem", lambda: not problem(replica), replica)


def test_emptied_secret_keeps_trust_in_registered_bundles(installed: Installation) -> None:
    old = installed.start(*LASTING)
    before = authority(installed)
    old.process.stop()
    installed.set_secret(None)

    installed.start(*LASTING)

    assert authority(installed) != before
    assert all(before in bundle for bundle in installed.bundles())


def test_leaked_ca_can_be_removed_immediately(installed: Installation) -> None:
    leaking = installed.start(*LASTING)
    before = authority(installed)
    leaking.process.stop()
    installed.set_secret(None)
    for kind, index in ((MUTATING, 0), (MUTATING, 1), (VALIDATING, 0)):
        installed.set_bundle(kind, index, "")

    installed.start(*LASTING)

    assert installed.bundles() == [authority(installed)] * 3
    assert authority(installed) != before


# --- the command ---


def test_ca_rotate_requests_reports_and_waits(installed: Installation) -> None:
    # The previous CA retires for the lifetime of a leaf: longer than a pause of a command on a busy machine.
    replica = installed.start(*LASTING)
    before = authority(installed)

    def rotate(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [*forkserver.command(), "ca", "rotate", f"--kubeconfig={installed.kubectl.kubeconfig}"]
        return subprocess.run(
            [*command, f"--namespace={installed.namespace}", *flags], capture_output=True, text=True, check=False
        )

    done = rotate("--wait", "--timeout=2m", "-o", "json")
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert (reported["requested"], reported["newCaSigns"]) == (True, True)
    assert authority(installed) != before
    assert "retiring: the new CA signs" in done.stderr
    eventually("its steps logged", lambda: steps(replica) == ["create", "add", "seen", "promote"], replica)

    nowhere = rotate("--ca-secret-name=none")
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("Error: cannot get secrets/none")
