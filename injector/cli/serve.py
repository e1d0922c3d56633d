"""`serve`: where settings, files, certificate and ports become one running webhook.

Flags are made from `config.Settings`. All that can be wrong with them, with the Policy file and with the certificate is
found before the first port is opened, and told together.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.config import (
    ConfigError,
    ConfigProblem,
    Given,
    Group,
    Settings,
    TlsMode,
    flag,
    load,
    load_policy,
    variable,
)
from injector.core.model import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

    from injector.webhook.certs import ServingPair

_T = TypeVar("_T")


class _Grouped(click.Command):
    """A command whose help lists options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group."""
        records: dict[str, list[tuple[str, str]]] = {group.value: [] for group in Group}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                group = (
                    _group(Settings.model_fields[parameter.name])
                    if parameter.name in Settings.model_fields
                    else "Other"
                )
                records.setdefault(group, []).append(record)
        for group, rows in records.items():
            with formatter.section(group):
                formatter.write_dl(rows, col_max=24)


def _group(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["group"]) if isinstance(extra, dict) else "Other"


def _options(command: Callable[..., int]) -> Callable[..., int]:
    """One option per setting, all of them plain text: `config.load` checks them, and tells every bad one."""
    for name, field in reversed(Settings.model_fields.items()):
        command = click.option(
            flag(name), name, is_flag=field.annotation is bool, **_look(field), help=_help(name, field)
        )(command)
    return command


def _look(field: FieldInfo) -> dict[str, Any]:
    if field.annotation is bool:
        return {"default": None}
    return {"type": str, "metavar": metavar(field)}


def metavar(field: FieldInfo) -> str:
    """What a flag's value looks like, for the help."""
    choices = getattr(field.annotation, "__members__", None)
    if choices:
        return "|".join(str(choice.value) for choice in choices.values())
    return _METAVARS.get(field.annotation, "FILE")


_METAVARS: Final[dict[object, str]] = {str: "ADDRESS", int: "N", float: "SECONDS"}


def _help(name: str, field: FieldInfo) -> str:
    default = "" if field.default in (None, "", False) else f"default: {field.default}; "
    return f"{field.description} [{default}env: {variable(name)}]"


@click.command(cls=_Grouped, short_help="Run the admission webhook.")
@_options
def command(**flags: str | bool | None) -> int:
    """Run the admission webhook.

    Every flag can be given as an environment variable, too; the flag wins.
    With --tls-mode files no cluster and no kubeconfig is needed.
    """
    given = Given(
        {
            name: str(value).lower() if value is True else str(value)
            for name, value in flags.items()
            if value is not None
        },
        os.environ,
    )
    settings, policy, pair = prepare(given)
    return run(settings, policy, pair)


def prepare(given: Given) -> tuple[Settings, Policy, ServingPair]:
    """Settings, Policy and serving pair.

    Raises:
        ConfigError: With everything that is wrong with any of them.
    """
    problems: list[ConfigProblem] = []

    def attempt(work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    settings = attempt(lambda: load(given))
    policy_file = given.raw("policy_file")
    policy = attempt(lambda: load_policy(Path(policy_file))) if policy_file else Policy()
    pair = attempt(lambda: _pair(given))
    if problems or settings is None or policy is None or pair is None:
        raise ConfigError(problems)
    return settings, policy, pair


def _pair(given: Given) -> ServingPair | None:
    """The pair in the two files; None when `load` has already said that they are not asked for or not named."""
    from injector.webhook.certs import CertificateError, read_pair, utc_now  # noqa: PLC0415 - only serve pays for it

    chain, key = given.raw("tls_cert_file"), given.raw("tls_private_key_file")
    if given.raw("tls_mode") != TlsMode.FILES or not chain or not key:
        return None
    try:
        return read_pair(Path(chain), Path(key), utc_now())
    except CertificateError as error:
        where = f"{given.where('tls_cert_file')}, {given.where('tls_private_key_file')}"
        raise ConfigError([ConfigProblem(where, problem) for problem in error.problems]) from None


def run(settings: Settings, policy: Policy, pair: ServingPair) -> int:
    """Serve until a signal ends it."""
    from injector.webhook.compose import serve  # noqa: PLC0415 - FastAPI and uvicorn are imported by serve alone

    return serve(settings, policy, pair, terminal=sys.stderr.isatty())
