"""Takes references to images apart: https://github.com/distribution/reference/blob/v0.6.0/reference.go."""

from __future__ import annotations


def repository_and_tag(image: str) -> tuple[str, str]:
    """Return an image without tag and digest, and its tag, empty if it has none. A port is not a tag."""
    name, colon, tag = image.partition("@")[0].rpartition(":")
    return (name, tag) if colon and "/" not in tag else (f"{name}{colon}{tag}", "")
