"""`check --canary`: its exit code and its line, also if another server answers in place of the API server."""

from __future__ import annotations

import json
import re
import ssl
from typing import TYPE_CHECKING, Any, Final

import pytest
from kubernetes.aio.config import incluster_config

from injector.cli.check import canary
from injector.cli.main import main
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.http.certificates import Issuer, key_pem, new_key
from tests.unit.check.installed import MUTATING, NAME, SECOND, entries, installed, with_two_groups
from tests.unit.probe.servers import page, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fake_cluster.store import Store

ENTRY: Final = {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "dapr-token-injector-canary-x7f2c", "namespace": "shop"},
    "spec": {"containers": [{"name": "daprd", "env": [ENTRY]}]},
}


def answering(content: bytes, received: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """A server that reads one request as a whole: what it left unread would reset the connection."""

    def answer(connection: socket.socket) -> None:
        request = b""
        while piece := connection.recv(65536):
            request += piece
            head, end, body = request.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: ([0-9]+)", head)
            if end and len(body) >= int(length[1] if length else 0):
                break
        if received is not None:
            received.append(request)
        connection.sendall(content)

    return answer


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    issuer, key = Issuer(), new_key()
    (tmp_path / "chain").write_bytes(issuer.issue(key))
    (tmp_path / "key").write_bytes(key_pem(key))
    (tmp_path / "ca.crt").write_bytes(issuer.pem)
    (tmp_path / "token").write_text("credential-of-the-account")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    return context


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[int], tuple[int, str]]:
    """The command in a Pod, for an API server at a port of loopback."""
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")

    def running(port: int) -> tuple[int, str]:
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        code = main(["check", "--canary", "--canary-namespace=shop", "--canary-secret=s:token"])
        output = capsys.readouterr()
        assert output.err == ""
        assert "credential" not in output.out
        assert output.out.count("\n") == 1
        return code, output.out

    return running


def test_pod_with_its_token_passes(tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]) -> None:
    received: list[bytes] = []
    with serving(answering(page("201 Created", json.dumps(POD).encode()), received), tls) as at:
        code, output = run(at)

    assert code == 0
    assert output == "passed: a Pod as a dry run in namespace shop comes back with its token\n"
    (request,) = received  # it reads nothing
    assert re.match(rb"POST /api/v1/namespaces/shop/pods\?\S*dryRun=All", request)
    assert b"credential-of-the-account" in request


