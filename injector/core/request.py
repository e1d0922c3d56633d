"""Parse the annotations of a Pod into the tokens that it requests: trimmed, defaulted, and checked once.

All problems are reported together. Any value may be a token that was pasted into the wrong place, so a message contains
a value only after `redact`, which hides everything that may be a token.
"""

from __future__ import annotations

import re
from enum import Enum
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.errors import InjectorError
from injector.core.model import Annotations, AppContainers, Problem, Reason, SealMode, TokenRef, Value
from injector.core.placeholders import has_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from injector.core.model import Policy


class Enabled(Enum):
    """The meaning of `dapr.io/enabled`, and of other annotations that are true or false."""

    TRUE = "true"
    FALSE = "false"
    ABSENT = "absent"
    UNKNOWN = "unknown"  # neither a true nor a false word: Dapr treats it as false


# Looking up an enum member in its class is slow in Python 3.11.
_TRUE: Final = Enabled.TRUE


class RequestError(InjectorError):
    """The annotations of a Pod are malformed or forbidden; `problems` lists all problems in a fixed order."""

    reason = "bad-annotations"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class InjectionRequest(Value, frozen=True, gc=False):
    """The tokens that a Pod requests, valid by construction: at least one variable, Dapr's own first."""

    wanted: tuple[tuple[str, TokenRef], ...]
    app_containers: AppContainers
    seal: bool = False


def enabled(annotations: Annotations) -> Enabled:
    """Whether the Pod uses Dapr, by Dapr's own words (any case, trimmed)."""
    return _meaning(annotations.enabled)


def seals(annotations: Annotations, policy: Policy) -> bool:
    """Whether the Pod is to be sealed."""
    if annotations.seal is None:
        return policy.seal is SealMode.ALWAYS
    return policy.seal is not SealMode.OFF and _meaning(annotations.seal) is _TRUE


def unsealed_requests(annotations: Annotations, policy: Policy) -> tuple[str, ...]:
    """The warning for an annotation that should seal the Pod and does not, if there is one."""
    if annotations.seal is None:
        return ()
    meaning = _meaning(annotations.seal)
    if meaning is _TRUE and policy.seal is SealMode.OFF:
        return (warning(f"{names.SEAL} was ignored: the policy does not allow sealing (seal: off)"),)
    if meaning is _TRUE or meaning is Enabled.FALSE:
        return ()
    return (warning(f'not sealed: {names.SEAL} is neither true nor false; set it to "true" or "false"'),)


def _meaning(value: str | None) -> Enabled:
    word = value.strip().lower() if value else ""
    if word in names.TRUE_WORDS:
        return _TRUE
    if not word:
        return Enabled.ABSENT
    return Enabled.FALSE if word in names.FALSE_WORDS else Enabled.UNKNOWN


def requests_token(annotations: Annotations) -> bool:
    """Whether either secret annotation has a value."""
    return any(value and value.strip() for value in (annotations.api_token_secret, annotations.app_token_secret))


def blank_secrets(annotations: Annotations) -> tuple[str, ...]:
    """The annotations that should name a Secret and have no value, for example from a template without one."""
    api, app = annotations.api_token_secret, annotations.app_token_secret
    if (api is None or api.strip()) and (app is None or app.strip()):
        return ()  # most Pods
    named = ((names.API_TOKEN_SECRET, api), (names.APP_TOKEN_SECRET, app))
    return tuple(name for name, value in named if value is not None and not value.strip())


def env_from_secret(annotations: Annotations) -> tuple[tuple[str, TokenRef], ...]:
    """The token variables that Dapr's injector itself takes from Secrets and sets in daprd, and nowhere else.

    `NAME=secret:key` or `NAME=secret`, separated by commas; the key is that of the Secret's name if it is not given:
    https://docs.dapr.io/operations/hosting/kubernetes/kubernetes-annotations/
    """
    found = {
        variable: TokenRef(secret, key or secret)
        for variable, secret, key in _SECRET_PAIR.findall(annotations.dapr_env_from_secret or "")
    }
    return tuple((name, found[name]) for name in names.TOKEN_VARIABLES if name in found)


_SECRET_PAIR: Final = re.compile(
    rf"(?:^|,)\s*({names.API_TOKEN_ENV}|{names.APP_TOKEN_ENV})\s*=\s*([^,:\s]+)(?::([^,\s]+))?"
)


