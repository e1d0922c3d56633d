"""Types of option values that click does not have, whose errors name the option, and options of these types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from injector.core import durations
from injector.core.messages import redact
from injector.core.secret_names import is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from injector.check.model import Check
    from injector.lint.model import Rule

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")


class Duration(click.ParamType):  # type: ignore[type-arg] # click 8.3 has it without a parameter
    """A duration such as `10m`; the command gets seconds."""

    name = "duration"

    def __init__(self, *, shortest: int = 0) -> None:
        self._shortest = shortest

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds.

        Raises:
            click.UsageError: It is not a duration, or shorter than allowed; the message names the option.
        """
        try:
            return durations.parse(value, shortest=self._shortest)
        except ValueError as error:
            raise click.UsageError(f"{_flag(param, self.name)}: {error}", ctx) from None


def duration_option(
    flag: str, default: str, text: str, *, shortest: int = 0, cls: type[click.Option] | None = None
) -> Callable[[_CommandT], _CommandT]:
    """Return an option for a duration of at least `shortest` seconds; `text` is its help."""
    kind = Duration(shortest=shortest)
    return click.option(flag, cls=cls, type=kind, default=default, show_default=True, metavar="TIME", help=text)


class ObjectName(click.ParamType):  # type: ignore[type-arg] # as above
    """The name of an object of Kubernetes."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name.

        Raises:
            click.UsageError: It is not valid.
        """
        if not is_secret_name(value):
            raise click.UsageError(
                f"{_flag(param, self.name)}: {redact(value)} is not a valid name; use lower-case letters, digits, '-' "
                "and '.', starting and ending with a letter or digit",
                ctx,
            )
        return value


class States(click.ParamType):  # type: ignore[type-arg] # as above
    """States, comma-separated; the command gets a set."""

    name = "states"

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        """Return the states.

        Raises:
            click.UsageError: One of them is not allowed.
        """
        states = frozenset(word.strip() for word in value.split(",") if word.strip())
        if unknown := sorted(states - set(self.allowed)):
            found, allowed = ", ".join(unknown), ", ".join(self.allowed)
            raise click.UsageError(f"{_flag(param, self.name)}: unknown state: {found}; use {allowed}", ctx)
        return states


class CatalogueEntry(click.ParamType):  # type: ignore[type-arg] # as above
    """A check or a lint rule by its id or name, in any case."""

    def __init__(self, name: str, by_word: Mapping[str, Check | Rule], advice: str) -> None:
        self.name = name
        self._by_word = by_word
        self._advice = advice

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Check | Rule:
        """Return the check or rule.

        Raises:
            click.UsageError: There is none.
        """
        found = self._by_word.get(value.strip().lower())
        if found is None:
            raise click.UsageError(f"{_flag(param, self.name)}: no such {self.name}; {self._advice}", ctx)
        return found

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the ids that begin with the text, else the names; shells that show help show the name of an id."""
        entries, text = dict.fromkeys(self._by_word.values()), incomplete.lower()
        ids = [CompletionItem(one.id, help=one.name) for one in entries if one.id.lower().startswith(text)]
        return ids or [CompletionItem(one.name) for one in entries if one.name.startswith(text)]


def _flag(param: click.Parameter | None, name: str) -> str:
    return max(param.opts, key=len) if param is not None else name
