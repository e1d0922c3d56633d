"""The way from the API server to the webhook: Service, caBundle, and what each replica serves."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from injector.check.model import Result
from tests.controlplane.pki import Authority
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.installed import (
    HOST,
    MUTATING,
    NAME,
    VALIDATING,
    InstalledApi,
    authority,
    entries,
    installed,
    put_replicas,
    replica,
    set_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from injector.check.model import Outcome
    from tests.controlplane.pki import Pair

NAMES = ("ca-bundle", "served-certificate", "registered-service")
DAY = 86_400


def now() -> int:
    return int(time.time())


def words(found: Outcome) -> str:
    return "\n".join(problem.message for problem in found.problems)


def bundle(store: Store, *, at: int | None = None) -> Outcome:
    return outcome("ca-bundle", InstalledApi(store), now=at or now())


def served(store: Store, folder: Path, **pairs: Pair | None) -> Outcome:
    """What the check finds if these replicas serve these certificates."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, pair in pairs.items():
            (folder / name).mkdir()
            ports[name.replace("_", "-")] = stack.enter_context(replica(pair, folder / name))
        return outcome("served-certificate", InstalledApi(store, replicas=ports))


def good(*hosts: str) -> Pair:
    return authority().issue_server(hosts=[*hosts] or [HOST])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_registered_is_skipped(name: str) -> None:
    assert outcome(name, InstalledApi(Store())).result is Result.SKIPPED


@pytest.mark.parametrize("name", NAMES)
def test_missing_permission_is_unknown(name: str) -> None:
    assert outcome(name, InstalledApi(installed(), forbidden="admissionregistration")).result is Result.UNKNOWN


@pytest.mark.parametrize(
    "config", [None, {}, {"service": {}}, {"service": {"name": None}}, {"url": 5}, {"caBundle": "!"}]
)
@pytest.mark.parametrize("name", NAMES)
def test_entry_of_another_shape_is_unknown(name: str, config: object) -> None:
    store = installed()
    entries(store)[0]["clientConfig"] = config

    assert outcome(name, InstalledApi(store)).result is Result.UNKNOWN


def test_bundle_is_valid() -> None:
    found = bundle(installed())

    assert (found.result, words(found)) == (Result.PASSED, "")


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "caBundle is empty"),
        (b"garbage", "has no readable certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "has no readable certificate"),
        # Each beginning read to the end of the bundle would take hours: the time limit of a test ends it.
        (b"-----BEGIN CERTIFICATE-----" * 200_000, "has no readable certificate"),
    ],
)
def test_bundle_that_verifies_nothing_fails(pem: bytes, message: str) -> None:
    store = installed()
    set_bundle(store, pem)

    found = bundle(store)

    assert found.result is Result.FAILED
    assert message in words(found)
    assert outcome("served-certificate", InstalledApi(store)).result is Result.SKIPPED


def results(api: InstalledApi, *, at: int) -> dict[str, Result]:
    """What the three checks of a caBundle find."""
    return {name: outcome(name, api, now=at).result for name in ("ca-bundle", "ca-certificate", "served-certificate")}


def test_expired_bundle_is_reported_once(tmp_path: Path) -> None:
    api = InstalledApi(installed())

    assert results(api, at=now() + 2 * DAY) == {
        "ca-bundle": Result.PASSED,
        "ca-certificate": Result.FAILED,
        "served-certificate": Result.SKIPPED,
    }
    with replica(good(), tmp_path) as port:
        api.replicas = dict.fromkeys(("replica-a", "replica-b"), port)
        assert set(results(api, at=now()).values()) == {Result.PASSED}


def test_bundle_that_is_not_valid_yet_fails() -> None:
    found = outcome("ca-certificate", InstalledApi(installed()), now=now() - DAY)

    assert found.result is Result.FAILED
    assert "is not valid for another" in words(found)


def test_bundle_is_judged_by_the_clock_of_the_api_server() -> None:
    api = InstalledApi(installed())
    api.skew_seconds = 2 * DAY  # the clock here is late

    assert results(api, at=now())["ca-certificate"] is Result.FAILED
    assert results(api, at=now())["served-certificate"] is Result.SKIPPED


