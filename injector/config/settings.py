"""Settings of the process: flags and environment, checked together.

A flag wins over its environment variable, which wins over the default. Every bad key is reported at once,
with where it came from and what is allowed, so that a Deployment can be fixed in one round.

`Settings` is the only list of flags: the command line, its help and `docs/reference/configuration.md` are made from it.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from injector.config.problems import explained, quoted
from injector.config.shapes import (
    LABEL,
    CertificateNames,
    Duration,
    KeyAlgorithm,
    Label,
    LogFormat,
    LogLevel,
    ObjectName,
    TlsMode,
    TlsVersion,
    duration_text,
)
from injector.core.errors import ConfigError, ConfigProblem
from injector.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping

ENV_PREFIX: Final = "DAPR_TOKEN_INJECTOR_"


class Group(StrEnum):
    """Headings under which the help lists flags."""

    LISTENING = "Listening"
    TLS = "TLS"
    SELF = "Certificates of --tls-mode self"
    POLICY = "Policy"
    LOGS = "Logs and documentation"
    LIMITS = "Limits"
    DEADLINES = "Deadlines (seconds)"
    STOPPING = "Stopping (seconds)"


def _flag(group: Group, default: object, help_: str, /, **bounds: Any) -> Any:  # noqa: ANN401 - pydantic's own typing
    return Field(default, description=help_, json_schema_extra={"group": group.value}, **bounds)


class Settings(BaseModel):
    """How the process runs: ports, files, limits. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = _flag(Group.LISTENING, "", "Address of the admission port; empty means every address, IPv4 and IPv6.")
    port: int = _flag(
        Group.LISTENING,
        10250,
        "Admission port; 10250 passes the firewalls of private clusters. 0 picks a free one.",
        ge=0,
        le=65535,
    )
    ops_host: str = _flag(Group.LISTENING, "", "Address of the port for health and metrics; empty means every address.")
    ops_port: int = _flag(
        Group.LISTENING,
        8080,
        "Port of /livez, /readyz and /metrics; no TLS, so that probes need no certificate.",
        ge=0,
        le=65535,
    )
    tls_mode: TlsMode = _flag(
        Group.TLS,
        TlsMode.SELF,
        "Where the certificate comes from: self makes and rotates it, cert-manager and files read the two files "
        "below and need no access to the API.",
    )
    tls_cert_file: Path | None = _flag(
        Group.TLS, None, "PEM file with the certificate and its chain, leaf first; watched and reloaded."
    )
    tls_private_key_file: Path | None = _flag(Group.TLS, None, "PEM file with the certificate's private key.")
    tls_min_version: TlsVersion = _flag(
        Group.TLS, TlsVersion.V1_3, "Oldest TLS version accepted; every supported API server speaks 1.3."
    )
    tls_reload_interval: float = _flag(
        Group.TLS,
        5.0,
        "Seconds between two looks at the files; a kubelet takes about a minute to update them.",
        ge=0.05,
        le=3600,
    )
    namespace: Label = _flag(
        Group.SELF, "", "Our own namespace; without it POD_NAMESPACE, then that of the Pod's ServiceAccount."
    )
    service_name: Label = _flag(Group.SELF, "dapr-token-injector", "Service that API servers call us by.", min_length=1)
    ca_secret_name: ObjectName = _flag(
        Group.SELF, "dapr-token-injector-ca", "Secret that holds the authority; it must exist and may be empty."
    )
    webhook_configuration_name: ObjectName = _flag(
        Group.SELF, "dapr-token-injector", "Name of the two webhook configurations whose bundles we keep."
    )
    certificate_names: CertificateNames = _flag(
        Group.SELF, (), "Further DNS names and IP addresses of the certificate, for a registration by URL."
    )
    key_algorithm: KeyAlgorithm = _flag(
        Group.SELF, KeyAlgorithm.ECDSA_P256, "Kind of new keys; some managed API servers accept RSA only."
    )
    leaf_lifetime: Duration = _flag(
        Group.SELF,
        timedelta(hours=24),
        "Life of the certificate; it is renewed when two thirds of it have passed.",
        ge=timedelta(seconds=1),
        le=timedelta(days=366),
    )
    ca_lifetime: Duration = _flag(
        Group.SELF,
        timedelta(days=365),
        "Life of the authority; the next one is made when two thirds of it have passed.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3653),
    )
    ca_settle_time: Duration = _flag(
        Group.SELF,
        timedelta(minutes=5),
        "Wait between a new authority's arrival in every bundle and its first signature, so that each API server "
        "has taken notice.",
        ge=timedelta(0),
        le=timedelta(days=1),
    )
    kubeconfig: Path | None = _flag(
        Group.SELF,
        None,
        "Kubeconfig of the cluster, to run outside of it; without one the Pod's ServiceAccount is used.",
    )
    policy_file: Path | None = _flag(
        Group.POLICY, None, "YAML file with the Policy; without one every Secret is allowed and nothing defaulted."
    )
    log_format: LogFormat = _flag(Group.LOGS, LogFormat.AUTO, "auto writes text to a terminal and JSON elsewhere.")
    log_level: LogLevel = _flag(Group.LOGS, LogLevel.INFO, "info has a line per mutation or denial; debug adds skips.")
    docs: bool = _flag(Group.LOGS, False, "Serve a page for people at /docs; off because clusters need none.")
    max_body_bytes: int = _flag(
        Group.LIMITS,
        8 * 1024 * 1024,
        "Largest body; the API server's own limit is 3 MiB per object, and a review may hold two.",
        ge=1024,
        le=256 * 1024 * 1024,
    )
    max_bodies: int = _flag(
        Group.LIMITS,
        16,
        "Bodies over 64 KiB that are read at once; more are shed. 16 of the largest take 128 MiB.",
        ge=1,
        le=100_000,
    )
    max_connections: int = _flag(
        Group.LIMITS,
        1024,
        "Open connections; a new one takes the place of one that never completed a request, or of the one that has "
        "been idle longest. Each takes 256 KiB at most. An API server keeps about 25 idle ones.",
        ge=1,
        le=1_000_000,
    )
    max_lag: float = _flag(
        Group.LIMITS,
        0.1,
        "Seconds that a turn of the event loop works on requests, or a quarter of a request's own timeout if less; the "
        "rest of the turn is shed with 503 and Retry-After: 1, each review once, bodies up to 16 KiB only after three "
        "times as long. What is new takes three turns: connection, handshake, request.",
        gt=0,
        le=30,
    )
    handshake_timeout: float = _flag(
        Group.DEADLINES, 5.0, "For the TLS handshake; one round trip plus room for a lost packet.", gt=0, le=300
    )
    headers_timeout: float = _flag(
        Group.DEADLINES,
        5.0,
        "For a request's headers; without TLS also for a connection's first request.",
        gt=0,
        le=300,
    )
    body_timeout: float = _flag(
        Group.DEADLINES,
        10.0,
        "For a request's body, counted from its headers; Kubernetes' default timeout.",
        gt=0,
        le=300,
    )
    keep_alive_timeout: float = _flag(
        Group.DEADLINES,
        120.0,
        "Idle time before and between requests; the API server closes after 90 s, and whoever closes second loses no "
        "request.",
        gt=0,
        le=3600,
    )
    drain_min_seconds: float = _flag(
        Group.STOPPING,
        10.0,
        "Serve on for at least this long after SIGTERM: this replica must have left every EndpointSlice first.",
        ge=0,
        le=3600,
    )
    drain_max_seconds: float = _flag(
        Group.STOPPING,
        20.0,
        "Then wait until no connection is left and none has come for 3 s, until this long after SIGTERM.",
        ge=0,
        le=3600,
    )


