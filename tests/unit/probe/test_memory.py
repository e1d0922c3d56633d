"""A server whose small answer expands to a large one: no answer is decompressed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.unit.probe.http2 import grpc, head, message, tail
from tests.unit.probe.servers import saying, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

# The process itself takes about 45 MiB.
MOST: Final = 150 * 1024  # KiB
# Reports its own highest memory on stderr, in KiB; what `getrusage` returns begins with that of the parent process.
PROBE: Final = """
import re, sys
from injector.cli.main import main
main(["probe", "-o", "json", "--timeout", "60", sys.argv[1]])
print(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def bomb() -> bytes:
    """Return 1 MiB of gzip, one stream, that expands to 1 GiB."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    content = zlib.compressobj(wbits=-zlib.MAX_WBITS).flush()  # the last block, which is empty
    return gzip.compress(b"")[:10] + block * (1 << 10) + content + bytes(8)


def over_http() -> Callable[[socket.socket], None]:
    body = bomb()
    fields = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n\r\n"
    return saying(b"HTTP/1.1 200 OK\r\n" + fields.encode() + body)


def over_grpc() -> Callable[[socket.socket], None]:
    body = bomb()

    def answer(stream: int) -> Iterator[bytes]:
        yield head(stream, ("grpc-encoding", "gzip"))
        yield message(stream, body, is_compressed=True)
        yield tail(stream, 0)

    return grpc(answer, [])


@pytest.mark.parametrize(("scheme", "server"), [("http", over_http), ("grpc", over_grpc)])
def test_compressed_answer_costs_no_memory(scheme: str, server: Callable[[], Callable[[socket.socket], None]]) -> None:
    with serving(server()) as port:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, f"{scheme}://127.0.0.1:{port}"], capture_output=True, text=True, check=False
        )

    assert json.loads(done.stdout)["targets"]
    assert int(done.stderr.split()[-1]) < MOST
