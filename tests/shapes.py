"""Bodies and files that are as expensive as their size allows: every count that a sender chooses, made large.

`n` is the count that grows; the size of a shape grows with it and not faster. The laws of cost compare the work at
two sizes, and `make bench` times the large ones.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from injector.core import names
from injector.core.depth import MAX_DEPTH
from tests.builders import Json, container, encode, literal_env, pod, review, secret_env, sidecar, workload
from tests.documents import dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TextT = TypeVar("TextT", str, bytes)

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
    """The same in the init containers."""
    return pod(_EVERY, [sidecar()], [{"name": f"i{i}", "restartPolicy": "Always"} for i in range(n)])


def many_expansions(n: int) -> Json:
    """Entries that refer to both variables, in values that look like the beginning of many more references."""
    env = [literal_env("$(" * n + "_API_TOKEN)", name) for name in _words(2)]
    env += [literal_env("$$(DAPR_API_TOKEN)$(APP_API_TOKEN", name) for name in _words(n, "y")]
    return pod(_EVERY, [sidecar(*env), *_each(n, literal_env("$(APP_API_TOKEN)$(DAPR_API_TOKEN)", "H"))])


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


def many_misspelt_annotations(n: int) -> Json:
    """Annotations that are nearly ours, each another one."""
    return pod({**_EVERY, **{f"dapr.io/enable{i}": "v" for i in range(n)}})


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


_SEAL: Final = {**_EVERY, names.SEAL: "true"}


def _sealing(found: Json, **spec: object) -> Json:
    found["spec"] |= spec
    return found


def sealed_containers(n: int) -> Json:
    """Containers that are all to be sealed, half of them with a reference that is replaced."""
    each = ({"name": f"c{i}", "env": [secret_env("s")][: i % 2]} for i in range(n))
    return pod(_SEAL, [sidecar(), *each], [{"name": f"i{i}", "restartPolicy": "Always"} for i in range(n)])


def sealed_with_resources(n: int) -> Json:
    """Containers of which one has the largest memory limit, in numbers as long as they may be."""
    limits = ({"limits": {"memory": "9" * (i % 65)}, "requests": {"cpu": "9" * 64}} for i in range(n))
    return pod(_SEAL, [sidecar(), *({"name": f"c{i}", "resources": one} for i, one in enumerate(limits))])


def many_secret_entries(n: int) -> Json:
    """References to keys of which none is the requested one, the requested one being the last."""
    env = [secret_env("s", f"k{i}", f"E{i}") for i in range(n)]
    return pod(_SEAL, [sidecar(*env), {"name": "c", "env": [*env, secret_env("s", "token", "LAST")]}])


def many_secret_files(n: int) -> Json:
    """Volumes with other keys of the Secret, and variables from other Secrets."""
    items = [{"key": f"k{i}", "path": "p"} for i in range(n)]
    volumes: list[Json] = [{"name": "v", "secret": {"secretName": "s", "items": items}}]
    volumes += [{"name": f"v{i}", "projected": {"sources": [{"secret": {"name": f"s{i}"}}]}} for i in range(n)]
    sources = [{"secretRef": {"name": f"s{i}"}} for i in range(n)]
    pulls = [{"name": f"p{i}"} for i in range(n)]
    return _sealing(pod(_SEAL, [sidecar(envFrom=sources)]), volumes=volumes, imagePullSecrets=pulls)


def readers_before_the_seal(n: int) -> Json:
    """Users of the file that run before the containers that write and check it."""
    file: Json = {"volumeName": names.SEAL_VOLUME, "path": names.SEAL_FILE}
    env = [{"name": name, "valueFrom": {"fileKeyRef": {**file, "key": name}}} for name in (_API, _APP)]
    both = [secret_env("s"), secret_env("t", "token", _APP)]
    mount = {"name": names.SEAL_VOLUME, "mountPath": names.SEAL_DIRECTORY}
    seal = {"command": [*names.SEAL_COMMAND], "args": [_API, _APP], "env": both, "volumeMounts": [mount]}
    check = {"command": [*names.SEAL_CHECK_COMMAND], "args": [_API, _APP], "env": env}
    before = [{"name": f"i{i}", "restartPolicy": "Always", "env": env} for i in range(n)]
    init: list[Json] = [*before, {"name": names.SEAL_CONTAINER, **seal}, {"name": names.SEAL_CHECK_CONTAINER, **check}]
    volume = {"name": names.SEAL_VOLUME, "emptyDir": {"medium": "Memory"}}
    return _sealing(pod(_SEAL, [sidecar(*env), *_named(n)], init), volumes=[volume])


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
        many_expansions,
        many_annotations,
        many_misspelt_annotations,
        many_env_pairs,
        long_record,
        many_sources,
        long_names,
        long_values,
        blank_names,
        sealed_containers,
        sealed_with_resources,
        many_secret_entries,
        many_secret_files,
        readers_before_the_seal,
    )
}


def as_body(make: Callable[[int], Json], *, warn: bool = False) -> Callable[[int], bytes]:
    """A shape of Pods as reviews of them, or of Deployments that make them."""
    return lambda n: encode(review(workload(make(n)) if warn else make(n)))


# As deep as an API server can write: `maxNestingDepth` of Go's encoding/json.
DEEPEST: Final = 10_000


def _with_managed_fields(fields: bytes, *, warn: bool) -> bytes:
    found = pod(_EVERY)
    found["metadata"]["managedFields"] = "FIELDS"
    return encode(review(workload(found) if warn else found)).replace(b'"FIELDS"', fields)


def deep(n: int, *, warn: bool = False) -> bytes:
    """Members of `metadata.managedFields`, each nested as deeply as an API server can write it, which takes 80 KB."""
    one = b'{"f:a":' * DEEPEST + b"1" + b"}" * DEEPEST
    return _with_managed_fields(b"[%b]" % b",".join([one] * (n // 8)), warn=warn)


def deep_and_many(n: int, *, warn: bool = False) -> bytes:
    """One such member, and very many lists that are nested a little."""
    return _with_managed_fields(b"[%b%b1]" % (b"[" * 2000 + b"]" * 2000 + b",", b"[[[]]]," * n), warn=warn)


def deep_at_the_cut(n: int, *, warn: bool = False) -> bytes:
    """One such member, and very many lists that begin and end at the level below which a deep review is cut."""
    depth = MAX_DEPTH - (8 if warn else 6)
    lists = b"[" * depth + b"[[]]," * n + b"1" + b"]" * depth
    return _with_managed_fields(b"[%b,%b]" % (b"[" * 2000 + b"]" * 2000, lists), warn=warn)


BODIES: Final[Mapping[str, Mapping[bool, Callable[[int], bytes]]]] = {
    **{name: {warn: as_body(make, warn=warn) for warn in (False, True)} for name, make in PODS.items()},
    **{
        make.__name__: {warn: partial(make, warn=warn) for warn in (False, True)}
        for make in (deep, deep_and_many, deep_at_the_cut)
    },
}


# --- files ---


def _yaml(value: Json) -> str:
    return dumped(value, width=4096)


def one_line_of_json(n: int) -> str:
    """Containers to be changed, all of them on one line."""
    return json.dumps(many_containers(n))


def block_of_yaml(n: int) -> str:
    """The same in block style."""
    return _yaml(workload(many_containers(n)))


def flow_of_yaml(n: int) -> str:
    """The same in flow style."""
    return dumped(many_containers(n), width=4096, default_flow_style=True)


def clear_text_everywhere(n: int) -> str:
    """Findings for each variable of each container."""
    return _yaml(many_clear_text(n))


def duplicates_of_one_name(n: int) -> str:
    """Findings for each entry of one list, all of one name."""
    return _yaml(one_name_repeated(n))


def names_that_are_not_there(n: int) -> str:
    """Names in the annotation that no container has."""
    return _yaml(unknown_names(n))


def many_documents(n: int) -> str:
    """Documents of one Pod each."""
    return "---\n".join(_yaml({**pod(_BOTH), "metadata": {"name": f"p{i}", "annotations": _BOTH}}) for i in range(n))


def many_json_documents(n: int) -> str:
    """JSON documents one after the other, with no marker between them."""
    return "{}\n" * n + json.dumps(pod(_BOTH))


def many_templates(n: int) -> str:
    """One object with templates without an end, each with annotations above it."""
    template = {"metadata": {"annotations": {names.ENABLED: "yes"}}, "spec": {"containers": [{"name": "daprd"}]}}
    parts = {f"t{i}": {"metadata": {"annotations": _BOTH}, "template": template} for i in range(n)}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": parts})


def many_secrets(n: int) -> str:
    """Secrets of one name in ever other namespaces, and Pods that use keys that they do not have."""
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": f"n{i}"}, "data": {f"k{i}": ""}}
        for i in range(n)
    ]
    pods = [
        {**pod(_BOTH), "metadata": {"name": f"p{i}", "namespace": f"n{i + n // 2}", "annotations": _BOTH}}
        for i in range(n)
    ]
    return "\n".join(json.dumps(each) for each in (*secrets, *pods))


def one_large_secret(n: int) -> str:
    """A Secret with very many keys."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": dict.fromkeys(_words(n), "")}
    return _yaml(secret) + "---\n" + _yaml(pod(_BOTH))


