"""Builds the Go peers once per source, toolchain and flags; the binaries are kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

FLAGS: Final = ("-trimpath", "-ldflags=-s -w")
ENV: Final = {"CGO_ENABLED": "0"}
# controller-runtime from nothing, on two busy cores, takes about five minutes.
_BUILD_SECONDS: Final = 1200
_PROGRESS_SECONDS: Final = 5.0


def flags() -> str:
    """The command that builds a Go peer, as it is printed."""
    settings = " ".join(f"{name}={value}" for name, value in ENV.items())
    return f"{settings} go build {FLAGS[0]} '{FLAGS[1]}'"


def go_version() -> str:
    """What `go version` says.

    Raises:
        BenchError: There is no Go.
    """
    if shutil.which("go") is None:
        raise BenchError("the Go peers need the Go toolchain: put `go` (1.26 or newer) on the PATH, or leave them out")
    done = subprocess.run(["go", "version"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip().removeprefix("go version ")


def build(source: Path, report: Callable[[str], None]) -> Path:
    """The server's binary, built when it is not in the cache.

    Raises:
        BenchError: The build failed; the text is the compiler's.
    """
    target = _cache() / f"{source.name}-{_fingerprint(source)}" / "server"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    report(f"building {source.name} (once; about a minute or more)")
    argv = ["go", "build", "-v", *FLAGS, "-o", str(unfinished), "."]
    process = subprocess.Popen(
        argv,
        cwd=source,
        env={**os.environ, **ENV},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    words = _follow(process, source.name, report)
    if process.wait(_BUILD_SECONDS) != 0:
        raise BenchError(f"building {source.name} failed:\n{words}")
    unfinished.rename(target)
    return target


def _follow(process: subprocess.Popen[str], name: str, report: Callable[[str], None]) -> str:
    """Tell how many packages are done; return the last lines, which hold the errors if there are any."""
    assert process.stderr is not None
    last: list[str] = []
    message = time.monotonic()
    for count, line in enumerate(process.stderr, 1):
        last = [*last[-19:], line]
        if time.monotonic() - message > _PROGRESS_SECONDS:
            message = time.monotonic()
            report(f"building {name}: {count} packages, now {line.strip()}")
    return "".join(last)


def _fingerprint(source: Path) -> str:
    digest = hashlib.sha256(f"{go_version()} {flags()}".encode())
    for file in sorted(source.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dapr-token-injector" / "bench"
