"""`status secret/NAME`: what is known of one token Secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from injector.cli.secret.usage_table import as_json, lines
from injector.cli.status.report import columns, document, show_table
from injector.core import names
from injector.core.durations import span
from injector.times import rfc3339, unix_time
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.rotation.story import SecretEvent, SecretStory

# Events that are shown, the last ones.
_MOST_EVENTS: Final = 10


def show(story: SecretStory, output: str, now: int) -> None:
    """Write what is known of a Secret to stdout, and what limits it to stderr."""
    if output == "json":
        secrets, events = [as_json(key) for key in story.keys], [_event_as_json(one) for one in story.events]
        click.echo(json.dumps({**document(story.status), "secrets": secrets, "events": events}))
        return
    for line in (*_head(story, now), *_events(story, now)):
        click.echo(escaped(line))
    shown = columns(with_namespace=False, is_wide=output == "wide")
    show_table(story.status, shown, of=f"secret/{story.ref.name}")


def _head(story: SecretStory, now: int) -> Iterator[str]:
    if story.keys:
        yield from lines(story.keys, now)
    else:
        yield f"Secret {story.ref}: no key is used as a token."
    secret = story.secret
    if secret is None:
        return
    issued, expires = (unix_time(secret.annotations.get(name)) for name in (names.TOKEN_ISSUED, names.TOKEN_EXPIRES))
    yield f"  issued {_time(issued)}, expires {_time(expires)}"
    for one in story.keys:
        changed = secret.changed(one.key.key)
        managers = ", ".join(sorted({writer.manager for writer in secret.writers_of(one.key.key)}))
        yield f"  key {one.key.key}: last change {_time(changed)}" + (f" by {managers}" if managers else "")


def _time(time: int | None) -> str:
    return rfc3339(time) if time is not None else "-"


def _events(story: SecretStory, now: int) -> Iterator[str]:
    for one in story.events[:_MOST_EVENTS]:
        age = f"{span(now - one.time)} ago" if one.time is not None else "-"
        yield f"  {age}: {one.type} {one.reason}, {one.object}: {one.message}"
    if len(story.events) > _MOST_EVENTS:
        yield f"  and {len(story.events) - _MOST_EVENTS:,} more Events"


def _event_as_json(one: SecretEvent) -> dict[str, object]:
    return {
        "time": rfc3339(one.time) if one.time is not None else None,
        "type": one.type,
        "reason": one.reason,
        "object": one.object,
        "message": one.message,
    }
