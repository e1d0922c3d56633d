"""Reads and validates the Policy, a YAML file; an error reports every invalid key with its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from injector.config.problems import explained
from injector.config.shapes import LABEL, text_that
from injector.core import names
from injector.core.errors import ConfigError, ConfigProblem
from injector.core.messages import redact
from injector.core.model import Conflict, Policy, SealMode
from injector.core.request import app_containers
from injector.core.secret_names import is_allowed, is_secret_key, is_secret_name
from injector.files import error_text
from injector.manifests import documents
from injector.manifests.errors import ManifestError
from injector.regular_files import read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from injector.manifests.documents import Document


def _mode(value: object) -> object:
    # `off` is false in YAML 1.1.
    return SealMode.OFF if value is False else value


_GLOB: Final = re.compile(r"[a-z0-9.*?\[\]!-]{1,253}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")
_CONTAINER_RULE: Final = "not a container name: lower-case letters, digits and '-', at most 63 characters"
# More than any registry needs; each is written into the record of every sealed Pod.
MAX_PULL_SECRETS: Final = 8

SecretName = Annotated[
    StrictStr,
    text_that(is_secret_name, "not a Secret name: lower-case letters, digits, '-' and '.', at most 253 characters"),
]
SecretGlob = Annotated[
    StrictStr,
    text_that(
        _GLOB.fullmatch, "not a pattern of Secret names: lower-case letters, digits, '-', '.', '*', '?' and [sets]"
    ),
]
SecretKey = Annotated[
    StrictStr,
    text_that(is_secret_key, "not a key of a Secret: letters, digits, '-', '_' and '.', at most 253 characters"),
]
Mode = Annotated[SealMode, BeforeValidator(_mode)]
Image = Annotated[
    StrictStr,
    text_that(
        _IMAGE.fullmatch, "not an image: letters, digits and '.', '_', '-', '/', ':', '@', at most 512 characters"
    ),
]
ContainerName = Annotated[StrictStr, text_that(LABEL.fullmatch, _CONTAINER_RULE)]
ContainerChoice = Annotated[StrictStr, text_that(lambda text: text == "*" or LABEL.fullmatch(text), _CONTAINER_RULE)]


class _PolicyModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False)


class DefaultKeys(_PolicyModel):
    """Default keys of the Secrets."""

    api: SecretKey = Field(names.DAPR_FIXED_KEY, description="Key of the API token.")
    app: SecretKey = Field(names.DAPR_FIXED_KEY, description="Key of the app token.")


class PolicyFile(_PolicyModel):
    """The policy of the cluster owner. Every key is optional."""

    default_secret: SecretName | None = Field(
        None, description="Default Secret of Pods in namespaces with inject-default; required by /mutate/default."
    )
    allowed_secrets: tuple[SecretGlob, ...] = Field(
        (), description="Patterns of the Secret names that Pods may use; an empty list allows all names."
    )
    default_keys: DefaultKeys = Field(DefaultKeys(), description="Keys of the Secrets for Pods that set none.")
    default_app_containers: tuple[ContainerChoice, ...] = Field(
        (), description="App containers that get the tokens by default: names, or '*' for all."
    )
    infrastructure_containers: tuple[ContainerName, ...] = Field(
        names.INFRASTRUCTURE_CONTAINERS, description="Containers that '*' does not include; replaces the built-in list."
    )
    conflict: Conflict = Field(Conflict.KEEP, description="How to handle a variable that a Pod already has.")
    shadow: StrictBool = Field(False, description="Decide and report only; patch and deny no Pods.")
    seal: Mode = Field(
        SealMode.ON_REQUEST,
        description="Which Pods are sealed: none, those with dapr-token-injector/seal, or all but those that decline.",
    )
    seal_image: Image | None = Field(
        None, description="Image of the two init containers of sealed Pods; without it, no Pod is sealed."
    )
    seal_image_pull_secrets: tuple[SecretName, ...] = Field(
        (), max_length=MAX_PULL_SECRETS, description="Image pull secrets that are added to sealed Pods."
    )
    allow_exemptions: StrictBool = Field(
        False, description="Whether the annotation dapr-token-injector/exempt exempts a Pod from findings of status."
    )

    @field_validator("allowed_secrets")
    @classmethod
    def _lets_the_default_pass(cls, patterns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        default = info.data.get("default_secret")
        if default is not None and not is_allowed(default, patterns):
            raise ValueError(f"does not allow defaultSecret '{default}'; add a pattern that matches it")
        return patterns

    def policy(self) -> Policy:
        """Return the Policy for the core."""
        return Policy(
            default_secret=self.default_secret,
            allowed_secrets=self.allowed_secrets,
            default_api_key=self.default_keys.api,
            default_app_key=self.default_keys.app,
            default_app_containers=app_containers(self.default_app_containers, from_pod=False),
            infrastructure_containers=frozenset(self.infrastructure_containers),
            conflict=self.conflict,
            shadow=self.shadow,
            seal=self.seal,
            seal_image=self.seal_image,
            seal_image_pull_secrets=tuple(dict.fromkeys(self.seal_image_pull_secrets)),
            allow_exemptions=self.allow_exemptions,
        )


# More than any list of names needs, so that a wrong path, such as a disk image, does not fill the memory.
MAX_POLICY_BYTES: Final = 1024 * 1024


def load_policy(path: Path) -> Policy:
    """Return the Policy in a YAML file.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or has invalid keys; it lists every problem with its line.
    """
    try:
        content = read_regular(path, MAX_POLICY_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError([ConfigProblem(str(path), f"cannot be read: {error_text(error)}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([ConfigProblem(str(path), "is not UTF-8 text")]) from None
    if len(content) > MAX_POLICY_BYTES:
        raise ConfigError([ConfigProblem(str(path), f"is larger than {MAX_POLICY_BYTES} bytes")])
    return parse_policy(text, str(path))


def parse_policy(text: str, source: str) -> Policy:
    """Return the Policy in YAML text; problems use the name `source`.

    Raises:
        ConfigError: It is not YAML, or has duplicate or invalid keys; it has every problem with its line.
    """
    try:
        found = list(documents.read(text, source))
    except ManifestError as error:
        problem = f"not valid YAML: {error.message.removeprefix('not YAML: ')}"
        raise ConfigError([ConfigProblem(f"{source}:{error.line}", problem)]) from None
    if len(found) > 1:
        raise ConfigError(
            [ConfigProblem(f"{source}:{found[1].line}", "the policy must be a single document; remove the second one")]
        )
    if not found or found[0].value is None:
        return PolicyFile().policy()
    document = found[0]
    try:
        return PolicyFile.model_validate(document.value).policy()
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError([_policy_problem(detail, document, source) for detail in details]) from None


def _policy_problem(detail: ErrorDetails, document: Document, source: str) -> ConfigProblem:
    if not detail["loc"]:
        return ConfigProblem(f"{source}:1", "must be a mapping of keys to values")
    line = document.position(detail["loc"]).line
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        model = DefaultKeys if len(detail["loc"]) > 1 else PolicyFile
        allowed = ", ".join(to_camel(name) for name in model.model_fields)
        return ConfigProblem(f"{source}:{line}", f"{key}: unknown key; known keys: {allowed}")
    value = detail["input"]
    prefix = f"{redact(value)} " if isinstance(value, str) else ""
    return ConfigProblem(f"{source}:{line}", f"{key}: {prefix}{explained(detail)}")


def policy_schema() -> dict[str, Any]:
    """Return the JSON schema of a policy file."""
    schema = PolicyFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
