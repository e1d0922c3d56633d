"""Certificates and overload of two groups of replicas, each behind a MutatingWebhookConfiguration of its own.

Most entries call Services, as installed ones do. No address is behind these, so the tests themselves connect as an API
server does: with the name of the Service, and with the bundle of the entry. The API server calls entries by URL itself.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import secrets
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.conftest import wait_until_injecting
from tests.cluster.creates import creating_by_proxy
from tests.cluster.installation import (
    MUTATING,
    SERVICE,
    VALIDATING,
    Forwarder,
    Installation,
    Replica,
    eventually,
    installation,
    request_rotation,
)
from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.cluster.test_self_managed_certificates import ENOUGH, FAST, LASTING, authority, problem, steps
from tests.controlplane.pki import Authority
from tests.controlplane.registration import ServiceEndpoint, token_injector
from tests.http.client import JSON, client_context, connected, head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.registration import Callee

SERVICES: Final = (SERVICE, f"{SERVICE}-2")  # of group 1 and of group 2
FOREIGN: Final = base64.b64encode(Authority.create("another installation").pem).decode()
SECOND_TRUSTED: Final = 'webhook_configuration_trusted{configuration="second-mutating"}'


@dataclass(frozen=True, slots=True)
class ByUrl:
    """A Service on loopback."""

    forwarder: Forwarder

    def client_config(self, path: str) -> Json:
        """Return the `clientConfig` for one path."""
        return {"url": f"https://127.0.0.1:{self.forwarder.port}{path}"}


@dataclass(frozen=True, slots=True)
class TwoGroups:
    """An installation with a second configuration."""

    installed: Installation
    forwarder: Forwarder  # of group 2, for entries by URL

    @property
    def kubectl(self) -> Kubectl:
        return self.installed.kubectl

    @property
    def second(self) -> str:
        """The name of the second configuration."""
        return f"{self.installed.name}-2"

    def start(self, group: int, *flags: str, ready: bool = True) -> Replica:
        """Start a replica of group 1 or 2."""
        before = self.installed.forwarder.backends
        replica = self.installed.start(
            f"--service-name={SERVICES[group - 1]}", f"--second-webhook-configuration-name={self.second}", *flags,
            ready=ready,
        )  # fmt: skip
        if group == 2 and ready:
            self.installed.forwarder.backends = before
            self.forwarder.backends = (*self.forwarder.backends, replica.port)
        return replica

    def register_second(self, callee: Callee | None = None, *, failure_policy: str = "Ignore") -> None:
        """Create the second configuration, without a bundle."""
        callee = callee or self.endpoint(SERVICES[1])
        made = token_injector(callee, namespace=self.kubectl.namespace)
        made["metadata"]["name"] = self.second
        for entry in made["webhooks"]:
            entry["name"] = entry["name"].replace(".", "-2.", 1)
            entry["failurePolicy"] = failure_policy
        self.kubectl.create(made)

    def endpoint(self, service: str) -> ServiceEndpoint:
        return ServiceEndpoint(self.kubectl.namespace, service, None)

    def delete_second(self) -> None:
        self.kubectl.delete(MUTATING, self.second)

    def call_service(self) -> None:
        """Make the first entries call the Service of group 1 in place of the forwarder."""
        callee = self.endpoint(SERVICES[0])
        for kind, paths in ((MUTATING, ("/mutate", "/mutate/default")), (VALIDATING, ("/warn",))):
            for index, path in enumerate(paths):
                change = {
                    "op": "replace",
                    "path": f"/webhooks/{index}/clientConfig",
                    "value": callee.client_config(path),
                }
                self.kubectl.patch(kind, self.installed.name, [change])

    def bundles(self) -> list[bytes]:
        """Every entry's caBundle, those of the second configuration last."""
        return [*self.installed.bundles(), *self.second_bundles()]

    def second_bundles(self) -> list[bytes]:
        found = self.kubectl.find(MUTATING, self.second)
        entries = found["webhooks"] if found else ()
        return [base64.b64decode(entry["clientConfig"].get("caBundle", "")) for entry in entries]

    def set_bundle(self, kind: str, name: str, bundle: str) -> None:
        """Change the bundle of every entry of a configuration, as another client could."""
        entries = self.kubectl.get(kind, name)["webhooks"]
        changes = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
            for index in range(len(entries))
        ]
        self.kubectl.patch(kind, name, changes)

    def is_called(self, replica: Replica, group: int) -> bool:
        """Whether an API server that has the bundle of a group's entry trusts a replica of that group."""
        bundle = (self.second_bundles() if group == 2 else self.installed.bundles())[0]
        if not bundle:
            return False
        context = ssl.create_default_context(cadata=bundle.decode())
        name = f"{SERVICES[group - 1]}.{self.kubectl.namespace}.svc"
        with socket.create_connection(("127.0.0.1", replica.port), 30) as plain:
            try:
                context.wrap_socket(plain, server_hostname=name).close()
            except ssl.SSLCertVerificationError:
                return False
        return True

    def permit_second(self) -> None:
        """Give the permissions for the second configuration."""
        rule = {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [self.second],
            "verbs": ["get", "watch", "patch"],
        }
        self.kubectl.patch("clusterrole", self.installed.name, [{"op": "add", "path": "/rules/-", "value": rule}])

    def forbid_second(self) -> None:
        """Take these permissions away."""
        last = len(self.kubectl.get("clusterrole", self.installed.name)["rules"]) - 1
        self.kubectl.patch("clusterrole", self.installed.name, [{"op": "remove", "path": f"/rules/{last}"}])


