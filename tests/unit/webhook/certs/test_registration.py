from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

from injector.config.shapes import KeyAlgorithm
from injector.webhook.certs import registration
from injector.webhook.certs.authority import make_authority
from tests.http.certificates import NOW, Issuer

OLD, NEW = (make_authority(KeyAlgorithm.ECDSA_P256, timedelta(days=1), NOW).anchor for _ in range(2))


def configuration(*bundles: bytes | None, names: tuple[str, ...] = ("inject", "default")) -> dict[str, Any]:
    webhooks = [
        {
            "name": f"{name}.dapr-token-injector.svc",
            "clientConfig": {} if bundle is None else {"caBundle": base64.b64encode(bundle).decode()},
            "rules": [],
        }
        for name, bundle in zip(names, bundles, strict=True)
    ]
    foreign = {"name": "other.example.com", "clientConfig": {"caBundle": "eA=="}}
    return {"metadata": {"uid": "u", "resourceVersion": "7"}, "webhooks": [*webhooks, foreign]}


def test_apply_body_has_only_the_bundles_of_our_entries() -> None:
    seen = registration.read(configuration(None, b""))
    bundle = base64.b64encode(NEW.pem + OLD.pem).decode()
    assert registration.body(seen, (NEW, OLD)) == {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "webhooks": [
            {"name": "inject.dapr-token-injector.svc", "clientConfig": {"caBundle": bundle}},
            {"name": "default.dapr-token-injector.svc", "clientConfig": {"caBundle": bundle}},
        ],
    }


def test_bundles_are_compared_by_trusted_cas() -> None:
    seen = registration.read(configuration(OLD.pem + NEW.pem, b"# words\n" + NEW.pem + OLD.pem + NEW.pem))
    assert seen.is_exactly((NEW, OLD))
    assert seen.trusts(NEW)
    assert not seen.is_exactly((NEW,))


@pytest.mark.parametrize("other", [None, b"", b"junk", Issuer().pem, NEW.pem])
def test_one_differing_entry_makes_a_configuration_differ(other: bytes | None) -> None:
    seen = registration.read(configuration(OLD.pem, other))
    assert not seen.is_exactly((OLD,))
    assert not seen.trusts(OLD)


def test_foreign_ca_next_to_ours_differs() -> None:
    seen = registration.read(configuration(OLD.pem, OLD.pem + Issuer().pem))
    assert seen.trusts(OLD)
    assert not seen.is_exactly((OLD,))


@pytest.mark.parametrize("webhooks", [None, [], [{"name": "other.example.com"}]])
def test_configuration_without_our_entry_needs_no_write(webhooks: list[Any] | None) -> None:
    seen = registration.read({"metadata": {"uid": "u", "resourceVersion": "7"}, "webhooks": webhooks})
    assert seen.entries == ()
    assert seen.trusts(OLD)
    assert seen.is_exactly((OLD,))


@pytest.mark.parametrize("entry", [{}, {"clientConfig": None}, {"clientConfig": {"caBundle": "?"}}])
def test_malformed_entries_trust_no_ca(entry: dict[str, Any]) -> None:
    seen = registration.read(
        {
            "metadata": {"uid": "u", "resourceVersion": "7"},
            "webhooks": [{"name": "warn.dapr-token-injector.svc", **entry}],
        }
    )
    assert not seen.trusts(OLD)