def env_from_everywhere(n: int) -> str:
    """A Secret with many keys used as tokens, and taken whole again and again."""
    used = {"name": "a", "env": [secret_env("s", f"k{i}") for i in range(n)]}
    taken = {"name": "b", "envFrom": [{"prefix": f"p{i}", "secretRef": {"name": "s"}} for i in range(n)]}
    return json.dumps(pod(_BOTH, [used, taken]))


def many_directives(n: int) -> str:
    """Lines that look like the beginning of a document that does not come."""
    return "%\n" * n


def many_comments(n: int) -> str:
    """Comments that switch off rules of which nothing needs it."""
    return "# dapr-token-injector: ignore DTI007 -- none\n" * n + _yaml(pod(_BOTH))


def many_aliases(n: int) -> str:
    """Lists that are used again, each of which is copied for its container."""
    head = "shared: &a\n  - {name: LOG_LEVEL, value: info}\n"
    body = "".join(f"    - name: c{i}\n      env: *a\n" for i in range(n))
    notes = "".join(f'    {key}: "{value}"\n' for key, value in _EVERY.items())
    return f"{head}apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n{notes}spec:\n  containers:\n{body}"


def many_merges(n: int) -> str:
    """Mappings that bring each other in by merge keys."""
    chain = "".join(f"x{i}: &m{i} {{<<: *m{i - 1}}}\n" for i in range(1, n))
    return f"x0: &m0 {{spec: {{containers: [{{name: daprd}}]}}}}\n{chain}" + _yaml(pod(_BOTH))