@contextlib.contextmanager
def _two_groups(kubectl: Kubectl, folder: Path) -> Iterator[TwoGroups]:
    with installation(kubectl, folder) as installed:
        forwarder = Forwarder()
        installed.stack.callback(forwarder.close)
        made = TwoGroups(installed, forwarder)
        installed.stack.callback(kubectl.delete, MUTATING, made.second)
        made.permit_second()
        yield made


@pytest.fixture
def by_url(kubectl: Kubectl, tmp_path: Path) -> Iterator[TwoGroups]:
    """Two groups whose entries the API server calls; the second configuration is not there yet."""
    with _two_groups(kubectl, tmp_path) as made:
        yield made


@pytest.fixture
def groups(by_url: TwoGroups) -> TwoGroups:
    """Two groups whose entries call Services."""
    by_url.call_service()
    by_url.register_second()
    return by_url


def both(groups: TwoGroups, *flags: str) -> tuple[Replica, Replica]:
    """A ready replica of each group."""
    return groups.start(1, *flags), groups.start(2, *flags)


def until_reported(words: str, *replicas: Replica) -> None:
    """Wait until each replica reports a problem."""
    for replica in replicas:
        eventually(f"{words!r} reported", functools.partial(_reports, replica, words), replica)


def _reports(replica: Replica, words: str) -> bool:
    return words in problem(replica)


# --- the beginning ---


def test_replicas_of_both_groups_become_ready_with_one_ca(groups: TwoGroups) -> None:
    starting = [groups.start(number, ready=False) for number in (1, 2, 1, 2)]
    for replica in starting:
        eventually("a ready replica", replica.is_ready, replica)

    assert groups.bundles() == [authority(groups.installed)] * 5
    eventually("one step reported", lambda: steps(*starting) == ["create"])
    one, two = starting[:2]
    assert groups.is_called(one, 1)
    assert groups.is_called(two, 2)
    assert not groups.is_called(one, 2)  # it has the name of the other Service
    assert two.metric(SECOND_TRUSTED) == 1
    assert problem(one) == problem(two) == ""


def test_first_group_starts_without_the_second_configuration(groups: TwoGroups) -> None:
    groups.delete_second()
    one = groups.start(1)
    two = groups.start(2, ready=False)

    words = f"mutatingwebhookconfigurations/{groups.second} does not exist"
    until_reported(words, one, two)
    assert one.metric("ca_bundle_trusted") == 1
    assert one.metric(SECOND_TRUSTED) == 0
    assert groups.kubectl.find(MUTATING, groups.second) is None
    assert not two.is_ready()

    groups.register_second()
    eventually("a ready replica", two.is_ready, two)
    assert groups.is_called(two, 2)
    eventually("no problem", lambda: problem(one) == problem(two) == "", one)


def test_second_group_starts_without_the_first_configuration(groups: TwoGroups) -> None:
    groups.kubectl.delete(MUTATING, groups.installed.name)
    two = groups.start(2)
    assert groups.is_called(two, 2)
    one = groups.start(1, ready=False)
    until_reported("does not exist", one)
    assert not one.is_ready()


