"""Bodies and files that are as expensive as their size allows: every count that a sender chooses, made large.

`n` is the count that grows; the size of a shape grows with it and not faster. The laws of cost compare the work at
two sizes, and `make bench` times the large ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.model import Policy
from tests.builders import Json, container, encode, literal_env, pod, review, secret_env, sidecar, workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_API: Final = names.API_TOKEN_ENV
_APP: Final = names.APP_TOKEN_ENV
_BOTH: Final = {names.ENABLED: "true", names.API_TOKEN_SECRET: "s", names.APP_TOKEN_SECRET: "t"}
_EVERY: Final = {**_BOTH, names.APP_CONTAINERS: "*"}


def _words(n: int, prefix: str = "x") -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def _named(n: int, prefix: str = "c") -> list[Json]:
    return [{"name": name} for name in _words(n, prefix)]


def _each(n: int, *env: Json, prefix: str = "c") -> list[Json]:
    return [{"name": name, "env": list(env)} for name in _words(n, prefix)]


def unknown_names(n: int) -> Json:
    """Names in the annotation that no container has, and as many containers that it does not name."""
    return pod({**_BOTH, names.APP_CONTAINERS: ",".join(_words(n))}, _named(n))


def many_containers(n: int) -> Json:
    """The smallest containers, all of them to be changed."""
    return pod(_EVERY, [sidecar(), *_named(n)])


def many_init_containers(n: int) -> Json:
    """The same among the init containers."""
    return pod(_EVERY, [sidecar()], [{"name": f"i{i}", "restartPolicy": "Always"} for i in range(n)])


def many_clear_text(n: int) -> Json:
    """A warning for each variable of each container."""
    return pod(_EVERY, _each(n, literal_env("x", _API), literal_env("x", _APP)))


def many_duplicates(n: int) -> Json:
    """Two warnings for each variable of each container."""
    return pod(_EVERY, _each(n, literal_env("", _API), literal_env("", _API), literal_env("", _APP)))


def one_long_env(n: int) -> Json:
    """One container with very many variables."""
    env = [*({"name": name} for name in _words(n)), literal_env("x", _API)]
    return pod(_EVERY, [sidecar(*env)])


def one_name_repeated(n: int) -> Json:
    """One variable again and again."""
    return pod(_EVERY, [sidecar(*[secret_env("s")] * n)])


def many_sidecars(n: int) -> Json:
    """Sidecars that each have another token."""
    return pod(_EVERY, [*(sidecar(secret_env(f"s{i}")) for i in range(n)), *_named(n)])


def many_forbidden(n: int) -> Json:
    """A problem for each variable of each container, under a policy that allows little."""
    return pod(_EVERY, _each(n, secret_env("no", "k"), secret_env("no", "k", _APP)))


def many_references(n: int) -> Json:
    """References to ever other Secrets, each of which has to be looked up in the policy's list."""
    return pod(_BOTH | {names.APP_CONTAINERS: "*"}, [{"name": f"c{i}", "env": [secret_env(f"n{i}")]} for i in range(n)])


def many_annotations(n: int) -> Json:
    """Annotations that are not ours."""
    return pod({**_EVERY, **dict.fromkeys(_words(n), "v")})


def many_env_pairs(n: int) -> Json:
    """`dapr.io/env` with very many pairs."""
    return pod({**_EVERY, names.DAPR_ENV: ",".join(f"{name}=1" for name in [*_words(n), _API])})


def long_record(n: int) -> Json:
    """A status record as long as the Pod has containers, all as they should be."""
    record = [{"container": f"c{i}", "env": _API, "name": "s", "key": "token"} for i in range(n)]
    status = json.dumps({"v": 1, "injected": record}, separators=(",", ":"))
    return pod(
        {names.ENABLED: "true", names.API_TOKEN_SECRET: "s", names.APP_CONTAINERS: "*", names.STATUS: status},
        _each(n, secret_env("s")),
    )


def many_sources(n: int) -> Json:
    """One variable with very many sources."""
    return pod(_EVERY, [sidecar({"name": _API, "valueFrom": {name: {} for name in _words(n)}})])


def long_names(n: int) -> Json:
    """Names without an end, where messages would show them."""
    long = "x" * n
    return pod(
        {**_BOTH, names.APP_CONTAINERS: f"{long},{long}y"},
        [container(long, env=[secret_env(long), literal_env(long, _APP)]), sidecar(secret_env(long), secret_env(long))],
    )


def long_values(n: int) -> Json:
    """Annotations without an end."""
    return pod({names.ENABLED: "true", names.API_TOKEN_SECRET: "x" * n, names.API_TOKEN_KEY: "/" * n})


def blank_names(n: int) -> Json:
    """An annotation of commas."""
    return pod({**_BOTH, names.APP_CONTAINERS: ", " * n})


PODS: Final[Mapping[str, Callable[[int], Json]]] = {
    make.__name__: make
    for make in (
        unknown_names,
        many_containers,
        many_init_containers,
        many_clear_text,
        many_duplicates,
        one_long_env,
        one_name_repeated,
        many_sidecars,
        many_forbidden,
        many_references,
        many_annotations,
        many_env_pairs,
        long_record,
        many_sources,
        long_names,
        long_values,
        blank_names,
    )
}
