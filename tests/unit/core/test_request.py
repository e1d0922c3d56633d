"""From annotations to the requested tokens."""

from __future__ import annotations

import pytest

from injector.core.model import Annotations, AppContainers, Policy, Reason, TokenRef
from injector.core.request import (
    Enabled,
    RequestError,
    app_containers,
    enabled,
    env_from_secret,
    forbidden,
    is_allowed,
    is_secret_key,
    is_secret_name,
    listed,
    parse,
    redact,
    requests_token,
    warning,
)

HIDDEN = "a value of {} characters (not shown: it may be a token)"


@pytest.mark.parametrize("word", ["y", "yes", "true", "t", "on", "1", "TRUE", "Yes", " on ", "\tT\n"])
def test_true_words_of_dapr_are_true(word: str) -> None:
    assert enabled(Annotations(enabled=word)) is Enabled.TRUE


@pytest.mark.parametrize("word", ["n", "no", "false", "f", "off", "0", "FALSE", " No "])
def test_false_words_are_false(word: str) -> None:
    assert enabled(Annotations(enabled=word)) is Enabled.FALSE


@pytest.mark.parametrize("word", [None, "", "  "])
def test_empty_is_absent(word: str | None) -> None:
    assert enabled(Annotations(enabled=word)) is Enabled.ABSENT


@pytest.mark.parametrize("word", ["enabled", "truee", "10", "yes please", "\uff59"])
def test_any_other_word_is_unknown(word: str) -> None:
    assert enabled(Annotations(enabled=word)) is Enabled.UNKNOWN


def test_either_secret_annotation_requests_a_token() -> None:
    assert requests_token(Annotations(api_token_secret="s"))
    assert requests_token(Annotations(app_token_secret="t"))
    assert not requests_token(Annotations(api_token_secret=" ", app_token_secret=""))
    assert not requests_token(Annotations(api_token_key="k", app_containers="*"))


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


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), ""),
        (("a", "b"), "a, b"),
        (("a",) * 20, ", ".join("a" * 20)),
        (("a",) * 22, ", ".join("a" * 20) + ", and 2 more"),
        (("a" * 500, "b" * 12, "c"), "a" * 500 + ", " + "b" * 12 + ", and 1 more"),
        (("a" * 600, "b"), "a" * 600 + ", and 1 more"),
    ],
)
def test_long_list_is_shown_in_part(words: tuple[str, ...], text: str) -> None:
    assert listed(words) == text


def test_values_are_trimmed_and_defaulted() -> None:
    found = parse(Annotations(api_token_secret=" s ", app_token_secret="t\n"), Policy(), use_default=False)

    assert found is not None
    assert found.wanted == (
        ("DAPR_API_TOKEN", TokenRef("s", "token")),
        ("APP_API_TOKEN", TokenRef("t", "token")),
    )
    assert found.app_containers == AppContainers(from_pod=False)


def test_annotation_key_overrides_policy_key() -> None:
    policy = Policy(default_api_key="a", default_app_key="b")
    both = Annotations(api_token_secret="s", app_token_secret="t")

    plain = parse(both, policy, use_default=False)
    explicit = parse(
        Annotations(api_token_secret="s", app_token_secret="t", api_token_key=" x ", app_token_key="y"),
        policy,
        use_default=False,
    )

    assert plain is not None
    assert explicit is not None
    assert [ref.key for _, ref in plain.wanted] == ["a", "b"]
    assert [ref.key for _, ref in explicit.wanted] == ["x", "y"]


def test_pod_without_secret_requests_nothing() -> None:
    assert parse(Annotations(api_token_key="k"), Policy(default_secret="d"), use_default=False) is None
    assert parse(Annotations(), Policy(), use_default=True) is None


def test_default_secret_applies_to_the_api_token_only() -> None:
    found = parse(Annotations(), Policy(default_secret="d"), use_default=True)

    assert found is not None
    assert found.wanted == (("DAPR_API_TOKEN", TokenRef("d", "token")),)


