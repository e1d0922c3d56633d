"""A write counts as done only when the answer is the object that was written."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from injector.kube import confirm
from injector.kube.client import Api
from injector.kube.errors import UnavailableError, UnconfirmedWriteError
from injector.kube.resources import DEPLOYMENTS, MUTATING_WEBHOOKS, PODS, SECRETS, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

VALUE: Final = "value-0123456789abcdefghijklmnop"
ENCODED: Final = base64.b64encode(VALUE.encode()).decode()
WRITTEN: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "type": "Opaque",
    "metadata": {
        "name": "s",
        "namespace": "n",
        "uid": "u-1",
        "labels": {"ours": "1"},
        "annotations": {"id": "x"},
    },
    "data": {"token": ENCODED, "empty": ""},
}


def stored(**meta: object) -> dict[str, Any]:
    """The Secret as an API server answers."""
    answer = copy.deepcopy(WRITTEN)
    answer["metadata"] |= {"resourceVersion": "7", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z", **meta}
    return answer


@contextlib.asynccontextmanager
async def answering(status: int, content: bytes, content_type: str = "application/json") -> AsyncIterator[Api]:
    """An API server with the same answer to every call."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=content, content_type=content_type)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Api(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")) as api:
            yield api
    finally:
        await runner.cleanup()


WRITES: Final[dict[str, Callable[[Api], Awaitable[object]]]] = {
    "create": lambda api: api.create(SECRETS, WRITTEN, "n"),
    "dry-run": lambda api: api.create(SECRETS, WRITTEN, "n", dry_run=True),
    "replace": lambda api: api.replace(SECRETS, WRITTEN, "n", before={"data": {}}),
    "patch": lambda api: api.patch(SECRETS, "s", {"metadata": {"annotations": {"id": "x"}}}, "n"),
    "apply": lambda api: api.apply(SECRETS, "s", {"data": WRITTEN["data"]}, "n"),
}


def written(status: int, content: bytes, *calls: str) -> list[str]:
    """The error of each write, empty for one that counts as done."""

    async def ask() -> list[str]:
        errors = []
        async with answering(status, content) as api:
            for call in calls or tuple(WRITES):
                try:
                    await WRITES[call](api)
                except UnconfirmedWriteError as error:
                    errors.append(str(error))
                else:
                    errors.append("")
        return errors

    return asyncio.run(ask())


@pytest.mark.parametrize("status", [200, 201])
def test_answer_with_the_object_confirms_a_write(status: int) -> None:
    assert written(status, json.dumps(stored()).encode()) == [""] * len(WRITES)


def test_answer_with_a_nested_object_confirms_a_write() -> None:
    content = json.dumps(stored())[:-1].encode() + b',"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    assert written(200, content) == [""] * len(WRITES)


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (200, b"<html><title>Sign in</title></html>", "the answer (status 200) is not JSON"),
        (201, b"", "the answer (status 201) is empty"),
        (200, b" \n", "the answer (status 200) is empty"),
        (200, b"[]", "the answer (status 200) is not an object"),
        (200, b"null", "the answer (status 200) is not an object"),
        (200, b"\xff\xfe{}", "the answer (status 200) is not JSON"),
        (200, b"[" * 200_000, "the answer (status 200) is not JSON"),
        (200, b"{}", "the answer is not a Secret of v1"),
        (200, b'{"kind":"Secret","apiVersion":"v1","metadata":[]}', "the answer is a Secret of another namespace"),
        (202, json.dumps(stored()).encode(), "status 202 says that it may be done later"),
        (203, json.dumps(stored()).encode(), "status 203 comes without the object"),
        (204, b"", "status 204 comes without the object"),
    ],
)
def test_answer_other_than_an_object_is_an_error_of_every_write(status: int, content: bytes, words: str) -> None:
    for error in written(status, content):
        assert error.startswith("cannot ")
        assert f" secrets/s in namespace n: not confirmed: {words}" in error
        assert len(error) < 300


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "ConfigMap"}, "the answer is not a Secret of v1"),
        ({"apiVersion": "v2"}, "the answer is not a Secret of v1"),
        ({"kind": ["Secret"]}, "the answer is not a Secret of v1"),
        ({"metadata": None}, "another namespace"),
        ({"metadata": stored(namespace="other")["metadata"]}, "another namespace"),
        ({"metadata": stored(name="other")["metadata"]}, "another name"),
        ({"metadata": stored(name=7)["metadata"]}, "another name"),
    ],
)
def test_other_object_is_an_error_of_every_write(changes: dict[str, Any], words: str) -> None:
    for error in written(200, json.dumps({**stored(), **changes}).encode()):
        assert words in error