def _contradictions(settings: Settings) -> list[ConfigProblem]:
    """Return what is wrong with settings that are good one by one; each problem names the flag to change."""
    problems: list[ConfigProblem] = []
    if settings.drain_max_seconds < settings.drain_min_seconds:
        problems.append(ConfigProblem(flag("drain_max_seconds"), f"must not be below {flag('drain_min_seconds')}"))
    is_self = settings.tls_mode is TlsMode.SELF
    for name in ("tls_cert_file", "tls_private_key_file"):
        is_given = getattr(settings, name) is not None
        if is_self and is_given:
            problems.append(
                ConfigProblem(
                    flag("tls_mode"), f"self makes a certificate of its own; leave {flag(name)} out, or write files"
                )
            )
        elif not is_self and not is_given:
            problems.append(ConfigProblem(flag(name), f"is needed with --tls-mode {settings.tls_mode}"))
    if is_self and settings.ca_lifetime < 6 * (settings.leaf_lifetime + settings.ca_settle_time):
        problems.append(
            ConfigProblem(
                flag("ca_lifetime"),
                f"must be at least six times {flag('leaf_lifetime')} and {flag('ca_settle_time')} together, so that "
                "the last third of it has room for both",
            )
        )
    return problems


def default_text(value: object) -> str:
    """A setting's default as a flag takes it; empty for one that is not there."""
    if isinstance(value, timedelta):
        return duration_text(value)
    return "" if value is None or value == () else str(value)


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + name.upper()


