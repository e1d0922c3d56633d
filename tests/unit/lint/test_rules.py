from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]

from injector.core.model import Policy
from injector.lint import catalogue
from injector.lint.catalogue import RULES, find
from tests.unit.lint.builders import ids, lint

if TYPE_CHECKING:
    from injector.lint.model import Rule

# Ids and names that were given: never renamed, never used for something else.
GIVEN = {
    "DTI001": "annotation-on-workload",
    "DTI002": "not-enabled",
    "DTI003": "unquoted-annotation",
    "DTI004": "bad-secret-name",
    "DTI005": "bad-secret-key",
    "DTI006": "secret-not-allowed",
    "DTI007": "clear-text-token",
    "DTI008": "optional-reference",
    "DTI009": "empty-token",
    "DTI010": "token-by-env-from",
    "DTI011": "duplicate-variable",
    "DTI012": "app-without-token",
    "DTI013": "app-with-other-token",
    "DTI014": "unknown-app-container",
    "DTI015": "native-sidecar-under-watchdog",
    "DTI016": "malformed-template",
    "DTI017": "sidecar-without-token",
    "DTI018": "unknown-annotation",
    "DTI019": "annotation-outside-template",
    "DTI021": "secret-in-other-namespace",
    "DTI022": "secret-without-key",
    "DTI023": "secret-value-empty",
    "DTI024": "secret-value-newline",
    "DTI025": "secret-value-unfit",
    "DTI026": "secret-value-length",
    "DTI027": "secret-value-malformed",
    "DTI028": "secret-value-in-git",
    "DTI029": "dapr-shared-token",
    "DTI031": "variable-after-use",
    "DTI032": "blank-annotation",
    "DTI033": "renamed-sidecar",
    "DTI034": "env-from-secret-without-key",
    "DTI035": "other-reader-of-sealed-key",
    "DTI036": "seal-without-effect",
    "DTI037": "broken-seal",
    "DTI091": "bad-ignore",
    "DTI092": "unused-ignore",
}
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def policy_for(rule: Rule) -> Policy:
    return Policy(allowed_secrets=("dapr-*",)) if rule.id == "DTI006" else Policy()


def test_ids_and_names_never_change() -> None:
    assert {rule.id: rule.name for rule in RULES} == GIVEN
    assert len(catalogue.BY_WORD) == 2 * len(RULES)


@every_rule
def test_bad_example_is_reported(rule: Rule) -> None:
    found = lint(rule.bad, policy=policy_for(rule))
    assert rule.id in ids(found)
    assert not found.unreadable


@every_rule
def test_good_example_is_not_reported(rule: Rule) -> None:
    found = lint(rule.good, policy=policy_for(rule))
    assert rule.id not in ids(found)
    assert not found.unreadable
    # An example must not lead from one finding to another; a value in the file is what some rules are about.
    assert set(ids(found)) <= {"DTI028"}


@every_rule
def test_rule_can_be_disabled(rule: Rule) -> None:
    assert rule.id not in ids(lint(rule.bad, policy=policy_for(rule), disabled=frozenset({rule.id})))


@every_rule
def test_rule_has_sentences_for_problem_reason_and_fix(rule: Rule) -> None:
    for words in (rule.summary, rule.why, rule.fix):
        assert words.endswith(".")
        assert words.isascii()
    assert re.fullmatch(r"DTI\d{3}", rule.id)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    for example in (rule.bad, rule.good):
        assert list(yaml.safe_load_all(example))


@every_rule
def test_finding_has_a_place_an_object_and_a_sentence(rule: Rule) -> None:
    for finding in lint(rule.bad, policy=policy_for(rule)).findings:
        assert finding.location.source == "a.yaml"
        assert finding.location.line > 1
        assert finding.location.column > 0
        assert str(finding.location.identity)
        assert finding.message
        assert finding.message.isprintable()
        assert finding.message.isascii()


def test_rule_is_found_by_id_and_name_in_any_case() -> None:
    assert find("dti007") is find(" Clear-Text-Token ") is find("DTI007") is not None
    assert find("DTI000") is None