def test_entries_of_a_foreign_service_do_not_make_a_replica_ready(groups: TwoGroups) -> None:
    groups.delete_second()
    groups.register_second(groups.endpoint("another-installations"))
    one, two = groups.start(1), groups.start(2, ready=False)

    words = f"calls {SERVICES[1]}.{groups.kubectl.namespace}.svc"
    until_reported(words, two)
    assert not two.is_ready()
    assert one.is_ready()


def test_first_group_starts_without_rights_to_the_second_configuration(groups: TwoGroups) -> None:
    groups.forbid_second()
    one = groups.start(1)
    two = groups.start(2, ready=False)

    words = f'"{groups.second}"'
    until_reported(words, one, two)
    assert not two.is_ready()

    groups.permit_second()
    eventually("a ready replica", two.is_ready, two)
    eventually("no problem", lambda: problem(one) == problem(two) == "", one)


# --- another client changes a bundle ---


@pytest.mark.parametrize("wiped", ["first", "second", "all"])
@pytest.mark.parametrize("bundle", ["", FOREIGN], ids=["blank", "foreign"])
def test_changed_bundles_are_repaired_by_either_group(groups: TwoGroups, wiped: str, bundle: str) -> None:
    one, two = both(groups)
    wanted = [authority(groups.installed)] * 5
    for stopped in (None, one):
        if stopped is not None:
            stopped.process.stop()
        if wiped != "second":
            groups.set_bundle(MUTATING, groups.installed.name, bundle)
            groups.set_bundle(VALIDATING, groups.installed.name, bundle)
        if wiped != "first":
            groups.set_bundle(MUTATING, groups.second, bundle)
        eventually("the bundles repaired", lambda: groups.bundles() == wanted, two)
    assert two.is_ready()


def test_second_configuration_is_filled_when_it_is_created_again(groups: TwoGroups) -> None:
    one, two = both(groups, *LASTING)
    for bundle in ("", FOREIGN):
        groups.delete_second()
        until_reported(f"mutatingwebhookconfigurations/{groups.second} does not exist", one, two)
        assert one.is_ready()
        assert two.is_ready()  # it was trusted once
        assert (one.metric("ca_bundle_trusted"), two.metric("ca_bundle_trusted")) == (1, 0)

        groups.register_second()
        groups.set_bundle(MUTATING, groups.second, bundle)
        eventually("a trusted replica", lambda: groups.is_called(two, 2), two)
        eventually("no problem", lambda: problem(one) == problem(two) == "", one)
    assert groups.bundles() == [authority(groups.installed)] * 5


# --- rotation ---


def test_rotation_with_both_configurations(groups: TwoGroups) -> None:
    replicas = both(groups, *FAST)
    before = authority(groups.installed)
    request_rotation(groups.kubectl)

    eventually("the whole rotation", lambda: "prune" in steps(*replicas), replicas[0])
    assert steps(*replicas) == ["create", "add", "seen", "promote", "prune"]
    eventually("the CA removed", lambda: groups.bundles() == [authority(groups.installed)] * 5)
    assert authority(groups.installed) != before
    for group, replica in enumerate(replicas, 1):
        eventually("a trusted replica", functools.partial(groups.is_called, replica, group), replica)


def test_rotation_without_the_second_configuration(groups: TwoGroups) -> None:
    replicas = both(groups, *FAST)
    before = groups.second_bundles()
    groups.delete_second()
    request_rotation(groups.kubectl)
    eventually("the whole rotation", lambda: "prune" in steps(*replicas), replicas[0])

    # Created again from a backup, whose CA no replica uses any more.
    groups.register_second()
    groups.set_bundle(MUTATING, groups.second, base64.b64encode(before[0]).decode())
    eventually("the bundles repaired", lambda: groups.second_bundles() == [authority(groups.installed)] * 2)
    eventually("a trusted replica", lambda: groups.is_called(replicas[1], 2), replicas[1])
    assert all(replica.is_ready() for replica in replicas)


def test_rotation_waits_for_a_configuration_that_cannot_be_written(groups: TwoGroups) -> None:
    replicas = both(groups, *FAST)
    groups.forbid_second()
    request_rotation(groups.kubectl)
    until_reported(f'"{groups.second}"', *replicas)
    assert set(steps(*replicas)) <= {"create", "add"}
    assert len(set(groups.second_bundles())) == 1

    # The object that blocks the rotation is deleted. A replica that cannot read it would not know.
    groups.permit_second()
    groups.delete_second()
    eventually("the whole rotation", lambda: "prune" in steps(*replicas), replicas[0])


