"""Rules about a sidecar and the containers next to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.containers import Target
from injector.core.model import AppContainers
from injector.core.request import Enabled, enabled
from injector.lint.location import label
from injector.lint.model import Hit, Level, Rule
from injector.lint.rules.examples import DAPR, DAPRD, FOR_WEB, SECRET, WEB, pod, reference, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.containers import Place
    from injector.core.plan import Change
    from injector.lint.location import Path
    from injector.lint.template import ContainerView, TemplateOwner, TemplateView

_EVERY: Final = AppContainers(every=True, from_pod=False)


def _path(template: TemplateView, place: Place) -> Path:
    return (*template.path, "spec", place.list_name, place.index)


def _without_token(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        if _has_chosen(template):
            continue
        views = {container.path: container for container in template.containers}
        # The changes of `*` are the variables that these containers lack.
        for change in _missing(template):
            keys = views[_path(template, change.place)].env_from_keys(names.API_TOKEN_ENV)
            if not template.token_names.isdisjoint(keys):
                continue
            first = f"use {names.API_TOKEN_SECRET} and " if _is_set_by_dapr(template) else ""
            yield Hit(
                _path(template, change.place),
                f"container {label(change.place.container)} has no {names.API_TOKEN_ENV}, which its sidecar will "
                f"demand; {first}name it in {names.APP_CONTAINERS}",
                unless=keys,
            )


def _is_set_by_dapr(template: TemplateView) -> bool:
    """Whether Dapr alone sets the API token, with dapr.io/env-from-secret: the webhook gives it to no container."""
    requested = template.request.wanted if template.request is not None else ()
    return names.API_TOKEN_ENV in dict(template.from_dapr) and names.API_TOKEN_ENV not in dict(requested)


def _has_chosen(template: TemplateView) -> bool:
    """Whether the annotation or the policy names the containers that get the token, even none."""
    chosen = template.annotations.app_containers
    if _is_set_by_dapr(template):
        return chosen is not None and not chosen.strip()
    by_policy = template.request is not None and template.request.app_containers
    return chosen is not None or bool(by_policy and (by_policy.every or by_policy.names))


def _missing(template: TemplateView) -> Iterator[Change]:
    if enabled(template.annotations) is not Enabled.TRUE:
        return
    plan = template.planned(_EVERY)
    for change in plan.changes if plan is not None else ():
        if change.place.target is Target.APP and change.variable == names.API_TOKEN_ENV and change.replaces is None:
            yield change


APP_WITHOUT_TOKEN: Final = Rule(
    id="DTI012",
    name="app-without-token",
    level=Level.WARNING,
    summary="An app container does not get the token that its sidecar requires.",
    why=(
        "Once `daprd` has a token it refuses every call without it. Dapr's SDKs read `DAPR_API_TOKEN` in the "
        "app's own container; no tool sets it there unless requested. Infrastructure containers such as "
        "`istio-proxy`, and init containers that end before the sidecar serves, are not meant."
    ),
    fix=(
        "Name the containers in `dapr-token-injector/app-containers`. If they never call Dapr, say so with an "
        'empty value: `dapr-token-injector/app-containers: ""`.'
    ),
    bad=pod(DAPR, SECRET),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_without_token,
)


def _open_sidecar(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        if _is_given_token(template):
            continue
        for container in template.containers:
            if container.is_sidecar and container.env.get(names.API_TOKEN_ENV) is None and not _from_secret(container):
                yield Hit(
                    container.path,
                    f"{names.SIDECAR} has no {names.API_TOKEN_ENV}, so its API is open; request a token with "
                    f"{names.API_TOKEN_SECRET}",
                )


def _is_given_token(template: TemplateView) -> bool:
    """Whether the webhook sets the token, or denies the Pod, or would do so if DTI002 were fixed."""
    uses_dapr = enabled(template.annotations)
    if (template.annotations.api_token_secret or "").strip():
        return uses_dapr is not Enabled.FALSE
    return uses_dapr is Enabled.TRUE and template.policy.default_secret is not None


def _from_secret(container: ContainerView) -> bool:
    """Whether an `envFrom` may set the variable: only the Secret's keys decide."""
    return any(names.API_TOKEN_ENV.startswith(source.prefix) for source in container.env_from)


