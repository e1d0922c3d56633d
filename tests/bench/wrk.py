"""The load generator: wrk, closed loop, one thread, TLS 1.3 with the cipher that a kube-apiserver negotiates."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.errors import BenchError
from tests.bench.process import favour, precedence

_SCRIPT: Final = Path(__file__).with_name("post.lua")
_MARK: Final = "BENCH "
# An answer later than this is an error; nothing sane comes near it.
_TIMEOUT_SECONDS: Final = 10
# Go's TLS client, which the API server is, offers AES-128-GCM first; OpenSSL's for AES-256. The first is what counts.
_OPENSSL_CONF: Final = """\
openssl_conf = settings
[settings]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk saw. Times in microseconds."""

    duration_us: int
    requests: int
    bytes: int  # received, headers included
    p50_us: int
    p99_us: int
    max_us: int
    connect: int  # errors by kind; `status` counts answers of 400 and above
    read: int
    write: int
    status: int
    timeout: int

    @property
    def errors(self) -> dict[str, int]:
        """Kinds of error that happened, with their counts; answers that say no are not among them."""
        kinds = ("connect", "read", "write", "timeout")
        return {kind: count for kind in kinds if (count := getattr(self, kind))}

    @property
    def served(self) -> int:
        """Requests that were answered with a status below 400."""
        return self.requests - self.status

    @property
    def requests_per_second(self) -> float:
        """Served requests of the whole run, handshakes included."""
        return self.served / (self.duration_us / 1e6)


def parse(output: str) -> Run:
    """The line of JSON in wrk's output.

    Raises:
        BenchError: There is none, which means that the script did not run to its end.
    """
    for line in output.splitlines():
        if line.startswith(_MARK):
            return Run(**json.loads(line.removeprefix(_MARK)))
    raise BenchError(f"wrk printed no result; its output was: {output[-500:]!r}")


class Wrk:
    """wrk, installed when that is possible, pinned to one core."""

    def __init__(self, core: int, folder: Path) -> None:
        self._program = _program()
        self._core = core
        conf = folder / "wrk-openssl.cnf"
        conf.write_text(_OPENSSL_CONF)
        self._env = {"PATH": os.environ.get("PATH", os.defpath), "OPENSSL_CONF": str(conf)}

    @property
    def version(self) -> str:
        """The program's name and version."""
        done = subprocess.run([self._program, "-v"], capture_output=True, text=True, check=False, timeout=10)
        return (done.stdout + done.stderr).splitlines()[0].split(" [")[0]

    def run(self, url: str, body: Path, *, connections: int, seconds: int, headers: Path | None = None) -> Run:
        """Post variants of `body` to `url` over `connections` keep-alive connections for `seconds`.

        No connection sends the same head twice in a row. `headers` is a file of more headers.

        Raises:
            BenchError: A request failed, or none was answered with less than 400.
        """
        argv = [
            "taskset",
            "-c",
            str(self._core),
            *precedence(),
            self._program,
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
        ]
        argv += ["--timeout", f"{_TIMEOUT_SECONDS}s", "-s", str(_SCRIPT), url, "--", str(body)]
        process = subprocess.Popen(
            [*argv, *([] if headers is None else [str(headers)])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._env,
            start_new_session=True,
        )
        favour(process.pid)
        try:
            output, _ = process.communicate(timeout=seconds + 4 * _TIMEOUT_SECONDS)
        finally:
            process.kill()
        if process.returncode != 0:
            raise BenchError(f"wrk ended with {process.returncode}: {output[-500:]}")
        run = parse(output)
        if run.errors or not run.served:
            raise BenchError(
                f"{run.requests} answers over {connections} connections, {run.status} of them refusals; "
                f"errors: {run.errors}"
            )
        return run


def _program() -> str:
    found = shutil.which("wrk")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for argv in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "wrk"]):
            subprocess.run(argv, check=False, capture_output=True, timeout=300)
        found = shutil.which("wrk")
    if found is None:
        raise BenchError("the load generator wrk is missing: install it with `apt-get install wrk` (Debian, Ubuntu)")
    return found