@pytest.mark.timeout(400, func_only=True)
@pytest.mark.parametrize("deleted", [False, True], ids=["both-stay", "second-deleted-and-created"])
def test_creates_succeed_through_both_entries_while_cas_rotate(
    by_url: TwoGroups, tmp_path: Path, *, deleted: bool
) -> None:
    flags = ("--leaf-lifetime=15s", "--ca-settle-time=1s", "--ca-lifetime=96s")
    second = ByUrl(by_url.forwarder)
    # `Fail` shows each call that is not trusted. A configuration without a bundle needs `Ignore`.
    policy = "Ignore" if deleted else "Fail"
    by_url.register_second(second, failure_policy=policy)
    replicas = [by_url.start(number, *flags) for number in (1, 2, 1, 2)]
    wait_until_injecting(by_url.kubectl)

    with creating_by_proxy(by_url.kubectl, tmp_path) as seen:
        request_rotation(by_url.kubectl)
        if deleted:
            eventually("the next CA", lambda: "add" in steps(*replicas) or seen.wrong, replicas[0])
            by_url.delete_second()
            eventually("the next CA signs", lambda: "promote" in steps(*replicas) or seen.wrong, replicas[0])
            by_url.register_second(second, failure_policy=policy)
        eventually("the rotation", lambda: "prune" in steps(*replicas) or seen.wrong, replicas[0])
        seen.wait_for_more(ENOUGH)

    assert seen.wrong == []
    assert len(seen.done) >= ENOUGH
    assert all(replica.is_ready() for replica in replicas)


# --- overload ---


@pytest.mark.parametrize("fails_over", [True, False], ids=["fail-over", "retry"])
def test_shed_review_is_served_by_the_second_entry(by_url: TwoGroups, *, fails_over: bool) -> None:
    """The only place for a large body is taken in group 1, so that it sheds the review of a large Pod."""
    by_url.register_second(ByUrl(by_url.forwarder))
    ignore = {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}
    by_url.kubectl.patch(MUTATING, by_url.installed.name, [ignore])
    flags = ("--max-bodies=1", "--body-timeout=120", "--certificate-names=127.0.0.1,localhost")
    one = by_url.start(1, *flags, *(("--fail-over",) if fails_over else ()))
    two = by_url.start(2)
    wait_until_injecting(by_url.kubectl)

    decisions = 'admission_requests_total{decision="inject",reason="injected"}'
    with connected(one.port, client_context(authority(by_url.installed))) as holding:
        holding.socket.sendall(head("/mutate", headers={**JSON, "Content-Length": "200000"}) + b" " * 100_000)
        eventually("the body under way", lambda: one.metric("admission_in_flight") == 1, one)
        before = two.metric(decisions)
        made = by_url.kubectl.dry_run(pod({**ASKING, "filler": "x" * 100_000}))

    assert tokens(made) == [token_variable()]
    eventually("a decision counted", lambda: two.metric(decisions) > before, two)
    # Once in each of two rounds; with `Retry-After: 1` every second until `timeoutSeconds` have passed.
    assert (one.metric('admission_shed_total{cause="bodies"}') <= 2) is fails_over


# --- the fence ---


def test_fence_allows_nothing_but_the_bundles_of_the_second_configuration(groups: TwoGroups) -> None:
    account = f"--as=system:serviceaccount:{groups.kubectl.namespace}:{SERVICE}"

    def refused(path: str, value: object) -> str:
        change = json.dumps([{"op": "add", "path": path, "value": value}])
        done = groups.kubectl.try_run("patch", MUTATING, groups.second, account, "--type=json", f"--patch={change}")
        return done.stderr if done.returncode else ""

    def is_fenced() -> bool:  # a label that is there already changes nothing
        return "dapr-token-injector may change nothing" in refused("/metadata/labels", {"a": secrets.token_hex(4)})

    eventually("the fence", is_fenced)  # the API server takes notice of a new policy within seconds
    for path, value in (("/webhooks/0/failurePolicy", "Fail"), ("/webhooks/0/timeoutSeconds", 30)):
        assert "dapr-token-injector may change nothing but caBundle" in refused(path, value)
    assert refused("/webhooks/0/clientConfig/caBundle", FOREIGN) == ""
    for verb in ("delete", "get"):
        done = groups.kubectl.try_run(verb, MUTATING, f"{groups.second}-other", account)
        assert "forbidden" in done.stderr.lower()
    assert "forbidden" in groups.kubectl.try_run("delete", MUTATING, groups.second, account).stderr.lower()