def test_pod_without_its_token_fails(tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]) -> None:
    bare = {**POD, "spec": {"containers": [{"name": "daprd"}]}}
    bare["metadata"] = {
        **POD["metadata"],
        "annotations": {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "s"},
    }
    received: list[bytes] = []
    with serving(answering(page("201 Created", json.dumps(bare).encode()), received), tls) as at:
        code, output = run(at)

    assert code == 1
    assert output.startswith("failed: the Pod came back without its token: the webhook is not registered")
    assert len(received) == 1  # nor does it read why


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_reported_and_not_followed(
    status: int, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    arrived: list[bytes] = []
    with serving(answering(page("201 Created", json.dumps(POD).encode()), received=arrived)) as other:
        target = f"http://127.0.0.1:{other}/there"
        moved = page(f"{status} Moved\r\nLocation: {target}?a=b", b"")
        with serving(answering(moved), tls) as at:
            code, output = run(at)

    assert code == 2
    assert f"the server redirects to {target} (status {status}), and no redirect is followed" in output
    assert arrived == []


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("X: y", "without naming a target (status 307)"),
        ("Location: https://[x", "to a target that is not a URL (status 307)"),
        ("Location: https://u:p@h:99/a b?c#d", "to https://h:99/a?b (status 307)"),
        (f"Location: https://h/{'x' * 7000}", "to https://h/(not shown) (status 307)"),
    ],
)
def test_target_of_a_redirect_is_one_short_line(
    header: str, words: str, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    with serving(answering(page(f"307 Moved\r\n{header}", b"")), tls) as at:
        code, output = run(at)

    assert code == 2
    assert f"redirects {words}" in output


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"Pod"',
        b'{"kind":"Status","status":"Success"}',
        json.dumps({**POD, "kind": "PodList"}).encode(),
        json.dumps({**POD, "metadata": {**POD["metadata"], "namespace": "other"}}).encode(),
        json.dumps({**POD, "metadata": {**POD["metadata"], "name": "web"}}).encode(),
        json.dumps({**POD, "metadata": "x"}).encode(),
    ],
)
def test_answer_other_than_the_pod_is_reported(
    body: bytes, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    with serving(answering(page("200 OK", body)), tls) as at:
        code, output = run(at)

    assert code == 2
    assert output.startswith("unknown: ")
    assert "not confirmed: the answer" in output


@pytest.mark.parametrize("spec", [{}, {"containers": []}, {"containers": "x"}, {"containers": [{"name": 1}]}, None])
def test_pod_without_a_sidecar_never_passes(
    spec: object, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    with serving(answering(page("200 OK", json.dumps({**POD, "spec": spec}).encode())), tls) as at:
        code, _ = run(at)

    assert code in {1, 2}


def test_answer_that_is_not_http_is_reported(tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]) -> None:
    with serving(answering(b"SSH-2.0-x\r\n"), tls) as at:
        code, output = run(at)

    assert code == 2
    assert "the API server does not answer" in output or "the connection failed" in output


def test_server_that_never_answers_is_given_up(
    tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    monkeypatch.setattr(canary, "DEADLINE_SECONDS", 0.5)
    with serving(silent, tls) as at:
        code, output = run(at)

    assert code == 2
    assert "no answer within" in output


def test_other_process_behind_the_address_is_reported(run: Callable[[int], tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("credential-of-the-account")
    (tmp_path / "ca.crt").write_bytes(Issuer().pem)

    code, output = run(9)

    assert code == 2
    assert output.startswith("unknown: ")
    assert "cannot connect to 127.0.0.1:9" in output


# --- with a kubeconfig ---


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as server:
        server.put("namespaces", {"metadata": {"name": "default"}})
        yield server


def sent(api: ApiServer, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", "--kubeconfig", str(api.kubeconfig), *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def admitted(pod: dict[str, Any]) -> dict[str, Any]:
    """The Pod with its token."""
    secret = pod["metadata"]["annotations"]["dapr.io/api-token-secret"]
    reference = {"name": secret, "key": "any"}
    pod["spec"]["containers"][0]["env"] = [{"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": reference}}]
    return pod


def test_default_namespace_and_secret(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.admitted = admitted

    assert sent(api, capsys, "--canary") == (
        0, "passed: a Pod as a dry run in namespace default comes back with its token\n", "",
    )  # fmt: skip
    assert sent(api, capsys, "--canary", "--canary-secret=dapr-api-token:token")[0] == 1
    assert sent(api, capsys, "--only", "injects")[0] == 0


def test_shadow_mode_passes_only_when_expected(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.warnings.append("shadow mode: would inject daprd/DAPR_API_TOKEN")

    assert sent(api, capsys, "--canary")[0] == 1
    code, out, _ = sent(api, capsys, "--canary", "--canary-shadow")
    assert (code, "would inject daprd/DAPR_API_TOKEN" in out) == (0, True)


PASSED: Final = "passed: a Pod as a dry run in namespace default comes back with its token"
REQUESTED: Final = f"{NAME}-requested"
EXPECTED: Final = ("--canary", "--canary-groups=2", "--canary-requested=Deny")


def expecting(
    api: ApiServer, capsys: pytest.CaptureFixture[str], store: Store, *arguments: str
) -> tuple[int, str, list[str]]:
    """The exit code, the line, and the objects that were read."""
    api.objects.update(store.objects)
    api.admitted = admitted
    code, out, err = sent(api, capsys, *arguments)
    assert (err, out.count("\n")) == ("", 1)
    return code, out, [call.partition("?")[0].removeprefix("GET ") for call in api.calls if call.startswith("GET ")]


def test_expected_entries_and_policy_pass(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, read = expecting(api, capsys, with_two_groups(), *EXPECTED)

    assert (code, out.startswith(f"{PASSED}; "), out.endswith(f"{REQUESTED}, bound with Deny, Audit\n")) == (
        0,
        True,
        True,
    )
    admission = "/apis/admissionregistration.k8s.io/v1"
    assert sorted(read) == [
        f"{admission}/{MUTATING}/{NAME}",
        f"{admission}/{MUTATING}/{SECOND}",
        f"{admission}/validatingadmissionpolicies/{REQUESTED}",
        f"{admission}/validatingadmissionpolicybindings/{REQUESTED}",
    ]


def test_one_group_reads_only_its_entries(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, read = expecting(api, capsys, installed(), "--canary", "--canary-groups=1")

    assert (code, out.startswith(f"{PASSED}; ")) == (0, True)
    assert read == [f"/apis/admissionregistration.k8s.io/v1/{MUTATING}/{NAME}"]


FIRST: Final = f"MutatingWebhookConfiguration {NAME}"
LOST: Final[dict[str, tuple[Callable[[Store], Any], str]]] = {
    "the binding": (
        lambda store: store.objects.pop(("validatingadmissionpolicybindings", "", REQUESTED)),
        f"ValidatingAdmissionPolicyBinding {REQUESTED} does not exist: the policy has no effect",
    ),
    "the first group": (
        lambda store: store.objects.pop((MUTATING, "", NAME)),
        f"{FIRST} does not exist: only MutatingWebhookConfiguration {SECOND} protects Pods",
    ),
    "the second group": (
        lambda store: store.objects.pop((MUTATING, "", SECOND)),
        f"MutatingWebhookConfiguration {SECOND} does not exist: only {FIRST} protects Pods",
    ),
    "an entry of the second group": (
        lambda store: entries(store, group=SECOND).pop(0),
        f"MutatingWebhookConfiguration {SECOND} has no entry inject-2.{NAME}.svc: only {FIRST} protects Pods",
    ),
    "the Pods of an entry": (
        lambda store: entries(store, group=SECOND)[0]["matchConditions"].append({"name": "x", "expression": "false"}),
        f"inject-2.{NAME}.svc: the match condition x is added: it can exclude Pods that request a token",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_lost_part_of_a_redundant_installation_fails(
    api: ApiServer, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    lose, message = LOST[case]
    store = with_two_groups()
    lose(store)

    code, out, _ = expecting(api, capsys, store, *EXPECTED)

    assert (code, out) == (1, f"failed: {message}\n")
    assert sent(api, capsys, "--canary")[:2] == (0, f"{PASSED}\n")


def test_warning_does_not_fail_the_canary(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    store = installed()
    entries(store)[0]["timeoutSeconds"] = 20

    code, out, _ = expecting(api, capsys, store, "--canary", "--canary-groups=1")

    assert (code, out.startswith(PASSED), "timeoutSeconds" in out) == (0, True, False)


def test_failed_check_comes_before_what_is_unknown(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.refusals.append(Refusal("POST .*", 403, "exceeded quota"))

    code, out, _ = expecting(api, capsys, installed(), "--canary", "--canary-requested=Deny")

    assert code == 1
    assert out.startswith(f"failed: ValidatingAdmissionPolicy {REQUESTED} and its binding do not exist; ")
    assert "exceeded quota" in out


def test_expected_object_that_cannot_be_read_is_unknown(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.refusals.append(Refusal("GET .*", 403, "no"))

    code, out, _ = expecting(api, capsys, installed(), "--canary", "--canary-groups=1")

    assert (code, out.startswith("unknown: ")) == (2, True)


def test_words_of_the_cluster_are_escaped(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'admission webhook "other" denied the request: \x1b[2Jx\ny'
    api.refusals.append(Refusal("POST .*", 403, text))

    code, out, _ = sent(api, capsys, "--canary")

    assert (code, out.count("\n"), "\x1b" in out) == (2, 1, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--canary", "--pre", "-o", "json"), "--pre, --output: no effect with --canary, which only sends a Pod"),
        (("--canary", "-n", "x"), "--namespace: no effect with --canary"),
        (("--canary-secret", "A"), '--canary-secret: "A" is not NAME or NAME:KEY of a Secret'),
        (("--canary-secret", "a:"), "is not NAME or NAME:KEY"),
        (("--canary-secret", "a:b:c"), "is not NAME or NAME:KEY"),
        (("--canary-secret", ""), "is not NAME or NAME:KEY"),
        (("--canary-namespace", "A"), '--canary-namespace: "A" is not a valid name'),
        (("--canary-groups", "3"), "3 is not in the range 1<=x<=2"),
        (("--canary-requested", "Off"), "'Off' is not one of 'Audit', 'Warn', 'Deny'"),
    ],
)
def test_invalid_options(
    api: ApiServer, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = sent(api, capsys, *arguments)

    assert (code, out) == (2, "")
    assert words in err
    assert api.calls == []
