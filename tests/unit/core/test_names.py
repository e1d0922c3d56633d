"""The strings that users, Dapr and Kubernetes depend on: changing one is a breaking change."""

from __future__ import annotations

from injector.core import names


def test_annotations_are_the_documented_ones() -> None:
    assert {
        names.ENABLED,
        names.API_TOKEN_SECRET,
        names.APP_TOKEN_SECRET,
        names.DAPR_ENV,
        names.API_TOKEN_KEY,
        names.APP_TOKEN_KEY,
        names.APP_CONTAINERS,
        names.STATUS,
    } == {
        "dapr.io/enabled",
        "dapr.io/api-token-secret",
        "dapr.io/app-token-secret",
        "dapr.io/env",
        "dapr-token-injector/api-token-key",
        "dapr-token-injector/app-token-key",
        "dapr-token-injector/app-containers",
        "dapr-token-injector/status",
    }


def test_sidecar_and_variable_names_are_those_of_dapr() -> None:
    assert (names.SIDECAR, names.API_TOKEN_ENV, names.APP_TOKEN_ENV) == ("daprd", "DAPR_API_TOKEN", "APP_API_TOKEN")
    assert names.DAPR_FIXED_KEY == "token"


def test_paths_are_those_of_the_webhook_configurations() -> None:
    assert (names.MUTATE_PATH, names.MUTATE_DEFAULT_PATH, names.WARN_PATH) == ("/mutate", "/mutate/default", "/warn")


def test_entry_whose_name_contains_ours_is_not_ours() -> None:
    assert names.is_own_entry("inject-2.dapr-token-injector.svc")
    assert not names.is_own_entry("inject.dapr-token-injector.svc.example.com")


def test_audit_keys_are_valid_for_the_api_server() -> None:
    keys = [value for name, value in vars(names).items() if name.startswith("AUDIT_")]

    assert len(set(keys)) == len(keys) == 8
    for key in keys:
        # It drops keys with a slash, a blank or over 63 characters.
        assert 0 < len(key) <= 63
        assert "/" not in key
        assert " " not in key


def test_true_words_are_those_of_dapr() -> None:
    assert {"y", "yes", "true", "t", "on", "1"} == names.TRUE_WORDS
    assert not names.TRUE_WORDS & names.FALSE_WORDS


def test_well_known_infrastructure_containers_are_listed() -> None:
    assert {"istio-proxy", "linkerd-proxy", "vault-agent"} <= set(names.INFRASTRUCTURE_CONTAINERS)
