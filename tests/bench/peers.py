"""Who is timed: how each server is started, with which flags, and where its source is.

Every server gets the same certificate, one core and no more CPU than that core: Go's through GOMAXPROCS=1.
"""

from __future__ import annotations

import shutil
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import bodies, build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.certs import Pair

FOLDER: Final = Path(__file__).with_name("peers")
ROOT: Final = FOLDER.parents[2]
# As the image sets them: glibc's largest mmap threshold, and a trim threshold that is never reached. Without them the
# allocator gives memory back after every large body and faults it in again.
MALLOC: Final[Mapping[str, str]] = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "268435456"}
US: Final = "us"
GO: Final = "go-minimal"
CONTROLLER_RUNTIME: Final = "controller-runtime"
FASTAPI: Final = "fastapi-pydantic"
CEILING: Final = "nginx ceiling"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server under test. `argv` may name {port}, {certificate}, {key}, {certs} and {config}."""

    name: str
    what: str
    argv: tuple[str, ...]
    sources: tuple[Path, ...]
    flags: str  # how it was compiled, or which knobs it runs with
    env: Mapping[str, str] = field(default_factory=dict)
    config: Path | None = None  # a template, rendered at start
    # Why the golden cases are not asked of it; "" means they are.
    exempt: str = ""
    # It writes one line of log per mutation, and the bench counts them.
    logs: bool = False


def command(peer: Peer, *, port: int, pair: Pair, folder: Path) -> list[str]:
    """`peer`'s argv for one start; its configuration is written into `folder`."""
    values = {
        "port": str(port),
        "certificate": str(pair.certificate),
        "key": str(pair.key),
        "certs": str(pair.folder),
        "config": str(folder / "config"),
        "folder": str(folder),
        "answer": constant_answer(),
    }
    if peer.config is not None:
        (folder / "config").write_text(string.Template(peer.config.read_text()).substitute(values))
    return [word.format_map(values) for word in peer.argv]


def constant_answer() -> str:
    """What nginx always says: an allowed review with a patch of the usual length."""
    return (
        f'{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{bodies.UID}",'
        f'"allowed":true,"patchType":"JSONPatch","patch":"{"W10g" * 60}"}}}}'
    )


def us(
    *, name: str = US, env: Mapping[str, str] = MALLOC, argv: tuple[str, ...] = (), config: Path | None = None
) -> Peer:
    """Our own server: metrics, one log line per mutation and all limits on, as `serve` starts it."""
    return Peer(
        name=name,
        what="python -m injector serve, with metrics, logs and limits",
        argv=(
            *(sys.executable, "-m", "injector", "serve", "--tls-mode", "files", "--tls-cert-file", "{certificate}"),
            *(
                "--tls-private-key-file",
                "{key}",
                "--host",
                "127.0.0.1",
                "--port",
                "{port}",
                "--ops-port",
                "0",
                "--ops-host",
                "127.0.0.1",
            ),
            *("--log-format", "json"),
            *argv,
        ),
        sources=tuple(sorted((ROOT / "injector").glob("**/*.py"))),
        flags=" ".join(f"{key}={value}" for key, value in env.items()) or "none",
        env={**env, "PYTHONPATH": str(ROOT)},
        config=config,
        logs=True,
    )


def sealing() -> Peer:
    """Our own server, which seals every Pod."""
    policy = FOLDER / "sealing" / "policy.yaml"
    return us(name=f"{US}, seal always", argv=("--policy-file", "{config}"), config=policy)


def others(report: Callable[[str], None]) -> tuple[Peer, ...]:
    """Every peer of ours that this machine can run; nginx only where it is installed."""
    go = {"GOMAXPROCS": "1"}
    go_flags = f"{build.flags()}; GOMAXPROCS=1, GOGC and GOAMD64 at their defaults"
    minimal, runtime = FOLDER / GO, FOLDER / CONTROLLER_RUNTIME
    found = [
        Peer(
            name=GO,
            what="net/http and encoding/json, typed structs of the needed fields; no logs, metrics or limits",
            argv=(
                str(build.build(minimal, report)),
                "-addr",
                "127.0.0.1:{port}",
                "-cert",
                "{certificate}",
                "-key",
                "{key}",
            ),
            sources=(minimal / "main.go", minimal / "go.mod"),
            flags=go_flags,
            env=go,
        ),
        Peer(
            name=CONTROLLER_RUNTIME,
            what=f"controller-runtime {_required(runtime)}, whole Pod decoded, PatchResponseFromRaw",
            argv=(str(build.build(runtime, report)), "-port", "{port}", "-certs", "{certs}"),
            sources=(runtime / "main.go", runtime / "go.mod"),
            flags=go_flags,
            env=go,
        ),
        Peer(
            name=FASTAPI,
            what="FastAPI route with pydantic models of the review and the Pod; uvicorn, uvloop, httptools",
            argv=(
                *(sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(FOLDER / "fastapi_pydantic")),
                *("--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools"),
                *("--workers", "1", "--no-access-log", "--timeout-keep-alive", "120"),
                *("--ssl-certfile", "{certificate}", "--ssl-keyfile", "{key}"),
            ),
            sources=(FOLDER / "fastapi_pydantic" / "app.py",),
            flags="one worker, no access log; " + " ".join(f"{key}={value}" for key, value in MALLOC.items()),
            env=MALLOC,
        ),
    ]
    if nginx := shutil.which("nginx"):
        found.append(
            Peer(
                name=CEILING,
                what=f"nginx {nginx_version(nginx)}: TLS and HTTP alone, with a constant answer",
                argv=(nginx, "-c", "{config}"),
                sources=(FOLDER / "nginx" / "nginx.conf.in",),
                flags="one process, as packaged",
                config=FOLDER / "nginx" / "nginx.conf.in",
                exempt="a constant can be right for one review only: it shows what TLS and HTTP cost, nothing else",
            )
        )
    return tuple(found)


def nginx_version(program: str) -> str:
    """As `nginx -v` says it."""
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False, timeout=10)
    return done.stderr.strip().rpartition("/")[2]


def _required(folder: Path) -> str:
    """The version of controller-runtime that go.mod requires."""
    lines = (folder / "go.mod").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.strip().startswith("sigs.k8s.io/controller-runtime "))
