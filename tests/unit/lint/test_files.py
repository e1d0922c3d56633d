from __future__ import annotations

import base64

import pytest

from injector.core.model import TokenRef
from injector.core.token import TokenFlaw, flaw_of
from injector.lint.files import FileSet, KeySeen, Malformed, SecretSeen, SecretUse, evaluate, is_secret, key_paths
from injector.lint.location import Location

LOCATION = Location("a.yaml", 1, 1)
SOUND = "0123456789abcdef"


def seen(value: object, part: str = "stringData", **more: object) -> KeySeen:
    return evaluate({"kind": "Secret", part: {"token": value}, **more}, (part, "token"), LOCATION)


@pytest.mark.parametrize(
    ("token", "flaw"),
    [
        (b"", TokenFlaw.EMPTY),
        (b"0123456789abcdef\n", TokenFlaw.NEWLINE),
        (b"0123456789abcdef\r", TokenFlaw.NEWLINE),
        (b"\n", TokenFlaw.NEWLINE),
        (b" 0123456789abcdef", TokenFlaw.CHARACTER),
        (b"0123456789abcdef ", TokenFlaw.CHARACTER),
        (b"0123456789\tabcdef", TokenFlaw.CHARACTER),
        (b"0123456789\0abcdef", TokenFlaw.CHARACTER),
        (b"0123456789\x7fabcdef", TokenFlaw.CHARACTER),
        ("0123456789\u00e4bcdef".encode(), TokenFlaw.CHARACTER),
        (b"\xff\xfe0123456789abcdef", TokenFlaw.CHARACTER),
        (b"x", TokenFlaw.LENGTH),
        (b"0123456789abcde", TokenFlaw.LENGTH),
        (b"0123456789abcdef", None),
        (b"0123456 89abcdef", TokenFlaw.CHARACTER),
        (b"ab cd efghijklmnopqrstuv", TokenFlaw.CHARACTER),
        (b"x" * 4096, None),
        (b"x" * 4097, TokenFlaw.LENGTH),
    ],
)
def test_flaws_of_a_value(token: bytes, flaw: TokenFlaw | None) -> None:
    assert flaw_of(token) is flaw
    assert seen(base64.b64encode(token).decode(), "data").flaw is flaw


@pytest.mark.parametrize("value", ["not base64", "YWJj=", "YW Jj", "\u00e4\u00e4\u00e4\u00e4"])
def test_data_must_be_base64(value: str) -> None:
    assert seen(value, "data") == KeySeen(LOCATION, Malformed.NOT_BASE64, is_secret=True)


def test_base64_may_be_folded_over_lines() -> None:
    assert seen("MDEyMzQ1Njc4\nOWFiY2RlZg==\n", "data").flaw is None


@pytest.mark.parametrize("value", [12345, 1.5, True, ["a"], {"a": "b"}])
def test_value_must_be_text(value: object) -> None:
    assert seen(value) == KeySeen(LOCATION, Malformed.NOT_TEXT, is_secret=True)


def test_null_is_an_empty_value() -> None:
    assert seen(None) == KeySeen(LOCATION, TokenFlaw.EMPTY, is_secret=False)


@pytest.mark.parametrize(
    "value",
    ["${TOKEN}", "${TOKEN:=x}", "<path:secret/data/dapr#token>", "ref+vault://dapr/token", "{{ .token }}", "$(TOKEN)"],
)
def test_placeholder_does_not_count_as_value(value: str) -> None:
    nothing = KeySeen(LOCATION, None, is_secret=False)
    assert seen(value) == seen(value, "data") == nothing
    assert seen(base64.b64encode(value.encode()).decode(), "data") == nothing
    assert seen(f"prefix-and-{value}").is_secret


def test_value_encrypted_by_sops_does_not_count_as_value() -> None:
    value = "ENC[AES256_GCM,data:abc,type:str]"
    assert seen(value, sops={"version": "3"}) == KeySeen(LOCATION, None, is_secret=False)
    assert seen(value).is_secret


def test_only_non_empty_value_counts_as_secret() -> None:
    assert not seen("").is_secret
    assert seen(SOUND) == KeySeen(LOCATION, None, is_secret=True)


def test_string_data_wins_over_data() -> None:
    assert key_paths({"data": {"a": "", "b": ""}, "stringData": {"b": "", "c": ""}}) == {
        "a": ("data", "a"),
        "b": ("stringData", "b"),
        "c": ("stringData", "c"),
    }
    assert key_paths({"data": None}) == {}


def test_only_core_v1_secret_is_a_secret() -> None:
    assert is_secret({"kind": "Secret", "apiVersion": "v1"})
    assert not is_secret({"kind": "Secret", "apiVersion": "example.com/v1"})
    assert not is_secret({"kind": "SealedSecret", "apiVersion": "bitnami.com/v1alpha1"})


def secret(namespace: str) -> SecretSeen:
    return SecretSeen(namespace, "s", {"token": KeySeen(LOCATION, None, is_secret=True)}, in_file=True)


@pytest.mark.parametrize(
    ("secrets", "pod", "found", "elsewhere"),
    [
        (["a"], "a", ["a"], []),
        (["a", "b"], "b", ["b"], []),
        (["b"], "a", [], ["b"]),
        ([""], "a", [""], []),
        (["b"], "", ["b"], []),
        (["b", ""], "a", [""], []),
        (["a", ""], "a", ["a"], []),
        ([], "a", [], []),
    ],
)
def test_file_without_namespace_matches_any_namespace(
    secrets: list[str], pod: str, found: list[str], elsewhere: list[str]
) -> None:
    files = FileSet()
    for namespace in secrets:
        files.add(secret(namespace))
    use = SecretUse(LOCATION, pod, TokenRef("s", "token"), "here")
    assert [each.namespace for each in files.found(use).secrets] == found
    assert [each.namespace for each in files.elsewhere(use).secrets] == elsewhere


def test_key_with_many_uses_is_reported_once() -> None:
    files = FileSet([SecretUse(LOCATION, "a", TokenRef("s", key), "here") for key in ("token", "token", "absent")])
    files.add(secret("a"))
    assert [name for _, name, _ in files.used_keys()] == ["token"]
