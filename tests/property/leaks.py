"""Tokens to plant, places to plant them in, and a scan for them in all output."""

from __future__ import annotations

import base64
import json
import traceback
from random import Random
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from injector.core import names
from tests.builders import Json, asking, container, literal_env, operations_of, pod, response_of, secret_env, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from injector.core.admit import Admission

# The number of consecutive characters of a token that counts as a leak.
WINDOW: Final = 6


def _jwt(random: Random) -> str:
    parts = (
        json.dumps({"alg": "HS256"}).encode(),
        json.dumps({"sub": str(random.random())}).encode(),
        random.randbytes(32),
    )
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _base64url(random: Random) -> str:
    return base64.urlsafe_b64encode(random.randbytes(32)).decode().rstrip("=")


# `openssl rand 16 | base64`, as Dapr's own documentation makes tokens.
def _base64(random: Random) -> str:
    return base64.b64encode(random.randbytes(16)).decode()


def _hex(random: Random) -> str:
    return random.randbytes(20).hex()


def _capital_hex(random: Random) -> str:
    return random.randbytes(20).hex().upper()


def _capital_uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4)).upper()


FORMS: Final[dict[str, Callable[[Random], str]]] = {
    "JSON Web Token": _jwt,
    "base64url": _base64url,
    "base64": _base64,
    # A valid Secret name: it becomes a reference and is shown nowhere else.
    "hexadecimal": _hex,
    "hexadecimal in capitals": _capital_hex,
    "UUID in capitals": _capital_uuid,
}


def token_of(form: str, seed: int | str) -> str:
    """A token for tests."""
    return FORMS[form](Random(seed))  # noqa: S311 - the same tokens in every run


# Seeds and not characters are drawn: what Hypothesis would shrink a token to is a word and no token.
tokens = st.builds(token_of, st.sampled_from(list(FORMS)), st.integers(0, 2**64))
# What people paste along.
dressings = st.sampled_from(("{}", "{}", "{}", " {}\n", '"{}"', "Bearer {}", "token={}", "{}\t{}"))


def _annotate(name: str, text: str = "{}") -> Callable[[Json, str], None]:
    def plant(found: Json, token: str) -> None:
        found["metadata"]["annotations"][name] = text.replace("{}", token)

    return plant


def _env_of(index: int, make: Callable[[str], Json]) -> Callable[[Json, str], None]:
    def plant(found: Json, token: str) -> None:
        found["spec"]["containers"][index]["env"].append(make(token))

    return plant


def _member(*path: str | int) -> Callable[[Json, str], None]:
    def plant(found: Json, token: str) -> None:
        parent: Json = found
        for step in path[:-1]:
            parent = parent[step]  # type: ignore[index] # JSON of any shape
        parent[path[-1]] = token  # type: ignore[index] # JSON of any shape

    return plant


