"""Sealed Pods next to ordinary ones, as docs/decisions/0035-sealed-pods.md has them, and what they count."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from injector.core import names
from tests.cluster.objects import SECRET
from tests.controlplane.polling import wait_for
from tests.node.objects import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_IDLE: Final = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"
# argv[1]: calls a second of each kind. Appends to a file that outlives the container, once a second, how many calls
# of its daprd were answered how. A daprd that is not there is neither.
_CALLER: Final = r"""
import collections, http.client, json, os, signal, sys, time
import grpc
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
token = os.environ["DAPR_API_TOKEN"]
rest = 1 / float(sys.argv[1])
headers = {"dapr-api-token": token}
counts, written = collections.Counter(), time.monotonic()
connection = channel = None
while True:
    begun = time.monotonic()
    try:
        connection = connection or http.client.HTTPConnection("127.0.0.1", 3500, timeout=5)
        connection.request("GET", "/v1.0/metadata", headers=headers)
        response = connection.getresponse()
        response.read()
        counts[f"http {response.status}"] += 1
    except (OSError, http.client.HTTPException):
        connection = None
        counts["http none"] += 1
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    channel = channel or grpc.insecure_channel("127.0.0.1:50001", options)
    try:
        channel.unary_unary("/dapr.proto.runtime.v1.Dapr/GetMetadata")(b"", timeout=5, metadata=tuple(headers.items()))
        counts["grpc OK"] += 1
    except grpc.RpcError as error:
        counts[f"grpc {error.code().name}"] += 1
    if time.monotonic() - written > 1:
        with open("/counts/calls", "a") as file:
            file.write(json.dumps(counts) + "\n")
        counts, written = collections.Counter(), time.monotonic()
    time.sleep(max(0, begun + rest - time.monotonic()))
"""


def pod(target: Target, name: str, *, native: bool = False, calls: float = 0, **spec: Any) -> Json:  # noqa: ANN401 - fields of a Pod
    """Return a Pod whose app calls its daprd so often a second; both have the token by ordinary references."""
    entry = {"name": names.API_TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "token"}}}
    daprd = sidecar(target, env=[entry], **({"restartPolicy": "Always"} if native else {}))
    app = {
        "name": "app",
        "image": target.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", *((_CALLER, str(calls)) if calls else (_IDLE,))],
        "env": [entry],
        "volumeMounts": [{"name": "counts", "mountPath": "/counts"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "shop"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "initContainers": [daprd] if native else [],
            "containers": [app] if native else [app, daprd],
            "volumes": [{"name": "counts", "emptyDir": {}}],
            **copy.deepcopy(spec),
        },
    }


def sealed(target: Target, item: Json, *, variables: Sequence[str] = (names.API_TOKEN_ENV,), **own: Any) -> Json:  # noqa: ANN401 - fields of our containers
    """Return the Pod sealed: `own` are fields of both init containers."""
    item = copy.deepcopy(item)
    spec = item["spec"]
    readers = [one for one in (*spec["containers"], *spec["initContainers"]) if one.get("env")]
    entries = {entry["name"]: entry for one in readers for entry in one["env"]}
    files = [
        {
            "name": variable,
            "valueFrom": {
                "fileKeyRef": {"volumeName": names.SEAL_VOLUME, "path": names.SEAL_FILE, "key": variable},
            },
        }
        for variable in variables
    ]
    for one in readers:
        one["env"] = files
    ours = {
        "image": target.image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(variables),
        "securityContext": RESTRICTED,
        **own,
    }
    mount = {"name": names.SEAL_VOLUME, "mountPath": names.SEAL_DIRECTORY}
    spec["initContainers"] = [
        {
            "name": names.SEAL_CONTAINER,
            "command": list(names.SEAL_COMMAND),
            "env": [entries[variable] for variable in variables],
            "volumeMounts": [mount],
            **ours,
        },
        {"name": names.SEAL_CHECK_CONTAINER, "command": list(names.SEAL_CHECK_COMMAND), "env": files, **ours},
        *spec["initContainers"],
    ]
    spec["volumes"].append({"name": names.SEAL_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "256Ki"}})
    return item


def secret(value: bytes | None, name: str = SECRET) -> Json:
    """Return the Secret with a value; None for one without the key."""
    data = {"other": ""} if value is None else {"token": base64.b64encode(value).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def wait_ready(kubectl: Kubectl, pods: Sequence[str], timeout_seconds: float = 120) -> dict[str, Json]:
    """Return the Pods once all are ready."""

    def probe() -> dict[str, Json] | None:
        found = {one["metadata"]["name"]: one for one in kubectl.list("pods")}
        up = [name for name in pods if _is_ready(found.get(name))]
        return found if len(up) == len(pods) else None

    def describe() -> str:
        return json.dumps({one["metadata"]["name"]: one["status"] for one in kubectl.list("pods")})

    return wait_for(f"{len(pods)} ready Pods", probe, timeout_seconds=timeout_seconds, describe=describe)


def _is_ready(item: Json | None) -> bool:
    conditions = (item or {}).get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


# --- processes on this machine ---

_POD: Final = re.compile(r"pod([0-9a-f-]{36})")


def processes(uids: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return the newest process of the Pods' containers, by Pod and program: `daprd` or `python`."""
    found: dict[tuple[str, str], int] = {}
    for folder in sorted((one.name for one in Path("/proc").iterdir() if one.name.isdecimal()), key=int):
        with contextlib.suppress(OSError):  # it ended
            program = Path(f"/proc/{folder}/comm").read_text().strip()
            if program.startswith(("daprd", "python")):
                owner = _POD.search(Path(f"/proc/{folder}/cgroup").read_text())
                if owner and owner[1] in uids:
                    found[owner[1], "daprd" if program == "daprd" else "python"] = int(folder)
    return found


