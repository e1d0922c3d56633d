"""A text through `inject` and `uninject`, as the commands take it."""

from __future__ import annotations

import subprocess
import textwrap
from typing import TYPE_CHECKING

from injector.core.model import Policy
from injector.manifests import injecting, uninjecting
from injector.manifests.chunks import split
from injector.manifests.documents import documents
from injector.manifests.layout import apply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from injector.manifests.chunks import Chunk
    from injector.manifests.documents import Document
    from injector.manifests.nodes import Json

HEAD = """\
apiVersion: v1
kind: Pod
metadata:
  name: x
  annotations:
    dapr.io/enabled: "true"
    dapr.io/api-token-secret: s
spec:
"""


def pod(spec: str) -> str:
    """A Pod that requests a token."""
    return HEAD + textwrap.indent(textwrap.dedent(spec), "  ")


def _pieces(text: str, source: str = "f") -> Iterator[tuple[Chunk, list[Document]]]:
    index = 0
    for chunk in split([text]):
        read = list(documents(chunk, source, index))
        yield chunk, read
        index += len(read)


def inject(text: str, policy: Policy | None = None, *, source: str = "f") -> str:
    """The text with everything that the core adds."""
    question = injecting.InjectOptions(policy or Policy())
    return "".join(
        apply(chunk.text, injecting.inject(read, [injecting.evaluate(document, question) for document in read]))
        for chunk, read in _pieces(text, source)
    )


def patched(text: str, policy: Policy | None = None) -> list[Json]:
    """The values of the text's documents with the webhook's patches applied, as `-o json` has them."""
    question = injecting.InjectOptions(policy or Policy())
    return [
        injecting.patched(document, injecting.evaluate(document, question))
        for _, read in _pieces(text)
        for document in read
    ]


def uninject(text: str) -> str:
    """The text without what its records list."""
    return "".join(
        apply(chunk.text, uninjecting.uninject(read, [uninjecting.evaluate(document) for document in read]))
        for chunk, read in _pieces(text)
    )


def diff_u(old: str, new: str, folder: Path) -> list[str]:
    """The lines that `diff -u` prints."""
    sides = [folder / "old", folder / "new"]
    for side, text in zip(sides, (old, new), strict=True):
        side.write_bytes(text.encode())
    done = subprocess.run(["diff", "-u", *sides], capture_output=True, check=False)
    return done.stdout.decode().removesuffix("\n").split("\n")
