from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector.config.policy import MAX_POLICY_BYTES, load_policy, parse_policy
from injector.config.settings import Given, Settings, flag, in_namespace, load, variable
from injector.config.shapes import LogFormat, TlsMode, duration_text
from injector.core import names
from injector.core.errors import ConfigError
from injector.core.model import AppContainers, Conflict, Policy, SealMode

if TYPE_CHECKING:
    from pathlib import Path

SHORT = {"leaf_lifetime": "1s", "ca_settle_time": "0s"}
FILES = {"tls_mode": "files", "tls_cert_file": "a", "tls_private_key_file": "b"}


def problems(flags: dict[str, str], env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Given(flags, env or {}))
    return [str(problem) for problem in caught.value.problems]


def policy_problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "p.yaml")
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
    assert found[0] == "--port: '70000' is not allowed; write less than or equal to 65535"
    assert "'auto', 'json' or 'text'" in found[2]
    assert "x" * 50 not in found[1]


def test_default_of_invalid_value_is_not_reported() -> None:
    # tls_mode falls back to its default here, which takes no files: only what the user wrote may be message.
    assert problems({**FILES, "tls_mode": "none"}) == [
        "--tls-mode: 'none' is not allowed; write 'self', 'cert-manager' or 'files'"
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
    assert problems({"ca_lifetime": text})[0].startswith(f"--ca-lifetime: '{text}' is not allowed; ")


@pytest.mark.parametrize("text", ["0s", "3654d"])
def test_lifetimes_have_bounds(text: str) -> None:
    assert problems({**SHORT, "ca_lifetime": text})[0].startswith(f"--ca-lifetime: '{text}' is not allowed")


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
    assert problems({name: "Not_a_name"})[0].startswith(f"{flag(name)}: 'Not_a_name' is not allowed; ")


def test_second_webhook_configuration_is_another_or_none() -> None:
    second, first = "second_webhook_configuration_name", "webhook_configuration_name"
    assert problems({second: "dapr-token-injector"}) == [f"{flag(second)}: must differ from {flag(first)}"]
    assert problems({first: "hooks", second: "hooks"}) == [f"{flag(second)}: must differ from {flag(first)}"]
    assert problems({first: "hooks", second: "No"})[0].startswith(f"{flag(second)}: 'No' is not allowed; ")
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


# --- the Policy ---


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n", "null\n"])
def test_empty_policy_is_the_default_one(text: str) -> None:
    assert parse_policy(text, "p.yaml") == Policy()


def test_every_policy_key_is_applied() -> None:
    text = """
        defaultSecret: dapr-api-token
        allowedSecrets: ["dapr-*", "team-[ab]-?"]
        defaultKeys: {api: a.key, app: app_key}
        defaultAppContainers: ["*", app]
        infrastructureContainers: [mesh]
        conflict: replace
        shadow: true
        seal: off
        sealImage: registry.example:5000/team/image_1:v1.0@sha256:0a
        sealImagePullSecrets: [pull, other, pull]
        allowExemptions: true
    """
    assert parse_policy(text, "p.yaml") == Policy(
        default_secret="dapr-api-token",
        allowed_secrets=("dapr-*", "team-[ab]-?"),
        default_api_key="a.key",
        default_app_key="app_key",
        default_app_containers=AppContainers(("app",), every=True, from_pod=False),
        infrastructure_containers=frozenset({"mesh"}),
        conflict=Conflict.REPLACE,
        shadow=True,
        seal=SealMode.OFF,
        seal_image="registry.example:5000/team/image_1:v1.0@sha256:0a",
        seal_image_pull_secrets=("pull", "other"),
        allow_exemptions=True,
    )


@pytest.mark.parametrize("mode", ["off", "on-request", "always"])
def test_policy_names_the_pods_that_are_sealed(mode: str) -> None:
    assert parse_policy(f"seal: {mode}\n", "p").seal is SealMode(mode)


@pytest.mark.parametrize("text", ['{"shadow": true}', "shadow: yes\n", "---\nshadow: on\n"])
def test_policy_is_read_as_kubectl_reads_yaml_and_json(text: str) -> None:
    assert parse_policy(text, "p.yaml") == Policy(shadow=True)


def test_every_invalid_policy_key_is_reported_with_line() -> None:
    found = policy_problems(
        "defaultSecret: A_B\n"
        "colour: red\n"
        "allowedSecrets:\n"
        "  - good\n"
        "  - BAD\n"
        "shadow: 'yes'\n"
        "conflict: maybe\n"
        "defaultKeys: {api: 'a b', x: 2}\n"
        "defaultAppContainers: [UPPER]\n"
        "infrastructureContainers: 3\n"
    )
    assert [problem.partition(": ")[0] for problem in found] == [
        "p.yaml:1", "p.yaml:5", "p.yaml:8", "p.yaml:8", "p.yaml:9", "p.yaml:10", "p.yaml:7", "p.yaml:6", "p.yaml:2",
    ]  # fmt: skip
    joined = "\n".join(found)
    assert "colour: unknown key; known keys: defaultSecret, allowedSecrets" in joined
    assert "defaultKeys.x: unknown key; known keys: api, app" in joined
    assert "write 'keep' or 'replace'" in joined
    assert "'A_B' is not allowed; not a Secret name" in joined


def test_default_secret_that_is_not_allowed_is_rejected() -> None:
    assert policy_problems("defaultSecret: x\nallowedSecrets: [dapr-*]\n") == [
        "p.yaml:2: allowedSecrets: is not allowed; does not allow defaultSecret 'x'; add a pattern that matches it"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shadow: true\nshadow: false\n", "p.yaml:2: not valid YAML: duplicate key in a mapping"),
        ("defaultKeys:\n  api: a\n  api: b\n", "p.yaml:3: not valid YAML: duplicate key in a mapping"),
        ("allowedSecrets: [\n", "not valid YAML"),
        ("a: b: c\n", "p.yaml:1: not valid YAML"),
        ("- x\n", "p.yaml:1: must be a mapping"),
        ("shadow: true\n1: x\n", "p.yaml:"),
        ("text", "p.yaml:1: must be a mapping"),
        ("defaultSecret: !!python/object:os.system X\n", "p.yaml:1: defaultSecret: 'X' is not allowed"),
        ("\x00", "p.yaml:1: not valid YAML: it holds a control character"),
        ("shadow: true\n---\nshadow: false\n", "p.yaml:3: the policy must be a single document; remove the second one"),
        ("[" * 5000, "not valid YAML"),
        ("seal: on\n", "p.yaml:1: seal: is not allowed; write 'off', 'on-request' or 'always'"),
        ("sealImage: ''\n", "p.yaml:1: sealImage: '' is not allowed; not an image"),
        ("sealImage: a b\n", "p.yaml:1: sealImage: 'a b' is not allowed; not an image"),
        ("sealImagePullSecrets: [A]\n", "p.yaml:1: sealImagePullSecrets.0: 'A' is not allowed; not a Secret name"),
        (f"sealImagePullSecrets: [{'a, ' * 9}]\n", "p.yaml:1: sealImagePullSecrets: is not allowed; "),
    ],
)
def test_invalid_policy_is_reported(text: str, message: str) -> None:
    assert message in policy_problems(text)[0]


def test_policy_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("shadow: true\n")
    assert load_policy(path).shadow is True


def test_policy_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    for content, words in ((b"\xff\xfe", "is not UTF-8 text"), (b" " * (MAX_POLICY_BYTES + 1), "is larger than")):
        path = tmp_path / "policy.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            load_policy(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_policy(tmp_path / "missing.yaml")


def test_built_in_list_is_the_default() -> None:
    assert parse_policy("", "p").infrastructure_containers == frozenset(names.INFRASTRUCTURE_CONTAINERS)
