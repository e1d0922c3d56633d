"""The client against a real HTTP server on loopback that answers what an API server seldom does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config

from injector.kube.client import WATCH_SECONDS, Api
from injector.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeconfigError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from injector.kube.kubeconfig import default_namespace
from injector.kube.resources import PODS, REQUEST_TIMEOUT_SECONDS, SECRETS
from tests.controlplane.pki import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

MARKER = "bWFya2Vy-do-not-show"
POD = {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}


@contextlib.asynccontextmanager
async def served(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], renew: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[Api]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with Api(Configuration(host=f"http://127.0.0.1:{port}"), renew) as api:
            yield api
    finally:
        await runner.cleanup()


def status(code: int, reason: str = "", message: str = "") -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (400, "BadRequest", InvalidError),
        (401, "Unauthorized", UnauthorizedError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (410, "Expired", GoneError),
        (422, "Invalid", InvalidError),
        (429, "TooManyRequests", UnavailableError),
        (500, "InternalError", UnavailableError),
        (503, "ServiceUnavailable", UnavailableError),
    ],
)
def test_error_status_raises_its_error_class(code: int, reason: str, error: type[KubeError]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return status(code, reason, "the words of the server")

    async def ask() -> None:
        async with served(answer) as api:
            with pytest.raises(error, match=r"^cannot get pods/p in namespace n: .*the words of the server$") as caught:
                await api.get(PODS, "p", "n")
            assert type(caught.value) is error

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("code", "message", "error", "expected"),
    [
        (422, "Secret is invalid: data[token]: {}", InvalidError, "rejects the object"),
        (403, "{}", DeniedError, "its message contains a part of the Secret and is not shown"),
        (409, 'admission webhook "w" denied the request: {}', DeniedError, 'webhook "w" denied the request: its'),
    ],
)
def test_secret_data_in_the_answer_to_its_write_is_not_quoted(
    code: int, message: str, error: type[KubeError], expected: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return status(code, "Invalid", message.format(MARKER))

    async def ask() -> None:
        body = {"metadata": {"name": "s"}, "data": {"token": MARKER}}
        async with served(answer) as api:
            for call in (
                api.create(SECRETS, body, "n"),
                api.replace(SECRETS, body, "n"),
                api.apply(SECRETS, "s", body, "n"),
                api.patch(SECRETS, "s", body, "n"),
            ):
                with pytest.raises(error, match=expected) as caught:
                    await call
                assert MARKER not in str(caught.value) + repr(caught.value) + repr(caught.value.refusal)

    asyncio.run(ask())


def test_previous_secret_data_is_not_quoted() -> None:
    async def answer(_: web.Request) -> web.Response:
        return status(400, "", f'admission webhook "w" denied the request: it was {MARKER}')

    async def ask() -> None:
        body = {"metadata": {"name": "s"}, "data": {"token": "b3RoZXItdmFsdWU="}}
        async with served(answer) as api:
            with pytest.raises(DeniedError) as caught:
                await api.replace(SECRETS, body, "n", before={"data": {"token": MARKER}})
        assert MARKER not in str(caught.value)

    asyncio.run(ask())


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 422, 429, 500])
def test_webhook_rejection_with_any_status_is_a_denial(code: int) -> None:
    renewed: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        return status(code, "AlreadyExists", 'admission webhook "w" denied the request:\n\n  name\ta team')

    async def renew() -> None:
        renewed.append(1)

    async def ask() -> None:
        async with served(answer, renew) as api:
            for resource in (PODS, SECRETS):
                with pytest.raises(DeniedError, match=r"a rule of the cluster: .* denied the request: name a team$"):
                    await api.create(resource, {"metadata": {"name": "x"}}, "n")

    asyncio.run(ask())
    assert renewed == []


def test_missing_permission_for_a_secret_is_quoted() -> None:
    message = (
        'secrets "s" is forbidden: User "jane" cannot create resource "secrets" in API group "" in the namespace "n"'
    )

    async def answer(_: web.Request) -> web.Response:
        return status(403, "Forbidden", message)

    async def ask() -> None:
        async with served(answer) as api:
            for resource in (PODS, SECRETS):
                with pytest.raises(ForbiddenError, match=r'not allowed: .*User "jane" cannot create'):
                    await api.create(resource, {"metadata": {"name": "s"}}, "n")

    asyncio.run(ask())


def test_list_follows_its_pages_and_fills_in_the_kind() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.query.get("continue", ""))
        if not request.query.get("continue"):
            return web.json_response(
                {
                    "items": [{"metadata": {"namespace": "n", "name": "a"}}],
                    "metadata": {"continue": "more", "resourceVersion": "7"},
                }
            )
        last = {"metadata": {"namespace": "n", "name": "b"}}
        return web.json_response({"items": [last], "metadata": {"resourceVersion": "7"}})

    async def ask() -> None:
        async with served(answer) as api:
            items = await api.list(PODS)
        assert [(item["kind"], item["metadata"]["name"]) for item in items] == [("Pod", "a"), ("Pod", "b")]

    asyncio.run(ask())
    assert seen == ["", "more"]


def test_list_restarts_when_its_version_has_expired() -> None:
    calls: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.query.get("continue", ""))
        if len(calls) == 1:
            first = {"metadata": {"namespace": "n", "name": "a"}}
            return web.json_response({"items": [first], "metadata": {"continue": "old"}})
        if len(calls) == 2:
            return status(410, "Expired")
        return web.json_response({"items": None, "metadata": {"resourceVersion": "9"}})

    async def ask() -> None:
        async with served(answer) as api:
            assert await api.list(PODS) == []

    asyncio.run(ask())
    assert calls == ["", "old", ""]


def test_list_fails_when_its_version_always_expires() -> None:
    async def answer(_: web.Request) -> web.Response:
        return status(410, "Expired")

    async def ask() -> None:
        async with served(answer) as api:
            with pytest.raises(GoneError):
                await api.list(PODS)

    asyncio.run(ask())


async def _streamed(request: web.Request, *chunks: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


def test_watch_yields_events_of_any_size_and_chunking() -> None:
    large = json.dumps({"type": "ADDED", "object": {"data": "x" * 1_400_000}}).encode() + b"\n"

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["resourceVersion"] == "5"
        assert request.query["allowWatchBookmarks"] == "true"
        return await _streamed(request, large[:10], large[10:], b'{"type":"BOOKMARK",', b'"object":{}}\n')

    async def ask() -> None:
        async with served(answer) as api:
            events = [event async for event in api.watch(PODS, resource_version="5")]
        assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]

    asyncio.run(ask())


def test_watch_raises_on_an_expired_version_in_the_stream() -> None:
    gone = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _streamed(request, gone + b"\n")

    async def ask() -> None:
        async with served(answer) as api:
            with pytest.raises(GoneError):
                async for _ in api.watch(PODS, resource_version="5"):
                    pass

    asyncio.run(ask())


def test_watch_sets_a_server_timeout_and_enforces_it() -> None:
    asked: list[str] = []

    async def forget(request: web.Request) -> web.StreamResponse:
        asked.append(request.query["timeoutSeconds"])
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async def ask() -> None:
        async with served(forget) as api:
            with pytest.raises(UnavailableError, match=r"^cannot watch pods in all namespaces: no answer in time$"):
                async for _ in api.watch(PODS, resource_version="5", timeout_seconds=1, grace_seconds=0.1):
                    pass

    asyncio.run(ask())
    assert asked == ["1"]
    assert WATCH_SECONDS + REQUEST_TIMEOUT_SECONDS == 75


NESTED = b'{"x":' * 5_000 + b"{}" + b"}" * 5_000


def test_nested_answer_is_decoded_without_deep_members() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            body=b'{"kind":"Pod","metadata":{"name":"p","namespace":"n","managedFields":[%b]}}' % NESTED
        )

    async def ask() -> None:
        async with served(answer) as api:
            found = await api.get(PODS, "p", "n")
        assert (found["kind"], found["metadata"]["name"]) == ("Pod", "p")

    asyncio.run(ask())


def test_nested_watch_event_is_decoded_without_deep_members() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await _streamed(request, b'{"type":"ADDED","object":{"kind":"Pod","x":%b}}\n' % NESTED)

    async def ask() -> None:
        async with served(answer) as api:
            (event,) = [event async for event in api.watch(PODS, resource_version="5")]
        assert (event["type"], event["object"]["kind"]) == ("ADDED", "Pod")

    asyncio.run(ask())


def test_nested_error_status_is_quoted() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404, body=b'{"message":"the words of the server","details":%b}' % NESTED)

    async def ask() -> None:
        async with served(answer) as api:
            with pytest.raises(NotFoundError, match=r": the words of the server$"):
                await api.get(PODS, "p", "n")

    asyncio.run(ask())


def test_replace_leaves_managed_fields_to_the_server() -> None:
    sent: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        sent.append(await request.json())
        return web.json_response(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": "p", "resourceVersion": "2"}}
        )

    async def ask() -> None:
        body = {"metadata": {"name": "p", "resourceVersion": "1", "managedFields": [{"manager": "kubectl"}]}}
        async with served(answer) as api:
            await api.replace(PODS, body, "n")
        assert body["metadata"]["managedFields"]

    asyncio.run(ask())
    assert sent == [{"metadata": {"name": "p", "resourceVersion": "1"}}]


@pytest.mark.parametrize(
    "answer_of",
    [
        {"kind": "Pod"},
        {"metadata": None},
        {"metadata": "p"},
        {"metadata": {"name": "q", "namespace": "n"}},
        {"metadata": {"name": "p", "namespace": "other"}},
        {"metadata": {"name": "p"}},
    ],
)
def test_answer_that_is_another_object_is_not_an_api_server(answer_of: dict[str, object]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(answer_of)

    async def ask() -> None:
        async with served(answer) as api:
            with pytest.raises(
                UnavailableError, match=r"pods/p in namespace n: .*; is this a Kubernetes API server\?$"
            ):
                await api.get(PODS, "p", "n")

    asyncio.run(ask())


@pytest.mark.parametrize("answer_of", [b"<html>", b"[]", b'{"half', b"[" * 100_000, b'{"x":' * 5_000 + b"{}"])
def test_answer_other_than_an_object_is_not_an_api_server(answer_of: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=answer_of)

    async def ask() -> None:
        async with served(answer) as api:
            with pytest.raises(UnavailableError, match="is this a Kubernetes API server"):
                await api.get(PODS, "p", "n")

    asyncio.run(ask())


def test_credentials_are_reloaded_once_after_a_401() -> None:
    renewed: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        return status(401, "Unauthorized") if not renewed else web.json_response(POD)

    async def renew() -> None:
        renewed.append(1)

    async def ask() -> None:
        async with served(answer, renew) as api:
            assert (await api.get(PODS, "p", "n"))["kind"] == "Pod"

    asyncio.run(ask())
    assert renewed == [1]


def test_refused_connection_is_reported_with_the_address() -> None:
    async def ask() -> None:
        async with Api(Configuration(host="http://127.0.0.1:1")) as api:
            with pytest.raises(UnavailableError, match=r"cannot connect to 127\.0\.0\.1:1 \(connection refused\)"):
                await api.get(PODS, "p", "n")

    asyncio.run(ask())


def test_missing_kubeconfig_is_reported_with_its_path(tmp_path: Path) -> None:
    async def ask() -> None:
        with pytest.raises(KubeconfigError, match="none here"):
            await Api.from_kubeconfig(str(tmp_path / "none here"))

    asyncio.run(ask())


def test_malformed_kubeconfig_is_reported_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"users: [{{token: {MARKER}}}", "utf-8")

    async def ask() -> None:
        with pytest.raises(KubeconfigError) as caught:
            await Api.from_kubeconfig(str(file))
        assert MARKER not in str(caught.value)

    asyncio.run(ask())


def test_in_cluster_config_outside_a_pod_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    async def ask() -> None:
        with pytest.raises(KubeconfigError):
            await Api.in_cluster()

    asyncio.run(ask())


def test_rejected_service_account_token_is_reloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority.create("cluster")
    pair = authority.issue_server(hosts=["127.0.0.1"])
    for name, content in {"ca": authority.pem, "crt": pair.certificate, "key": pair.key, "token": b"old"}.items():
        (tmp_path / name).write_bytes(content)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca"))

    async def answer(request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "bearer new":
            return status(401, "Unauthorized")
        return web.json_response(POD)

    async def ask() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(runner.addresses[0][1]))
            async with await Api.in_cluster() as api:
                (tmp_path / "token").write_text("new")  # the kubelet did that; a minute of the wall clock never passes
                assert (await api.get(PODS, "p", "n"))["kind"] == "Pod"
        finally:
            await runner.cleanup()

    asyncio.run(ask())


def test_kubeconfig_variable_is_read_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for namespace in ("shop", "bank"):
        context = {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}
        path = tmp_path / namespace
        path.write_text(json.dumps({"contexts": [context], "current-context": "here"}))
        monkeypatch.setenv("KUBECONFIG", str(path))

        assert default_namespace() == namespace