def parse(annotations: Annotations, policy: Policy, *, use_default: bool) -> InjectionRequest | None:
    """The tokens that the annotations request; None if they request none.

    Args:
        annotations: The Pod's.
        policy: Defaults and the list of allowed Secrets.
        use_default: Use the Policy's default Secret if the API token annotation is missing.

    Raises:
        RequestError: With every malformed or forbidden value, in the annotations' fixed order.
    """
    problems: list[Problem] = []
    default = policy.default_secret if use_default else None
    api_name = _name(names.API_TOKEN_SECRET, annotations.api_token_secret, policy, problems) or default
    app_name = _name(names.APP_TOKEN_SECRET, annotations.app_token_secret, policy, problems)
    api_key = _key(names.API_TOKEN_KEY, annotations.api_token_key, problems) or policy.default_api_key
    app_key = _key(names.APP_TOKEN_KEY, annotations.app_token_key, problems) or policy.default_app_key
    if problems:
        raise RequestError(tuple(problems))
    wanted: list[tuple[str, TokenRef]] = []
    if api_name is not None:
        wanted.append((names.API_TOKEN_ENV, TokenRef(api_name, api_key)))
    if app_name is not None:
        wanted.append((names.APP_TOKEN_ENV, TokenRef(app_name, app_key)))
    if not wanted:
        return None
    return InjectionRequest(
        tuple(wanted), _app_containers(annotations.app_containers, policy), seals(annotations, policy)
    )


# Labels of letters, digits and dashes, which begin and end with a letter or digit, separated by dots.
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")


def is_secret_name(text: str) -> bool:
    """Whether the text is a valid Secret name: a DNS subdomain of at most 253 characters.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
    """
    return len(text) <= names.MAX_SECRET_NAME and _SUBDOMAIN.fullmatch(text) is not None


def is_secret_key(text: str) -> bool:
    """Whether the text is a valid key of a Secret: letters, digits, `-`, `_`, `.`; not `.` and not beginning with `..`.

    https://github.com/kubernetes/apimachinery/blob/master/pkg/util/validation/validation.go (IsConfigMapKey)
    """
    plain = len(text) <= names.MAX_SECRET_KEY and _KEY.fullmatch(text) is not None
    return plain and text != "." and not text.startswith("..")


def is_allowed(secret: str, allowed_secrets: tuple[str, ...]) -> bool:
    """Whether allowedSecrets permits the Secret; an empty list permits every name."""
    return allow_list(allowed_secrets).has(secret)


class AllowList:
    """The compiled allowedSecrets: a Pod may refer to thousands of Secrets, and the list may have thousands of globs.

    Names are looked up in a set, and so are the prefixes of globs such as `dapr-*`. Globs of other forms are combined
    into one regular expression.
    """

    def __init__(self, globs: tuple[str, ...]) -> None:
        self._is_empty = not globs
        names_: set[str] = set()
        prefixes: set[str] = set()
        others: list[str] = []
        for glob in globs:
            if _WILDCARD.search(glob) is None:
                names_.add(glob)
            elif _WILDCARD.search(glob[:-1]) is None and glob.endswith("*"):
                prefixes.add(glob[:-1])
            else:
                others.append(glob)
        self._names = frozenset(names_)
        self._prefixes = frozenset(prefixes)
        self._lengths = sorted({len(prefix) for prefix in prefixes})
        self._others = re.compile("|".join(map(translate, others))) if others else None

    def has(self, secret: str) -> bool:
        """Whether the list permits the name. A text longer than any Secret name never matches."""
        if self._is_empty:
            return True
        if len(secret) > names.MAX_SECRET_NAME:
            return False
        if secret in self._names:
            return True
        for length in self._lengths:
            if secret[:length] in self._prefixes:
                return True
        return self._others is not None and self._others.match(secret) is not None


# The special characters of a glob: https://docs.python.org/3/library/fnmatch.html
_WILDCARD: Final = re.compile(r"[*?[]")


@lru_cache(maxsize=8)
def allow_list(globs: tuple[str, ...]) -> AllowList:
    """The compiled list; an empty one permits every name. Finding it again takes as long as the list."""
    return AllowList(globs)


# A random token has long runs of letters and digits that mix cases or letters with digits; a name that a person chose
# has separators or words.
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/=_]{16,}")
# Long, and neither words nor a date.
_LONG_NUMBER: Final = re.compile(r"[A-Z0-9]{16,}")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# Positions where lower case, capitals and digits meet, except for the capital that begins a word; base64url may have
# dashes in between. A chosen name has few of them, "web-v2" has one; 16 random letters and digits have 8.
_SEAM: Final = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Za-z])|(?<=[A-Z])(?=[0-9])|(?<=[A-Z])(?=[A-Z][a-z])")
# A chosen name, even a wrong one, has few of these: "$(NAME)" has three. A password of 16 characters has more.
_SYMBOL: Final = re.compile(r"[^A-Za-z0-9._/ -]")
_MOST_ODDITIES: Final = 3
# The beginning of a JSON Web Token: base64 of '{"'.
_JWT: Final = "eyJ"


def redact(value: str) -> str:
    """A user's value for a message: quoted printable ASCII of at most 40 characters, or only its length.

    A placeholder is called so: what it stands for is not in the text, but its default may be a token.
    """
    is_template = has_placeholder(value)
    if looks_like_token(value):
        return "a placeholder" if is_template else f"a value of {len(value)} characters (not shown: it may be a token)"
    clipped = value if len(value) <= names.MAX_SHOWN_VALUE else value[: names.MAX_SHOWN_VALUE - 3] + "..."
    return f'{"the placeholder " if is_template else ""}"{_plain(clipped)}"'


