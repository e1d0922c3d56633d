"""Settings of the shell and the cluster owner's Policy, each checked in whole before anything starts.

A flag wins over its environment variable, which wins over the default. Every bad key is collected and told at once,
with where it came from and what is allowed: whoever mends a Deployment should need one round, not five.

`Settings` is the only list of flags: the command line, its help and `docs/reference/configuration.md` are made from it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from injector.core import names
from injector.core.durations import parse as parse_duration
from injector.core.errors import ConfigError, ConfigProblem
from injector.core.model import Conflict, Policy
from injector.core.request import app_containers, is_allowed, is_secret_key, is_secret_name
from injector.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic_core import ErrorDetails
    from ruamel.yaml.nodes import Node

ENV_PREFIX: Final = "DAPR_TOKEN_INJECTOR_"


class TlsMode(StrEnum):
    """Where the serving certificate comes from."""

    SELF = "self"
    CERT_MANAGER = "cert-manager"
    FILES = "files"


class TlsVersion(StrEnum):
    """Oldest TLS version that a caller may speak."""

    V1_3 = "1.3"
    V1_2 = "1.2"


class KeyAlgorithm(StrEnum):
    """Kind of the keys that `--tls-mode self` makes."""

    ECDSA_P256 = "ecdsa-p256"
    RSA_2048 = "rsa-2048"


class LogFormat(StrEnum):
    """Shape of a log line."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


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


# --- values with a shape of their own ---


def duration(text: str) -> timedelta:
    """A duration such as 90s, 10m, 24h or 365d.

    Raises:
        ValueError: No number, no unit, or out of bounds.
    """
    return timedelta(seconds=parse_duration(text))


def _duration(value: object) -> object:
    return duration(value) if isinstance(value, str) else value


def duration_text(value: timedelta) -> str:
    """A duration as a flag takes it, in the largest unit that makes it a whole number."""
    seconds = int(value.total_seconds())
    return next((f"{seconds // size}{unit}" for unit, size in _UNITS if seconds and not seconds % size), "0s")


_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


# RFC 1123, as Kubernetes asks of Namespaces, Services and objects:
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL.pattern}(?:\.{_LABEL.pattern})*")


def _label(text: str) -> str:
    if text and not _LABEL.fullmatch(text):
        raise ValueError("lower-case letters, digits and '-', at most 63 characters")
    return text


def _object_name(text: str) -> str:
    if not _DNS_NAME.fullmatch(text):
        raise ValueError("lower-case letters, digits, '-' and '.', at most 253 characters")
    return text


def _certificate_names(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = tuple(name for part in value.split(",") if (name := part.strip()))
    for name in found:
        if not _DNS_NAME.fullmatch(name) and not _is_address(name):
            raise ValueError("write DNS names and IP addresses, with commas between them")
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Label = Annotated[str, AfterValidator(_label)]
ObjectName = Annotated[str, AfterValidator(_object_name)]
CertificateNames = Annotated[tuple[str, ...], BeforeValidator(_certificate_names)]


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

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        """Checks over several flags; one sentence per problem, parted by newlines."""
        problems: list[str] = []
        if self.drain_max_seconds < self.drain_min_seconds:
            problems.append(f"{flag('drain_max_seconds')}: must not be below {flag('drain_min_seconds')}")
        files = {name: getattr(self, name) is not None for name in ("tls_cert_file", "tls_private_key_file")}
        if self.tls_mode is TlsMode.SELF:
            problems.extend(
                f"{flag('tls_mode')}: self makes a certificate of its own; leave {flag(name)} out, or write files"
                for name, given in files.items()
                if given
            )
        else:
            problems.extend(
                f"{flag(name)}: is needed with --tls-mode {self.tls_mode}" for name, given in files.items() if not given
            )
        if self.tls_mode is TlsMode.SELF and self.ca_lifetime < 6 * (self.leaf_lifetime + self.ca_settle_time):
            problems.append(
                f"{flag('ca_lifetime')}: must be at least six times {flag('leaf_lifetime')} and "
                f"{flag('ca_settle_time')} together, so that the last third of it has room for both"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self


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
    unknown = [ConfigProblem(flag(name), "no such flag") for name in given.flags if name not in Settings.model_fields]
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError([*unknown, *_settings_problems(error, values, given)]) from None
    if unknown:
        raise ConfigError(unknown)
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
    if not _LABEL.fullmatch(found):
        raise ConfigError([ConfigProblem(where, f"{_quoted(found)} is not a namespace")])
    return settings.model_copy(update={"namespace": found})


def _settings_problems(error: ValidationError, values: Mapping[str, str], given: Given) -> list[ConfigProblem]:
    found: list[ConfigProblem] = []
    bad: set[str] = set()
    for detail in error.errors(include_url=False):
        if detail["loc"]:
            name = str(detail["loc"][0])
            bad.add(name)
            found.append(ConfigProblem(given.where(name), f"{_quoted(values[name])} {_said(detail)}"))
        else:
            found.extend(ConfigProblem(*line.split(": ", 1)) for line in _sentence(detail).splitlines())
    if bad:
        # pydantic judges the whole only when every part is good; so judge it once more with the good parts.
        try:
            Settings.model_validate({name: text for name, text in values.items() if name not in bad})
        except ValidationError as rest:
            defaulted = set(map(flag, bad))
            found.extend(problem for problem in _settings_problems(rest, {}, given) if problem.where not in defaulted)
    return found


def _quoted(text: str) -> str:
    clipped = text if len(text) <= names.MAX_SHOWN_VALUE else text[: names.MAX_SHOWN_VALUE - 3] + "..."
    return "'" + "".join(c if " " <= c <= "~" else "?" for c in clipped) + "'"


def _sentence(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {}).get("error")
    return str(context) if context is not None else detail["msg"]


def _said(detail: ErrorDetails) -> str:
    """The words of pydantic as the second half of a sentence that began with the value."""
    message = _sentence(detail)
    message = message.removeprefix("Input should be ")
    return f"is not allowed; write {message}" if message != _sentence(detail) else f"is not allowed; {message}"


# --- the Policy ---


def _secret_name(text: str) -> str:
    if not is_secret_name(text):
        raise ValueError("not a Secret name: lower-case letters, digits, '-' and '.', at most 253 characters")
    return text


def _secret_glob(text: str) -> str:
    if not _GLOB.fullmatch(text):
        raise ValueError("not a pattern of Secret names: lower-case letters, digits, '-', '.', '*', '?' and [sets]")
    return text


def _secret_key(text: str) -> str:
    if not is_secret_key(text):
        raise ValueError("not a key of a Secret: letters, digits, '-', '_' and '.', at most 253 characters")
    return text


def _container_name(text: str) -> str:
    if not _CONTAINER.fullmatch(text):
        raise ValueError("not a container name: lower-case letters, digits and '-', at most 63 characters")
    return text


def _container_choice(text: str) -> str:
    return text if text == "*" else _container_name(text)


_GLOB: Final = re.compile(r"[a-z0-9.*?\[\]!-]{1,253}")
_CONTAINER: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")

SecretName = Annotated[StrictStr, AfterValidator(_secret_name)]
SecretGlob = Annotated[StrictStr, AfterValidator(_secret_glob)]
SecretKey = Annotated[StrictStr, AfterValidator(_secret_key)]
ContainerName = Annotated[StrictStr, AfterValidator(_container_name)]
ContainerChoice = Annotated[StrictStr, AfterValidator(_container_choice)]


class _PolicyModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False)


class DefaultKeys(_PolicyModel):
    """Keys inside the Secrets when a Pod names none."""

    api: SecretKey = Field(names.DAPR_FIXED_KEY, description="Key of the API token.")
    app: SecretKey = Field(names.DAPR_FIXED_KEY, description="Key of the app token.")


class PolicyFile(_PolicyModel):
    """What the cluster owner allows and defaults, as written in the Policy's YAML file. Every key may be left out."""

    default_secret: SecretName | None = Field(
        None, description="Secret of Pods in namespaces with inject-default that name none; /mutate/default needs it."
    )
    allowed_secrets: tuple[SecretGlob, ...] = Field(
        (), description="Patterns of Secret names that Pods may use; an empty list allows every name."
    )
    default_keys: DefaultKeys = Field(DefaultKeys(), description="Keys inside the Secrets when a Pod names none.")
    default_app_containers: tuple[ContainerChoice, ...] = Field(
        (), description="App containers that get the tokens when a Pod says nothing: names, or '*' for all."
    )
    infrastructure_containers: tuple[ContainerName, ...] = Field(
        names.INFRASTRUCTURE_CONTAINERS, description="Containers that '*' leaves out; replaces the built-in list."
    )
    conflict: Conflict = Field(Conflict.KEEP, description="What happens to a variable that a Pod already has.")
    shadow: StrictBool = Field(False, description="Decide and report, but patch and deny nothing.")

    @field_validator("allowed_secrets")
    @classmethod
    def _lets_the_default_pass(cls, patterns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        default = info.data.get("default_secret")
        if default is not None and not is_allowed(default, patterns):
            raise ValueError(f"leaves out defaultSecret '{default}'; add a pattern that fits it")
        return patterns

    def policy(self) -> Policy:
        """The same for the core."""
        return Policy(
            default_secret=self.default_secret,
            allowed_secrets=self.allowed_secrets,
            default_api_key=self.default_keys.api,
            default_app_key=self.default_keys.app,
            default_app_containers=app_containers(self.default_app_containers, from_pod=False),
            infrastructure_containers=frozenset(self.infrastructure_containers),
            conflict=self.conflict,
            shadow=self.shadow,
        )


# More than any list of names needs; keeps a wrong path (a disk image, a device) from filling memory.
MAX_POLICY_BYTES: Final = 1024 * 1024


def load_policy(path: Path) -> Policy:
    """The Policy in a YAML file.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or has bad keys: every one, with its line.
    """
    try:
        content = read_regular(path, MAX_POLICY_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError([ConfigProblem(str(path), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([ConfigProblem(str(path), "is not UTF-8 text")]) from None
    if len(content) > MAX_POLICY_BYTES:
        raise ConfigError([ConfigProblem(str(path), f"is larger than {MAX_POLICY_BYTES} bytes")])
    return parse_policy(text, str(path))


def parse_policy(text: str, source: str) -> Policy:
    """The Policy in YAML text; `source` names it in problems.

    Raises:
        ConfigError: Not YAML, a duplicate key, or bad keys: every one, with its line.
    """
    try:
        # Composed first: only the nodes know their lines.
        root = YAML(typ="safe", pure=True).compose(text)
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([ConfigProblem(f"{source}:{line}", f"not valid YAML: {error.problem}")]) from None
    except (YAMLError, RecursionError, ValueError):
        raise ConfigError([ConfigProblem(source, "not valid YAML")]) from None
    try:
        return PolicyFile.model_validate({} if data is None else data).policy()
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError([_policy_problem(detail, root, source) for detail in details]) from None


def _policy_problem(detail: ErrorDetails, root: Node | None, source: str) -> ConfigProblem:
    if not detail["loc"]:
        return ConfigProblem(f"{source}:1", "must be a mapping of keys to values")
    line = _line(root, detail["loc"])
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        model = DefaultKeys if len(detail["loc"]) > 1 else PolicyFile
        allowed = ", ".join(to_camel(name) for name in model.model_fields)
        return ConfigProblem(f"{source}:{line}", f"{key}: no such key; there are: {allowed}")
    value = detail["input"]
    told = f"{_quoted(value)} " if isinstance(value, str) else ""
    return ConfigProblem(f"{source}:{line}", f"{key}: {told}{_said(detail)}")


def _line(root: Node | None, location: Sequence[int | str]) -> int:
    """Line of the deepest node on the way to `location`, counted from 1."""
    node, line = root, 1
    for step in location:
        line, node = next(((at, child) for key, at, child in _children(node) if key == step), (line, node))
    return line


def _children(node: Node | None) -> Iterator[tuple[int | str, int, Node]]:
    """Key or index, line and node of everything right below a mapping or a list."""
    for index, child in enumerate(getattr(node, "value", ())):
        if isinstance(child, tuple):
            key, value = child
            yield key.value, key.start_mark.line + 1, value
        else:
            yield index, child.start_mark.line + 1, child


def policy_schema() -> dict[str, Any]:
    """The JSON schema of a Policy file."""
    schema = PolicyFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
