"""The help of every command, as people read it: in 80 columns, nothing cut."""

from __future__ import annotations

import click
import pytest

from injector.cli.main import commands, main


def paths(group: click.Group, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group of commands, by the words that call it."""
    found: list[tuple[str, ...]] = [before]
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += paths(command, (*before, name)) if isinstance(command, click.Group) else [(*before, name)]
    return found


@pytest.mark.parametrize("path", paths(commands), ids=" ".join)
def test_help_fits_80_columns_and_is_whole(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == 0

    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert output.err == ""
    assert max(map(len, lines)) <= 80
    # Where click cuts the line of a command short.
    assert not any(line.endswith("...") for line in output.out.partition("\nCommands:\n")[2].splitlines())


def command_at(path: tuple[str, ...]) -> click.Command:
    command: click.Command | None = commands
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    return command


@pytest.mark.parametrize("path", [path for path in paths(commands) if path[:1] != ("serve",)], ids=" ".join)
def test_shells_complete_what_is_a_file(path: tuple[str, ...]) -> None:
    params = [one for one in command_at(path).params if "FILE" in (one.metavar or "").partition("=")[0].split("|")]

    assert [one.name for one in params if not isinstance(one.type, click.Path)] == []


@pytest.mark.parametrize("path", paths(commands), ids=" ".join)
def test_help_says_what_each_option_is_for(path: tuple[str, ...]) -> None:
    command = command_at(path)

    assert command.help
    assert not [one.name for one in command.params if isinstance(one, click.Option) and not one.help and not one.hidden]