def long_lines(n: int) -> str:
    """One long value."""
    return _yaml(pod({**_BOTH, "x": "y" * n}))


def many_unquoted_annotations(n: int) -> str:
    """Numbers that belong in quotes, on a workload and on its template."""
    numbers: Json = {f"dapr.io/x{i}": i for i in range(n)}
    return _yaml(workload(pod({**_BOTH, **numbers}), annotations=numbers))


def many_annotations_outside_templates(n: int) -> str:
    """Documents without a Pod template."""
    return "---\n".join(f"{{a: [{{b: {i}}}, {{{names.ENABLED}: 'true'}}]}}\n" for i in range(n))


def injected(n: int) -> str:
    """What `inject` writes, for `uninject`: an entry in each container."""
    record = [{"container": f"c{i}", "env": _API, "name": "s", "key": "token"} for i in range(n)]
    status = json.dumps({"v": 1, "injected": record}, separators=(",", ":"))
    return _yaml(pod({**_BOTH, names.STATUS: status}, _each(n, secret_env("s"))))


def injected_into_one(n: int) -> str:
    """A record of entries that are all in one container."""
    record = [{"container": "c", "env": f"E{i}", "name": "s", "key": "token"} for i in range(n)]
    status = json.dumps({"v": 1, "injected": record}, separators=(",", ":"))
    env = [secret_env("s", variable=f"E{i}") for i in range(n)]
    return _yaml(pod({**_BOTH, names.STATUS: status}, [{"name": "c", "env": env}]))


def to_be_sealed(n: int) -> str:
    """Containers and init containers that are all to be sealed."""
    return _yaml(workload(sealed_containers(n)))


def other_readers(n: int) -> str:
    """A container with entries of one name without an end, and volumes and variables with other keys."""
    found = many_secret_files(n)
    found["spec"]["containers"] += [
        *one_name_repeated(n)["spec"]["containers"],
        *sealed_containers(n)["spec"]["containers"],
    ]
    return json.dumps(found)


def sealed_and_recorded(n: int) -> str:
    """A sealed Pod with a record of all its containers, and of image pull secrets without an end."""
    found = readers_before_the_seal(0)
    env, pulls = found["spec"]["containers"][0]["env"], [f"p{i}" for i in range(n)]
    found["spec"]["containers"] = [{"name": f"c{i}", "env": env} for i in range(n)]
    found["spec"]["imagePullSecrets"] = [{"name": name} for name in pulls]
    injected = [
        {"container": f"c{i}", "env": variable, "name": secret, "key": "token", "sealed": True, "replaced": i % 2 == 1}
        for i in range(n)
        for variable, secret in ((_API, "s"), (_APP, "t"))
    ]
    record = {"v": 1, "injected": injected, "pullSecrets": pulls}
    found["metadata"]["annotations"] |= {names.STATUS: json.dumps(record)}
    return json.dumps(found)


FILES: Final[Mapping[str, Callable[[int], str]]] = {
    make.__name__: make
    for make in (
        one_line_of_json,
        block_of_yaml,
        flow_of_yaml,
        clear_text_everywhere,
        duplicates_of_one_name,
        names_that_are_not_there,
        many_documents,
        many_json_documents,
        many_templates,
        many_secrets,
        one_large_secret,
        env_from_everywhere,
        many_directives,
        many_comments,
        many_aliases,
        many_merges,
        long_lines,
        many_unquoted_annotations,
        many_annotations_outside_templates,
        injected,
        injected_into_one,
        to_be_sealed,
        other_readers,
        sealed_and_recorded,
    )
}


def grown(make: Callable[[int], TextT], size: int) -> TextT:
    """A shape of about so many bytes."""
    n = 4
    while len(make(n)) < size // 8:
        n *= 2
    return make(max(1, n * size // len(make(n))))
