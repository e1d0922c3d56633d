"""Which names a Secret and its keys can have, and which Secrets a Policy allows."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import Final

from injector.core import names
from injector.core.messages import listed, redact
from injector.core.model import Problem, Reason

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
    """The compiled list; an empty one permits every name. Looking it up costs in proportion to the list's length."""
    return AllowList(globs)


def forbidden(where: str, annotation: str, secret: str, allowed_secrets: tuple[str, ...]) -> Problem:
    """The problem of a Secret that allowedSecrets does not permit; `where` is the object that names it."""
    brief = f"{where}: Secret {redact(secret)} is not on the policy's list allowedSecrets"
    return Problem(annotation, Reason.SECRET_NOT_ALLOWED, f"{brief}, which is: {listed(allowed_secrets)}", brief)