_RECORD: Final = '{"v":1,"injected":[{"container":"web","env":"{}","name":"{}","key":"{}"}]}'
APP, SIDECAR = 0, 1
PLACES: Final[dict[str, Callable[[Json, str], None]]] = {
    "enabled": _annotate(names.ENABLED),
    "API token's Secret": _annotate(names.API_TOKEN_SECRET),
    "app token's Secret": _annotate(names.APP_TOKEN_SECRET),
    "Secret of another namespace": _annotate(names.API_TOKEN_SECRET, "shop/{}"),
    "API token's key": _annotate(names.API_TOKEN_KEY),
    "app token's key": _annotate(names.APP_TOKEN_KEY),
    "key with a path": _annotate(names.API_TOKEN_KEY, "../{}"),
    "app containers": _annotate(names.APP_CONTAINERS),
    "one of the app containers": _annotate(names.APP_CONTAINERS, "web,{},*"),
    "Dapr's variables": _annotate(names.DAPR_ENV, "A={},DAPR_API_TOKEN={}"),
    "Dapr's variables from Secrets": _annotate(names.DAPR_ENV_FROM_SECRET, "DAPR_API_TOKEN={}:{},APP_API_TOKEN={}"),
    "name in Dapr's variables": _annotate(names.DAPR_ENV, "{}=DAPR_API_TOKEN"),
    "status": _annotate(names.STATUS),
    "record": _annotate(names.STATUS, _RECORD),
    "annotation of another controller": _annotate("example.dev/token"),
    "sidecar's literal": _env_of(SIDECAR, literal_env),
    "sidecar's app token": _env_of(SIDECAR, lambda token: literal_env(token, names.APP_TOKEN_ENV)),
    "sidecar's other variable": _env_of(SIDECAR, lambda token: literal_env(token, "PASSWORD")),
    "sidecar's reference": _env_of(SIDECAR, lambda token: secret_env(token, token)),
    "sidecar's optional reference": _env_of(SIDECAR, lambda token: secret_env(token, token, optional=True)),
    "sidecar's other source": _env_of(
        SIDECAR, lambda token: {"name": names.API_TOKEN_ENV, "valueFrom": {"futureRef": {"value": token}}}
    ),
    "name of a source": _env_of(SIDECAR, lambda token: {"name": names.API_TOKEN_ENV, "valueFrom": {token: {}}}),
    "name of a variable": _env_of(SIDECAR, lambda token: literal_env("x", token)),
    "app's literal": _env_of(APP, literal_env),
    "app's reference": _env_of(APP, lambda token: secret_env(token, token)),
    "app's other variable": _env_of(APP, lambda token: literal_env(token, "PASSWORD")),
    "reference to a variable": _env_of(SIDECAR, lambda token: literal_env(f"$({token})")),
    "text with a reference": _env_of(APP, lambda token: literal_env(f"{token}$(DAPR_API_TOKEN)", token)),
    "argument": _member("spec", "containers", APP, "args"),
    "app's image": _member("spec", "containers", APP, "image"),
    "image": _member("spec", "containers", SIDECAR, "image"),
    "restart policy": _member("spec", "containers", APP, "restartPolicy"),
    "unknown member of a container": _member("spec", "containers", SIDECAR, "future"),
    "unknown member of the spec": _member("spec", "future"),
    "unknown member of the metadata": _member("metadata", "future"),
    "unknown member of the Pod": _member("future"),
}
places = st.lists(st.sampled_from(sorted(PLACES)), min_size=1, max_size=4, unique=True)


def planted(where: Iterable[str], token: str) -> Json:
    """A Pod with `token` in all these places."""
    found = pod(asking(app_containers="web"), [container(env=[]), sidecar()])
    for place in where:
        PLACES[place](found, token)
    return found


def leaks(token: str, texts: Iterable[str]) -> list[str]:
    """The texts that contain a part of `token`."""
    windows = {token[at : at + WINDOW] for at in range(len(token) - WINDOW + 1)}
    return [text for text in texts if any(window in text for window in windows)]


def messages_of(admission: Admission) -> Iterator[str]:
    """All texts of an answer except the references that the patch writes.

    A Pod's author names a Secret and a key, and the patch must repeat both: in the variable's `secretKeyRef` (or
    `configMapKeyRef`, copied from the sidecar) and in the record of it. Both are readable in the Pod anyway.
    """
    response = response_of(admission)
    yield from response.pop("warnings", [])
    yield json.dumps(response.pop("auditAnnotations", {}), ensure_ascii=False)
    yield json.dumps(response.pop("status", {}), ensure_ascii=False)
    for operation in operations_of(admission):
        yield operation.pop("op")
        yield operation.pop("path")
        yield from _without_references(operation.pop("value"))
        assert not operation
    response.pop("patch", None)
    yield json.dumps(response, ensure_ascii=False)
    yield from (admission.verdict, admission.reason, admission.uid, admission.namespace, admission.owner)


def _without_references(value: object) -> Iterator[str]:
    if isinstance(value, str):
        record = json.loads(value)
        for entry in record["injected"]:
            del entry["name"], entry["key"]
        yield json.dumps(record, ensure_ascii=False)
        return
    for entry in value if isinstance(value, list) else [value]:
        assert isinstance(entry, dict)
        for reference in entry["valueFrom"].values():
            del reference["name"], reference["key"]
        yield json.dumps(entry, ensure_ascii=False)


def texts_of_exception(error: BaseException) -> Iterator[str]:
    """All texts of an exception: printed, logged or inspected."""
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield "".join(traceback.format_exception(error))


def reprs(value: object) -> Iterator[str]:
    """The repr of a decoded object and of all structs inside."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from reprs(item)
    elif isinstance(value, msgspec.Struct):
        yield repr(value)
        for field in value.__struct_fields__:
            yield from reprs(getattr(value, field))
