from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector.config.settings import Given, Settings, flag, in_namespace, load, variable
from injector.config.shapes import LogFormat, TlsMode, duration_text
from injector.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SHORT = {"leaf_lifetime": "1s", "ca_settle_time": "0s"}
FILES = {"tls_mode": "files", "tls_cert_file": "a", "tls_private_key_file": "b"}


def problems(flags: dict[str, str], env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Given(flags, env or {}))
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_those_of_the_design() -> None:
    settings = load(Given(FILES, {}))
    assert (settings.port, settings.ops_port, settings.keep_alive_timeout) == (10250, 8080, 120)
    assert (settings.drain_min_seconds, settings.drain_max_seconds) == (10, 20)
    assert settings.max_body_bytes == 8 * 1024 * 1024
    assert (settings.tls_mode, settings.tls_min_version, settings.log_format) == (TlsMode.FILES, "1.3", LogFormat.AUTO)
    assert settings.docs is False


def test_flag_precedes_variable_and_default() -> None:
    env = {
        "DAPR_TOKEN_INJECTOR_PORT": "1000",
        "DAPR_TOKEN_INJECTOR_OPS_PORT": "2000",
        "DAPR_TOKEN_INJECTOR_DOCS": "true",
    }
    settings = load(Given({**FILES, "port": "3000"}, env))
    assert (settings.port, settings.ops_port, settings.docs) == (3000, 2000, True)


def test_empty_variable_counts_as_unset() -> None:
    assert load(Given(FILES, {"DAPR_TOKEN_INJECTOR_PORT": ""})).port == 10250


@pytest.mark.parametrize("link", ["tcp://10.96.0.7:443", "udp://10.96.0.7:53"])
def test_service_link_variable_is_not_a_port(link: str) -> None:
    assert load(Given(FILES, {"DAPR_TOKEN_INJECTOR_PORT": link})).port == 10250


def test_every_invalid_value_is_reported_with_source() -> None:
    found = problems(
        {**FILES, "port": "70000", "max_lag": "soon", "log_format": "xml", "drain_min_seconds": "30"},
        {"DAPR_TOKEN_INJECTOR_OPS_PORT": "x" * 100},
    )
    assert [problem.partition(": ")[0] for problem in found] == [
        "--port",
        "--ops-port (DAPR_TOKEN_INJECTOR_OPS_PORT)",
        "--log-format",
        "--max-lag",
        "--drain-max-seconds",
    ]
    assert found[0] == '--port: "70000" is not allowed; write less than or equal to 65535'
    assert "'auto', 'json' or 'text'" in found[2]
    assert "x" * 50 not in found[1]


def test_default_of_invalid_value_is_not_reported() -> None:
    # tls_mode falls back to its default here, which takes no files: only the values of the user may be reported.
    assert problems({**FILES, "tls_mode": "none"}) == [
        "--tls-mode: \"none\" is not allowed; write 'self', 'cert-manager' or 'files'"
    ]


@pytest.mark.parametrize("mode", ["files", "cert-manager"])
def test_modes_with_files_require_both_files(mode: str) -> None:
    assert problems({"tls_mode": mode}) == [
        f"--tls-cert-file: is required with --tls-mode {mode}",
        f"--tls-private-key-file: is required with --tls-mode {mode}",
    ]


def test_mode_self_rejects_certificate_files() -> None:
    assert load(Given({}, {})).tls_mode is TlsMode.SELF
    assert problems({"tls_cert_file": "a", "tls_private_key_file": "b"}) == [
        "--tls-mode: self creates its own certificate; remove --tls-cert-file, or use files",
        "--tls-mode: self creates its own certificate; remove --tls-private-key-file, or use files",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("24h", 86_400), ("365d", 31_536_000), ("8w", 4_838_400)]
)
def test_duration_requires_a_unit(text: str, seconds: float) -> None:
    settings = load(Given({"ca_lifetime": text, "leaf_lifetime": "1s", "ca_settle_time": "0s"}, {}))
    assert settings.ca_lifetime.total_seconds() == seconds
    assert load(Given({**SHORT, "ca_lifetime": duration_text(settings.ca_lifetime)}, {})) == settings