@dataclass(frozen=True, slots=True)
class Given:
    """What the user wrote, before it is checked: flags win over variables."""

    flags: Mapping[str, str]
    env: Mapping[str, str]

    def where(self, name: str) -> str:
        """The flag, and the variable when the value came from there."""
        return f"{flag(name)} ({variable(name)})" if name not in self.flags and self.raw(name) else flag(name)

    def raw(self, name: str) -> str | None:
        """The value as written; None when neither flag nor variable has one."""
        if name in self.flags:
            return self.flags[name]
        text = self.env.get(variable(name))
        return None if not text or _SERVICE_LINK.match(text) else text


# For a Service called dapr-token-injector the kubelet sets DAPR_TOKEN_INJECTOR_PORT=tcp://10.96.0.7:443 in every Pod
# of its namespace, ours included:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")


def load(given: Given) -> Settings:
    """Settings from what the user wrote.

    Raises:
        ConfigError: With every bad key.
    """
    values = {name: text for name in Settings.model_fields if (text := given.raw(name)) is not None}
    problems = [ConfigProblem(flag(name), "no such flag") for name in given.flags if name not in Settings.model_fields]
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0])
            bad.add(name)
            problems.append(ConfigProblem(given.where(name), f"{quoted(values[name])} {explained(detail)}"))
        # With defaults in place of bad values. What is then wrong with one of those is not what the user wrote.
        settings = Settings.model_validate({name: text for name, text in values.items() if name not in bad})
    defaulted = set(map(flag, bad))
    problems.extend(problem for problem in _contradictions(settings) if problem.where not in defaulted)
    if problems:
        raise ConfigError(problems)
    return settings


# Where the kubelet writes a Pod's namespace, when it mounts the ServiceAccount's token:
# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
_MAX_NAMESPACE_BYTES: Final = 1024  # a name has 63 characters at most
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def in_namespace(settings: Settings, given: Given, file: Path = _NAMESPACE_FILE) -> Settings:
    """The same settings with our own namespace in them, where it is needed.

    Raises:
        ConfigError: Nobody says which one it is, or what they say is no namespace.
    """
    if settings.namespace or settings.tls_mode is not TlsMode.SELF:
        return settings
    found, where = given.env.get("POD_NAMESPACE", ""), "POD_NAMESPACE"
    if not found:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found, where = read_regular(file, _MAX_NAMESPACE_BYTES).decode().strip(), str(file)
    if not found:
        raise ConfigError(
            [
                ConfigProblem(
                    flag("namespace"),
                    "is needed with --tls-mode self where neither POD_NAMESPACE nor a Pod's ServiceAccount tells it",
                )
            ]
        )
    if not LABEL.fullmatch(found):
        raise ConfigError([ConfigProblem(where, f"{quoted(found)} is not a namespace")])
    return settings.model_copy(update={"namespace": found})