def test_large_bundle_with_garbage_is_read() -> None:
    store = installed()
    set_bundle(store, b"x" * 500_000 + authority().pem * 700 + b"-----BEGIN CERTIFICATE-----\nx")

    assert bundle(store).result is Result.PASSED


def test_empty_bundle_of_url_is_valid() -> None:
    store = installed()
    for plural in (MUTATING, VALIDATING):
        for entry in entries(store, plural):
            entry["clientConfig"] = {"url": "https://hooks.example.com/mutate"}

    assert bundle(store).result is Result.PASSED
    assert outcome("registered-service", InstalledApi(store)).result is Result.SKIPPED


def test_service_has_the_port() -> None:
    assert outcome("registered-service", InstalledApi(installed())).result is Result.PASSED


@pytest.mark.parametrize("ports", [None, [], [{"name": "https", "port": 8443}]])
def test_service_without_the_port_fails(ports: object) -> None:
    store = installed()
    store.objects["services", NAME, NAME]["spec"]["ports"] = ports

    found = outcome("registered-service", InstalledApi(store))

    assert found.result is Result.FAILED
    assert "has no port 443" in words(found)


def test_missing_and_second_service_fail() -> None:
    store = installed()
    entries(store)[0]["clientConfig"]["service"]["namespace"] = "elsewhere"

    found = outcome("registered-service", InstalledApi(store))

    assert found.result is Result.FAILED
    assert "in namespace elsewhere does not exist" in words(found)
    assert "several Services" in words(found)


def test_every_replica_serves_a_verified_certificate(tmp_path: Path) -> None:
    found = served(installed(), tmp_path, replica_a=good(), replica_b=good())

    assert (found.result, words(found)) == (Result.PASSED, "")
    assert found.seen == f"2 ready Pods of Service {NAME} in namespace {NAME}"


def test_one_replica_with_a_foreign_certificate_fails(tmp_path: Path) -> None:
    foreign = Authority.create("webhook-ca").issue_server(hosts=[HOST])

    found = served(installed(), tmp_path, replica_a=good(), replica_b=foreign)

    assert found.result is Result.FAILED
    assert "Pod replica-b serves a certificate that caBundle of " in words(found)
    assert "replica-a" not in words(found)


def test_foreign_bundle_of_one_entry_fails(tmp_path: Path) -> None:
    store = installed()
    foreign = base64.b64encode(Authority.create("other").pem).decode()
    entries(store, VALIDATING)[0]["clientConfig"]["caBundle"] = foreign

    found = served(store, tmp_path, replica_a=good(), replica_b=good())

    assert found.result is Result.FAILED
    assert "caBundle of warn.dapr-token-injector.svc does not verify" in words(found)
    assert "inject.dapr-token-injector.svc" not in words(found)


OUT_OF_TIME = [dt.timedelta(days=2), dt.timedelta(days=-1)]


@pytest.mark.parametrize("age", OUT_OF_TIME)
def test_expired_certificate_is_reported_once(tmp_path: Path, age: dt.timedelta) -> None:
    store = installed()
    late = authority().issue_server(hosts=[HOST], age=age)

    found = served(store, tmp_path, replica_a=late, replica_b=good())
    with replica(late, tmp_path) as port:
        api = InstalledApi(store, replicas={"replica-a": port})
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        ports = [{"name": "webhook", "containerPort": 10250}]
        meta = {"namespace": NAME, "name": "replica-a", "labels": {"app.kubernetes.io/name": NAME}}
        store.put("pods", {"metadata": meta, "spec": {"containers": [{"ports": ports}]}, "status": status})
        of_expiry = outcome("serving-certificate", api, now=now())

    assert (found.result, words(found)) == (Result.PASSED, "")
    assert (of_expiry.result, len(of_expiry.problems)) == (Result.FAILED, 1)


@pytest.mark.parametrize("age", OUT_OF_TIME)
def test_expired_certificate_with_another_fault_fails(tmp_path: Path, age: dt.timedelta) -> None:
    foreign = Authority.create("webhook-ca").issue_server(hosts=[HOST], age=age)
    misnamed = authority().issue_server(hosts=["other.svc"], age=age)

    found = served(installed(), tmp_path, replica_a=foreign, replica_b=misnamed)

    assert [one.result for one in found.problems] == [Result.FAILED] * 2
    assert "expired" not in words(found)


