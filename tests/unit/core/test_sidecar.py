from __future__ import annotations

import shlex

import pytest

from injector.core.sidecar import Listening, is_dapr_shared, listening, meets_loopback

# As Dapr's injector starts it (pkg/injector/patcher/sidecar_container.go of 1.16).
INJECTED = shlex.split(
    "/daprd --dapr-http-port 3500 --dapr-grpc-port 50001 --dapr-internal-grpc-port 50002 "
    "--dapr-listen-addresses [::1],127.0.0.1 --dapr-public-port 3501 --app-id shop --app-protocol http "
    "--log-level info --dapr-graceful-shutdown-seconds -1 --mode kubernetes --enable-metrics --metrics-port 9090 "
    "--enable-mtls"
)


def test_injected_sidecar_is_local_except_health_and_metrics() -> None:
    found = listening(INJECTED)

    assert found == Listening(3500, 50001, 3501, 9090, None, ("[::1]", "127.0.0.1"))
    assert found.is_local


def test_bare_daprd_listens_everywhere() -> None:
    found = listening(["daprd"])

    assert found == Listening(3500, 50001, None, 9090, None)
    assert not found.is_local


@pytest.mark.parametrize(
    "words",
    [
        ["--dapr-http-port", "4000"],
        ["-dapr-http-port", "4000"],
        ["--dapr-http-port=4000"],
        ["--dapr-http-port", "1", "--dapr-http-port=4000"],
        ["--app-id", "--dapr-http-port", "4000"],
        ["/dlv", "--listen", ":40000", "exec", "/daprd", "--", "--dapr-http-port", "4000"],
    ],
)
def test_flags_are_parsed_like_daprd(words: list[str]) -> None:
    assert listening(words).http == 4000


@pytest.mark.parametrize("words", [["--enable-metrics=false"], ["--metrics-listen-address", "127.0.0.1"]])
def test_local_metrics_are_not_an_open_port(words: list[str]) -> None:
    assert listening(words).metrics is None


def test_boolean_flag_takes_no_separate_value() -> None:
    found = listening(["--enable-profiling", "--metrics-port", "9"])

    assert (found.profiling, found.metrics) == (7777, 9)


def test_profiling_has_the_listen_address_of_the_api() -> None:
    assert listening(["--enable-profiling", "--dapr-listen-addresses", "127.0.0.1"]).profiling is None


def test_public_port_on_loopback_is_not_public() -> None:
    assert listening(["--dapr-public-port", "3501", "--dapr-public-listen-address", "127.0.0.1"]).public is None


@pytest.mark.parametrize(
    "addresses",
    [
        *("0.0.0.0", "127.0.0.1,10.0.0.1", "[::]", "::", "", ","),  # noqa: S104 - as people write it
        *("127.0.0.1,", ",[::1]", "::1234", "127.example.com", "localhost.example.com", "$(ADDRESS)"),
    ],
)
def test_address_other_than_loopback_is_not_local(addresses: str) -> None:
    assert not listening(["--dapr-listen-addresses", addresses]).is_local


@pytest.mark.parametrize("addresses", ["127.0.0.1", "[::1],127.0.0.1", "::1", "LocalHost", "::ffff:127.0.0.1"])
def test_loopback_is_local(addresses: str) -> None:
    assert listening(["--dapr-listen-addresses", addresses]).is_local


@pytest.mark.parametrize(
    ("address", "is_met"),
    [
        *(("", True), ("0.0.0.0", True), ("[::]", True), ("127.0.0.1", True), ("localhost", True)),  # noqa: S104 - as above
        *(("10.0.0.1", False), ("[fd00::1]", False), ("$(POD_IP)", False)),
    ],
)
def test_port_forward_reaches_loopback_and_wildcard_addresses(address: str, *, is_met: bool) -> None:
    assert meets_loopback(address) is is_met


def test_addresses_of_other_ports_are_reported() -> None:
    found = listening(["--metrics-listen-address=10.0.0.1", "--dapr-public-listen-address", "10.0.0.2"])

    assert (found.metrics_address, found.public_address) == ("10.0.0.1", "10.0.0.2")


def test_socket_is_reported() -> None:
    assert listening(["--unix-domain-socket", "/var/run"]).socket == "/var/run"


@pytest.mark.parametrize("value", ["$(PORT)", "65536", "-1", "٣", "9" * 5000])
def test_invalid_port_is_reported_without_its_value(value: str) -> None:
    with pytest.raises(ValueError, match=r"^its --dapr-http-port is not a port number$"):
        listening([f"--dapr-http-port={value}"])


@pytest.mark.parametrize("name", ["enable-metrics", "enable-profiling"])
def test_invalid_boolean_flag_is_reported_without_its_value(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^its --{name} is neither true nor false$"):
        listening([f"--{name}=$(SWITCH)"])


@pytest.mark.parametrize(
    ("words", "is_certain"),
    [
        (["sh", "-c", "exec /daprd --enable-profiling"], False),
        (["sh", "-c", "/daprd -dapr-http-port=3500"], False),
        (["/daprd", "--app-id", "a --dash"], True),
        (INJECTED, True),
    ],
)
def test_flags_in_a_shell_command_are_uncertain(words: list[str], *, is_certain: bool) -> None:
    assert listening(words).is_certain is is_certain


def test_flag_without_its_value_is_the_default() -> None:
    assert listening(["--dapr-http-port"]).http == 3500


def test_dapr_shared_is_recognised_by_its_key_and_a_missing_request() -> None:
    assert is_dapr_shared(is_requested=False, key="dapr-api-token")
    assert not is_dapr_shared(is_requested=True, key="dapr-api-token")
    assert not is_dapr_shared(is_requested=False, key="token")
    assert not is_dapr_shared(is_requested=False, key="")
