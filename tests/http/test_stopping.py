"""How the process ends: as Kubernetes takes a replica away, and as a person at a terminal wants it."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from pathlib import Path

from tests.controlplane.polling import wait_for
from tests.controlplane.processes import free_port
from tests.http.reviews import review
from tests.http.serving import serving

# Seconds without a caller after which the process ends; less than those of injector.webhook.server.
QUIET = 2.5


def test_sigterm_serves_on_with_connection_close_and_is_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-min-seconds", "2", "--drain-max-seconds", "60") as server:
        with server.connect() as old, server.connect() as idle:
            assert old.request(review()).status == 200
            assert server.ops("/readyz").status == 200
            server.terminate()
            server.wait_for_line("draining")
            reported = server.ops("/readyz")
            assert (reported.status, reported.json()["checks"]["serving"]["ok"]) == (503, False)
            assert server.ops("/livez").status == 200
            answer = old.request(review())
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert old.is_ended()
            # Clients that still use the old endpoints are served.
            assert server.post(review()).headers["connection"] == "close"
            assert idle.request(review()).status == 200
        assert server.exit_code() == 0
        assert server.logged("stopped")[0]["connections"] == 0


def test_server_keeps_serving_while_clients_connect(tmp_path: Path) -> None:
    def attempt() -> bool:
        """Whether callers came often enough to find out: a busy machine may make one late."""
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        with serving(folder, "--drain-min-seconds", "0", "--drain-max-seconds", "60") as server:
            began = time.monotonic()
            assert server.post(review()).status == 200
            server.terminate()
            server.wait_for_line("draining")
            for _ in range(10):  # each on a connection of its own, and none in between
                try:
                    answer = server.post(review())
                except OSError:
                    assert time.monotonic() - began > QUIET, "it ended though callers came"
                    return False
                assert answer.headers["connection"] == "close"
                began = time.monotonic()
                with contextlib.suppress(OSError):
                    wait_for("no connection left", lambda: server.sample("connections") == 0)
            assert server.exit_code() == 0
        return True

    wait_for("callers that come without a pause", attempt, timeout_seconds=240)


def test_idle_connections_are_closed_at_drain_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-min-seconds", "0", "--drain-max-seconds", "1") as server, server.connect() as idle:
        assert idle.request(review()).status == 200
        server.terminate()
        server.wait_for_line("draining")
        assert idle.is_ended()
        assert server.exit_code() == 0


def test_second_sigterm_ends_server_at_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--drain-min-seconds", "3000", "--drain-max-seconds", "3000") as server,
        server.connect() as idle,
    ):
        assert idle.request(review()).status == 200
        server.terminate()
        server.wait_for_line("draining")
        server.terminate()
        assert server.exit_code() == 0
        assert idle.is_ended()


def test_sigint_skips_the_wait(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-min-seconds", "3000", "--drain-max-seconds", "3000") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.exit_code() == 0


def test_ports_are_free_again(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    port = free_port()
    with serving(tmp_path / "first", "--port", str(port)) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.exit_code() == 0
    with serving(tmp_path / "second", "--port", str(port)) as server:
        assert server.port == port
        wait_for("readiness", lambda: server.ops("/readyz").status == 200)
