"""Settings of the process: flags and environment variables, validated together.

A flag takes precedence over its environment variable, and that over the default. An error reports every invalid value
with its source and the allowed values, so that a Deployment can be fixed at once.

`Settings` is the only list of flags: the command line, its help and `docs/reference/configuration.md` come from it.
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

from injector.config.problems import explained
from injector.config.shapes import (
    LABEL,
    CertificateNames,
    Deadline,
    Duration,
    KeyAlgorithm,
    Label,
    LogFormat,
    LogLevel,
    ObjectName,
    OptionalObjectName,
    Port,
    TlsMode,
    TlsVersion,
    duration_text,
)
from injector.core.errors import ConfigError, ConfigProblem
from injector.core.messages import redact
from injector.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENV_PREFIX: Final = "DAPR_TOKEN_INJECTOR_"


class Group(StrEnum):
    """Sections of flags in the help."""

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
    """Ports, files and limits of the process. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = _flag(
        Group.LISTENING, "", "Listen on this address for admission requests; empty: all addresses, IPv4 and IPv6."
    )
    port: Port = _flag(
        Group.LISTENING,
        10250,
        "Listen on this port for admission requests; firewalls of private clusters allow 10250. 0: any free port.",
    )
    ops_host: str = _flag(Group.LISTENING, "", "Listen on this address for health and metrics; empty: all addresses.")
    ops_port: Port = _flag(
        Group.LISTENING, 8080, "Serve /livez, /readyz and /metrics on this port, without TLS. 0: any free port."
    )
    tls_mode: TlsMode = _flag(
        Group.TLS,
        TlsMode.SELF,
        "Set the source of the certificate. self: create and rotate it. cert-manager, files: read the two files "
        "below, without access to the Kubernetes API.",
    )
    tls_cert_file: Path | None = _flag(
        Group.TLS, None, "PEM file with the certificate and its chain, leaf first; reloaded when it changes."
    )
    tls_private_key_file: Path | None = _flag(Group.TLS, None, "PEM file with the certificate's private key.")
    tls_min_version: TlsVersion = _flag(
        Group.TLS, TlsVersion.V1_3, "Set the minimum TLS version; every supported API server supports 1.3."
    )
    tls_reload_interval: float = _flag(
        Group.TLS,
        5.0,
        "Check the files every SECONDS; a kubelet updates them within about a minute.",
        ge=0.05,
        le=3600,
    )
    namespace: Label = _flag(
        Group.SELF, "", "Namespace of the webhook. If empty: POD_NAMESPACE, then that of the Pod's ServiceAccount."
    )
    service_name: Label = _flag(
        Group.SELF, "dapr-token-injector", "Service through which API servers call the webhook.", min_length=1
    )
    ca_secret_name: ObjectName = _flag(
        Group.SELF, "dapr-token-injector-ca", "Secret that holds the CA; it must exist and may be empty."
    )
    webhook_configuration_name: ObjectName = _flag(
        Group.SELF, "dapr-token-injector", "Name of the two webhook configurations whose caBundle is maintained."
    )
    second_webhook_configuration_name: OptionalObjectName = _flag(
        Group.SELF,
        "",
        "Name of a second MutatingWebhookConfiguration whose caBundle is maintained: the second of two entries. If "
        "empty: there is one entry.",
    )
    certificate_names: CertificateNames = _flag(
        Group.SELF, (), "Additional DNS names and IP addresses of the certificate, for a registration by URL."
    )
    key_algorithm: KeyAlgorithm = _flag(
        Group.SELF, KeyAlgorithm.ECDSA_P256, "Algorithm of new keys; some managed API servers only accept RSA."
    )
    leaf_lifetime: Duration = _flag(
        Group.SELF,
        timedelta(hours=24),
        "Lifetime of the certificate; it is renewed after two thirds.",
        ge=timedelta(seconds=1),
        le=timedelta(days=366),
    )
    ca_lifetime: Duration = _flag(
        Group.SELF,
        timedelta(days=365),
        "Lifetime of the CA; a new CA is created after two thirds.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3653),
    )
    ca_settle_time: Duration = _flag(
        Group.SELF,
        timedelta(minutes=5),
        "Wait this long after a new CA was added to every caBundle before it signs, so that all API servers have "
        "read it.",
        ge=timedelta(0),
        le=timedelta(days=1),
    )
    kubeconfig: Path | None = _flag(
        Group.SELF,
        None,
        "Kubeconfig of the cluster, to run outside of it. If empty: the Pod's ServiceAccount.",
    )
    policy_file: Path | None = _flag(
        Group.POLICY, None, "YAML file with the policy. If empty: every Secret is allowed, and there are no defaults."
    )
    log_format: LogFormat = _flag(
        Group.LOGS, LogFormat.AUTO, "Set the log format. auto: text on a terminal, otherwise JSON."
    )
    log_level: LogLevel = _flag(
        Group.LOGS,
        LogLevel.INFO,
        "Set the minimum log level. info: one line per mutation or denial, in shadow mode as well; debug: also skips.",
    )
    docs: bool = _flag(Group.LOGS, False, "Serve the API documentation at /docs; clusters do not need it.")
    max_body_bytes: int = _flag(
        Group.LIMITS,
        8 * 1024 * 1024,
        "Reject larger bodies; the API server limits an object to 3 MiB, and a review may contain two.",
        ge=1024,
        le=256 * 1024 * 1024,
    )
    max_bodies: int = _flag(
        Group.LIMITS,
        16,
        "Read at most this many bodies over 64 KiB at a time; more are shed. 16 of the largest need 128 MiB.",
        ge=1,
        le=100_000,
    )
    max_connections: int = _flag(
        Group.LIMITS,
        1024,
        "Limit the open connections. A new one replaces one that never completed a request, or the one that has been "
        "idle longest. Each needs at most 256 KiB. An API server keeps about 25 idle connections.",
        ge=1,
        le=1_000_000,
    )
    max_lag: float = _flag(
        Group.LIMITS,
        0.1,
        "Limit the time of one turn of the event loop for requests, or a quarter of the request's timeout if that is "
        "less. Later requests of the turn get 503 with Retry-After: 1, each review once; bodies up to 16 KiB only "
        "after three times this limit. A new connection takes three turns: connection, handshake, request.",
        gt=0,
        le=30,
    )
    fail_over: bool = _flag(
        Group.LIMITS,
        False,
        "Shed requests without Retry-After, so that API servers call the next entry at once. Set this only on replicas "
        "whose entry is followed by another one.",
    )
    handshake_timeout: Deadline = _flag(
        Group.DEADLINES, 5.0, "Limit the TLS handshake; the default allows for a lost packet."
    )
    headers_timeout: Deadline = _flag(
        Group.DEADLINES, 5.0, "Limit the headers of a request; without TLS also the time to the first request."
    )
    body_timeout: Deadline = _flag(
        Group.DEADLINES, 10.0, "Limit the body of a request, after its headers; the default timeout of Kubernetes."
    )
    keep_alive_timeout: float = _flag(
        Group.DEADLINES,
        120.0,
        "Limit the idle time before and between requests. The API server closes idle connections after 90 s; a longer "
        "time avoids lost requests.",
        gt=0,
        le=3600,
    )
    drain_min_seconds: float = _flag(
        Group.STOPPING,
        10.0,
        "Keep serving for at least this long after SIGTERM, until the replica has left every EndpointSlice.",
        ge=0,
        le=3600,
    )
    drain_max_seconds: float = _flag(
        Group.STOPPING,
        20.0,
        "Then wait until no connection is open and none was opened for 3 s, at most until this long after SIGTERM.",
        ge=0,
        le=3600,
    )