def test_other_uid_of_a_known_object_is_an_error() -> None:
    answer = json.dumps(stored(uid="u-2")).encode()
    (error,) = written(200, answer, "replace")
    assert "of the same name with another uid" in error
    assert written(201, answer, "create") == [""]


def test_answer_without_version_confirms_a_dry_run_only() -> None:
    answer = json.dumps(stored(resourceVersion="")).encode()
    for error in written(200, answer, "create", "replace", "patch", "apply"):
        assert "has no resource version, so it was not stored" in error
    assert written(201, answer, "dry-run") == [""]


@pytest.mark.parametrize("message", ["", VALUE])
def test_success_status_does_not_confirm_a_write(message: str) -> None:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Success", "message": message}
    for error in written(200, json.dumps(status).encode(), *WRITES):
        assert error.endswith("the answer is a Status, not the Secret")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"token": base64.b64encode(b"another").decode(), "empty": ""}, "data.token"),
        ({"empty": ""}, "data.token"),
        ({"token": None, "empty": ""}, "data.token"),
        ({"token": "!" + ENCODED, "empty": ""}, "data.token"),
        ({"token": ENCODED, "empty": "eA=="}, "data.empty"),
        (None, "data.token"),
        ([], "data"),
        ({"token": {"token": ENCODED}, "empty": ""}, "data.token"),
    ],
)
def test_secret_that_admission_changed_is_not_written(data: object, shown: str) -> None:
    errors = written(200, json.dumps({**stored(), "data": data}).encode(), "create", "dry-run", "replace", "apply")
    for error in errors:
        assert f"the cluster changed what was written ({shown})" in error
        assert "mutating webhook or policy" in error
        assert VALUE not in error
        assert ENCODED not in error


def test_additions_of_admission_to_a_secret_are_accepted() -> None:
    answer = stored(labels={"ours": "1", "cost-center": "7"}, annotations={"id": "x", "checked": "yes"})
    answer["data"]["more"] = "eA=="
    assert written(200, json.dumps(answer).encode()) == [""] * len(WRITES)


def test_lost_label_or_annotation_is_reported() -> None:
    answer = json.dumps(stored(labels={"ours": "2"}, annotations=None)).encode()
    for error in written(200, answer, "create", "replace"):
        assert "(metadata.labels.ours, metadata.annotations.id)" in error
    (error,) = written(200, answer, "patch")
    assert "(metadata.annotations.id)" in error


def test_annotation_outside_the_write_can_change() -> None:
    """A policy that stamps each write: the value in the answer differs from the one that was read."""
    before = stored(annotations={"id": "w", "stamp": "1"})
    body = stored(annotations={"id": "x", "stamp": "1"})
    answer = stored(annotations={"id": "x", "stamp": "2"})
    expected = confirm.of_replace(SECRETS, body, "n", dry_run=False, before=before)
    assert confirm.confirmed("update", expected, 200, json.dumps(answer).encode()) == answer


def test_secret_type_and_immutability_are_confirmed() -> None:
    body = {**WRITTEN, "immutable": True}
    expected = confirm.of_create(SECRETS, body, "n", dry_run=False)
    with pytest.raises(UnconfirmedWriteError, match=r"\(type, immutable\)"):
        confirm.confirmed("create", expected, 201, json.dumps({**stored(), "type": "x"}).encode())


def test_string_data_is_confirmed_as_data() -> None:
    body = {"metadata": {"name": "s"}, "data": {"token": "b2xk"}, "stringData": {"token": VALUE}}
    for expected in (
        confirm.of_create(SECRETS, body, "n", dry_run=False),
        confirm.of_patch(SECRETS, "s", body, "n", dry_run=False),
    ):
        answer = stored()
        assert confirm.confirmed("create", expected, 201, json.dumps(answer).encode()) == answer
        answer["data"]["token"] = "b2xk"
        with pytest.raises(UnconfirmedWriteError, match=r"\(data\.token\)"):
            confirm.confirmed("create", expected, 201, json.dumps(answer).encode())


POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "canary-", "annotations": {"asked": "1"}},
    "spec": {"containers": [{"name": "daprd"}]},
}


@pytest.mark.parametrize(("name", "is_fine"), [("canary-x7f2c", True), ("other-x7f2c", False), ("", False)])
def test_pod_changed_by_admission_is_confirmed_by_name(name: str, *, is_fine: bool) -> None:
    """A dry run of a Pod shows what others make of it: only its identity is compared."""
    expected = confirm.of_create(PODS, POD, "n", dry_run=True)
    answer = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"}, "spec": {}}
    with contextlib.nullcontext() if is_fine else pytest.raises(UnconfirmedWriteError, match="another name"):
        confirm.confirmed("create", expected, 201, json.dumps(answer).encode())


