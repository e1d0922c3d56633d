"""Stands for a program of the fork server: `python -I -S client.py SOCKET MODULE ARGUMENTS...`.

It imports little, since it is started often: `socket`, `signal` and `typing` cost twice as much as Python's own start.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found] # it has no types to offer
import _socket as socket
import os
import select
import struct
import sys

# A process id, then an exit code: negative for a signal.
NUMBER = struct.Struct("i")
_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    """Be the program for the process that started this one."""
    address, *words = sys.argv[1:]
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(address)
    job = os.memfd_create("job")
    parts = [os.getcwd(), str(len(words)), *words]  # noqa: PTH109 - pathlib costs more than all the rest
    os.write(job, b"\0".join([*map(os.fsencode, parts), *(b"=".join(pair) for pair in os.environb.items())]))
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    files = struct.pack("5i", 0, 1, 2, job, network)
    server.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    pid = NUMBER.unpack(server.recv(NUMBER.size))[0]
    for number in _FORWARDED:
        signal.signal(number, lambda received, _: os.kill(pid, received))
    # A signal that comes just before a call that waits would else be forwarded only after that call.
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    while server.fileno() not in select.select([server.fileno(), woken], (), ())[0]:
        os.read(woken, 1)
    code: int = NUMBER.unpack(server.recv(NUMBER.size))[0]
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