def _contradictions(settings: Settings) -> Iterator[ConfigProblem]:
    """Yield the contradictions between valid settings; each problem names the flag to change."""
    if settings.drain_max_seconds < settings.drain_min_seconds:
        yield ConfigProblem(flag("drain_max_seconds"), f"must not be below {flag('drain_min_seconds')}")
    if settings.second_webhook_configuration_name == settings.webhook_configuration_name:
        yield ConfigProblem(
            flag("second_webhook_configuration_name"), f"must differ from {flag('webhook_configuration_name')}"
        )
    is_self = settings.tls_mode is TlsMode.SELF
    for name in ("tls_cert_file", "tls_private_key_file"):
        is_given = getattr(settings, name) is not None
        if is_self and is_given:
            yield ConfigProblem(
                flag("tls_mode"), f"self creates its own certificate; remove {flag(name)}, or use files"
            )
        elif not is_self and not is_given:
            yield ConfigProblem(flag(name), f"is required with --tls-mode {settings.tls_mode}")
    if is_self and settings.ca_lifetime < 6 * (settings.leaf_lifetime + settings.ca_settle_time):
        yield ConfigProblem(
            flag("ca_lifetime"),
            f"must be at least six times the sum of {flag('leaf_lifetime')} and {flag('ca_settle_time')}, so that "
            "both fit into its last third",
        )


