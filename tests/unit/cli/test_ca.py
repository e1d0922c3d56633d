from __future__ import annotations

import base64
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import pytest

from injector.cli import ca
from injector.cli.main import main
from injector.config.shapes import KeyAlgorithm
from injector.core import names
from injector.core.ownership import SecretRef
from injector.kube.errors import ForbiddenError, UnauthorizedError
from injector.webhook.certs import keyring
from injector.webhook.certs.authority import make_authority
from injector.webhook.certs.keyring import Keyring, RotationDelays
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Refusal, Store
from tests.unit.kube.manual_clock import run_with_manual_clock

if TYPE_CHECKING:
    from injector.kube.resources import Object
    from injector.kube.transport import Request

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
FIRST, SECOND = (make_authority(KeyAlgorithm.ECDSA_P256, 300 * DAY, NOW) for _ in range(2))
STEADY = Keyring(signing=FIRST, delays=RotationDelays(timedelta(minutes=5), DAY))
PUBLISHING = dataclasses.replace(STEADY, next_ca=SECOND)
SETTLING = dataclasses.replace(PUBLISHING, published=NOW)
RETIRING = dataclasses.replace(STEADY, signing=SECOND, previous=(FIRST.anchor,), promoted=NOW)
REF = SecretRef("dapr", "ca")


class Cluster(StoreApi):
    """A Secret that is further on each time it is read; configurations are registered by name."""

    def __init__(self, *rings: Keyring | None, data: dict[str, str] | None = None, asked: bool = False) -> None:
        metadata = {"namespace": "dapr", "name": "ca", "annotations": {names.ROTATE_CA: "x"} if asked else {}}
        base: dict[str, Any] = {"metadata": metadata, "data": data or {}}
        self.states = [base if ring is None else keyring.write(base, ring) for ring in rings]
        self.store = Store(called=self._advance, version=6)
        self.patches: list[Any] = []
        super().__init__(self.store)

    def _advance(self, call: str) -> None:
        if call == "GET /api/v1/namespaces/dapr/secrets/ca" and self.states:
            self.store.put("secrets", self.states.pop(0))

    def register(self, what: str, bundle: bytes) -> None:
        """Put a configuration with this CA bundle."""
        plural, name = what.split("/")
        config = {"caBundle": base64.b64encode(bundle).decode()}
        entry = {"name": "inject.dapr-token-injector.svc", "clientConfig": config}
        self.store.put(plural, {"metadata": {"name": name}, "webhooks": [entry]})

    async def send(self, request: Request) -> Object:
        if request.method == "PATCH":
            self.patches.append(request.body)
        return await super().send(request)


def request(cluster: Cluster, timeout_seconds: float | None = None) -> ca.CaRotation:
    return run_with_manual_clock(ca.request_rotation(cluster, REF, timeout_seconds))


def test_rotate_requests_successor_of_steady_ca() -> None:
    cluster = Cluster(STEADY)
    result = request(cluster)
    assert (result.requested, result.signs, result.phase) == (True, False, "steady")
    (patch,) = cluster.patches
    assert patch["metadata"]["resourceVersion"] == "7"
    assert list(patch["metadata"]["annotations"]) == [names.ROTATE_CA]
    first, second, third = result.text().splitlines()
    assert first == "Requested a new CA. Phase: steady."
    assert second.startswith("The new CA will sign from about 20")
    assert third.startswith("The previous CA is trusted until about 20")


@pytest.mark.parametrize("ring", [PUBLISHING, SETTLING, RETIRING])
def test_rotation_in_progress_is_reported_not_restarted(ring: Keyring) -> None:
    cluster = Cluster(ring)
    result = request(cluster)
    assert cluster.patches == []
    assert result.text().startswith("A rotation is in progress; no new one was requested.")
    assert result.signs is (ring is RETIRING)
    assert result.document()["secret"] == "dapr/ca"


MUTATING = "mutatingwebhookconfigurations/dapr-token-injector"
VALIDATING = "validatingwebhookconfigurations/dapr-token-injector"
BOTH = FIRST.anchor.pem + SECOND.anchor.pem


