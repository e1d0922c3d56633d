from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

from injector.config.shapes import KeyAlgorithm
from injector.core import names
from injector.webhook.certs import keyring
from injector.webhook.certs.authority import make_authority
from injector.webhook.certs.keyring import ForeignSecretError, Keyring, RotationDelays
from tests.http.certificates import NOW, Issuer, key_pem, new_key

DAY = timedelta(days=1)
DELAYS = RotationDelays(settle_time=timedelta(seconds=1.5), leaf_lifetime=DAY)
FIRST, SECOND, THIRD = (make_authority(KeyAlgorithm.ECDSA_P256, 100 * DAY, NOW) for _ in range(3))
EMPTY: dict[str, Any] = {"kind": "Secret", "metadata": {"name": "ca", "annotations": {"a": "b"}}, "type": "Opaque"}
RINGS = [
    Keyring(signing=FIRST, delays=DELAYS),
    Keyring(signing=FIRST, delays=DELAYS, next_ca=SECOND),
    Keyring(signing=FIRST, delays=DELAYS, next_ca=SECOND, published=NOW),
    Keyring(signing=SECOND, delays=DELAYS, previous=(FIRST.anchor, THIRD.anchor), promoted=NOW),
]


@pytest.mark.parametrize("ring", RINGS)
def test_keyring_round_trip(ring: Keyring) -> None:
    assert keyring.read(keyring.write(EMPTY, ring)) == ring


@pytest.mark.parametrize("ring", RINGS)
def test_nothing_of_the_keyring_before_stays(ring: Keyring) -> None:
    full = keyring.write(EMPTY, Keyring(signing=THIRD, delays=DELAYS, next_ca=SECOND, previous=(FIRST.anchor,)))
    assert keyring.read(keyring.write(full, ring)) == ring


def test_foreign_keys_of_the_secret_are_kept() -> None:
    written = keyring.write({**EMPTY, "data": {"note": "aGk="}}, RINGS[0])
    assert written["data"]["note"] == "aGk="
    assert (written["metadata"], written["type"]) == (EMPTY["metadata"], "Opaque")
    assert keyring.read(written) == RINGS[0]


@pytest.mark.parametrize("data", [None, {}, {"ca.crt": "", "ca.key": ""}])
def test_empty_secret_has_no_keyring(data: dict[str, str] | None) -> None:
    assert keyring.read({**EMPTY, "data": data}) is None


def _encoded(content: dict[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in content.items()}


GOOD = {key: base64.b64decode(value) for key, value in keyring.write(EMPTY, RINGS[3])["data"].items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ca.crt": b""}, "ca.crt with ca.key contains no readable PEM certificate"),
        ({"ca.key": b""}, "ca.crt with ca.key contains no readable ECDSA or RSA key"),
        ({"ca.crt": b"", "ca.key": b""}, "it has no ca.crt"),
        ({"ca.key": SECOND.key[:-40]}, "ca.crt with ca.key contains no readable ECDSA or RSA key"),
        ({"ca.crt": Issuer().pem}, "not from a CA of the injector"),
        ({"next.crt": FIRST.anchor.pem}, "next.crt with next.key contains no readable"),
        ({"next.crt": FIRST.anchor.pem, "next.key": key_pem(new_key())}, "does not match the private key"),
        ({"previous.crt": b"junk"}, "previous.crt contains no readable"),
        ({"previous.crt": Issuer().pem}, "previous.crt contains a certificate that is not from a CA of the injector"),
        ({"state.json": b""}, "state.json cannot be read"),
        ({"state.json": b"{}"}, "state.json cannot be read"),
        ({"state.json": b'{"x":' * 100_000}, "state.json cannot be read"),
        ({"state.json": b'{"settleSeconds": -1, "leafLifetimeSeconds": 1}'}, "state.json cannot be read"),
        ({"state.json": b'{"settleSeconds": 1e99, "leafLifetimeSeconds": 1}'}, "state.json cannot be read"),
    ],
)
def test_unreadable_secret_is_foreign(change: dict[str, bytes], words: str) -> None:
    with pytest.raises(ForeignSecretError, match=words) as caught:
        keyring.read({**EMPTY, "data": _encoded({**GOOD, **change})})
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("data", [{"tls.crt": "eA=="}, {"ca.crt": "?"}, {"ca.crt": 7}])
def test_secret_of_another_type_is_foreign(data: dict[str, Any]) -> None:
    with pytest.raises(ForeignSecretError):
        keyring.read({**EMPTY, "data": data})


def test_rotation_request_is_read_and_removed() -> None:
    asked = {**EMPTY, "metadata": {"name": "ca", "annotations": {"a": "b", names.ROTATE_CA: "now"}}}
    assert keyring.rotation_request(asked) == "now"
    assert keyring.without_request(asked) == EMPTY
    assert keyring.rotation_request({"metadata": {}}) == ""
    assert keyring.without_request({"metadata": {}}) == {"metadata": {"annotations": {}}}


def test_of_two_waits_the_longer_holds() -> None:
    longer = RotationDelays(timedelta(seconds=1), 2 * DAY)
    assert longer.at_least(DELAYS) == DELAYS.at_least(longer) == RotationDelays(DELAYS.settle_time, 2 * DAY)
