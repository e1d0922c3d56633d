from __future__ import annotations

import pytest

from injector.core.token_id import ID_ALPHABET, id_of, is_id

TAIL = "c2VjcmV0LXJhbmRvbS1iaX"


def test_id_is_the_public_part_of_a_jti() -> None:
    assert id_of(f"bcdfghjklm.{TAIL}") == "bcdfghjklm"


@pytest.mark.parametrize(
    "jti",
    [
        None,
        7,
        "",
        ".",
        "bcdfghjklm",
        "bcdfghjklm.",
        "bcdfghjklm.x",
        f"bcdfghjklm.{TAIL}x",
        f"bcdfghjklm.{TAIL[1:]}=",
        f"bcdfghjklm.{TAIL}\n",
        f"bcdfghjkl.{TAIL}",
        f"aeiouaeiou.{TAIL}",
        f"bcdfghjklm{TAIL}",
    ],
)
def test_other_jti_has_no_id(jti: object) -> None:
    assert id_of(jti) is None


def test_id_has_ten_characters_of_the_alphabet() -> None:
    assert is_id(ID_ALPHABET[:10])
    assert not any(map(is_id, ("", ID_ALPHABET[:9], ID_ALPHABET[:11], "aeiouaeiou", ID_ALPHABET[:10] + "\n")))