def test_every_problem_is_collected_in_a_fixed_order() -> None:
    wrong = Annotations(app_token_key="a b", api_token_key="../x", app_token_secret="t", api_token_secret="My_Secret")

    with pytest.raises(RequestError) as failed:
        parse(wrong, Policy(allowed_secrets=("dapr-*",)), use_default=False)

    assert [(problem.annotation, problem.reason) for problem in failed.value.problems] == [
        ("dapr.io/api-token-secret", Reason.INVALID_SECRET_NAME),
        ("dapr.io/app-token-secret", Reason.SECRET_NOT_ALLOWED),
        ("dapr-token-injector/api-token-key", Reason.INVALID_SECRET_KEY),
        ("dapr-token-injector/app-token-key", Reason.INVALID_SECRET_KEY),
    ]
    assert [problem.brief for problem in failed.value.problems] == [
        'dapr.io/api-token-secret: "My_Secret" is not a Secret name',
        'annotation dapr.io/app-token-secret: Secret "t" is not on the policy\'s list allowedSecrets',
        'dapr-token-injector/api-token-key: "../x" is not a key of a Secret',
        'dapr-token-injector/app-token-key: "a b" is not a key of a Secret',
    ]


def test_problem_of_the_allowed_list_names_the_list() -> None:
    problem = forbidden("here", "a", "s", ("x-*", "y"))

    assert problem.message == 'here: Secret "s" is not on the policy\'s list allowedSecrets, which is: x-*, y'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", AppContainers()),
        (" , ,", AppContainers()),
        ("*", AppContainers(every=True)),
        ("b, a ,b,", AppContainers(("b", "a"))),
        ("a,*", AppContainers(("a",), every=True)),
        ("a*", AppContainers(("a*",))),
    ],
)
def test_list_of_containers_is_read_leniently(text: str, expected: AppContainers) -> None:
    found = parse(Annotations(api_token_secret="s", app_containers=text), Policy(), use_default=False)

    assert found is not None
    assert found.app_containers == expected


def test_absent_list_defaults_to_the_policy() -> None:
    default = app_containers(["*"], from_pod=False)
    policy = Policy(default_app_containers=default)

    absent = parse(Annotations(api_token_secret="s"), policy, use_default=False)
    empty = parse(Annotations(api_token_secret="s", app_containers=""), policy, use_default=False)

    assert absent is not None
    assert empty is not None
    assert absent.app_containers == default
    assert empty.app_containers == AppContainers()


@pytest.mark.parametrize(
    "value",
    [
        "My_Secret",
        "other-ns/s",
        "../x",
        "a b",
        "MY_SECRET",
        "MyAppSecret",
        "my-app-secret-v2-2024",
        "dapr-api-token-20240101",
        "s:token",
        "K8s_Secret",
        "DAPR_API_TOKEN_SECRET_NAME",
        "my-secret-name-that-is-long_",
    ],
)
def test_readable_value_is_shown(value: str) -> None:
    assert redact(value) == f'"{value}"'


