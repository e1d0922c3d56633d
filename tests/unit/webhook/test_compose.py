from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from injector.config.settings import Given, load
from injector.core.errors import ConfigError
from injector.core.model import Policy
from injector.webhook import compose
from injector.webhook.certs.pair import ServingPair, parse_pair
from tests.http.certificates import NOW, Issuer, key_pem, new_key

if TYPE_CHECKING:
    from injector.config.settings import Settings

FILES = {"tls_mode": "files", "tls_cert_file": "a", "tls_private_key_file": "b"}


def settings(**flags: str) -> Settings:
    return load(Given({**FILES, "host": "127.0.0.1", "ops_host": "127.0.0.1", **flags}, {}))


def pair() -> ServingPair:
    key = new_key()
    return parse_pair(Issuer().issue(key), key_pem(key), NOW)


def problems(chosen: Settings, serving: ServingPair) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose.serve(chosen, Policy(), serving, terminal=False)
    return [str(problem) for problem in caught.value.problems]


def test_all_unavailable_ports_are_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = problems(settings(port=port, ops_port="0", ops_host="203.0.113.1"), pair())
    assert [problem.partition(":")[0] for problem in found] == ["--port", "--ops-port"]
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in found[0]


def test_opened_port_is_closed_when_the_other_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = problems(settings(port="0", ops_port=str(taken.getsockname()[1])), pair())
    assert [problem.partition(":")[0] for problem in found] == ["--ops-port"]


def test_pair_rejected_by_openssl_is_reported_with_its_file() -> None:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    chain = Issuer().issue(small)  # type: ignore[arg-type] # any key can be signed
    weak = parse_pair(chain, key_pem(small), NOW)  # type: ignore[arg-type] # as above
    assert problems(settings(), weak)[0].startswith("--tls-cert-file: OpenSSL rejects the pair")


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (100, 100_000, 1024 + 512),
        (100, 500, 500),
        (100, resource.RLIM_INFINITY, 1024 + 512),
        (10_000, 100_000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_descriptor_limit_is_raised_to_the_hard_limit(
    soft: int, hard: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    compose._raise_descriptors(1024)
    assert asked == ([] if expected is None else [(expected, hard)])


def test_files_missing_in_settings_are_an_internal_error() -> None:
    with pytest.raises(ValueError, match="both TLS files must be set"):
        compose._needed(None)
