"""What the two init containers of a sealed Pod run: `seal` writes the env file, `seal --check` tests it.

They run at each start of a sealed Pod. `injector.__main__` therefore calls this module without the command line, and
this module imports little: the standard library without `pathlib`, and JSON only for a JWT. `make bench` shows what a
call costs. The contract: docs/decisions/0035-sealed-pods.md.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.errors import TokenError
from injector.core.token import parse_sealable_token
from injector.files import error_text
from injector.frames import internal_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from injector.core.token import Token

# Where a kubelet reads the last words of a container, unless its Pod has another path.
TERMINATION_LOG: Final = "/dev/termination-log"
# The kubelet reads it as root.
_MODE: Final = 0o600
_FINE, _FOUND, _FAULT = 0, 1, 3  # exit codes, as `injector.cli.main` defines them


class SealError(Exception):
    """The Pod cannot be sealed; the message has no part of a value."""


def plain_call(words: Sequence[str]) -> tuple[Sequence[str], bool] | None:
    """Return variables and `--check` of a call of `seal`; None for other commands, for help and usage errors."""
    if words[:1] != ["seal"]:
        return None
    is_check = words[1:2] == ["--check"]
    variables = words[1 + is_check :]
    return (variables, is_check) if variables and set(variables) <= set(names.TOKEN_VARIABLES) else None


def run(variables: Sequence[str], *, is_check: bool) -> int:
    """Run `seal` or `seal --check` on the environment and return the exit code; no error shows a value."""
    try:
        if is_check:
            check(variables, os.environb)
        else:
            _leave(seal(variables, os.environb, names.SEAL_DIRECTORY))
    except SealError as error:
        message, code = str(error), _FOUND
    except Exception as error:  # noqa: BLE001 - the boundary
        message, code = internal_error(error), _FAULT
    else:
        return _FINE
    with suppress(OSError, AttributeError):  # standard error may be closed
        sys.stderr.write(f"Error: {message}\n")
        sys.stderr.flush()
    _leave(message)
    return code


def seal(variables: Sequence[str], environment: Mapping[bytes, bytes], folder: str) -> str:
    """Write the variables into the env file in `folder`; return the public ids of their tokens, one on a line.

    Raises:
        SealError: A variable is not a token that an env file can hold, or the file cannot be written.
    """
    tokens = {variable: _token(variable, environment) for variable in variables}
    _write(folder, "".join(f"{variable}='{token.reveal()}'\n" for variable, token in tokens.items()))
    ids = {variable: _public_id(token) for variable, token in tokens.items()}
    return "\n".join(f"{variable}: id {token_id}" for variable, token_id in ids.items() if token_id)


def check(variables: Sequence[str], environment: Mapping[bytes, bytes]) -> None:
    """Check that the kubelet has set the variables from the env file.

    Raises:
        SealError: A variable is empty, or not a token.
    """
    for variable in variables:
        if not environment.get(os.fsencode(variable)):
            raise SealError(
                f"{variable}: empty, so the kubelet of this node does not read env files; upgrade the node to "
                "Kubernetes 1.35 or newer, with the feature gate EnvFiles on, or do not seal this Pod"
            )
        _token(variable, environment)


def _token(variable: str, environment: Mapping[bytes, bytes]) -> Token:
    value = environment.get(os.fsencode(variable))
    if value is None:
        raise SealError(f"{variable}: not set in this container; set it from a key of a Secret")
    try:
        return parse_sealable_token(value)
    except TokenError as error:
        raise SealError(f"{variable}: {error}") from None


def _write(folder: str, content: str) -> None:
    """Write the env file in one step; `injector.files` would leave another file each time it is killed in between."""
    file = f"{folder}/{names.SEAL_FILE}"
    new = f"{file}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _MODE)
        with open(descriptor, "w", encoding="ascii") as opened:  # noqa: PTH123 - a descriptor
            opened.write(content)
        os.replace(new, file)  # noqa: PTH105 - pathlib is not imported
    except OSError as error:
        with suppress(OSError):
            os.unlink(new)  # noqa: PTH108 - as above
        text = f"cannot write {file}: {error_text(error)}; mount a writable volume with free space at {folder}"
        raise SealError(text) from None


def _public_id(token: Token) -> str | None:
    """Return the public id of a JWT that this project created; None for any other token."""
    parts = token.reveal().split(".")
    if len(parts) != _JWS_PARTS:
        return None
    # Opaque tokens do without these imports.
    import json  # noqa: PLC0415
    from binascii import a2b_base64  # noqa: PLC0415

    from injector.core.token_id import id_of  # noqa: PLC0415

    try:
        claims = json.loads(a2b_base64(parts[1].translate(_FROM_URLSAFE) + "=="))
    except (ValueError, RecursionError):
        return None
    return id_of(claims.get("jti")) if isinstance(claims, dict) else None


_JWS_PARTS: Final = 3
_FROM_URLSAFE: Final = str.maketrans("-_", "+/")


def _leave(message: str) -> None:
    """Write the termination message of this container, which `kubectl describe` shows; never creates the file."""
    with suppress(OSError):
        descriptor = os.open(TERMINATION_LOG, os.O_WRONLY | os.O_TRUNC)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            file.write(message)