@pytest.mark.parametrize(
    "value",
    [
        "eyJ",
        "'eyJhbGci",
        "Bearer eyJhbGci",
        "a" * 64,
        "abcdefgh12345678",
        "ABCDEFGHabcdefgh",
        "ABCDEFGHIJKLMNOP",
        "1234567890123456",
        "aB3+dE5/gH7=jK9_",
        "q3Zx7LmP0v-d9RtY2wNs5-bG8cJf1A",
        "550e8400-e29b-41d4-a716-446655440000",
        "00000000-0000-4000-8000-000000000000_",
        "76155982-5254-4089-8215-735350635512",
        "hJ8#kL2$mN5%",
        "!@#$pass",
        "Tr0ub4dor&3",
    ],
)
def test_value_that_resembles_a_token_is_never_shown(value: str) -> None:
    assert redact(value) == HIDDEN.format(len(value))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("{{ .Values.secret }}", 'the placeholder "{{ .Values.secret }}"'),
        ("$(SECRET)", 'the placeholder "$(SECRET)"'),
        ("<your-secret>", 'the placeholder "<your-secret>"'),
        ("${SECRET}", 'the placeholder "${SECRET}"'),
        ("orders-${ENV}", 'the placeholder "orders-${ENV}"'),
        ("#{SECRET}#", 'the placeholder "#{SECRET}#"'),
        ("%SECRET%", 'the placeholder "%SECRET%"'),
        ("@@SECRET@@", 'the placeholder "@@SECRET@@"'),
        # The default of a placeholder may be a token.
        ("${DAPR_SECRET:=dapr-api-token}", "a placeholder"),
        ("${TOKEN:=q3Zx7LmP0v-d9RtY2wNs5}", "a placeholder"),
        ("<path:secret/data/dapr#token-of-the-application-in-production-1>", "a placeholder"),
    ],
)
def test_placeholder_is_named(value: str, shown: str) -> None:
    assert redact(value) == shown


@pytest.mark.parametrize(
    ("annotations", "wrong"),
    [
        (
            Annotations(api_token_secret="${DAPR_SECRET:=dapr-api-token}"),
            "dapr.io/api-token-secret: a placeholder is not a Secret name; render the manifest first",
        ),
        (
            Annotations(app_token_secret="<s>"),
            'dapr.io/app-token-secret: the placeholder "<s>" is not a Secret name; render the manifest first',
        ),
        (
            Annotations(api_token_secret="s", api_token_key="${KEY:=api-token.v1}"),
            "dapr-token-injector/api-token-key: a placeholder is not a key of a Secret; render the manifest first",
        ),
    ],
)
def test_placeholder_in_annotation_gets_advice(annotations: Annotations, wrong: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(annotations, Policy(), use_default=False)
    (problem,) = caught.value.problems
    assert problem.brief == wrong
    assert problem.message.startswith(f"annotation {wrong}; allowed are ")


def test_shown_value_has_at_most_forty_characters() -> None:
    assert redact("a_" * 20) == '"' + "a_" * 20 + '"'
    assert redact("a_" * 20 + "b") == '"' + "a_" * 18 + 'a..."'
    assert redact("a_" * 31 + "a") == '"' + "a_" * 18 + 'a..."'
    assert redact("a_" * 32) == HIDDEN.format(64)


def test_shown_value_is_printable_ascii() -> None:
    assert redact("ä\n\x1b") == '"???"'


def test_warning_is_printable_ascii_under_120_characters() -> None:
    assert warning("a\nb\x1bé~ ") == "a?b??~ "
    assert warning("x" * 119) == "x" * 119
    assert warning("x" * 120) == "x" * 116 + "..."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("", ()),
        ("OTHER=s:k", ()),
        ("MY_DAPR_API_TOKEN=s:k,DAPR_API_TOKEN_2=s", ()),
        ("DAPR_API_TOKEN=,APP_API_TOKEN", ()),
        ("DAPR_API_TOKEN=s:k", (("DAPR_API_TOKEN", TokenRef("s", "k")),)),
        ("DAPR_API_TOKEN=s", (("DAPR_API_TOKEN", TokenRef("s", "s")),)),
        ("DAPR_API_TOKEN=s:", (("DAPR_API_TOKEN", TokenRef("s", "s")),)),
        (
            "A=1, APP_API_TOKEN = t ,DAPR_API_TOKEN=s:k",
            (("DAPR_API_TOKEN", TokenRef("s", "k")), ("APP_API_TOKEN", TokenRef("t", "t"))),
        ),
    ],
)
def test_daprs_variables_from_secrets_are_read(text: str | None, expected: tuple[tuple[str, TokenRef], ...]) -> None:
    assert env_from_secret(Annotations(dapr_env_from_secret=text)) == expected
