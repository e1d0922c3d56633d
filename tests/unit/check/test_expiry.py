"""The checks of certificates, with certificates of every age."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from injector.check import expiry
from injector.check.model import Result
from injector.kube.errors import UnavailableError
from tests.fake_cluster.client import StoreApi
from tests.unit.check.certificates import self_signed
from tests.unit.check.checking import NOW, outcome
from tests.unit.check.installed import InstalledApi
from tests.unit.check.sound_webhook import NAME, READY, forbidding, installed, messages, pod

if TYPE_CHECKING:
    from injector.check.reader import ClusterReader

Json = dict[str, Any]
HOUR = 3600
DAY = 24 * HOUR


def certificate(age: float, lifetime: int = DAY) -> bytes:
    """Return a certificate of which this part of its lifetime has passed."""
    begins = NOW - int(age * lifetime)
    return self_signed(begins=begins, ends=begins + lifetime).certificate


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | str]:
    """The certificate of each Pod by its name, or why it cannot be read."""
    by_pod: dict[str, bytes | str] = {}

    async def certificate(_: ClusterReader, pod: Json) -> x509.Certificate:
        answer = by_pod[pod["metadata"]["name"]]
        if isinstance(answer, str):
            raise UnavailableError("read the certificate", why=answer)
        return x509.load_pem_x509_certificate(answer)

    monkeypatch.setattr(expiry, "served_certificate", certificate)
    return by_pod


AGES = [
    (0.0, DAY, []),
    (2 / 3, DAY, []),
    (0.69, DAY, []),
    (0.71, DAY, [("warning", "expires in 6 hours (2023-11-15T05:10:56Z): its renewal is overdue")]),
    (0.91, DAY, [("failed", "expires in 2 hours (2023-11-15T00:22:56Z)")]),
    (1.0, DAY, [("failed", "expired 0 seconds ago (2023-11-14T22:13:20Z)")]),
    (2.0, DAY, [("failed", "expired 24 hours ago (2023-11-13T22:13:20Z)")]),
    (0.5, HOUR, []),
    (0.68, HOUR, []),
    (0.95, HOUR, [("failed", "expires in 3 minutes (2023-11-14T22:16:20Z)")]),
    (-60 / DAY, DAY, []),
    (-0.25, DAY, [("failed", "is not valid for another 6 hours: a clock is wrong")]),
]


@pytest.mark.parametrize(("age", "lifetime", "problems"), AGES)
def test_serving_certificate_by_age(
    served: dict[str, bytes | str], age: float, lifetime: int, problems: list[tuple[str, str]]
) -> None:
    served |= {"1": certificate(0.1), "2": certificate(age, lifetime)}

    found = outcome("serving-certificate", StoreApi(installed()))

    assert messages(found) == [(result, f"the certificate of Pod 2 {words}") for result, words in problems]
    assert found.seen.startswith("2 certificates of 2 ready Pods")


@pytest.mark.parametrize(("age", "lifetime", "problems"), AGES)
def test_ca_certificate_by_age(age: float, lifetime: int, problems: list[tuple[str, str]]) -> None:
    store = installed()
    put_bundle(store.objects["mutatingwebhookconfigurations", "", NAME], certificate(age, lifetime))

    found = outcome("ca-certificate", StoreApi(store))

    what = "the CA in the caBundle of inject.dapr-token-injector.svc"
    assert messages(found) == [(result, f"{what} {words}") for result, words in problems]
    assert found.seen == "1 caBundle"


def put_bundle(configuration: Json, *certificates: bytes) -> None:
    for entry in configuration["webhooks"]:
        entry["clientConfig"]["caBundle"] = base64.b64encode(b"".join(certificates)).decode()


@pytest.mark.parametrize(("skew", "result"), [(-HOUR, Result.PASSED), (0, Result.FAILED)])
def test_clock_of_the_api_server_counts(served: dict[str, bytes | str], skew: int, result: Result) -> None:
    """The clock here is an hour ahead: a certificate of an hour seems to have expired."""
    served |= dict.fromkeys(("1", "2"), certificate(0.25, HOUR))
    api = StoreApi(installed())
    api.skew_seconds = skew

    assert outcome("serving-certificate", api, now=NOW + HOUR).result is result


def test_last_ca_of_a_bundle_counts() -> None:
    store = installed()
    put_bundle(store.objects["mutatingwebhookconfigurations", "", NAME], *map(certificate, (0.99, 0.1, 1.5)))

    assert outcome("ca-certificate", StoreApi(store)).result is Result.PASSED


def test_validating_configuration_is_read_too() -> None:
    store = installed()
    entries = [{"name": name, "clientConfig": {}} for name in ("warn", "warn")]
    warn = store.put("validatingwebhookconfigurations", {"metadata": {"name": NAME}, "webhooks": entries})
    put_bundle(warn, certificate(0.95))

    found = outcome("ca-certificate", StoreApi(store))

    assert (found.seen, len(found.problems)) == ("2 caBundles", 1)
    assert found.problems[0].message.startswith("the CA in the caBundle of warn expires in 72 minutes")


@pytest.mark.parametrize("bundle", [b"not a certificate", b"x" * 100_000, b"-----BEGIN CERTIFICATE-----"])
def test_bundle_that_is_not_a_certificate_is_reported_once(bundle: bytes) -> None:
    store = installed()
    put_bundle(store.objects["mutatingwebhookconfigurations", "", NAME], bundle)

    assert messages(outcome("ca-bundle", StoreApi(store))) == [
        ("failed", "inject.dapr-token-injector.svc: caBundle has no readable certificate: every call fails")
    ]
    assert outcome("ca-certificate", StoreApi(store)).result is Result.SKIPPED


@pytest.mark.parametrize("bundle", ["x", "\u1234"])
def test_bundle_that_is_not_base64_is_unknown(bundle: str) -> None:
    store = installed()
    store.objects["mutatingwebhookconfigurations", "", NAME]["webhooks"][0]["clientConfig"]["caBundle"] = bundle

    assert outcome("ca-certificate", StoreApi(store)).result is Result.UNKNOWN


@pytest.mark.parametrize("webhooks", [None, [], [{"name": "x", "clientConfig": None}]])
def test_no_bundle_is_skipped(webhooks: list[Json] | None) -> None:
    store = installed()
    store.objects["mutatingwebhookconfigurations", "", NAME]["webhooks"] = webhooks

    assert outcome("ca-certificate", StoreApi(store)).result is Result.SKIPPED


def test_forbidden_configurations_are_unknown() -> None:
    api = StoreApi(installed(), forbidding("validatingwebhookconfigurations"))

    assert outcome("ca-certificate", api).result is Result.UNKNOWN


def test_unreadable_certificate_is_unknown_and_the_others_count(served: dict[str, bytes | str]) -> None:
    served |= {"1": "you need get and create on pods/portforward", "2": certificate(0.95)}

    found = outcome("serving-certificate", StoreApi(installed()))

    assert [one.result for one in found.problems] == [Result.UNKNOWN, Result.FAILED]
    assert "pods/portforward" in found.problems[0].message
    assert found.seen == "1 certificate of 2 ready Pods, valid for at least 72 minutes"


def test_thousand_pods_get_twenty_handshakes(served: dict[str, bytes | str]) -> None:
    store = installed()
    for number in range(1000):
        store.put("pods", pod(f"p{number:03}"))
    served |= dict.fromkeys(["1", "2", *(f"p{number:03}" for number in range(18))], certificate(0.1))

    found = outcome("serving-certificate", StoreApi(store))

    assert (found.result, found.seen) == (
        Result.PASSED,
        "20 certificates of 1,002 ready Pods, valid for at least 21 hours",
    )


def test_no_ready_pod_is_skipped(served: dict[str, bytes | str]) -> None:
    store = installed()
    for name, status in (("1", {}), ("2", {"conditions": None})):
        store.put("pods", pod(name, status=status, volumes=None))

    assert outcome("serving-certificate", StoreApi(store)).result is Result.SKIPPED
    assert served == {}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"conditions": READY}, None),
        ({"conditions": READY, "failedIssuanceAttempts": 3}, ("warning", "could not be renewed; failed attempts: 3")),
        (
            {"conditions": [{"type": "Ready", "status": "False", "reason": "DoesNotExist", "message": "no\nissuer"}]},
            ("failed", "is not ready: no issuer"),
        ),
        (
            {"conditions": [{"type": "Ready", "status": "False", "reason": "Expired"}]},
            ("failed", "is not ready: Expired"),
        ),
        (None, ("failed", "is not ready: it has no condition Ready")),
    ],
)
def test_certificate_of_cert_manager(
    served: dict[str, bytes | str], status: Json | None, problem: tuple[str, str] | None
) -> None:
    served |= dict.fromkeys(("1", "2"), certificate(0.1))
    store = installed()
    store.put("pods", pod("1", volumes=[{"configMap": {}}, {"secret": {"secretName": "tls"}}]))
    for name, secret, known in (("mine", "tls", status), ("other", "other", None)):
        item = {"metadata": {"name": name, "namespace": NAME}, "spec": {"secretName": secret}, "status": known}
        store.put("certificates", item)

    found = outcome("serving-certificate", StoreApi(store))

    name = f"Certificate {NAME}/mine of cert-manager"
    assert messages(found) == ([] if problem is None else [(problem[0], f"{name} {problem[1]}")])


@pytest.mark.parametrize("is_served", [True, False])
def test_unreadable_certificates_of_cert_manager(served: dict[str, bytes | str], *, is_served: bool) -> None:
    served |= dict.fromkeys(("1", "2"), certificate(0.1))
    store = installed()
    store.put("pods", pod("1", volumes=[{"secret": {"secretName": "tls"}}]))
    api = InstalledApi(store, forbidden="certificates")
    if is_served:
        api.answers["/apis/cert-manager.io/v1"] = {"resources": []}

    found = outcome("serving-certificate", api)

    unseen = (
        f"whether cert-manager could renew the certificates is not known: cannot list certificates in namespace {NAME}"
    )
    assert messages(found) == ([("unknown", f"{unseen}: not allowed: no")] if is_served else [])
    assert found.seen == "2 certificates of 2 ready Pods, valid for at least 21 hours"