@pytest.mark.parametrize("text", ["24", "1.5h", "-1h", "h", "1e3s", "1h30m", "9" * 10 + "d", "soon"])
def test_invalid_durations_are_rejected(text: str) -> None:
    assert problems({"ca_lifetime": text})[0].startswith(f'--ca-lifetime: "{text}" is not allowed; ')


@pytest.mark.parametrize("text", ["0s", "3654d"])
def test_lifetimes_have_bounds(text: str) -> None:
    assert problems({**SHORT, "ca_lifetime": text})[0].startswith(f'--ca-lifetime: "{text}" is not allowed')


def test_ca_lifetime_is_at_least_six_times_leaf_lifetime() -> None:
    (problem,) = problems({"ca_lifetime": "6d", "leaf_lifetime": "1d"})
    expected = "--ca-lifetime: must be at least six times the sum of --leaf-lifetime and --ca-settle-time"
    assert problem.startswith(expected)


def test_names_of_the_certificate_are_names_and_addresses() -> None:
    assert load(Given({"certificate_names": "a.example, 127.0.0.1,::1"}, {})).certificate_names == (
        "a.example",
        "127.0.0.1",
        "::1",
    )
    assert problems({"certificate_names": "a,no name"})[0].endswith(
        "use DNS names and IP addresses, separated by commas"
    )


@pytest.mark.parametrize("name", [
    "namespace", "service_name", "ca_secret_name", "webhook_configuration_name", "second_webhook_configuration_name",
])  # fmt: skip
def test_names_of_objects_are_checked(name: str) -> None:
    assert problems({name: "Not_a_name"})[0].startswith(f'{flag(name)}: "Not_a_name" is not allowed; ')


def test_object_name_has_labels_of_any_length() -> None:
    for name in ("a" * 64, "a" * 253):
        assert load(Given({"webhook_configuration_name": name}, {})).webhook_configuration_name == name
    assert problems({"webhook_configuration_name": "a" * 254})


def test_second_webhook_configuration_is_another_or_none() -> None:
    second, first = "second_webhook_configuration_name", "webhook_configuration_name"
    assert problems({second: "dapr-token-injector"}) == [f"{flag(second)}: must differ from {flag(first)}"]
    assert problems({first: "hooks", second: "hooks"}) == [f"{flag(second)}: must differ from {flag(first)}"]
    assert problems({first: "hooks", second: "No"})[0].startswith(f'{flag(second)}: "No" is not allowed; ')
    for name in ("", "hooks-2"):
        assert load(Given({second: name}, {})).second_webhook_configuration_name == name


def test_namespace_comes_from_flag_variable_or_service_account(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.write_text("from-file\n")

    def found(flags: dict[str, str], env: dict[str, str]) -> str:
        given = Given(flags, env)
        return in_namespace(load(given), given, file).namespace

    assert found({"namespace": "from-flag"}, {"POD_NAMESPACE": "from-env"}) == "from-flag"
    assert found({}, {"POD_NAMESPACE": "from-env"}) == "from-env"
    assert found({}, {}) == "from-file"
    assert found(FILES, {}) == ""


def test_unknown_or_invalid_namespace_is_a_problem(tmp_path: Path) -> None:
    for env, where in ({}, "--namespace"), ({"POD_NAMESPACE": "No"}, "POD_NAMESPACE"):
        with pytest.raises(ConfigError) as caught:
            in_namespace(load(Given({}, env)), Given({}, env), tmp_path / "none")
        assert [problem.where for problem in caught.value.problems] == [where]


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", ""])
def test_times_are_real_numbers(text: str) -> None:
    assert problems({**FILES, "body_timeout": text})[0].startswith("--body-timeout: ")


def test_unknown_flag_is_reported_with_other_problems() -> None:
    assert problems({**FILES, "colour": "red"}) == ["--colour: unknown flag"]
    assert problems({**FILES, "colour": "red", "port": "x"})[0] == "--colour: unknown flag"


def test_names_of_flags_and_variables() -> None:
    assert (flag("tls_cert_file"), variable("tls_cert_file")) == (
        "--tls-cert-file",
        "DAPR_TOKEN_INJECTOR_TLS_CERT_FILE",
    )


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())