def unrendered(value: str) -> str:
    """The advice for a value with a placeholder, to be added to a message; empty for other values."""
    return "; render the manifest first" if has_placeholder(value) else ""


def warning(text: str) -> str:
    """The text as a valid warning: printable ASCII of less than 120 characters.

    The API server drops a warning that has a control character, and may cut a long one in the middle.
    """
    return _plain(text if len(text) <= names.MAX_WARNING else text[: names.MAX_WARNING - 3] + "...")


def _plain(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)


class WarningList:
    """Warnings in the order in which they are found: the first `MAX_WARNINGS` as text, the rest only counted.

    A response must not grow with the request, and no work is done for a text that it does not contain.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0

    def add(self, *parts: str) -> None:
        """Add one warning. The parts are joined only if there is room."""
        if len(self.lines) < names.MAX_WARNINGS:
            self.lines.append(warning("".join(parts)))
        else:
            self.more += 1

    def extend(self, lines: Iterable[str], more: int = 0) -> None:
        """Add finished warnings, and a number of warnings without text."""
        for line in lines:
            self.add(line)
        self.more += more

    def result(self) -> tuple[str, ...]:
        """All lines; if there were more warnings, the last line has their number."""
        return (*self.lines, f"and {self.more} more warnings") if self.more else tuple(self.lines)


def listed(words: Sequence[str], most: int = names.MAX_LISTED) -> str:
    """The words, separated by commas; of a long list, the first ones and the number of the others."""
    shown_words: list[str] = []
    room = names.MAX_LISTED_CHARACTERS
    for word in words[:most]:
        room -= len(word)
        if room < 0 and shown_words:
            break
        shown_words.append(word)
    more = len(words) - len(shown_words)
    return ", ".join([*shown_words, f"and {more:,} more"] if more else shown_words)


def looks_like_token(value: str) -> bool:
    """Whether a value looks like a token, which no message may show."""
    if len(value) > names.MAX_SHOWABLE_LENGTH or _JWT in value or _LONG_NUMBER.search(value) or _UUID.search(value):
        return True
    oddities = len(_SEAM.findall(value)) + len(set(_SYMBOL.findall(value)))
    return oddities > _MOST_ODDITIES or any(_is_mixed(run) for run in _LONG_RUN.findall(value))


def _is_mixed(run: str) -> bool:
    kinds = (any(c.islower() for c in run), any(c.isupper() for c in run), any(c.isdigit() for c in run))
    return sum(kinds) > 1


def _name(annotation: str, value: str | None, policy: Policy, problems: list[Problem]) -> str | None:
    name = value.strip() if value else ""
    if not name:
        return None
    if not is_secret_name(name):
        wrong = f"{annotation}: {redact(name)} is not a Secret name{unrendered(name)}"
        allowed = (
            f"lower-case letters, digits, '-' and '.', at most {names.MAX_SECRET_NAME} characters, a letter or digit "
            "first and last; the Secret is always in the Pod's own namespace"
        )
        problems.append(_malformed(annotation, Reason.INVALID_SECRET_NAME, wrong, allowed))
    elif policy.allowed_secrets and not is_allowed(name, policy.allowed_secrets):
        problems.append(forbidden(f"annotation {annotation}", annotation, name, policy.allowed_secrets))
    return name


def _key(annotation: str, value: str | None, problems: list[Problem]) -> str | None:
    key = value.strip() if value else ""
    if not key:
        return None
    if not is_secret_key(key):
        wrong = f"{annotation}: {redact(key)} is not a key of a Secret{unrendered(key)}"
        allowed = (
            f"letters, digits, '-', '_' and '.', at most {names.MAX_SECRET_KEY} characters, not '.' and not beginning "
            "with '..'"
        )
        problems.append(_malformed(annotation, Reason.INVALID_SECRET_KEY, wrong, allowed))
    return key


def _malformed(annotation: str, reason: Reason, wrong: str, allowed: str) -> Problem:
    return Problem(annotation, reason, f"annotation {wrong}; allowed are {allowed}", wrong)


def forbidden(where: str, annotation: str, secret: str, allowed_secrets: tuple[str, ...]) -> Problem:
    """The problem of a Secret that allowedSecrets does not permit; `where` is the object that names it."""
    brief = f"{where}: Secret {redact(secret)} is not on the policy's list allowedSecrets"
    return Problem(annotation, Reason.SECRET_NOT_ALLOWED, f"{brief}, which is: {listed(allowed_secrets)}", brief)


def _app_containers(value: str | None, policy: Policy) -> AppContainers:
    if value is None:
        return policy.default_app_containers
    return app_containers(value.split(","), from_pod=True)


def app_containers(words: Iterable[str], *, from_pod: bool) -> AppContainers:
    """Names and `*` as written in an annotation or a Policy; blanks and repetitions are dropped, order is kept."""
    chosen = dict.fromkeys(word for word in map(str.strip, words) if word)
    every = "*" in chosen
    chosen.pop("*", None)
    return AppContainers(tuple(chosen), every, from_pod)