def test_valid_certificate_of_an_expired_ca_fails(tmp_path: Path) -> None:
    store = installed()
    late = Authority.create("late", age=dt.timedelta(days=2))
    set_bundle(store, late.pem + authority().pem)

    found = served(store, tmp_path, replica_a=late.issue_server(hosts=[HOST]), replica_b=good())

    assert "Pod replica-a serves a certificate that caBundle" in words(found)
    assert "certificate has expired" in words(found)
    assert "replica-b" not in words(found)


def test_certificate_for_another_name_fails(tmp_path: Path) -> None:
    found = served(installed(), tmp_path, replica_a=good("other.svc"), replica_b=good())

    assert found.result is Result.FAILED
    assert HOST in words(found)


def test_replica_without_tls_fails(tmp_path: Path) -> None:
    found = served(installed(), tmp_path, replica_a=None, replica_b=good())

    assert found.result is Result.FAILED
    assert words(found) == "Pod replica-a does not speak TLS on the registered port: every call to it fails"


def test_forbidden_port_forward_names_the_permission() -> None:
    found = outcome("served-certificate", InstalledApi(installed(), forbidden="portforward"))

    assert found.result is Result.UNKNOWN
    assert "you need get and create on pods/portforward" in words(found)


def close_after(seconds: float) -> Callable[..., None]:
    def wrap(*_: object, **__: object) -> None:
        time.sleep(seconds)
        raise ssl.SSLError

    return wrap


def test_replica_that_closes_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.unit.check.installed.ssl.SSLContext.wrap_socket", close_after(0))

    found = served(installed(), tmp_path, replica_a=good(), replica_b=good())

    assert found.result is Result.UNKNOWN
    assert "Pod replica-a cannot be connected to: " in words(found)


def test_silent_replica_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("injector.check.trust.HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr("tests.unit.check.installed.ssl.SSLContext.wrap_socket", close_after(1))

    found = served(installed(), tmp_path, replica_a=good(), replica_b=good())

    assert found.result is Result.UNKNOWN
    assert "no answer within 0.2 s" in words(found)


def test_no_ready_replica_is_unknown() -> None:
    store = installed()
    put_replicas(store)

    found = outcome("served-certificate", InstalledApi(store))

    assert found.result is Result.UNKNOWN
    assert "has no ready Pod" in words(found)


@pytest.mark.parametrize("endpoints", [None, [{"addresses": ["10.0.0.1"]}], [{"targetRef": None, "addresses": None}]])
def test_endpoints_that_are_not_pods_are_unknown(endpoints: object) -> None:
    store = installed()
    store.objects["endpointslices", NAME, NAME]["endpoints"] = endpoints

    assert outcome("served-certificate", InstalledApi(store)).result is Result.UNKNOWN


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("days", [0, 2])
def test_url_is_connected_to(tmp_path: Path, days: int, *, foreign: bool) -> None:
    store = installed()
    issuer = Authority.create("other") if foreign else authority()
    pair = issuer.issue_server(hosts=["127.0.0.1"], age=dt.timedelta(days=days))
    with replica(pair, tmp_path) as port:
        for plural in (MUTATING, VALIDATING):
            for entry in entries(store, plural):
                del entry["clientConfig"]["service"]
                entry["clientConfig"]["url"] = f"https://127.0.0.1:{port}/mutate"
        found = outcome("served-certificate", InstalledApi(store))

    assert found.result is (Result.FAILED if foreign or days else Result.PASSED)
    assert found.seen == f"127.0.0.1:{port}"


def test_url_that_does_not_answer_is_unknown(tmp_path: Path) -> None:
    store = installed()
    with replica(None, tmp_path) as port:
        pass
    entries(store)[0]["clientConfig"] = {"url": f"https://127.0.0.1:{port}/mutate"}
    put_replicas(store)

    found = outcome("served-certificate", InstalledApi(store))

    assert f"127.0.0.1:{port} cannot be connected to: the connection was closed" in words(found)
