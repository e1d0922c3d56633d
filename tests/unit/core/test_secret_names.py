"""Names of Secrets and of their keys, and the list of allowed Secrets."""

from __future__ import annotations

import pytest

from injector.core.secret_names import forbidden, is_allowed, is_secret_key, is_secret_name


@pytest.mark.parametrize("name", ["s", "0", "a-b", "a.b", "a--b", "1.2.3", "a" * 253, "x" * 64 + ".y"])
def test_dns_subdomain_is_a_secret_name(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a-", ".a", "a.", "a..b", "a-.b", "a.-b", "A", "a_b", "a/b", "a b", "ä", "a\n", "a" * 254, "\u0661"],
)
def test_other_text_is_not_a_secret_name(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("key", ["token", "api.key", "A_b-1", ".hidden", "a..b", "-", "_", "a" * 253, "-."])
def test_key_of_a_config_map_is_a_secret_key(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["", ".", "..", "..data", "../x", "a/b", "a b", "ä", "a\n", "a" * 254, "a=b"])
def test_other_text_is_not_a_secret_key(key: str) -> None:
    assert not is_secret_key(key)


def test_empty_list_allows_every_name() -> None:
    assert is_allowed("s", ())


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("dapr-a", True), ("dapr-", True), ("dapr-a.b", True), ("x-dapr-a", False), ("exact", True), ("exact2", False)],
)
def test_list_allows_names_that_match_a_pattern(name: str, allowed: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_allowed(name, ("dapr-*", "exact")) is allowed


def test_patterns_are_case_sensitive() -> None:
    assert not is_allowed("dapr-a", ("DAPR-*",))


@pytest.mark.parametrize(
    ("name", "allowed"), [("dapr-1-x", True), ("dapr-12-x", False), ("a.b", True), ("acb", False), ("team-x", True)]
)
def test_list_allows_globs_with_a_wildcard_in_the_middle(name: str, allowed: bool) -> None:  # noqa: FBT001 - as above
    assert is_allowed(name, ("dapr-?-x", "[a-b].*", "*eam-x")) is allowed


def test_invalid_secret_name_is_not_on_a_list() -> None:
    assert is_allowed("a" * 253, ("a*",))
    assert not is_allowed("a" * 254, ("a*",))


def test_problem_of_the_allowed_list_names_the_list() -> None:
    problem = forbidden("here", "a", "s", ("x-*", "y"))

    assert problem.message == 'here: Secret "s" is not on the policy\'s list allowedSecrets, which is: x-*, y'
