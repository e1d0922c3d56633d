"""The serving pair while the process runs: replaced, refused, run out; and who may shake hands."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.polling import wait_for
from tests.http.certificates import DAY, NOW, Files, Issuer, key_pem, new_key
from tests.http.client import PATIENCE, client_context
from tests.http.reviews import review
from tests.http.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.http.serving import Serving

OFTEN = ("--tls-reload-interval", "0.1")


def serial(server: Serving) -> str:
    """Serial number of the certificate that a new handshake gets."""
    with server.connect() as connection:
        assert connection.request(review()).status == 200
        assert isinstance(connection.socket, ssl.SSLSocket)
        certificate = connection.socket.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


@contextmanager
def often(tmp_path: Path) -> Iterator[Serving]:
    """A process that looks at its files often."""
    with serving(tmp_path, *OFTEN) as server:
        yield server


def test_new_pair_is_served_without_a_restart(tmp_path: Path) -> None:
    with often(tmp_path) as server:
        before = serial(server)
        with server.connect() as old:
            assert old.request(review()).status == 200
            key = new_key()
            until = NOW + 20 * DAY
            server.files.replace(server.issuer.issue(key, until=until), key_pem(key))
            wait_for("the new certificate", lambda: serial(server) != before)
            # A connection that was open keeps its session.
            assert old.request(review()).status == 200
        assert server.sample("certificate_expiry_timestamp_seconds") == until.timestamp()
        assert server.sample('certificate_reloads_total{outcome="loaded"}') == 1
        assert server.wait_for_line("certificate reloaded")["names"] == ["localhost", "127.0.0.1"]


@pytest.mark.parametrize("interval", ["3600"])
def test_sighup_looks_at_the_files_at_once(tmp_path: Path, interval: str) -> None:
    with serving(tmp_path, "--tls-reload-interval", interval) as server:
        before = serial(server)
        key = new_key()
        server.files.replace(server.issuer.issue(key), key_pem(key))
        server.process.send_signal(signal.SIGHUP)
        wait_for("the new certificate", lambda: serial(server) != before)


def _mismatch(issuer: Issuer) -> tuple[bytes, bytes]:
    return issuer.issue(new_key()), key_pem(new_key())


def _run_out(issuer: Issuer) -> tuple[bytes, bytes]:
    key = new_key()
    return issuer.issue(key, since=NOW - 2 * DAY, until=NOW - DAY), key_pem(key)


def _nameless(issuer: Issuer) -> tuple[bytes, bytes]:
    key = new_key()
    return issuer.issue(key, hosts=()), key_pem(key)


def _garbage(_: Issuer) -> tuple[bytes, bytes]:
    return b"not a certificate", b"not a key"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (_mismatch, "does not match"),
        (_run_out, "expired at"),
        (_nameless, "no subject alternative name"),
        (_garbage, "no readable PEM"),
    ],
)
def test_invalid_new_pair_keeps_previous_pair(
    tmp_path: Path, bad: Callable[[Issuer], tuple[bytes, bytes]], words: str
) -> None:
    with often(tmp_path) as server:
        before = serial(server)
        server.files.replace(*bad(server.issuer))
        # Both files are never seen together by chance, so the last word about them is what counts.
        wait_for(
            "the refusal",
            lambda: any(
                words in line["problem"]
                for line in server.logged("new certificate rejected, the previous one stays in use")
            ),
            describe=lambda: server.log,
        )
        assert serial(server) == before
        assert server.sample('certificate_reloads_total{outcome="rejected"}') >= 1
        reported = server.ops("/readyz")
        assert reported.status == 200
        assert words in reported.json()["checks"]["certificate"]["refused"]
        key = new_key()
        server.files.replace(server.issuer.issue(key), key_pem(key))
        wait_for("the good pair", lambda: serial(server) != before)
        wait_for("no refusal", lambda: "refused" not in server.ops("/readyz").json()["checks"]["certificate"])


def test_missing_files_keep_previous_pair(tmp_path: Path) -> None:
    with often(tmp_path) as server:
        before = serial(server)
        server.files.chain.unlink()
        assert (
            "cannot be read"
            in server.wait_for_line("new certificate rejected, the previous one stays in use")["problem"]
        )
        assert serial(server) == before


@pytest.mark.parametrize("which", ["chain", "key"])
def test_fifo_in_place_of_a_file_does_not_stop_the_process(tmp_path: Path, which: str) -> None:
    with often(tmp_path) as server:
        before = serial(server)
        path = getattr(server.files, which)
        path.unlink()
        os.mkfifo(path)
        refused = server.wait_for_line("new certificate rejected, the previous one stays in use")
        # Between the two steps the file was missing.
        if "not a regular file" not in refused["problem"]:
            wait_for("the FIFO to be refused", lambda: "not a regular file" in server.log, describe=lambda: server.log)
        assert serial(server) == before
        assert server.post(review()).status == 200


@pytest.mark.parametrize("option", ["--tls-cert-file", "--tls-private-key-file", "--policy-file"])
def test_fifo_is_refused_at_the_start(tmp_path: Path, option: str) -> None:
    key, fifo = new_key(), tmp_path / "fifo"
    files = Files.write(tmp_path, Issuer().issue(key), key_pem(key))
    os.mkfifo(fifo)
    options = {"--tls-cert-file": str(files.chain), "--tls-private-key-file": str(files.key), option: str(fifo)}
    command = [sys.executable, "-m", "injector", "serve", "--tls-mode", "files"]
    for name, value in options.items():
        command += [name, value]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert "not a regular file" in ended.stderr


def _limited(server: Serving, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = client_context(server.issuer.pem)
    context.maximum_version = version
    return context


def test_tls_1_2_is_refused_by_default(server: Serving) -> None:
    with pytest.raises(ssl.SSLError), server.connect(_limited(server, ssl.TLSVersion.TLSv1_2)):
        pass


def test_tls_1_2_is_accepted_if_configured(tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-min-version", "1.2") as server:
        with server.connect(_limited(server, ssl.TLSVersion.TLSv1_2)) as connection:
            assert connection.request(review()).status == 200
        with server.connect() as connection:
            assert connection.request(review()).status == 200


def test_http_1_1_is_negotiated_and_no_ticket_is_sent(server: Serving) -> None:
    context = client_context(server.issuer.pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with server.connect(context) as connection:
        assert connection.request(review()).status == 200
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
        assert connection.socket.session is None or not connection.socket.session.has_ticket
