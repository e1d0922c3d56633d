"""Rules about requests that the webhook, or Dapr, does not answer as their author expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.containers import RENAMED_WITHOUT_TOKEN, renamed_sidecars
from injector.core.request import COUNTS_AS_ABSENT, Enabled, blank_secrets, enabled
from injector.lint.location import label
from injector.lint.model import Hit, Level, Rule
from injector.lint.rules.examples import DAPR, FOR_WEB, SECRET, WEB, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.lint.template import TemplateOwner


def _blank(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        for name in blank_secrets(template.annotations) if enabled(template.annotations) is Enabled.TRUE else ():
            yield Hit(template.annotation(name), f"{name} {COUNTS_AS_ABSENT}: no token is requested")


BLANK_ANNOTATION: Final = Rule(
    id="DTI032",
    name="blank-annotation",
    level=Level.WARNING,
    summary="The annotation that names the Secret is blank.",
    why=(
        "A blank annotation counts as absent: the sidecar gets no token and serves without authentication. It often "
        "comes from a template whose value is not set."
    ),
    fix="Name the Secret, or remove the annotation.",
    bad=pod(DAPR, 'dapr.io/api-token-secret: " "', FOR_WEB),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_blank,
)


def _renamed(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        spec = template.pod.spec if template.pod is not None else None
        for place in renamed_sidecars(spec) if spec is not None else ():
            if place.env.api is None:
                yield Hit(
                    (*template.path, "spec", place.list_name, place.index, "name"),
                    f"container {label(place.container)}{RENAMED_WITHOUT_TOKEN}",
                )


_SIDECAR: Final = """\
- name: dapr
  image: daprio/daprd:1.18.4
  command: ["./daprd", "-app-id", "orders"]
"""

RENAMED_SIDECAR: Final = Rule(
    id="DTI033",
    name="renamed-sidecar",
    level=Level.ERROR,
    summary="A container runs daprd under another name, and has no token.",
    why=(
        "Dapr and this webhook recognize a sidecar by its name, `daprd`. A container that runs daprd under another "
        "name (recognized here by its image or command) gets no token and serves without authentication. It is not an "
        'app either: `dapr-token-injector/app-containers: "*"` leaves it out.'
    ),
    fix="Name the container `daprd`, or let Dapr's injector add the sidecar.",
    bad=pod(DAPR, SECRET, FOR_WEB, containers=_SIDECAR + WEB),
    good=pod(DAPR, SECRET, FOR_WEB, containers=_SIDECAR.replace("name: dapr\n", "name: daprd\n") + WEB),
    workload=_renamed,
)


def _keyless(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        for variable, ref in template.from_dapr:
            if ref.key == ref.name and f"{ref.name}:" not in (template.annotations.dapr_env_from_secret or ""):
                yield Hit(
                    template.annotation(names.DAPR_ENV_FROM_SECRET),
                    f"no key is given: Dapr takes key {label(ref.key)} of Secret {label(ref.name)} for {variable}",
                )


ENV_FROM_SECRET_WITHOUT_KEY: Final = Rule(
    id="DTI034",
    name="env-from-secret-without-key",
    level=Level.INFO,
    summary="dapr.io/env-from-secret names a Secret for a token, and no key.",
    why=(
        "Dapr then takes the key that is named like the Secret. Secrets of Dapr's other annotations have the key "
        "`token`: without the other key the sidecar waits in `CreateContainerConfigError`."
    ),
    fix=(
        "Write the key, `NAME=secret:key`. Better, use `dapr.io/api-token-secret` or `dapr.io/app-token-secret`: this "
        "webhook gives the token to app containers only with them."
    ),
    bad=pod(DAPR, SECRET, FOR_WEB, "dapr.io/env-from-secret: APP_API_TOKEN=app-token"),
    good=pod(DAPR, SECRET, FOR_WEB, "dapr.io/env-from-secret: APP_API_TOKEN=app-token:token"),
    workload=_keyless,
)

RULES: Final = (BLANK_ANNOTATION, RENAMED_SIDECAR, ENV_FROM_SECRET_WITHOUT_KEY)
