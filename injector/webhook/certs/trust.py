"""Which of the injector's entries trust a CA, according to the copies of the webhook configurations.

With two groups of replicas, each entry calls the Service of one group. A replica depends on the entries of its own
Service; the rotation of the CA, which all replicas share, depends on every entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.core import names
from injector.webhook.certs import registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from injector.kube.resources import Object
    from injector.kube.watch import ObjectWatch
    from injector.webhook.certs.authority import Anchor
    from injector.webhook.certs.objects import OwnObjects
    from injector.webhook.certs.registration import Registration, WebhookEntry


class Trust:
    """Reads the copies; the result for an unchanged object is reused."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are those of the replica's certificate: the DNS names of its Services."""
        self._names = tuple(names)
        self._read: dict[str, tuple[Object, Registration]] = {}

    def registration(self, copy: ObjectWatch, configuration: Object) -> Registration:
        """Return the registration in a configuration, of which `copy` is the copy."""
        known = self._read.get(copy.what)
        if known is None or known[0] is not configuration:
            known = self._read[copy.what] = (configuration, registration.read(configuration))
        return known[1]

    def anchors(self, objects: OwnObjects) -> Iterator[Anchor]:
        """Yield the CAs of the injector in every bundle."""
        for entry in self._entries(objects.configurations):
            yield from entry.anchors

    def is_published(self, objects: OwnObjects, anchor: Anchor) -> bool:
        """Whether every entry of every configuration trusts a CA; at least one mutating entry must exist.

        A configuration that does not exist is not waited for: no API server uses it. If it is created again, replicas
        write all trusted CAs into it. But a configuration that cannot be read may exist.
        """
        return all(copy.known for copy in objects.configurations) and self._do_trust(objects, anchor, lambda _: True)

    def is_trusted(self, objects: OwnObjects, anchor: Anchor) -> bool:
        """Whether all entries that call this replica trust a CA; at least one of them must be mutating.

        A configuration that cannot be read does not count: that of the other group must not keep this one from serving.
        """
        is_read = all(copy.known or copy.problem for copy in objects.configurations)
        return is_read and self._do_trust(objects, anchor, self._is_own)

    def problems(self, objects: OwnObjects, copy: ObjectWatch, issuer: Anchor | None) -> tuple[str, str]:
        """Return why a configuration is not usable, and that it does not trust the leaf; each may be empty."""
        problem, seen = str(copy.problem or ""), None
        if copy.object is not None:
            seen = self.registration(copy, copy.object)
        if not problem and copy.known and copy in objects.mutating:  # the validating one is optional
            if seen is None:
                problem = f"{copy.what} does not exist"
            elif not seen.entries:
                problem = f"{copy.what} has no entry with a name *{names.ENTRY_SUFFIX}"
        if issuer is None or seen is None or seen.trusts(issuer):
            return problem, ""
        return problem, f"the caBundle of {copy.what} does not trust the active certificate"

    def missing_entry(self, objects: OwnObjects) -> str:
        """Return the problem that all mutating entries call other Services; empty if there is none."""
        entries = self._entries(objects.mutating)
        if not entries or any(map(self._is_own, entries)):
            return ""
        return f"no entry of {', '.join(copy.what for copy in objects.mutating)} calls {self._names[0]}"

    def _entries(self, copies: Iterable[ObjectWatch]) -> list[WebhookEntry]:
        found = [self.registration(copy, copy.object) for copy in copies if copy.object is not None]
        return [entry for each in found for entry in each.entries]

    def _is_own(self, entry: WebhookEntry) -> bool:
        return not entry.service or entry.service in self._names

    def _do_trust(self, objects: OwnObjects, anchor: Anchor, is_meant: Callable[[WebhookEntry], bool]) -> bool:
        return any(map(is_meant, self._entries(objects.mutating))) and all(
            entry.trusts(anchor) for entry in self._entries(objects.configurations) if is_meant(entry)
        )
