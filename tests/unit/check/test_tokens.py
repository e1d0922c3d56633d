"""The checks of token Secrets, against the store of the fake API server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from injector.check.catalogue import BY_WORD
from injector.check.model import Result
from injector.check.reader import ClusterReader
from injector.check.runner import run
from injector.kube.resources import SECRETS
from injector.times import rfc3339
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.unit.check.checking import NOW, outcome
from tests.unit.check.objects import forbidden, pod, reference, secret

if TYPE_CHECKING:
    from injector.kube.errors import KubeError
    from injector.kube.resources import Object, Resource
    from injector.kube.transport import Request

Json = dict[str, Any]
DAY = 24 * 60 * 60
CHECKS = ("token-expiry", "token-secret-exists", "token-secret-used")
MARKER = "marker-0123456789abcdef"


def cluster(*secrets: Json, pods: tuple[Json, ...] = (pod(reference()),)) -> Store:
    store = Store()
    for one in secrets:
        store.put("secrets", one)
    for one in pods:
        store.put("pods", one)
    return store


def problems(name: str, store: Store) -> tuple[Result, list[tuple[str, str]]]:
    found = outcome(name, StoreApi(store))
    return found.result, [(one.message, one.fix) for one in found.problems]


@pytest.mark.parametrize("name", CHECKS)
def test_sound_tokens_pass(name: str) -> None:
    store = cluster(secret(token_expires=rfc3339(NOW + 8 * DAY)))

    assert problems(name, store) == (Result.PASSED, [])


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_to_check_is_skipped(name: str) -> None:
    assert problems(name, cluster(pods=())) == (Result.SKIPPED, [])


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("plural", ["pods", "secrets"])
def test_no_permission_is_unknown(name: str, plural: str) -> None:
    def fault(verb: str, resource: Resource) -> KubeError | None:
        return forbidden(verb, resource) if resource.plural == plural else None

    found = outcome(name, StoreApi(cluster(secret()), fault))

    assert found.result is Result.UNKNOWN
    assert plural in found.problems[0].message


def test_secrets_and_pods_are_listed_once_and_without_values() -> None:
    accepted = []

    class Recorder(StoreApi):
        async def send(self, request: Request) -> Object:
            if request.path.endswith(SECRETS.plural):
                accepted.append(request.accept)
            return await super().send(request)

    foreign = {"metadata": {"namespace": "shop", "name": "foreign", "labels": None}}
    store = cluster(secret(), foreign)

    asyncio.run(run([BY_WORD[name] for name in CHECKS], ClusterReader(Recorder(store), None, NOW)))

    assert len(accepted) == 1
    assert "PartialObjectMetadataList" in accepted[0]
    assert store.counted() == {"LIST pods": 1, "LIST secrets": 1}


# --- expiry ---

ROTATE = "dapr-token-injector secret rotate shop/token --restart"


@pytest.mark.parametrize(
    ("expires", "result", "message"),
    [
        (NOW - 3 * DAY, Result.FAILED, "Secret shop/token: its token expired 3 days ago"),
        (NOW, Result.FAILED, "Secret shop/token: its token expired 0 seconds ago"),
        (NOW + 7 * DAY, Result.WARNING, "Secret shop/token: its token expires in 7 days"),
    ],
)
def test_token_that_expires(expires: int, result: Result, message: str) -> None:
    store = cluster(secret(token_expires=rfc3339(expires)), pods=())

    assert problems("token-expiry", store) == (result, [(message, ROTATE)])


@pytest.mark.parametrize(
    "text", ["soon", "", "2026-13-01", "0001-01-01", MARKER * 20_000, "2026-01-01T00:00:00Z\x1b[0m"]
)
def test_garbage_for_a_time_is_unknown_and_not_shown(text: str) -> None:
    result, ((message, _),) = problems("token-expiry", cluster(secret(token_expires=text)))

    assert result is Result.UNKNOWN
    assert message == "Secret shop/token: its annotation dapr-token-injector/token-expires is not a time in RFC 3339"


def test_secret_of_another_tool_is_renewed_there() -> None:
    foreign = secret(token_expires=rfc3339(NOW - 3 * DAY))
    foreign["metadata"]["labels"]["secrets.hashicorp.com/x"] = ""

    ((message, fix),) = problems("token-expiry", cluster(foreign))[1]

    assert (message.partition("; ")[2], fix) == ("Vault Secrets Operator manages the Secret, renew the token there", "")


def test_rotation_names_the_key_and_quotes_the_name() -> None:
    odd = secret("a b\x1b", "api.key", token_expires=rfc3339(NOW - 3 * DAY))

    ((message, fix),) = problems("token-expiry", cluster(odd))[1]

    assert message.startswith("Secret shop/a b\\u001b: ")
    assert fix == "dapr-token-injector secret rotate 'shop/a b\\u001b' --key api.key --restart"


def test_secret_without_a_date_or_managed_fields_has_no_problem() -> None:
    bare = secret()
    bare["metadata"] |= {"annotations": None, "managedFields": None}

    found = outcome("token-expiry", StoreApi(cluster(bare)))

    assert (found.result, found.seen) == (Result.PASSED, "0 token Secrets with an expiry date, 1 without")


# --- Secrets that do not exist ---

ASKING_KEY = {
    "dapr.io/enabled": "true",
    "dapr.io/app-token-secret": "app",
    "dapr-token-injector/app-token-key": "k",
}


@pytest.mark.parametrize(
    ("one", "message", "fix"),
    [
        (pod(reference("gone")), "Secret shop/gone does not exist", "secret create shop/gone"),
        (pod(), "Secret shop/token does not exist", "secret create shop/token"),
        (pod(annotations=ASKING_KEY), "Secret shop/app does not exist", "secret create shop/app --key k --app-token"),
    ],
)
def test_missing_secret_fails(one: Json, message: str, fix: str) -> None:
    wanted = (f"{message}; used by 1 Pod: Deployment shop/web", f"dapr-token-injector {fix}")

    assert problems("token-secret-exists", cluster(pods=(one,))) == (Result.FAILED, [wanted])


def test_missing_key_fails() -> None:
    store = cluster(secret("token", "other"))

    wanted = "Secret shop/token has no key token; used by 1 Pod: Deployment shop/web"
    assert problems("token-secret-exists", store) == (
        Result.FAILED,
        [(wanted, "kubectl --namespace shop describe secret token")],
    )


@pytest.mark.parametrize("fields", [None, [], [{"fieldsV1": None}]])
def test_keys_are_unknown_without_managed_fields(fields: list[Json] | None) -> None:
    bare = secret()
    bare["metadata"]["managedFields"] = fields

    assert problems("token-secret-exists", cluster(bare)) == (Result.PASSED, [])


def test_default_key_of_the_policy_is_not_guessed() -> None:
    assert problems("token-secret-exists", cluster(secret("token", "api.key"), pods=(pod(),))) == (Result.PASSED, [])


@pytest.mark.parametrize("text", [MARKER, f"$(rm) {MARKER}", "x\x1b[31m", "A" * 50_000])
@pytest.mark.parametrize("annotation", ["dapr.io/api-token-secret", "dapr-token-injector/api-token-key"])
def test_text_that_is_not_a_name_is_never_shown(annotation: str, text: str) -> None:
    annotations = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "token", annotation: text + "/"}

    result, ((message, fix),) = problems("token-secret-exists", cluster(pods=(pod(annotations=annotations),)))

    assert result is Result.FAILED
    assert message.startswith("a token annotation in namespace shop has no valid name of a Secret or key")
    assert text not in message + fix


# --- Secrets that nothing uses ---


def test_unused_secrets_are_one_warning() -> None:
    store = cluster(*(secret(f"unused-{number:03}") for number in range(400)), secret())

    found = outcome("token-secret-used", StoreApi(store))

    assert (found.result, found.seen, len(found.problems)) == (Result.WARNING, "401 token Secrets", 1)
    message = found.problems[0].message
    assert message.startswith("no Pod uses 400 token Secrets: shop/unused-000, shop/unused-001, ")
    assert message.endswith("and 380 more")


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "x", "envFrom": [{"secretRef": {"name": "token"}}]}]},
        {"initContainers": [{"name": "x", "env": [reference(variable="OTHER")]}]},
        {
            "volumes": [{"name": "v", "secret": {"secretName": "token"}}],
            "containers": [{"name": "x", "volumeMounts": [{"name": "v"}]}],
        },
    ],
)
def test_any_reference_uses_a_secret(spec: Json) -> None:
    store = cluster(secret(), pods=({**pod(annotations=None), "spec": spec},))

    assert problems("token-secret-used", store) == (Result.PASSED, [])


def test_requested_secret_is_used() -> None:
    assert problems("token-secret-used", cluster(secret(), pods=(pod(),))) == (Result.PASSED, [])


def test_pod_that_has_ended_uses_nothing() -> None:
    store = cluster(secret(), pods=({**pod(reference()), "status": {"phase": "Failed"}},))

    assert problems("token-secret-used", store)[0] is Result.WARNING


def test_secret_of_another_namespace_is_not_the_same() -> None:
    assert problems("token-secret-used", cluster(secret(namespace="other")))[0] is Result.WARNING