REVIEW: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_review_is_confirmed_with_request_and_response(verb: str) -> None:
    body = {"spec": {"resourceAttributes": {"verb": "create", "resource": "secrets", "namespace": ""}}}
    expected = confirm.of_create(REVIEW, body, "n", dry_run=False)
    answer = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {"creationTimestamp": None},
        "spec": {"resourceAttributes": {"verb": verb, "resource": "secrets"}},
        "status": {"allowed": True},
    }
    is_fine = verb == "create"
    with contextlib.nullcontext() if is_fine else pytest.raises(UnconfirmedWriteError, match=r"Attributes\.verb\)"):
        confirm.confirmed("create", expected, 201, json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("wanted", "found", "shown"),
    [
        ({"a": {"b": "1"}}, {"a": {"b": "1", "c": "2"}}, ""),
        ({"a": {"b": "1"}}, {"a": {"b": "2"}}, "spec.a.b"),
        ({"a": {"b": "1"}}, {"a": "1"}, "spec.a"),
        ({"a": {"b": "1"}}, {}, "spec.a.b"),
        ({"a": {}, "b": [], "c": "", "d": 0, "e": False, "f": None}, {}, ""),
        ({"a": None}, {"a": "1"}, "spec.a"),
        ({"a": 1}, {"a": True}, "spec.a"),
        ({"a": 1}, {"a": 1.0}, ""),
        ({"a": ["x", "y"]}, {"a": ["x", "y"]}, ""),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, "spec.a[0], spec.a[1]"),
        ({"a": ["x"]}, {"a": ["x", "y"]}, "spec.a"),
        ({"a": ["x"]}, {"a": {"x": 1}}, "spec.a"),
        ({"a": [{"k": 1}]}, {"a": [{"k": 1, "l": 2}]}, ""),
        ({"a": [{"name": "x", "k": 1}]}, {"a": [7, {"name": "y"}, {"name": "x", "k": 1}]}, ""),
        ({"a": [{"name": "x", "k": 1}]}, {"a": [{"name": "y", "k": 1}]}, "spec.a[x].name, spec.a[x].k"),
        ({str(n): n for n in range(1, 9)}, {}, "spec.1, spec.2, spec.3, spec.4, spec.5, ..."),
    ],
)
def test_patched_field_is_confirmed(wanted: object, found: object, shown: str) -> None:
    expected = confirm.of_patch(DEPLOYMENTS, "d", {"spec": wanted}, "n", dry_run=False)
    meta = {"name": "d", "namespace": "n", "resourceVersion": "7"}
    answer = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": found}
    if not shown:
        assert confirm.confirmed("patch", expected, 200, json.dumps(answer).encode()) == answer
        return
    with pytest.raises(UnconfirmedWriteError) as caught:
        confirm.confirmed("patch", expected, 200, json.dumps(answer).encode())
    assert f"({shown});" in str(caught.value)


def test_applied_bundle_is_confirmed_by_its_entry() -> None:
    body = {
        "metadata": {"uid": "u-1", "resourceVersion": "6"},
        "webhooks": [{"name": "mutate", "clientConfig": {"caBundle": "QQ=="}}],
    }
    expected = confirm.of_patch(MUTATING_WEBHOOKS, "c", body, None, dry_run=False)
    others = {"name": "other", "clientConfig": {"caBundle": "QQ=="}}
    entry = {"name": "mutate", "clientConfig": {"caBundle": "QQ==", "url": "https://x"}, "sideEffects": "None"}
    answer = {
        "apiVersion": MUTATING_WEBHOOKS.api_version,
        "kind": MUTATING_WEBHOOKS.kind,
        "metadata": {"name": "c", "uid": "u-1", "resourceVersion": "7"},
        "webhooks": [others, entry],
    }
    assert confirm.confirmed("patch", expected, 200, json.dumps(answer).encode()) == answer
    entry["clientConfig"] = {"caBundle": "Qg=="}
    with pytest.raises(UnconfirmedWriteError, match=r"\(webhooks\[mutate\]\.clientConfig\.caBundle\)"):
        confirm.confirmed("patch", expected, 200, json.dumps(answer).encode())


def test_repr_of_expected_data_shows_no_secret_value() -> None:
    expected = confirm.of_create(SECRETS, {**WRITTEN, "stringData": {"b": VALUE}}, "n", dry_run=False)
    assert VALUE not in repr(expected) + repr(expected.content)
    assert ENCODED not in repr(expected) + repr(expected.content)


def test_connection_lost_before_the_answer_is_an_unknown_result() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Api(Configuration(host=f"http://127.0.0.1:{port}")) as api:
                with pytest.raises(UnavailableError):
                    await api.create(SECRETS, WRITTEN, "n")

    asyncio.run(ask())
