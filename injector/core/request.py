"""Parse the annotations of a Pod into the tokens that it requests: trimmed, defaulted, and checked once.

All problems are reported together.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.errors import InjectorError
from injector.core.messages import redact, unrendered, warning
from injector.core.model import Annotations, AppContainers, Problem, Reason, SealMode, TokenRef, Value
from injector.core.secret_names import forbidden, is_allowed, is_secret_key, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable

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


# Why a Pod that requests a token does not use Dapr, though it should. A plain "false" is not a mistake.
ENABLED_MISTAKES: Final = {
    Enabled.ABSENT: f'{names.ENABLED} is missing; set it to "true"',
    Enabled.UNKNOWN: f'{names.ENABLED} is not a true value; set it to "true"',
}
COUNTS_AS_ABSENT: Final = "is blank, which counts as absent"


def not_on_template(annotation: str, kind: str) -> str:
    """The message about an annotation that is on a workload of this kind instead of its Pod template."""
    return f"{annotation} is on the {kind} and not on its Pod template: the Pods will not have it"


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