SIDECAR_WITHOUT_TOKEN: Final = Rule(
    id="DTI017",
    name="sidecar-without-token",
    level=Level.ERROR,
    summary="A hand-written sidecar has no token.",
    why=(
        "Without `DAPR_API_TOKEN`, `daprd` accepts every call without authentication. The webhook adds the token only "
        "to Pods that request it, and the guard denies the others when they are created. A container named `daprd` is "
        "checked in both lists, with and without annotations of Dapr. It is not reported if `--policy-file` names a "
        "policy with a `defaultSecret` and the Pod uses Dapr, because the webhook adds that Secret in namespaces with "
        "the label `dapr-token-injector/inject-default`, or if an `envFrom` may set the variable. A sidecar that Dapr "
        "adds is in no manifest and is not reported."
    ),
    fix=(
        'Add `dapr.io/api-token-secret`, and `dapr.io/enabled: "true"` if it is missing, to the Pod template, or write '
        "the variable with a `secretKeyRef`."
    ),
    bad=pod(DAPR, containers=f"{WEB}{DAPRD}"),
    good=pod(DAPR, SECRET, FOR_WEB, containers=f"{WEB}{DAPRD}"),
    workload=_open_sidecar,
)


def _with_other_token(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        plan = template.planned(_EVERY)
        for kept in plan.kept if plan is not None else ():
            entry = kept.place.env.get(kept.variable)
            if kept.place.target is Target.APP and entry is not None and entry.secret is not None:
                where = f"{kept.variable} of container {label(kept.place.container)}"
                yield Hit(
                    (*_path(template, kept.place), "env", entry.index),
                    f"{where} is another reference than its sidecar's",
                )


APP_WITH_OTHER_TOKEN: Final = Rule(
    id="DTI013",
    name="app-with-other-token",
    level=Level.ERROR,
    summary="An app container has a different token than its sidecar.",
    why=(
        "`daprd` compares the token that it has with the one that the app sends. From two Secrets, or two keys, come "
        "two tokens: every call ends in 401."
    ),
    fix=(
        "Use the same Secret and key in both, or remove the variable and name the container in "
        "`dapr-token-injector/app-containers`."
    ),
    bad=pod(DAPR, SECRET, containers=variable(reference("orders-token"), container="web", image="example/orders")),
    good=pod(DAPR, SECRET, containers=variable(reference(), container="web", image="example/orders")),
    workload=_with_other_token,
)


def _under_watchdog(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        sidecars = [container for container in template.containers if container.is_sidecar]
        if enabled(template.annotations) is not Enabled.TRUE or not all(found.is_init for found in sidecars):
            continue
        if not _SPARED.isdisjoint(template.labels):
            continue
        for sidecar in sidecars:
            yield Hit(
                sidecar.path,
                f"Dapr's watchdog and injector look for {names.SIDECAR} under containers and not under initContainers: "
                "where the watchdog runs, it deletes the Pod again and again",
            )


# The watchdog lists only Pods that have neither: pkg/operator/watchdog.go, getSideCarInjectedNotExistsSelector.
_SPARED: Final = frozenset({"dapr.io/sidecar-injected", "dapr.io/watchdog-patched"})

_NATIVE: Final = variable(reference()).replace("  env:", "  restartPolicy: Always\n  env:")

NATIVE_SIDECAR_UNDER_WATCHDOG: Final = Rule(
    id="DTI015",
    name="native-sidecar-under-watchdog",
    level=Level.WARNING,
    summary="A hand-written native sidecar that Dapr's watchdog does not see.",
    why=(
        "Dapr's operator can watch for Pods that missed their sidecar (`dapr_operator.watchInterval`, off by "
        "default). In every round, and only while Dapr's injector is ready, it lists the Pods that have neither "
        "of the labels `dapr.io/sidecar-injected` and `dapr.io/watchdog-patched`, and deletes those with a true "
        "`dapr.io/enabled` that have no container named `daprd` under `containers`. It never looks under "
        "`initContainers`, so a native sidecar there does not count: the Pod is deleted, created again by its "
        "controller, and deleted again; a Pod without a controller is gone. Dapr's injector looks in the same "
        "place only: where it serves the Pod it adds a second `daprd`, and the API server refuses two containers "
        "of one name."
    ),
    fix=(
        "Keep Dapr's injector away from the Pod (its `namespaceSelector` or `objectSelector`) and add the label "
        '`dapr.io/watchdog-patched: "true"` to the Pod template, which the watchdog takes for "has a sidecar". Or '
        "move `daprd` to `containers`, or let Dapr's injector add it."
    ),
    bad=pod(DAPR, SECRET, FOR_WEB, init_containers=_NATIVE),
    good=pod(DAPR, SECRET, FOR_WEB, init_containers=_NATIVE).replace(
        "  name: orders\n", '  name: orders\n  labels:\n    dapr.io/watchdog-patched: "true"\n'
    ),
    workload=_under_watchdog,
)

RULES: Final = (APP_WITHOUT_TOKEN, SIDECAR_WITHOUT_TOKEN, APP_WITH_OTHER_TOKEN, NATIVE_SIDECAR_UNDER_WATCHDOG)
