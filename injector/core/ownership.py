"""Which tool manages a Secret, and when its data last changed: determined from its metadata, never from a value.

Two writers of one Secret would overwrite each other again and again, so a Secret that another tool manages is not
modified. `MARKS` lists the labels and annotations that each tool sets on the Secrets it writes; one match is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """Namespace and name of a Secret."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class SecretKey:
    """One key of the data of a Secret."""

    namespace: str
    name: str
    key: str

    @classmethod
    def of(cls, secret: SecretRef, key: str) -> SecretKey:
        """The key of a Secret."""
        return cls(secret.namespace, secret.name, key)

    @property
    def secret(self) -> SecretRef:
        """The Secret."""
        return SecretRef(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} key {self.key}"


@dataclass(frozen=True, slots=True)
class DataWriter:
    """A field manager, the keys under `data` that it owns, and when it last changed anything (seconds since 1970)."""

    manager: str
    time: int | None
    keys: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSecret:
    """A Secret without its values. `owners` are its ownerReferences as `Kind/name`."""

    ref: SecretRef
    keys: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    writers: tuple[DataWriter, ...] = ()
    immutable: bool = False
    created: int | None = None  # seconds since 1970

    @property
    def token_id(self) -> str | None:
        """The id of the token in it, if we wrote it."""
        return self.annotations.get(names.TOKEN_ID)

    def writers_of(self, key: str) -> tuple[DataWriter, ...]:
        """The field managers that own a key."""
        return tuple(writer for writer in self.writers if key in writer.keys)

    def changed(self, key: str) -> int | None:
        """The time of the last change of a key, in seconds since 1970. The real change may be earlier, never later.

        None if it is unknown: managed fields can be stripped.
        """
        times = [writer.time for writer in self.writers_of(key)]
        return max((time for time in times if time is not None), default=None) if all(times) else None


def may_have(secret: TokenSecret | None, key: str) -> bool:
    """Whether a Secret may have a key; metadata shows the keys only if it has managed fields."""
    if secret is None:
        return False
    keys = secret.keys.union(*(writer.keys for writer in secret.writers))
    return not keys or key in keys


@dataclass(frozen=True, slots=True)
class SecretManager:
    """The tool that manages a Secret, and the sign that shows it."""

    name: str
    sign: str


@dataclass(frozen=True, slots=True)
class _Mark:
    """A label or annotation of a tool: the beginning of its key and, if `value` is given, its value."""

    owner: str
    key: str
    value: str = ""


# Marks of Secrets that a tool writes. Marks of the Secrets that a tool copies *from* do not belong here.
MARKS: Final = (
    _Mark("External Secrets Operator", "reconcile.external-secrets.io/"),
    _Mark("Vault Secrets Operator", "secrets.hashicorp.com/"),
    _Mark("Vault Secrets Operator", names.MANAGED_BY, "hashicorp-vso"),
    _Mark("Sealed Secrets", "sealedsecrets.bitnami.com/"),
    _Mark("the Secrets Store CSI driver", "secrets-store.csi.k8s.io/managed"),
    _Mark("Reflector", "reflector.v1.k8s.emberstack.com/reflects"),
    _Mark("Replicator", "replicator.v1.mittwald.de/replicate-from"),
    _Mark("Replicator", "replicator.v1.mittwald.de/replicated-"),
    _Mark("secret-generator", "secret-generator.v1.mittwald.de/"),
    _Mark("config-syncer", "kubed.appscode.com/origin"),
    _Mark("cert-manager", "cert-manager.io/certificate-name"),
    _Mark("Helm", names.MANAGED_BY, "Helm"),
    _Mark("Helm", "meta.helm.sh/"),
    _Mark("Argo CD", "argocd.argoproj.io/"),
    _Mark("Argo CD", "app.kubernetes.io/instance"),
    _Mark("Flux", "kustomize.toolkit.fluxcd.io/"),
    _Mark("Flux", "helm.toolkit.fluxcd.io/"),
)


def managed_by(secret: TokenSecret, key: str) -> SecretManager | None:
    """The other tool that manages a key of a Secret; None if the key is ours.

    Other keys may have any manager, because it does not change ours. Tools that write a whole Secret, or that restore a
    changed key, are recognized by their marks, whichever fields they own at the moment.
    """
    if secret.owners:
        return SecretManager(secret.owners[0], "it is in ownerReferences")
    marked = _marked(secret)
    if marked is not None:
        return marked
    others = sorted({writer.manager for writer in secret.writers_of(key)} - {names.MANAGER})
    if secret.labels.get(names.MANAGED_BY) != names.MANAGER:
        return SecretManager(
            others[0] if others else "another tool", f"it has no label {names.MANAGED_BY}={names.MANAGER}"
        )
    if others:
        return SecretManager(others[0], f"this field manager wrote the key {key}")
    return None


def _marked(secret: TokenSecret) -> SecretManager | None:
    for kind, entries in (("label", secret.labels), ("annotation", secret.annotations)):
        for key, value in sorted(entries.items()):
            for mark in MARKS:
                if key.startswith(mark.key) and mark.value in {"", value}:
                    return SecretManager(mark.owner, f"it has the {kind} {key}")
    return None
