from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from injector.core.claims import BadClaimError, ExpectedClaims, TokenSpec, build, evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_800_000_000
JTI = "bcdfghjklm.c2VjcmV0LXJhbmRvbS1iaX"


def test_claims_are_the_registered_ones_and_the_callers() -> None:
    claims = build(TokenSpec(subject="ns:shop", lifetime=60, extra={"team": "payments"}), now=NOW, jti=JTI)

    assert claims == {
        "iss": "dapr-token-injector",
        "sub": "ns:shop",
        "aud": "dapr-api",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 60,
        "jti": JTI,
        "team": "payments",
    }


def test_several_audiences_are_a_list() -> None:
    assert build(TokenSpec(audience=("a", "b")), now=NOW, jti=JTI)["aud"] == ["a", "b"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (TokenSpec(issuer=""), "--iss: not valid; use printable ASCII"),
        (TokenSpec(issuer="über"), "--iss: not valid; use printable ASCII"),
        (TokenSpec(issuer="a\nb"), "--iss: not valid; use printable ASCII"),
        (TokenSpec(issuer=" a"), "--iss: not valid; use printable ASCII"),
        (TokenSpec(issuer=":x"), "--iss: not a URI; with a colon it must be one"),
        (TokenSpec(subject=7), "--sub: not a string but int"),  # type: ignore[arg-type] # what is refused
        (TokenSpec(audience=()), "--aud: no audience; give at least one"),
        (TokenSpec(audience=("a", "")), "--aud: not valid; use printable ASCII"),
        (TokenSpec(extra={"exp": "tomorrow"}), "--claim exp: already set by --expires-in; use another name"),
        (TokenSpec(extra={"jti": "x"}), "--claim jti: already set by the token's id; use another name"),
        (TokenSpec(extra={"": "x"}), "--claim: not a valid name; use 1 to 64"),
        (TokenSpec(extra={"a b": "x"}), "--claim: not a valid name; use 1 to 64"),
        (TokenSpec(extra={"a": ""}), "--claim a: not valid; use printable ASCII, not empty"),
        (TokenSpec(extra={"a": 1}), "--claim a: not a string but int"),  # type: ignore[dict-item] # what is refused
    ],
)
def test_bad_claims_are_refused_with_the_reason(wanted: TokenSpec, why: str) -> None:
    with pytest.raises(BadClaimError, match=why):
        build(wanted, now=NOW, jti=JTI)


SOUND = build(TokenSpec(), now=NOW, jti=JTI)


def found(
    token_claims: Mapping[str, object], expected: ExpectedClaims, now: int = NOW
) -> dict[str, tuple[bool | None, str]]:
    return {one.what: (one.fine, one.message) for one in evaluate(token_claims, expected, now=now)}


def test_sound_claims_are_fine() -> None:
    assert found(SOUND, ExpectedClaims(issuer="dapr-token-injector")) == {
        "times": (True, "expires in 90 days"),
        "audience": (True, "dapr-api"),
        "issuer": (True, "dapr-token-injector"),
    }


def test_claim_that_is_not_requested_has_no_verdict() -> None:
    results = found(SOUND, ExpectedClaims(audience=None))

    assert (results["audience"], results["issuer"]) == ((None, "not checked"), (None, "not checked"))


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        ({"exp": NOW - 61}, "times", "expired 61 seconds ago"),
        ({"exp": NOW - 3 * 3600}, "times", "expired 3 hours ago"),
        ({"nbf": NOW + 300}, "times", "not valid yet: starts in 5 minutes"),
        ({"exp": None}, "times", "exp is missing: the token never expires"),
        ({"exp": "tomorrow"}, "times", "exp is not a time"),
        ({"exp": True}, "times", "exp is not a time"),
        ({"exp": float("nan")}, "times", "exp is not a time"),
        ({"exp": float("inf")}, "times", "exp is not a time"),
        ({"exp": -1}, "times", "exp is not a time"),
        ({"iat": []}, "times", "iat is not a time"),
        ({"aud": "other"}, "audience", "aud does not contain dapr-api"),
        ({"aud": ["other"]}, "audience", "aud does not contain dapr-api"),
        ({"aud": 7}, "audience", "aud is missing or not a string"),
        ({"iss": None}, "issuer", "iss is missing or not a string"),
        ({"iss": "other"}, "issuer", "is not dapr-token-injector"),
    ],
)
def test_what_is_wrong_is_found(change: dict[str, object], what: str, why: str) -> None:
    fine, message = found({**SOUND, **change}, ExpectedClaims(issuer="dapr-token-injector"))[what]

    assert fine is False
    assert why in message


def test_clocks_may_differ_by_the_leeway() -> None:
    assert found({**SOUND, "exp": NOW - 59, "nbf": NOW + 60}, ExpectedClaims())["times"][0] is True


@given(
    st.dictionaries(
        st.sampled_from(["exp", "iat", "nbf", "aud", "iss"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.text() | st.integers()),
    )
)
def test_any_claims_get_a_verdict(token_claims: dict[str, object]) -> None:
    assert [one.what for one in evaluate(token_claims, ExpectedClaims(), now=NOW)] == ["times", "audience", "issuer"]