def token_of(pid: int) -> str | None:
    """Return the token in the environment of a process; None if it has none, or has ended."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"DAPR_API_TOKEN="):
                return entry.partition(b"=")[2].decode()
    return None


# --- a fleet ---

# What a running daprd answers, if it accepts the token or not.
_HTTP: Final = {"http 200", "http 401"}
_GRPC: Final = {"grpc OK", "grpc UNAUTHENTICATED"}


@dataclass(slots=True)
class Counts:
    """What one kind of Pods has: samples of its two tokens, and answers to the calls of its apps."""

    samples: int = 0
    skewed: int = 0
    kills: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def served(self) -> int:
        """Calls that were answered."""
        return self.answers["http 200"] + self.answers["grpc OK"]

    @property
    def refused(self) -> int:
        """Calls that were refused because of their token."""
        return self.answers["http 401"] + self.answers["grpc UNAUTHENTICATED"]

    @property
    def other(self) -> int:
        """Calls that found no daprd, or one that was starting or ending."""
        return sum(self.answers.values()) - self.served - self.refused


class Fleet:
    """Sealed and ordinary Pods on this machine, under a Secret that another tool changes every two seconds."""

    def __init__(self, kubectl: Kubectl, target: Target, each: int, calls: float) -> None:
        """`each`: Pods of each of four kinds, sealed or not, with a regular or a native sidecar."""
        self._kubectl = kubectl
        self.counts = {"sealed": Counts(), "unsealed": Counts()}
        self.versions = 0
        self._ended = threading.Event()
        self._random = random.Random(35)  # noqa: S311 - the same victims in each run
        self._kinds: dict[str, str] = {}
        self.names: list[str] = []
        kubectl.create(secret(self._value()))
        for number in range(each):
            for native in (False, True):
                plain = pod(target, f"unsealed-{'native-' * native}{number}", native=native, calls=calls)
                other = pod(target, f"sealed-{'native-' * native}{number}", native=native, calls=calls)
                for one in (plain, sealed(target, other)):
                    kubectl.create(one)
                    self.names.append(one["metadata"]["name"])
        for name, one in wait_ready(kubectl, self.names, 60 + 20 * len(self.names)).items():
            self._kinds[one["metadata"]["uid"]] = name.partition("-")[0]
        self._threads = [threading.Thread(target=work) for work in (self._write, self._sample)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def tokens(self) -> dict[str, set[str | None]]:
        """Return the tokens that run in each Pod, by its uid."""
        found: dict[str, set[str | None]] = {}
        for (uid, _), pid in processes(list(self._kinds)).items():
            found.setdefault(uid, set()).add(token_of(pid))
        return found

    def sealed_tokens(self) -> dict[str, set[str | None]]:
        """Return those of the sealed Pods."""
        return {uid: tokens for uid, tokens in self.tokens().items() if self._kinds[uid] == "sealed"}

    def kill_one_of_each(self) -> None:
        """Kill one random container of each Pod; return when all run again."""
        before = processes(list(self._kinds))
        victims = {before[uid, self._random.choice(("daprd", "python"))]: uid for uid in self._kinds}
        for pid, uid in victims.items():
            os.kill(pid, signal.SIGKILL)
            self.counts[self._kinds[uid]].kills += 1

        def all_run() -> bool:
            now = processes(list(self._kinds))
            return len(now) == 2 * len(self._kinds) and not victims.keys() & set(now.values())

        wait_for("all containers again", all_run, timeout_seconds=240, interval_seconds=0.2)

    def wait_for_answers(self) -> None:
        """Return once the daprd of each Pod has answered its app again by HTTP and by gRPC."""
        before = self._answers()

        def all_answered() -> bool:
            now = self._answers()
            new = [now[uid] - before.get(uid, Counter()) for uid in now]
            return len(new) == len(self._kinds) and all(one.keys() & _HTTP and one.keys() & _GRPC for one in new)

        wait_for("answers to the calls of all apps", all_answered, timeout_seconds=240, interval_seconds=0.2)

    def read_answers(self) -> None:
        """Add up what the apps have counted."""
        for uid, answers in self._answers().items():
            self.counts[self._kinds[uid]].answers.update(answers)

    def _answers(self) -> dict[str, Counter[str]]:
        """What each app has counted and written, by its Pod's uid; without apps that do not run."""
        found: dict[str, Counter[str]] = {}
        for (uid, program), pid in processes(list(self._kinds)).items():
            if program == "python":
                with contextlib.suppress(OSError):  # it ended, or has not written yet
                    *lines, _ = Path(f"/proc/{pid}/root/counts/calls").read_text().split("\n")
                    found[uid] = sum((Counter(json.loads(line)) for line in lines), Counter())
        return found

    def _value(self) -> bytes:
        self.versions += 1
        return f"marker-{self.versions:04}-{os.urandom(8).hex()}".encode()

    def _write(self) -> None:
        while not self._ended.wait(2):
            patch = json.dumps({"data": secret(self._value())["data"]})
            self._kubectl.run("patch", "secret", SECRET, "--patch", patch)

    def _sample(self) -> None:
        while not self._ended.wait(0.2):
            for uid, tokens in self._complete():
                counts = self.counts[self._kinds[uid]]
                counts.samples += 1
                counts.skewed += len(tokens) > 1

    def _complete(self) -> list[tuple[str, set[str]]]:
        """The tokens of the Pods whose two processes run."""
        found: dict[str, list[str]] = {}
        for (uid, _), pid in processes(list(self._kinds)).items():
            token = token_of(pid)
            if token is not None:
                found.setdefault(uid, []).append(token)
        return [(uid, set(tokens)) for uid, tokens in found.items() if len(tokens) == 2]


def timed(work: Callable[[], object]) -> float:
    """Return how long some work took, in seconds."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun
