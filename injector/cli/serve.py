"""`serve`: run the webhook.

The flags come from `config.settings.Settings`. Problems with flags, the policy file and the certificate are reported
together, before the first port is opened.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.config.policy import load_policy
from injector.config.settings import Given, Group, Settings, default_text, flag, in_namespace, load, variable
from injector.config.shapes import TlsMode
from injector.core.errors import ConfigError, ConfigProblem
from injector.core.model import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

    from injector.webhook.certs.pair import ServingPair
    from injector.webhook.compose import Certificates

_T = TypeVar("_T")


class _Grouped(click.Command):
    """A command whose help lists options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group."""
        records: dict[str, list[tuple[str, str]]] = {group.value: [] for group in Group}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                field = Settings.model_fields.get(parameter.name or "")
                records.setdefault(_group(field), []).append(record)
        for group, rows in records.items():
            with formatter.section(group):
                formatter.write_dl(rows, col_max=24)


def _group(field: FieldInfo | None) -> str:
    extra = field.json_schema_extra if field is not None else None
    return str(extra["group"]) if isinstance(extra, dict) else "Other"


def _options(command: Callable[..., int]) -> Callable[..., int]:
    """Add one option per setting, as plain text: `config.settings.load` checks them, and reports every invalid one."""
    for name, field in reversed(Settings.model_fields.items()):
        command = click.option(
            flag(name), name, is_flag=field.annotation is bool, **_look(name, field), help=_help(name, field)
        )(command)
    return command


def _look(name: str, field: FieldInfo) -> dict[str, Any]:
    if field.annotation is bool:
        return {"default": None}
    return {"type": str, "metavar": metavar(name, field)}


def metavar(name: str, field: FieldInfo) -> str:
    """Return the placeholder for a flag's value in the help."""
    choices = getattr(field.annotation, "__members__", None)
    if choices:
        return "|".join(str(choice.value) for choice in choices.values())
    if field.annotation is str:
        return "ADDRESS" if name.endswith("host") else "NAME"
    return _METAVARS.get(field.annotation, "FILE")


_METAVARS: Final[dict[object, str]] = {
    int: "N",
    float: "SECONDS",
    timedelta: "DURATION",
    tuple[str, ...]: "NAME,...",
}


def _help(name: str, field: FieldInfo) -> str:
    text = default_text(field.default)
    default = "" if text in {"", "False"} else f"default: {text}; "
    return f"{field.description} [{default}env: {variable(name)}]"


@click.command(cls=_Grouped, short_help="Run the admission webhook.")
@_options
def command(**flags: str | bool | None) -> int:
    """Run the admission webhook.

    Every flag can also be set by an environment variable; the flag takes
    precedence. --tls-mode files and cert-manager need no access to the
    Kubernetes API.

    Exit codes: 0 stopped by a signal, 2 usage error, 3 internal error.
    """
    given = Given(
        {
            name: str(value).lower() if value is True else str(value)
            for name, value in flags.items()
            if value is not None
        },
        os.environ,
    )
    settings, policy, certificates = prepare(given)
    from injector.webhook.compose import serve  # noqa: PLC0415 - FastAPI and uvicorn are imported by serve alone

    return serve(settings, policy, certificates, terminal=sys.stderr.isatty())


def prepare(given: Given) -> tuple[Settings, Policy, Certificates]:
    """Return settings, Policy, and the serving pair or a function that connects to its objects.

    Raises:
        ConfigError: Some are not valid; it has every problem.
    """
    problems: list[ConfigProblem] = []

    def attempt(work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    settings = loaded = attempt(lambda: load(given))
    if loaded is not None:
        settings = attempt(lambda: in_namespace(loaded, given))
    policy_file = given.raw("policy_file")
    policy = attempt(lambda: load_policy(Path(policy_file))) if policy_file else Policy()
    certificates = attempt(lambda: _certificates(settings or loaded, given))
    if problems or settings is None or policy is None or certificates is None:
        raise ConfigError(problems)
    return settings, policy, certificates


def _certificates(settings: Settings | None, given: Given) -> Certificates | None:
    """Return the source of the pair; None if `load` has already reported the problem."""
    if given.raw("tls_mode") in {TlsMode.FILES, TlsMode.CERT_MANAGER}:
        return _pair(given)
    if settings is None:
        return None
    from injector.cli.certificate_connection import connect  # noqa: PLC0415 - only this mode imports the client

    return connect(settings)


def _pair(given: Given) -> ServingPair | None:
    """Return the pair in the two files; None if `load` has already reported a missing flag."""
    from injector.webhook.certs.pair import CertificateError, read_pair, utc_now  # noqa: PLC0415 - only serve pays

    chain, key = given.raw("tls_cert_file"), given.raw("tls_private_key_file")
    if not chain or not key:
        return None
    try:
        return read_pair(Path(chain), Path(key), utc_now())
    except CertificateError as error:
        where = f"{given.where('tls_cert_file')}, {given.where('tls_private_key_file')}"
        raise ConfigError([ConfigProblem(where, problem) for problem in error.problems]) from None
