"""Unknown annotations, and the annotation that each probably means."""

from __future__ import annotations

import pytest

from injector.core import names
from injector.core.spelling import WRITTEN, likely, message, unknown

DAPR = [annotation for annotation in WRITTEN if annotation.startswith("dapr.io/")]


def test_all_annotations_of_dapr_and_of_this_webhook_are_known() -> None:
    assert len(DAPR) == 64
    assert set(names.REQUEST_ANNOTATIONS) <= set(WRITTEN)
    assert list(unknown([*WRITTEN, names.STATUS])) == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("dapr.io/api-token-secrets", "dapr.io/api-token-secret"),
        ("dapr.io/apiTokenSecret", "dapr.io/api-token-secret"),
        ("dapr.io/api_token_secret", "dapr.io/api-token-secret"),
        ("dapr.io/api-token", "dapr.io/api-token-secret"),
        ("dapr.io/app-token", "dapr.io/app-token-secret"),
        ("dapr.io/enable", "dapr.io/enabled"),
        ("dapr.io/Enabled", "dapr.io/enabled"),
        ("dapr.io/port", "dapr.io/app-port"),
        ("dapr.io/cpu-limit", "dapr.io/sidecar-cpu-limit"),
        ("dapr-token-injector/app-container", "dapr-token-injector/app-containers"),
        ("dapr-token-injector/api-key", "dapr-token-injector/api-token-key"),
        # The right name with the other prefix, and with a misspelt one.
        ("dapr.io/app-containers", "dapr-token-injector/app-containers"),
        ("dapr-token-injector/api-token-secret", "dapr.io/api-token-secret"),
        ("dapr/enabled", "dapr.io/enabled"),
        ("darp.io/app-id", "dapr.io/app-id"),
        ("Dapr.io/appId", "dapr.io/app-id"),
        ("dapr-token-injecter/app-containers", "dapr-token-injector/app-containers"),
        # Nothing similar.
        ("dapr.io/", None),
        ("dapr.io/x", None),
        ("dapr.io/sidecar-injected", None),
        ("dapr.io/" + "enabled" * 9, None),
        ("dapr.io/" + "a" * 100_000, None),
        ("dapr-token-injector/token-id", None),
    ],
)
def test_unknown_annotation_gets_its_likely_one(key: str, meant: str | None) -> None:
    assert list(unknown([key])) == [key]
    assert likely(key) == meant


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "dapr.io",
        "enabled",
        "example.com/enabled",
        "example.com/dapr.io/enabled",
        "restarted-for.dapr-token-injector/dapr-api-token",
        "sub.dapr.io/enabled",
        # A misspelt prefix is one of ours only with a name of ours.
        "dapp.io/theme",
        "dapr/" + "enabled" * 9,
    ],
)
def test_annotation_of_others_is_not_unknown(key: str) -> None:
    assert list(unknown([key])) == []


@pytest.mark.parametrize("annotation", WRITTEN)
def test_annotation_without_a_character_is_recognised(annotation: str) -> None:
    prefix, _, name = annotation.partition("/")
    keys = [f"{prefix}/{name[:i]}{name[i + 1 :]}" for i in range(len(name))]

    for key in unknown(keys):
        found = likely(key)
        # "nv" and "ev" may be anything, and "ap-token-key" may be either of two.
        assert found == annotation or len(name) == len("env") or name.startswith("app-token"), key
        if found:
            assert found in message(key)
            assert len(message(key)) <= names.MAX_WARNING


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (
            "dapr.io/apiTokenSecret",
            'unknown annotation: "dapr.io/apiTokenSecret"; did you mean dapr.io/api-token-secret?',
        ),
        (
            "dapr.io/appHealthChecksPath",
            "unknown annotation; did you mean dapr.io/app-health-check-path?",
        ),
        ("dapr.io/eyJhbGciOi", "unknown annotation: a value of 18 characters (not shown: it may be a token)"),
        ("dapr.io/a\x1bb\n", 'unknown annotation: "dapr.io/a?b?"'),
        (
            "dapr.io/sidecar-readiness-probe-timeout-second",
            "unknown annotation; did you mean dapr.io/sidecar-readiness-probe-timeout-seconds?",
        ),
    ],
)
def test_message_shows_no_token_and_no_control_character(key: str, text: str) -> None:
    assert message(key) == text