@pytest.mark.parametrize("timeout_seconds", [None, 0])
def test_configurations_without_the_next_ca_are_named(timeout_seconds: float | None) -> None:
    cluster = Cluster(PUBLISHING)  # without a validating one
    cluster.register(MUTATING, BOTH)
    cluster.register(f"{MUTATING}-2", FIRST.anchor.pem)
    result = request(cluster, timeout_seconds)
    assert result.document()["notYetIn"] == [f"{MUTATING}-2"]
    assert result.document()["unknown"] == []
    assert result.text().endswith(f"\nThe CA bundle of {MUTATING}-2 does not contain the new CA yet.")


@pytest.mark.parametrize(
    ("status", "because"),
    [
        (403, ForbiddenError.because),
        (503, "the API server answers with status 503"),
        (401, UnauthorizedError.because),
    ],
)
@pytest.mark.parametrize("timeout_seconds", [None, 0])
def test_unreadable_configurations_are_unknown(timeout_seconds: float | None, status: int, because: str) -> None:
    unread = [f"{MUTATING}-2", VALIDATING]
    cluster = Cluster(PUBLISHING)
    cluster.store.refusals = [Refusal(f"GET .*/({'|'.join(unread)})$", status)]
    cluster.register(MUTATING, FIRST.anchor.pem)
    result = request(cluster, timeout_seconds)
    assert result.document()["notYetIn"] == [MUTATING]
    messages = [f"cannot get {what}: {because}" for what in unread]
    assert result.document()["unknown"] == [
        {"configuration": what, "message": message} for what, message in zip(unread, messages, strict=True)
    ]
    assert result.text().splitlines()[-2:] == [
        f"It is unknown whether the CA bundle of {what} contains the new CA: {message}."
        for what, message in zip(unread, messages, strict=True)
    ]


def test_configurations_are_not_read_while_none_is_waited_for() -> None:
    cluster = Cluster(SETTLING)
    cluster.store.refusals = [Refusal("GET .*configurations", 403)]
    assert request(cluster).document()["unknown"] == []


@pytest.mark.parametrize("rings", [(SETTLING,), (PUBLISHING, RETIRING)])
def test_no_configuration_is_named_once_the_next_ca_is_everywhere(rings: tuple[Keyring, ...]) -> None:
    cluster = Cluster(*rings)
    cluster.register(MUTATING, FIRST.anchor.pem)
    assert request(cluster).document()["notYetIn"] == []


def test_pending_request_is_not_repeated() -> None:
    cluster = Cluster(STEADY, asked=True)
    assert request(cluster).requested
    assert cluster.patches == []


def test_wait_reports_each_phase_once_until_new_ca_signs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = Cluster(STEADY, STEADY, PUBLISHING, PUBLISHING, SETTLING, RETIRING)
    assert request(cluster, timeout_seconds=60).signs
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "steady",
        "publishing",
        "settling",
        "retiring",
    ]


def test_wait_detects_rotation_completed_between_polls() -> None:
    done = dataclasses.replace(STEADY, signing=SECOND)
    assert request(Cluster(STEADY, done), timeout_seconds=60).signs


def test_wait_ends_at_the_timeout() -> None:
    assert not request(Cluster(STEADY), timeout_seconds=0).signs


@pytest.mark.parametrize(
    ("cluster", "words"),
    [(Cluster(None), "is empty"), (Cluster(None, data={"tls.crt": "eA=="}), "it was not modified")],
)
def test_secret_without_our_ca_is_rejected(cluster: Cluster, words: str) -> None:
    with pytest.raises(click.ClickException, match=words):
        request(cluster)
    assert cluster.patches == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--timeout", "soon"], 'Error: --timeout: "soon" is not a duration; use a whole number and a unit'),
        (["--kubeconfig", "/nowhere/config"], "cannot read the kubeconfig /nowhere/config"),
    ],
)
def test_usage_error_is_reported(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca", "rotate", *flags]) == 2
    assert words in capsys.readouterr().err
