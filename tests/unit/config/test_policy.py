from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector.config.policy import MAX_POLICY_BYTES, load_policy, parse_policy
from injector.core import names
from injector.core.errors import ConfigError
from injector.core.model import AppContainers, Conflict, Policy, SealMode

if TYPE_CHECKING:
    from pathlib import Path


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "p.yaml")
    return [str(problem) for problem in caught.value.problems]


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
    found = problems(
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
    assert '"A_B" is not allowed; not a Secret name' in joined


def test_token_in_policy_is_not_shown() -> None:
    token = "Zk3vQ9xT7mB2wL5pRa1N"
    (problem,) = problems(f"defaultSecret: {token}\n")
    assert "may be a token" in problem
    assert token not in problem


def test_default_secret_that_is_not_allowed_is_rejected() -> None:
    assert problems("defaultSecret: x\nallowedSecrets: [dapr-*]\n") == [
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
        ("defaultSecret: !!python/object:os.system X\n", 'p.yaml:1: defaultSecret: "X" is not allowed'),
        ("\x00", "p.yaml:1: not valid YAML: it holds a control character"),
        ("shadow: true\n---\nshadow: false\n", "p.yaml:3: the policy must be a single document; remove the second one"),
        ("[" * 5000, "not valid YAML"),
        ("seal: on\n", "p.yaml:1: seal: is not allowed; write 'off', 'on-request' or 'always'"),
        ("sealImage: ''\n", 'p.yaml:1: sealImage: "" is not allowed; not an image'),
        ("sealImage: a b\n", 'p.yaml:1: sealImage: "a b" is not allowed; not an image'),
        ("sealImagePullSecrets: [A]\n", 'p.yaml:1: sealImagePullSecrets.0: "A" is not allowed; not a Secret name'),
        (f"sealImagePullSecrets: [{'a, ' * 9}]\n", "p.yaml:1: sealImagePullSecrets: is not allowed; "),
    ],
)
def test_invalid_policy_is_reported(text: str, message: str) -> None:
    assert message in problems(text)[0]


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
