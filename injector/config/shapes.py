"""Types of flag values: choices, durations, object names."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from injector.core.durations import UNITS, parse
from injector.core.secret_names import is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable


class TlsMode(StrEnum):
    """Sources of the serving certificate."""

    SELF = "self"
    CERT_MANAGER = "cert-manager"
    FILES = "files"


class TlsVersion(StrEnum):
    """Minimum TLS versions."""

    V1_3 = "1.3"
    V1_2 = "1.2"


class KeyAlgorithm(StrEnum):
    """Algorithms of the keys that `--tls-mode self` creates."""

    ECDSA_P256 = "ecdsa-p256"
    RSA_2048 = "rsa-2048"


class LogFormat(StrEnum):
    """Formats of log lines."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """Minimum levels of log lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _duration(value: object) -> object:
    return timedelta(seconds=parse(value)) if isinstance(value, str) else value


def duration_text(value: timedelta) -> str:
    """Return a duration as a flag accepts it, in the largest unit that gives a whole number."""
    seconds = int(value.total_seconds())
    unit = next((unit for unit in "dhm" if seconds and not seconds % UNITS[unit]), "s")
    return f"{seconds // UNITS[unit]}{unit}"


# A DNS label, as Kubernetes requires for names of namespaces, Services and containers:
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){LABEL.pattern}(?:\.{LABEL.pattern})*")
# Other objects, such as webhook configurations, are named like Secrets.
_OBJECT_NAME_RULE: Final = "lower-case letters, digits, '-' and '.', at most 253 characters"


def text_that(is_valid: Callable[[str], object], rule: str) -> AfterValidator:
    """Return a validator that rejects other texts with `rule` as the message."""

    def checked(text: str) -> str:
        if not is_valid(text):
            raise ValueError(rule)
        return text

    return AfterValidator(checked)


def _certificate_names(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = tuple(name for part in value.split(",") if (name := part.strip()))
    for name in found:
        if not _DNS_NAME.fullmatch(name) and not _is_address(name):
            raise ValueError("use DNS names and IP addresses, separated by commas")
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Port = Annotated[int, Field(ge=0, le=65535)]
# Seconds that one step of a connection may take.
Deadline = Annotated[float, Field(gt=0, le=300)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Label = Annotated[
    str,
    text_that(
        lambda text: not text or LABEL.fullmatch(text), "lower-case letters, digits and '-', at most 63 characters"
    ),
]
ObjectName = Annotated[str, text_that(is_secret_name, _OBJECT_NAME_RULE)]
OptionalObjectName = Annotated[str, text_that(lambda text: not text or is_secret_name(text), _OBJECT_NAME_RULE)]
CertificateNames = Annotated[tuple[str, ...], BeforeValidator(_certificate_names)]
