"""Every command block of a page is run by a test, or a comment before it has the reason why not."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import pytest

from tests.pages.blocks import FILE, NOT_RUN, ROOT, RUN_IN, SHELL, TESTED, Command, blocks, pages, parse, shell_blocks
from tests.pages.families import FAMILIES
from tests.pages.terminal import Printed

if TYPE_CHECKING:
    from tests.pages.blocks import Block

PAGES: Final = pages()
BLOCKS: Final = [block for page in PAGES for block in shell_blocks(page)]


def name(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_command_block_is_run_or_has_a_reason(block: Block) -> None:
    assert [*block.commands()], "there is no command in it"
    match block.mark:
        case "" | "tested":
            assert block.page in FAMILIES, "no test runs this page: see tests/pages/families.py"
        case "not run":
            assert len(block.about.split()) > 2, "the reason is missing"
        case "run in":
            elsewhere = {words for page in block.about.split(", ") for words in commands(page)}
            assert [one.text for one in block.commands() if words_of(one.text) not in elsewhere] == []
        case _:
            pytest.fail(f"unknown comment: {block.mark}")


def commands(page: str) -> set[tuple[str, ...]]:
    """The commands of a page that a test runs."""
    ran = (block for block in shell_blocks(page) if block.mark in {"", TESTED})
    return {words_of(command.text) for block in ran for command in block.commands()}


def words_of(text: str) -> tuple[str, ...]:
    """A command without comments, whatever its white space."""
    return tuple(shlex.split(text, comments=True))


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_in_blocks_that_are_found(page: str) -> None:
    text = (ROOT / page).read_text()

    found = blocks(page)

    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(found)
    assert [name(block) for block in found if block.language not in SHELL and "\n$ " in f"\n{block.text}"] == []
    marks = re.findall(rf"^ *<!-- (?:{NOT_RUN}|{RUN_IN}|{TESTED}|{FILE}):", text, re.MULTILINE)
    assert len(marks) == sum(bool(block.mark) for block in found), "a comment is not on the line before its block"


@pytest.mark.parametrize(("page", "module"), FAMILIES.items())
def test_page_is_run_by_its_module(page: str, module: str) -> None:
    assert "run_by(__file__)" in (ROOT / module).read_text()
    assert any(block.mark in {"", TESTED} for block in shell_blocks(page)), "no block of it is run"


PAGE = """\
Text with `code`.

<!-- not run: needs a registry -->
```console
$ push
```

1. A step:

   ```console
   $ first \\
       second       # it's a comment
   out $ 1
     indented
   $ python3 -c 'a
   b' | cat
   ```

<!-- file: a.yaml -->
```yaml
a: 1
```

<!-- not run: a comment that is not on the line before -->

```console
$ last
```
"""


def test_blocks_have_commands_outputs_and_marks() -> None:
    pushed, step, file, last = parse("page.md", PAGE)

    assert (pushed.mark, pushed.about, pushed.line) == ("not run", "needs a registry", 4)
    assert list(step.commands()) == [
        Command("first \\\n    second       # it's a comment\n", "out $ 1\n  indented\n"),
        Command("python3 -c 'a\nb' | cat\n", ""),
    ]
    assert (file.mark, file.about, file.text) == ("file", "a.yaml", "a: 1\n")
    assert last.mark == ""


@pytest.mark.parametrize(
    ("documented", "code", "out", "err", "fits"),
    [
        ("", 0, "anything", "", True),
        ("", 1, "", "", False),
        ("created\n", 1, "created\n", "", True),
        ("created\n", 0, "created twice\n", "", False),
        ("NAME   AGE\nx      3s\n", 0, "NAME AGE\nx    3s\n", "", True),
        ("x …s\n", 0, "x 3s\n", "", True),
        ("x …s\n", 0, "x 3m\n", "", False),
        ("first\n...\nlast\n", 0, "first\nlast\n", "", True),
        ("first\n...\nlast\n", 0, "last\nfirst\n", "", False),
        ("Warning: w\ncreated\n", 0, "created\n", "Warning: w\n", True),
        ("Error from server\n", 1, "", "Error from server\n", True),
        ("(a|b)* [c]\n", 0, "(a|b)* [c]\n", "", True),
    ],
)
def test_output_is_compared_with_the_page(documented: str, code: int, out: str, err: str, fits: bool) -> None:  # noqa: FBT001 - a column
    assert Printed(code, out, err).fits(documented) is fits


def test_many_gaps_cost_no_search_of_all_combinations() -> None:
    documented = "start ...\n" + "a ...\n...\n" * 50 + "end"

    assert Printed(0, "start " + "a " * 5000 + "end", "").fits(documented)
    assert not Printed(0, "start " + "a " * 5000 + "ends", "").fits(documented)
    assert not Printed(0, "ab", "").fits("ab ... b")
