"""Classifies messages of the API server, and redacts them.

A permission is missing if the message is that of an authorizer. All other answers with status 403 are denials of
admission: by a quota, a policy, a webhook, Pod Security, or because the namespace is terminating. Webhooks and policies
may answer with any status (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response),
so the message decides, not the status.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from injector.core.messages import looks_like_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FORBIDDEN: Final = 403
# The beginnings of the messages of authorizers and, below, of admission:
# https://github.com/kubernetes/apiserver (handlers/responsewriters/errors.go, admission/plugin)
_RIGHT: Final = re.compile(r'(?:^|\s)(?:is )?forbidden: User "')
_RULE: Final = re.compile(
    r"""(?P<who>admission\ webhook\ "[^"]{1,253}"\ denied\ the\ request
    |ValidatingAdmissionPolicy\ '[^']{1,253}'\ with\ binding\ '[^']{1,253}'\ denied\ request)(?P<why>.*)""",
    re.VERBOSE | re.DOTALL,
)
_FAILED_CALL: Final = re.compile(r'failed calling webhook "[^"]{1,253}"')
_PREFIX: Final = re.compile(r'^[a-z.]+(?: "[^"]{1,253}")? is forbidden: ')

# A message that contains so many consecutive characters of a value quotes it; a shorter value counts as a whole.
_WINDOW: Final = 6
_SHORTEST: Final = 3
_MOST: Final = 600  # characters of a message that are shown
_WORD: Final = re.compile(r"""[^\s"'`,;()\[\]{}<>]+""")
_NOT_SHOWN: Final = "its message contains a part of the Secret and is not shown"


def is_denial(status: int, message: str, *, is_read: bool = False) -> bool:
    """Return whether an admission rule denied the request; reads do not pass admission."""
    if _RULE.search(message):
        return True
    return not is_read and status == _FORBIDDEN and bool(message) and not _RIGHT.search(message)


def single_line(message: str) -> str:
    """Return a message on one line, printable, and of bounded length."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    return line if len(line) <= _MOST else line[: _MOST - 3] + "..."


def redact_secret_values(status: int, message: str, values: Iterable[str], operation: str) -> str:
    """Return what may be shown of the answer to a request with a Secret; nothing if it is not a known refusal.

    Args:
        status: The HTTP status.
        message: That of the API server, which may quote the request.
        values: The Secret's values in base64.
        operation: What failed; its own words may be shown.
    """
    if not (is_denial(status, message) or _RIGHT.search(message) or _FAILED_CALL.search(message)):
        return ""
    rule = _RULE.search(message)
    who, why = (rule["who"], rule["why"]) if rule else ("", message)
    if holds_part(why, values):
        return single_line(f"{who}: {_NOT_SHOWN}" if who else _NOT_SHOWN)
    if rule or not _RIGHT.search(message):  # an authorizer sees no object
        why = _WORD.sub(lambda word: _redact_word(word[0], operation), why)
    return single_line(who + why)


def redact_words(message: str) -> str:
    """Return a message on one line without the words that could be a token."""
    return single_line(_WORD.sub(lambda word: _redact_word(word[0], ""), message))


def strip_object_name(message: str) -> str:
    """Return the message of a denial without the object's name, which the error message already has."""
    return _PREFIX.sub("", message)


def values_of(*secrets: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the values of Secrets in base64."""
    return tuple(
        value
        for secret in secrets
        for value in (*_texts(secret, "data"), *(_encoded(text) for text in _texts(secret, "stringData")))
    )


def _texts(secret: Mapping[str, Any] | None, part: str) -> Iterator[str]:
    found = (secret or {}).get(part)
    yield from (value for value in (found.values() if isinstance(found, dict) else ()) if isinstance(value, str))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def holds_part(message: str, values: Iterable[str]) -> bool:
    """Return whether a text contains a part of a Secret's values (in base64), encoded or decoded."""
    text = message.lower()
    windows = {text[at : at + _WINDOW] for at in range(len(text) - _WINDOW + 1)}
    for value in values:
        for form in _forms(value):
            if len(form) < _WINDOW:
                if len(form) >= _SHORTEST and form in text:
                    return True
            elif any(form[at : at + _WINDOW] in windows for at in range(len(form) - _WINDOW + 1)):
                return True
    return False


def _forms(value: str) -> Iterator[str]:
    """Yield a value in the forms in which it could be quoted, in lower case."""
    yield value.rstrip("=").lower()
    try:
        yield base64.b64decode(value, validate=True).decode().lower()
    except (binascii.Error, ValueError):
        return


def _redact_word(word: str, operation: str) -> str:
    """Return a word, or a placeholder if it could be a token in another form."""
    return "(not shown)" if looks_like_token(word) and word.strip(".:") not in operation else word
