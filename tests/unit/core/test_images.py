from __future__ import annotations

import pytest

from injector.core.images import repository_and_tag


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("a", "a", ""),
        ("a:1", "a", "1"),
        ("r:5000/a", "r:5000/a", ""),
        ("r:5000/b/a:1.2.3", "r:5000/b/a", "1.2.3"),
        ("r:5000/a@sha256:0", "r:5000/a", ""),
        ("a:1@sha256:0", "a", "1"),
        ("a@sha256:0", "a", ""),
        ("", "", ""),
    ],
)
def test_image_is_split_into_repository_and_tag(image: str, repository: str, tag: str) -> None:
    assert repository_and_tag(image) == (repository, tag)
