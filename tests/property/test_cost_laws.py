"""No request and no file costs more than in proportion to its size, whichever of its counts is large."""

from __future__ import annotations

import contextlib
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from injector.cli.main import Exit, main
from injector.core.admit import admit
from injector.core.depth import shallow
from injector.core.model import Endpoint, Policy, SealMode
from injector.core.secret_names import is_allowed
from tests import shapes
from tests.builders import forget
from tests.property.work import TIMES, Meter, is_in_proportion, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_SMALL: Final = 48
POLICIES: Final = {
    "default": Policy(),
    "list": Policy(allowed_secrets=("s", "t", *(f"q{i}*" for i in range(20)), "[m-n]*"), shadow=False),
    "shadow": Policy(allowed_secrets=("s",), shadow=True),
    "seal": Policy(seal=SealMode.ALWAYS, seal_image="i", seal_image_pull_secrets=("p1", "p")),
}


def _admitted(body: bytes, endpoint: Endpoint, policy: Policy) -> int:
    return len(admit(body, endpoint=endpoint, policy=policy).body)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("endpoint", [Endpoint.MUTATE, Endpoint.WARN])
@pytest.mark.parametrize("shape", shapes.BODIES.values(), ids=shapes.BODIES)
def test_cost_of_a_review_is_linear(
    shape: Mapping[bool, Callable[[int], bytes]], endpoint: Endpoint, policy: Policy
) -> None:
    make = shape[endpoint is Endpoint.WARN]
    small, large = make(_SMALL), make(TIMES * _SMALL)
    forget()

    few = measured(lambda: _admitted(small, endpoint, policy))
    many = measured(lambda: _admitted(large, endpoint, policy))

    assert is_in_proportion(few[0], many[0])
    assert is_in_proportion(few[1], many[1])


def test_size_of_warnings_and_denials_is_bounded() -> None:
    sizes = {
        _admitted(shapes.as_body(shape, warn=warn)(n), Endpoint.WARN if warn else Endpoint.MUTATE, policy)
        for shape in (shapes.unknown_names, shapes.many_clear_text, shapes.many_forbidden, shapes.long_names)
        for warn in (False, True)
        for policy in (POLICIES["list"], POLICIES["shadow"])
        for n in (400, 4000)
    }

    assert max(sizes) < 16 * 1024


@pytest.mark.parametrize("count", [1, 40, 4000])
def test_denial_names_few_entries_of_the_allowed_secrets(count: int) -> None:
    policy = Policy(allowed_secrets=tuple(f"secret-{i}" for i in range(count)))
    body = shapes.as_body(shapes.many_forbidden)(1)

    answer = admit(body, endpoint=Endpoint.MUTATE, policy=policy).body.decode()

    assert answer.count("is not on the policy's list") <= 6
    assert len(answer) < 4096
    if count > 20:
        assert f"and {count - 20:,} more" in answer


@pytest.mark.parametrize("glob", ["q{}*", "q{}", "*q{}"])
def test_lookup_in_a_long_list_is_constant_time(glob: str) -> None:
    """The work for a reference does not grow with the list of names and of beginnings."""
    body = shapes.as_body(shapes.many_references)(_SMALL)
    counts: list[int] = []
    for size in (100, 100 * TIMES):
        policy = Policy(allowed_secrets=(*(glob.format(i) for i in range(size)), "s", "n*"))
        _admitted(body, Endpoint.MUTATE, policy)  # the list is prepared once
        counts.append(measured(partial(_admitted, body, Endpoint.MUTATE, policy))[0])

    assert is_in_proportion(counts[0], counts[1], times=1)


@given(
    st.text("ab-*", max_size=6),
    st.lists(st.text("ab-*?[]!", min_size=1, max_size=5), min_size=1, max_size=5),
)
def test_prepared_list_allows_names_that_match_a_glob(name: str, globs: list[str]) -> None:
    assert is_allowed(name, tuple(globs)) == any(fnmatchcase(name, glob) for glob in globs)


_COMMANDS: Final = {
    "lint": ("lint",),
    "lint-sarif": ("lint", "-o", "sarif"),
    "explain": ("explain", "-f"),
    "inject": ("inject", "-f"),
    "inject-diff": ("inject", "-o", "diff", "-f"),
    "inject-sealed": ("inject", "--policy-file", "seal.yml", "-f"),
    "uninject": ("uninject", "-f"),
}


@pytest.mark.parametrize("command", _COMMANDS.values(), ids=_COMMANDS)
@pytest.mark.parametrize("shape", shapes.FILES.values(), ids=shapes.FILES)
def test_cost_of_a_file_is_linear(shape: Callable[[int], str], command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "seal.yml").write_text("sealImage: i\nsealImagePullSecrets: [p1, p]\n")
    arguments = [str(tmp_path / word) if word == "seal.yml" else word for word in command]
    counts = []
    for n in (_SMALL, TIMES * _SMALL):
        manifest = tmp_path / f"{n}.yaml"
        manifest.write_text(shape(n))
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), Meter() as meter:
                code = main([*arguments, str(manifest)])
            assert code != Exit.FAULT
        counts.append((meter.count, sum((tmp_path / name).stat().st_size for name in ("out", "err"))))

    (few, short), (many, long) = counts
    assert is_in_proportion(few, many)
    assert is_in_proportion(short, long)


def _cut(text: bytes) -> int:
    return len(shallow(text))


_BRACKETS: Final = {
    "open": b"[",
    "pairs": b"[]",
    "nested": b"[[]],",
    "keys": b'{"a":',
    "quotes": b'"',
    "escaped quotes": b'\\"',
    "backslashes": b"\\",
    "blanks": b"[ ",
    "closed": b"[1]]",
}


@pytest.mark.parametrize("text", _BRACKETS.values(), ids=_BRACKETS)
def test_cost_of_truncation_is_linear(text: bytes) -> None:
    few, many = (measured(partial(_cut, text * n))[0] for n in (_SMALL, TIMES * _SMALL))

    assert is_in_proportion(few, many)
