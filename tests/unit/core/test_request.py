"""From annotations to the requested tokens."""

from __future__ import annotations

import pytest

from injector.core.model import Annotations, AppContainers, Policy, Reason, TokenRef
from injector.core.request import Enabled, RequestError, app_containers, enabled, env_from_secret, parse, requests_token


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
