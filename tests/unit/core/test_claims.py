from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from injector.core import claims
from injector.core.claims import BadClaimError, Expected, Wanted, build, judge, lifetime

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_800_000_000
JTI = "bcdfghjklm.c2VjcmV0LXJhbmRvbS1iaXRz"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600s", 3600),
        ("1m", 60),
        ("30m", 1800),
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("2w", 1_209_600),
        (" 1h ", 3600),
    ],
)
def test_lifetime_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert lifetime(text) == seconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("90", "has no unit; write 90s, 90m, 90h, 90d or 90w"),
        ("0", "has no unit"),
        ("", "a whole number and a unit"),
        ("d", "a whole number and a unit"),
        ("-1d", "a whole number and a unit"),
        ("1.5d", "a whole number and a unit"),
        ("90 d", "a whole number and a unit"),
        ("1d12h", "a whole number and a unit"),
        ("٣d", "a whole number and a unit"),
        ("9" * 400 + "d", "a whole number and a unit"),
        ("0d", "out of bounds"),
        ("59s", "out of bounds; allowed are 60s to 520w"),
        ("521w", "out of bounds"),
    ],
)
def test_invalid_lifetime_is_rejected_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(BadClaimError, match=why):
        lifetime(text)


def test_claims_are_registered_and_custom_ones() -> None:
    claims = build(Wanted(subject="ns:shop", lifetime=60, extra={"team": "payments"}), now=NOW, jti=JTI)

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
    assert build(Wanted(audience=("a", "b")), now=NOW, jti=JTI)["aud"] == ["a", "b"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Wanted(issuer=""), "iss: printable ASCII"),
        (Wanted(issuer="über"), "iss: printable ASCII"),
        (Wanted(issuer="a\nb"), "iss: printable ASCII"),
        (Wanted(issuer=" a"), "iss: printable ASCII"),
        (Wanted(issuer=":x"), "iss: with a colon it has to be a URI"),
        (Wanted(subject=7), "sub: text is needed, not int"),  # type: ignore[arg-type] # a rejected value
        (Wanted(audience=()), "aud: at least one"),
        (Wanted(audience=("a", "")), "aud: printable ASCII"),
        (Wanted(extra={"exp": "tomorrow"}), "claim exp is not free: --expires-in sets it"),
        (Wanted(extra={"jti": "x"}), "claim jti is not free: chance sets it"),
        (Wanted(extra={"": "x"}), "the name of a claim"),
        (Wanted(extra={"a b": "x"}), "the name of a claim"),
        (Wanted(extra={"a": ""}), "claim a: printable ASCII"),
        (Wanted(extra={"a": 1}), "claim a: text is needed, not int"),  # type: ignore[dict-item] # a rejected value
    ],
)
def test_invalid_claims_are_rejected_with_a_reason(wanted: Wanted, why: str) -> None:
    with pytest.raises(BadClaimError, match=why):
        build(wanted, now=NOW, jti=JTI)


def test_id_is_the_public_part_of_a_jti() -> None:
    assert claims.id_of(JTI) == "bcdfghjklm"
    assert [claims.id_of(other) for other in ("bcdfghjklm", "a.b", "", None, 7, ".", "aeiouaeiou.x")] == [None] * 7


SOUND = build(Wanted(), now=NOW, jti=JTI)


def found(claims: Mapping[str, object], expected: Expected, now: int = NOW) -> dict[str, tuple[bool | None, str]]:
    return {one.what: (one.fine, one.told) for one in judge(claims, expected, now=now)}


def test_valid_claims_have_no_problem() -> None:
    assert found(SOUND, Expected(issuer="dapr-token-injector")) == {
        "times": (True, "expires in 90 days"),
        "audience": (True, "dapr-api"),
        "issuer": (True, "dapr-token-injector"),
    }


def test_unrequested_checks_have_no_verdict() -> None:
    verdicts = found(SOUND, Expected(audience=None))

    assert (verdicts["audience"], verdicts["issuer"]) == ((None, "not asked for"), (None, "not asked for"))


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        ({"exp": NOW - 61}, "times", "expired 61 seconds ago"),
        ({"exp": NOW - 3 * 3600}, "times", "expired 3 hours ago"),
        ({"nbf": NOW + 300}, "times", "not valid yet: begins in 5 minutes"),
        ({"exp": None}, "times", "never expires"),
        ({"exp": "tomorrow"}, "times", "exp is no time"),
        ({"exp": True}, "times", "exp is no time"),
        ({"exp": float("nan")}, "times", "exp is no time"),
        ({"exp": float("inf")}, "times", "exp is no time"),
        ({"exp": -1}, "times", "exp is no time"),
        ({"iat": []}, "times", "iat is no time"),
        ({"aud": "other"}, "audience", "is not meant for dapr-api"),
        ({"aud": ["other"]}, "audience", "is not meant for dapr-api"),
        ({"aud": 7}, "audience", "no aud"),
        ({"iss": None}, "issuer", "no iss"),
        ({"iss": "other"}, "issuer", "is not dapr-token-injector"),
    ],
)
def test_invalid_claim_is_found(change: dict[str, object], what: str, why: str) -> None:
    fine, message = found({**SOUND, **change}, Expected(issuer="dapr-token-injector"))[what]

    assert fine is False
    assert why in message


def test_clock_skew_within_the_leeway_is_accepted() -> None:
    assert found({**SOUND, "exp": NOW - 59, "nbf": NOW + 60}, Expected())["times"][0] is True


@given(
    st.dictionaries(
        st.sampled_from(["exp", "iat", "nbf", "aud", "iss"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.text() | st.integers()),
    )
)
def test_any_claims_get_a_verdict(claims: dict[str, object]) -> None:
    assert [one.what for one in judge(claims, Expected(), now=NOW)] == ["times", "audience", "issuer"]
