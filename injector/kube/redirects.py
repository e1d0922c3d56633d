"""Describes the target of a redirect that was not followed.

A client that follows a redirect sends the request again, after 307 and 308 with its body: a Secret would go to any
target, in clear text if the target is `http:`. API servers and daprd have no reason to redirect.

The target comes from an untrusted server. Error messages show its scheme, host, port and path, on one line, in
printable ASCII, of bounded length, without parts that could be a token. User information, query and fragment are never
shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit

from injector.core.messages import looks_like_token
from injector.kube import api_messages

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST: Final = 300  # https://www.rfc-editor.org/rfc/rfc9110#section-15.4
_LAST: Final = 399
_SCHEMES: Final = frozenset({"http", "https"})
_MOST_READ: Final = 4096  # characters of a Location header that are read
_MOST_SHOWN: Final = 200  # characters
_MOST_HOST: Final = 100  # characters
_NOT_SHOWN: Final = "(not shown)"


def is_redirect(status: int) -> bool:
    """Return whether a status is a redirect, or refers to a cache (304)."""
    return _FIRST <= status <= _LAST


def explain(status: int, location: str | None, base: str, hidden: Iterable[str] = ()) -> str:
    """Describe a redirect that was not followed.

    Args:
        status: The HTTP status.
        location: The header `Location`; None if there is none.
        base: The URL of the request, for a relative target.
        hidden: Values of a Secret in base64; parts of the target that contain a part of one are not shown.
    """
    target = _target(location, base, tuple(hidden))
    return f"the server redirects {target} (status {status}), and no redirect is followed"


def _target(location: str | None, base: str, hidden: tuple[str, ...]) -> str:
    if not location or not location.strip():
        return "without naming a target"
    try:
        url = urlsplit(urljoin(base, location[:_MOST_READ].strip()))
        host, port = url.hostname or "", url.port
    except ValueError:  # brackets or a port that are not valid
        return "to a target that is not a URL"
    if url.scheme not in _SCHEMES or not host:
        return "to a target that is not an http or https URL"
    if len(host) > _MOST_HOST or api_messages.holds_part(unquote(host), hidden):
        authority = _NOT_SHOWN
    else:
        authority = f"[{_printable(host)}]" if ":" in host else _printable(host)
    if port is not None:
        authority = f"{authority}:{port}"
    path = url.path
    if api_messages.holds_part(f"{path}\n{unquote(path)}", hidden):
        path = f"/{_NOT_SHOWN}"
    else:
        path = "/".join(map(_segment, path.split("/")))
    line = f"{url.scheme}://{authority}{path}"
    return f"to {line if len(line) <= _MOST_SHOWN else f'{line[: _MOST_SHOWN - 3]}...'}"


def _segment(segment: str) -> str:
    """Return a part of a path, or a placeholder if it could be a token."""
    is_token = looks_like_token(segment) or looks_like_token(unquote(segment))
    return _NOT_SHOWN if is_token else _printable(segment)


def _printable(text: str) -> str:
    return "".join(letter if "!" <= letter <= "~" else "?" for letter in text)