def default_text(value: object) -> str:
    """Return the default of a setting as its flag accepts it; empty if it has none."""
    if isinstance(value, timedelta):
        return duration_text(value)
    return "" if value is None or value == () else str(value)


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENV_PREFIX + name.upper()


@dataclass(frozen=True, slots=True)
class Given:
    """The values set by the user, not yet validated; flags take precedence over variables."""

    flags: Mapping[str, str]
    env: Mapping[str, str]

    def where(self, name: str) -> str:
        """Return the flag, and the variable if the value comes from it."""
        return f"{flag(name)} ({variable(name)})" if name not in self.flags and self.raw(name) else flag(name)

    def raw(self, name: str) -> str | None:
        """Return the value as set; None if neither flag nor variable is set."""
        if name in self.flags:
            return self.flags[name]
        text = self.env.get(variable(name))
        return None if not text or _SERVICE_LINK.match(text) else text


# For a Service named dapr-token-injector, the kubelet sets DAPR_TOKEN_INJECTOR_PORT=tcp://10.96.0.7:443 in every Pod
# of its namespace, including those of the webhook:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")


def load(given: Given) -> Settings:
    """Return the settings from the values set by the user.

    Raises:
        ConfigError: Some are not valid; it has every problem.
    """
    values = {name: text for name in Settings.model_fields if (text := given.raw(name)) is not None}
    problems = [ConfigProblem(flag(name), "unknown flag") for name in given.flags if name not in Settings.model_fields]
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0])
            bad.add(name)
            problems.append(ConfigProblem(given.where(name), f"{redact(values[name])} {explained(detail)}"))
        # With defaults in place of invalid values. Contradictions of these defaults are not reported.
        settings = Settings.model_validate({name: text for name, text in values.items() if name not in bad})
    defaulted = set(map(flag, bad))
    problems.extend(problem for problem in _contradictions(settings) if problem.where not in defaulted)
    if problems:
        raise ConfigError(problems)
    return settings


# The kubelet writes the Pod's namespace here, next to the token of the ServiceAccount:
# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
_MAX_NAMESPACE_BYTES: Final = 1024  # a name has 63 characters at most
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def in_namespace(settings: Settings, given: Given, file: Path = _NAMESPACE_FILE) -> Settings:
    """Return the settings with the webhook's namespace, if it is required.

    Raises:
        ConfigError: The namespace is unknown or not valid.
    """
    if settings.namespace or settings.tls_mode is not TlsMode.SELF:
        return settings
    found, where = given.env.get("POD_NAMESPACE", ""), "POD_NAMESPACE"
    if not found:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found, where = read_regular(file, _MAX_NAMESPACE_BYTES).decode().strip(), str(file)
    if not found:
        unknown = "is required with --tls-mode self if POD_NAMESPACE and the ServiceAccount's namespace are unknown"
        raise ConfigError([ConfigProblem(flag("namespace"), unknown)])
    if not LABEL.fullmatch(found):
        raise ConfigError([ConfigProblem(where, f"{redact(found)} is not a namespace")])
    return settings.model_copy(update={"namespace": found})
