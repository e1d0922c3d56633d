"""The token of a kubeconfig's OIDC user is renewed by its issuer, and the refresh token goes nowhere else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

from injector.kube.client import Api
from injector.kube.errors import KubeconfigError
from tests.controlplane.pki import Authority
from tests.fake_cluster.http_json import kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

REFRESH: Final = "refresh-token-0123456789"
SECRET: Final = "client-secret-0123456789"
NEW: Final = "a.new.token"


@contextlib.asynccontextmanager
async def served(
    answer: Callable[[web.Request], web.Response], arrived: list[str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        arrived.append(f"{request.method} {request.path} {request.headers.get('Authorization')} {await request.text()}")
        return answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def issuer(request: web.Request) -> web.Response:
    """An issuer that follows the standard."""
    if request.path.endswith("/openid-configuration"):
        return web.json_response({"token_endpoint": f"{request.url.origin()}/token"})
    return web.json_response({"id_token": NEW})


def write(path: Path, url: str, **settings: str) -> str:
    config = kubeconfig("http://127.0.0.1:1")
    user = {"client-id": "c", "client-secret": SECRET, "refresh-token": REFRESH, "idp-issuer-url": url, **settings}
    config["users"][0]["user"] = {"auth-provider": {"name": "oidc", "config": user}}
    path.write_text(json.dumps(config))
    return str(path)


async def bearer(file: str) -> Any:  # noqa: ANN401 - of the official client's
    async with await Api.from_kubeconfig(file) as api:
        return api.configuration.api_key["BearerToken"]


async def refused(file: str) -> str:
    with pytest.raises(KubeconfigError) as caught:
        await bearer(file)
    assert REFRESH not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_expired_token_is_renewed(tmp_path: Path) -> None:
    arrived: list[str] = []

    async def work() -> None:
        async with served(issuer, arrived) as url:
            assert await bearer(write(tmp_path / "k", f"{url}/")) == f"Bearer {NEW}"

    asyncio.run(work())
    assert len(arrived) == 2
    assert SECRET not in arrived[0]
    basic = base64.b64encode(f"c:{SECRET}".encode()).decode()
    assert arrived[1] == f"POST /token Basic {basic} grant_type=refresh_token&refresh_token={REFRESH}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token"])
def test_redirect_of_the_issuer_is_not_followed(tmp_path: Path, path: str, status: int) -> None:
    elsewhere: list[str] = []

    async def work() -> None:
        async with served(issuer, elsewhere) as other:

            def answer(request: web.Request) -> web.Response:
                if request.path == path:
                    return web.Response(status=status, headers={"Location": f"{other}{path}"})
                return issuer(request)

            async with served(answer, []) as url:
                message = await refused(write(tmp_path / "k", url))
            assert f"the server redirects to {other}{path} (status {status})" in message

    asyncio.run(work())
    assert elsewhere == []


@pytest.mark.parametrize("trusted", ["no", "data", "file"])
def test_certificate_of_the_issuer_is_verified(tmp_path: Path, trusted: str) -> None:
    authority = Authority.create("issuer")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue_server(hosts=["127.0.0.1"]).write(tmp_path, "issuer"))
    (tmp_path / "ca").write_bytes(authority.pem)
    settings = {
        "no": {},
        "data": {"idp-certificate-authority-data": base64.b64encode(authority.pem).decode()},
        "file": {"idp-certificate-authority": str(tmp_path / "ca")},
    }[trusted]
    arrived: list[str] = []

    async def work() -> None:
        async with served(issuer, arrived, tls) as url:
            file = write(tmp_path / "k", url, **settings)
            if trusted == "no":
                assert "its OIDC issuer cannot be reached (ClientConnectorCertificateError)" in await refused(file)
            else:
                assert await bearer(file) == f"Bearer {NEW}"

    asyncio.run(work())
    assert bool(arrived) is (trusted != "no")


def test_token_endpoint_without_tls_gets_no_token_of_an_issuer_with_tls(tmp_path: Path) -> None:
    authority = Authority.create("issuer")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue_server(hosts=["127.0.0.1"]).write(tmp_path, "issuer"))
    elsewhere: list[str] = []

    async def work() -> None:
        async with served(issuer, elsewhere) as other:

            def answer(_: web.Request) -> web.Response:
                return web.json_response({"token_endpoint": f"{other}/token"})

            async with served(answer, [], tls) as url:
                data = base64.b64encode(authority.pem).decode()
                message = await refused(write(tmp_path / "k", url, **{"idp-certificate-authority-data": data}))
            assert "names a token endpoint without TLS" in message

    asyncio.run(work())
    assert elsewhere == []


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ({"status": 400, "text": f"invalid {REFRESH}"}, "answers with status 400: log in again"),
        ({"text": "<html>"}, "answer is not a JSON object"),
        ({"text": "[]"}, "answer is not a JSON object"),
        ({"text": "[" * 100_000}, "answer is not a JSON object"),
        ({"text": "{}"}, "answer has no id_token"),
    ],
)
def test_answer_without_a_token_is_reported_without_its_text(
    tmp_path: Path, response: dict[str, Any], words: str
) -> None:
    async def work() -> None:
        def answer(request: web.Request) -> web.Response:
            return web.Response(**response) if request.path == "/token" else issuer(request)

        async with served(answer, []) as url:
            assert words in await refused(write(tmp_path / "k", url))

    asyncio.run(work())


@pytest.mark.parametrize("url", ["", "no url", "ftp://x", "http://127.0.0.1:1"])
def test_invalid_issuer_is_reported(tmp_path: Path, url: str) -> None:
    assert "its OIDC issuer cannot be reached (" in asyncio.run(refused(write(tmp_path / "k", url)))


def test_missing_refresh_token_requires_a_login(tmp_path: Path) -> None:
    message = asyncio.run(refused(write(tmp_path / "k", "http://127.0.0.1:1", **{"refresh-token": ""})))
    assert "there is no refresh token: log in again" in message
