"""The page of each reason, currency and finding: what it means, how it is determined, its limits, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.cli.status.meanings import (
    CURRENCY_MEANINGS,
    FINDING_MEANINGS,
    FINDING_METHODS,
    PROTECTION_MEANINGS,
    REASON_MEANINGS,
)
from injector.core.assessment import (
    CURRENCY_SEVERITIES,
    PROTECTIONS,
    SEVERITIES,
    Currency,
    PodFinding,
    ProtectionReason,
    Severity,
)
from injector.words import folded

if TYPE_CHECKING:
    from collections.abc import Mapping

Word = ProtectionReason | Currency | PodFinding
WORDS: Final[Mapping[str, Word]] = {
    word.value: word for kind in (ProtectionReason, Currency, PodFinding) for word in kind
}


@dataclass(frozen=True, slots=True)
class _Texts:
    """What the tables of docs/reference/status.md do not have."""

    meaning: str  # what follows from it
    limits: str  # what cannot be seen
    fix: str


_RESTART: Final = "`kubectl rollout restart KIND/NAME --namespace NAMESPACE`"
_EMPTY_SECRET: Final = (
    "A Secret's value is never read. If it is empty, the sidecar is open although a reference exists: only "
    "`dapr-token-injector probe KIND/NAME` calls it."
)
_NOTHING: Final = "Nothing needs to be done."
_BY_START: Final = (
    "The rules compare when each container started with when the Secret's data changed, which its managed fields show. "
    "A tool that removes managed fields hides the change, and a process that reads the token from a file or replaces "
    "its environment is not seen."
)

_TEXTS: Final[Mapping[Word, _Texts]] = {
    ProtectionReason.NO_DAPR: _Texts(
        "The Pod does not use Dapr, so there is nothing to protect. `status` does not list it.",
        "A sidecar with another name, image and program, or one that a shell starts, looks like any other container.",
        _NOTHING,
    ),
    ProtectionReason.ENDED: _Texts(
        "Its containers do not run, so its sidecar serves no caller. Only `--all` lists it.",
        "What the Pod had while it ran is not assessed any more.",
        _NOTHING,
    ),
    ProtectionReason.ENDING: _Texts(
        "The sidecar serves until the Pod has ended, for at most its grace period. Only `--all` lists it.",
        "Whether the sidecar is open during that time is not assessed. A Pod whose node is gone may end late.",
        "If it does not end, see why: `kubectl describe pod NAME --namespace NAMESPACE`.",
    ),
    ProtectionReason.ANNOTATION: _Texts(
        "A user decided that this Pod may be open, and wrote down why. It is counted, but is not a finding. "
        "Every user who can annotate the Pod can write this.",
        "Whether its sidecar demands a token is not assessed.",
        "Read the reason: `kubectl get pod NAME --namespace NAMESPACE -o yaml`. If it is no longer true, remove the "
        "annotation `dapr-token-injector/exempt` from the Pod template.",
    ),
    ProtectionReason.NAMESPACE: _Texts(
        "The owner of the namespace decided that its Pods may be open. The guard does not act there, either.",
        "Whether the sidecars in it demand a token is not assessed.",
        "To end the exemption: `kubectl label namespace NAMESPACE dapr-token-injector/guard-`.",
    ),
    ProtectionReason.NOT_INJECTED: _Texts(
        "Every client that reaches the sidecar can call it. The Pod was created while the webhook was not registered, "
        "did not answer under `failurePolicy: Ignore`, was in shadow mode, or did not select the namespace.",
        "Which of these it was cannot be seen afterwards. The API server counts calls that failed open in "
        "`apiserver_admission_webhook_fail_open_count`.",
        f"Check that the webhook works now, with `dapr-token-injector check`. Then replace the Pods: {_RESTART}.",
    ),
    ProtectionReason.NO_VARIABLE: _Texts(
        "Every client that reaches the sidecar can call it: `daprd` demands a token only if `DAPR_API_TOKEN` has one.",
        "A command that sets the variable before it starts `daprd` is not seen.",
        "Create a token with `dapr-token-injector secret create NAMESPACE/dapr-api-token`, then set "
        "`dapr.io/api-token-secret: dapr-api-token` in the annotations of the Pod template. For all apps of a "
        "namespace, see [Roll out to many apps](../../how-to/roll-out-to-many-apps.md).",
    ),
    ProtectionReason.EMPTY_VALUE: _Texts(
        "`daprd` treats an empty `DAPR_API_TOKEN` as none, so every client that reaches the sidecar can call it. The "
        "webhook keeps a variable that a Pod already has, unless the Policy has `conflict: replace`.",
        "A command that changes the variable before it starts `daprd` is not seen.",
        "Remove the entry from the Pod template or from the annotation `dapr.io/env`: `kubectl set env KIND/NAME "
        "--namespace NAMESPACE --containers daprd DAPR_API_TOKEN-`.",
    ),
    ProtectionReason.OPTIONAL_REFERENCE: _Texts(
        "While the Secret or key does not exist, the kubelet starts the sidecar without the variable, and every "
        "client that reaches it can call it, until it is restarted.",
        "Whether the Secret existed when the container started is not assessed: the Pod counts as open in any case.",
        "Remove the entry, so that the webhook writes it, or its `optional: true`: `kubectl edit KIND/NAME --namespace "
        "NAMESPACE`.",
    ),
    ProtectionReason.MAY_EXPAND_TO_EMPTY: _Texts(
        "The kubelet may compute an empty value, and `daprd` then demands no token.",
        "What the kubelet computed is not shown in the Pod. It counts as open even if it was not empty.",
        "Let the variable reference a Secret, or remove it, so that the webhook writes it: `kubectl edit KIND/NAME "
        "--namespace NAMESPACE`.",
    ),
    ProtectionReason.NO_SECRET: _Texts(
        "The container does not start, so it serves no caller and the app is not available. It starts by itself a few "
        "seconds after the Secret exists.",
        "Without the right to list Secrets, only the kubelet's message shows it, and only after the Pod is scheduled.",
        "`dapr-token-injector secret create NAMESPACE/NAME`. If another tool writes the Secret, look there.",
    ),
    ProtectionReason.NO_KEY: _Texts(
        "The container does not start, so it serves no caller and the app is not available. It starts by itself a few "
        "seconds after the key exists.",
        "Without the right to list Secrets, only the kubelet's message shows it, and only after the Pod is scheduled.",
        "Compare the keys, `kubectl describe secret NAME --namespace NAMESPACE`, with the annotation "
        "`dapr-token-injector/api-token-key` of the Pod, and correct one of them.",
    ),
    ProtectionReason.BAD_TOKEN_VALUE: _Texts(
        "No container of the Pod starts, so it serves no caller and the app is not available. The kubelet runs the "
        "container again until it succeeds; with `restartPolicy: Never` the Pod fails instead.",
        "The value is never read, and the message of the container is not shown, because its image may write anything. "
        "Other exit codes mean that the container could not run, which `kubectl describe` shows, too: they are not "
        "reported here.",
        "Read what is wrong under `Last State` or `State` of the container: `kubectl describe pod NAME --namespace "
        "NAMESPACE`. It is one sentence without a part of the value. Then correct the Secret: `dapr-token-injector "
        "secret rotate NAMESPACE/NAME`, or with the tool that manages it.",
    ),
    ProtectionReason.KUBELET_WITHOUT_ENV_FILES: _Texts(
        "No container of the Pod starts: its sidecar would be open. The kubelet is older than Kubernetes 1.35, or its "
        "feature gate `EnvFiles` is off.",
        "Only the exit code of the container shows it. A check container that finds a value that is not a token ends "
        "with the same code; its message says so.",
        "Upgrade the node, or let the Pod run on another one: `dapr-token-injector check --only env-file-nodes` lists "
        'the nodes. Until then, do not seal it: set `dapr-token-injector/seal: "false"` on the Pod template.',
    ),
    ProtectionReason.MALFORMED: _Texts(
        "The answer of the API server does not have the shape that Kubernetes documents, so nothing is concluded.",
        "Nothing of the Pod is known but its name.",
        "Read it with `kubectl get pod NAME --namespace NAMESPACE -o yaml`, and report it.",
    ),
    ProtectionReason.ENV_FROM: _Texts(
        "The sidecar has the token only if the ConfigMap or Secret contains it under the name of the variable. Without "
        "it, every client that reaches the sidecar can call it.",
        "The keys of a ConfigMap are not read, and those of a Secret only from its managed fields.",
        "Write `DAPR_API_TOKEN` as an entry of `env` that references a Secret, or annotate the Pod template. Until "
        "then, `dapr-token-injector probe KIND/NAME` shows it.",
    ),
    ProtectionReason.DAPR_SHARED: _Texts(
        "Dapr Shared serves several apps, and listens for other Pods. Its chart creates the Secret with an empty "
        "token, so the reference looks complete while every client in the cluster can call it.",
        _EMPTY_SECRET,
        "Set `shared.daprd.token` in the values of the chart `dapr-shared`, then prove it: `dapr-token-injector probe "
        "KIND/NAME`.",
    ),
    ProtectionReason.LITERAL: _Texts(
        "The sidecar demands a token, but every user who can read the Pod or its template can see it, and it is not "
        "rotated with the Secret.",
        "The value is never read, so an invalid literal is not seen.",
        "Move it into a Secret: annotate the Pod template with `dapr.io/api-token-secret`, and remove the entry.",
    ),
    ProtectionReason.OTHER_REFERENCE: _Texts(
        "The sidecar demands another token than the annotations request, so apps that get the requested one are "
        "refused. The webhook keeps what a Pod already has, unless the Policy has `conflict: replace`.",
        "The value is never read; that of a ConfigMap or a field may be empty.",
        "Remove the entry, or correct the annotation: `kubectl edit KIND/NAME --namespace NAMESPACE`.",
    ),
    ProtectionReason.NOT_ADDED: _Texts(
        "The app has no sidecar, so its calls to Dapr fail. Dapr's injector did not answer when the Pod was created, "
        "or does not serve the user who created it (https://github.com/dapr/dapr/issues/4270).",
        "Whether the app needs the sidecar is not known.",
        f"Check Dapr's injector, with `dapr-token-injector check`. Then replace the Pods: {_RESTART}.",
    ),
    ProtectionReason.REFERENCE: _Texts(
        "The kubelet starts the sidecar only with the value of that key, and `daprd` demands it from every caller.",
        _EMPTY_SECRET + " A command that changes the variable before it starts `daprd` is not seen, either.",
        _NOTHING,
    ),
    ProtectionReason.SEALED: _Texts(
        "The container `dapr-token-injector-seal` has read the token once, when the Pod started, and written it into a "
        "file in memory. The kubelet sets the variable from that file, so a restart of one container never gives it "
        "another value than its neighbours have: a sealed Pod is never `skewed`. "
        "`dapr-token-injector-seal-check` has shown that the kubelet reads the file.",
        "If the feature is switched off on the kubelet of a running Pod, a sidecar that restarts in place has an empty "
        "variable, and is open. The image of the two containers is not compared: users who can choose it decide what "
        "is in the file.",
        _NOTHING,
    ),
    Currency.CURRENT: _Texts(
        "Sidecar and apps have the same, current token.",
        _BY_START,
        _NOTHING,
    ),
    Currency.SKEWED: _Texts(
        "A container restarted in place after the Secret changed, and has the new value, while its neighbour has the "
        "previous one. The app's calls get 401 until the Pod is replaced, and no probe of Kubernetes shows it.",
        _BY_START,
        f"Replace the Pods: {_RESTART}. To restart all workloads of a Secret in order: `dapr-token-injector secret "
        "rotate NAMESPACE/NAME --restart --resume`.",
    ),
    Currency.OUTDATED: _Texts(
        "All containers have the previous token, so calls inside the Pod work. Clients with the previous token can "
        "still call this sidecar, and the next restart of one container makes the Pod `skewed`.",
        _BY_START,
        "Restart all workloads of the Secret in order: `dapr-token-injector secret rotate NAMESPACE/NAME --restart "
        "--resume`.",
    ),
    Currency.UNCERTAIN: _Texts(
        "The container started so close to the change that clocks and the kubelet's cache decide which value it has.",
        _BY_START + " The tolerances are in decision 0010.",
        f"If calls are refused, or to be sure, replace the Pods: {_RESTART}.",
    ),
    Currency.UNKNOWN: _Texts(
        "Nothing says when the Secret changed, so its readers may have any value. It is not a finding by itself; "
        "with `--fail-on outdated` the exit code is 2.",
        "The ClusterRole `view` does not include Secrets.",
        "Request `list` on Secrets; only their metadata is read. If the Secret has no managed fields, restart its "
        "readers after each change.",
    ),
    PodFinding.RENAMED_SIDECAR: _Texts(
        "The webhook gives the variable only to containers named `daprd`, so that it never changes another container. "
        "A renamed sidecar has a token only if its template has one.",
        "A sidecar with another name, image and program, or one that a shell starts, is not seen.",
        "Name the container `daprd`, or write its `DAPR_API_TOKEN` with a `secretKeyRef`: `kubectl edit KIND/NAME "
        "--namespace NAMESPACE`.",
    ),
    PodFinding.EXPOSED: _Texts(
        "Other Pods can call this API, so the token must be given to all of these callers, and without a token the "
        "whole network can call it.",
        "Network policies and service meshes, which may keep callers away, are not read.",
        'Set `dapr.io/sidecar-listen-addresses: "[::1],127.0.0.1"` in the annotations of the Pod template, or '
        "restrict the callers by a NetworkPolicy.",
    ),
    PodFinding.APP_WITHOUT_TOKEN: _Texts(
        "The sidecar demands a token that the app does not have: its calls get 401.",
        "An app that reads the token from a file, or that never calls the sidecar, is reported, too. "
        "If the Policy cannot be read, the default one is applied.",
        f"Replace the Pods: {_RESTART}. The webhook then gives the app the variable "
        "([Call with the token](../../how-to/call-with-the-token.md)).",
    ),
    PodFinding.PARTLY_SEALED: _Texts(
        "The containers of the Pod can have different values of the same token. If one restarts in place after the "
        "Secret changed, it has the new value while its neighbours keep the one in the file: the Pod is then `skewed`. "
        "If the container that is named is one of the two that seal, the seal does not count, and every variable that "
        "reads the file may be empty.",
        "Containers that read the Secret through the API, or that get the token from a file of another tool, are not "
        "seen.",
        "Compare the Pod with the table of "
        "[decision 0035](../../decisions/0035-sealed-pods.md): `kubectl get pod NAME --namespace NAMESPACE -o yaml`. "
        "Remove other references to the key from the Pod template, then replace the Pods: " + _RESTART + ".",
    ),
    PodFinding.DAPRD_ADVISORY: _Texts(
        "A published advisory says that this version of `daprd` does not check the token everywhere, or gives it away: "
        "https://pkg.go.dev/vuln/.",
        "Advisories that were published after this program, and images under other version numbers, are not seen.",
        "Update Dapr, then replace the Pods: a sidecar keeps its version until then. `dapr-token-injector check` names "
        "the version that fixes it.",
    ),
}


def page(word: Word) -> str:
    """Return the page of a word in Markdown."""
    kind, summary, how = _described(word)
    texts = _TEXTS[word]
    return f"""\
# {word.value}

{folded(f"**{kind}**: {summary}.")}

## What it means

{folded(texts.meaning)}

## How it is determined

{folded(how)}

## What cannot be seen

{folded(texts.limits)}

## What to do

{folded(texts.fix)}
"""


def _described(word: Word) -> tuple[str, str, str]:
    """Return what kind of word it is, its meaning, and how it is determined."""
    if isinstance(word, ProtectionReason):
        protection = PROTECTIONS[word]
        kind = f"reason for `{protection.value}`, severity `{SEVERITIES[protection].value}`"
        return kind, PROTECTION_MEANINGS[protection], _sentence(REASON_MEANINGS[word])
    if isinstance(word, Currency):
        meaning = _sentence(CURRENCY_MEANINGS[word]).removesuffix(".")
        how = (
            "From the metadata of the Secret and the start of each container, for each key that the Pod reads as a "
            "token. A kubelet restarts containers one by one, so each counts on its own."
        )
        return f"currency, severity `{CURRENCY_SEVERITIES[word].value}`", meaning, how
    meaning = _sentence(FINDING_MEANINGS[word]).removesuffix(".")
    return f"finding, severity `{Severity.WARNING.value}`", meaning, _sentence(FINDING_METHODS[word])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
