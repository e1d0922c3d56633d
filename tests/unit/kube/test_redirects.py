"""No call follows a redirect: a server on loopback redirects to another one, which records requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from injector.cli.main import main
from injector.kube import redirects
from injector.kube.client import Api
from injector.kube.errors import RedirectedError
from injector.kube.portforward import forwarded
from injector.kube.resources import PODS, SECRETS
from injector.kube.transport import Request
from tests.fake_cluster.http_json import kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

REDIRECTS: Final = (301, 302, 303, 307, 308)
TOKEN: Final = "Bearer credential-of-the-caller"
VALUE: Final = "value-0123456789abcdefghijklmnop"
ENCODED: Final = base64.b64encode(VALUE.encode()).decode()
SECRET: Final = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"},
    "data": {"token": ENCODED},
}


@contextlib.asynccontextmanager
async def served(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def elsewhere(arrived: list[str]) -> AsyncIterator[int]:
    """A second server, which answers any request as an API server would."""

    async def record(request: web.Request) -> web.Response:
        arrived.append(f"{request.method} {request.path} {dict(request.headers)} {await request.text()}")
        return web.json_response(SECRET)

    async with served(record) as port:
        yield port


def api_at(port: int) -> Api:
    configuration = Configuration(host=f"http://127.0.0.1:{port}")
    configuration.api_key["BearerToken"] = TOKEN
    return Api(configuration)


async def _watched(api: Api) -> None:
    async for _ in api.watch(SECRETS, "n", resource_version="1"):
        pass


CALLS: Final[dict[str, Callable[[Api], Awaitable[object]]]] = {
    "get": lambda api: api.get(SECRETS, "s", "n"),
    "list": lambda api: api.list(SECRETS, "n"),
    "watch": _watched,
    "create": lambda api: api.create(SECRETS, SECRET, "n"),
    "dry-run": lambda api: api.create(SECRETS, SECRET, "n", dry_run=True),
    "replace": lambda api: api.replace(SECRETS, SECRET, "n"),
    "patch": lambda api: api.patch(SECRETS, "s", {"data": SECRET["data"]}, "n"),
    "apply": lambda api: api.apply(SECRETS, "s", SECRET, "n"),
    "websocket": lambda api: api.connect(Request("GET", PODS.path("n", "p", "portforward"), "reach"), "v4"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", REDIRECTS)
def test_redirected_call_sends_nothing_to_the_target(status: int, call: str) -> None:
    arrived: list[str] = []

    async def ask() -> None:
        async with elsewhere(arrived) as other:
            target = f"http://127.0.0.1:{other}/there"

            async def redirect(_: web.Request) -> web.Response:
                return web.Response(status=status, headers={"Location": f"{target}?q=1#f"})

            async with served(redirect) as port, api_at(port) as api:
                with pytest.raises(RedirectedError) as caught:
                    await CALLS[call](api)
                assert str(caught.value).endswith(
                    f": the server redirects to {target} (status {status}), and no redirect is followed"
                )

    asyncio.run(ask())
    assert arrived == []


@pytest.mark.parametrize("status", [300, 304, 305, 306, 310, 399])
def test_any_other_3xx_is_rejected(status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async def ask() -> None:
        async with served(answer) as port, api_at(port) as api:
            for call in ("get", "watch", "create", "websocket"):
                with pytest.raises(RedirectedError, match=rf"without naming a target \(status {status}\)"):
                    await CALLS[call](api)

    asyncio.run(ask())


def test_redirected_port_forward_names_the_target() -> None:
    arrived: list[str] = []

    async def ask() -> None:
        async with elsewhere(arrived) as other:

            async def redirect(_: web.Request) -> web.Response:
                return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{other}/there"})

            pod = {"metadata": {"namespace": "n", "name": "p"}}
            async with served(redirect) as port, api_at(port) as api, forwarded(api, pod, 3500) as (path, forward):
                reader, writer = await asyncio.open_unix_connection(path)
                assert await reader.read() == b""
                writer.close()
                assert f"redirects to http://127.0.0.1:{other}/there (status 307)" in forward.trouble()

    asyncio.run(ask())
    assert arrived == []


def test_redirect_by_a_proxy_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[str] = []

    async def ask() -> None:
        async with elsewhere(arrived) as other:

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                location = f"Location: http://127.0.0.1:{other}/login"
                writer.write(f"HTTP/1.1 302 Found\r\n{location}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
                writer.close()

            async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
                address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
                monkeypatch.setenv("HTTPS_PROXY", address)
                monkeypatch.setenv("HTTP_PROXY", address)
                for scheme in ("http", "https"):
                    configuration = Configuration(host=f"{scheme}://api.invalid")
                    async with Api(configuration) as api:
                        with pytest.raises(RedirectedError, match=rf"redirects to http://127.0.0.1:{other}/login "):
                            await CALLS["create"](api)

    asyncio.run(ask())
    assert arrived == []


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("", "without naming a target"),
        ("  ", "without naming a target"),
        ("/login?token=x", "to http://127.0.0.1:{port}/login"),
        ("there", "to http://127.0.0.1:{port}/api/v1/namespaces/n/secrets/there"),
        ("//other.example", "to http://other.example"),
        ("https://user:password@other.example:8443/a?b=c#d", "to https://other.example:8443/a"),
        ("HTTPS://OTHER.example/A", "to https://other.example/A"),
        ("https://[2001:db8::1]:6443/", "to https://[2001:db8::1]:6443/"),
        ("https://[broken", "to a target that is not a URL"),
        ("https://other.example:port/", "to a target that is not a URL"),
        ("https://other.example:99999/", "to a target that is not a URL"),
        ("ftp://other.example/x", "to a target that is not an http or https URL"),
        ("javascript:alert(1)", "to a target that is not an http or https URL"),
        ("https:///x", "to a target that is not an http or https URL"),
        ("https://other.example/a b\tc\x1b[31m", "to https://other.example/a?bc?[31m"),
        ("https://other.exämple/ü", "to https://other.ex?mple/?"),
        (f"https://{'a' * 300}.example/", "to https://(not shown)/"),
        (f"https://other.example/{'a/' * 5000}", f"to https://other.example/{'a/' * 87}a..."),
        (f"https://other.example/{ENCODED}/x", "to https://other.example/(not shown)"),
        (f"https://other.example/{VALUE[6:14]}", "to https://other.example/(not shown)"),
        (f"https://other.example/%{ord(VALUE[0]):x}{VALUE[1:12]}", "to https://other.example/(not shown)"),
        (f"https://{VALUE}.example/x", "to https://(not shown)/x"),
        ("https://other.example/x/eyJhbGciOiJIUzI1NiJ9.e30.c2ln/y", "to https://other.example/x/(not shown)/y"),
    ],
)
def test_redirect_target_is_shown_as_untrusted_text(location: str, words: str) -> None:
    base = "http://127.0.0.1:7/api/v1/namespaces/n/secrets/s"

    explained = redirects.explain(307, location, base, [ENCODED])

    assert explained == (f"the server redirects {words.format(port=7)} (status 307), and no redirect is followed")
    assert explained.isprintable()
    assert len(explained) < 300


def test_redirect_of_a_secret_create_is_reported_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The API server redirects every write to another host, as a 307 that keeps method and body."""
    arrived: list[str] = []
    file = tmp_path / "kubeconfig"

    async def ask() -> int:
        async with elsewhere(arrived) as other:

            async def answer(request: web.Request) -> web.Response:
                if request.method == "POST":
                    return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{other}{request.path_qs}"})
                if request.path.endswith("/namespaces/n"):
                    return web.json_response({"kind": "Namespace", "metadata": {"name": "n"}})
                return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)

            async with served(answer) as port:
                config = kubeconfig(f"http://127.0.0.1:{port}")
                config["users"][0]["user"]["token"] = "credential"
                file.write_text(json.dumps(config))
                return await asyncio.to_thread(main, ["secret", "create", "n/s", "--kubeconfig", str(file)])

    code = asyncio.run(ask())
    captured = capsys.readouterr()

    assert code == 2
    assert "created" not in captured.out
    assert "cannot create secrets/s in namespace n: the server redirects to http://127.0.0.1:" in captured.err
    assert "set the kubeconfig's server" in captured.err
    assert arrived == []
