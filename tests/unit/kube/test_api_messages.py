from __future__ import annotations

import base64

import pytest

from injector.kube.api_messages import is_denial, redact_secret_values, single_line, strip_object_name, values_of

TOKEN = "Zk3q9vLw2Xy7Tt5Rr1Pp"
VALUE = base64.b64encode(TOKEN.encode()).decode()
OPERATION = "create secrets/s in namespace pr-1a2b3c4d5e"

RIGHT = 'secrets "s" is forbidden: User "jane" cannot create resource "secrets" in API group "" in the namespace "shop"'
QUOTA = 'secrets "s" is forbidden: exceeded quota: small, requested: secrets=1, used: secrets=5, limited: secrets=5'
POLICY = "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'team' with binding 'all' denied request: name a team"
WEBHOOK = 'admission webhook "validate.example" denied the request: name a team'
POD_SECURITY = 'pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
ENDING = 'secrets "s" is forbidden: unable to create new content in namespace shop because it is being terminated'


@pytest.mark.parametrize(
    ("status", "message", "denial"),
    [
        (403, RIGHT, False),
        (403, 'forbidden: User "jane" cannot get path "/x"', False),
        (403, "", False),
        (403, QUOTA, True),
        (403, POD_SECURITY, True),
        (403, ENDING, True),
        *(
            (status, message, True)
            for status in (400, 401, 403, 409, 413, 422, 429, 500)
            for message in (POLICY, WEBHOOK)
        ),
        (422, 'Secret "s" is invalid: data[a b]: Invalid value', False),
        (409, "the object has been modified", False),
        (404, 'namespaces "shop" not found', False),
    ],
)
def test_denial_and_missing_permission_are_distinguished(status: int, message: str, *, denial: bool) -> None:
    assert is_denial(status, message) is denial


def test_quota_denies_no_read_and_webhook_can_deny_connect() -> None:
    assert not is_denial(403, "no entry", is_read=True)
    assert is_denial(403, WEBHOOK, is_read=True)


@pytest.mark.parametrize(
    ("status", "message"), [(403, RIGHT), (403, QUOTA), (422, POLICY), (409, WEBHOOK), (403, ENDING)]
)
def test_message_of_a_denial_is_quoted(status: int, message: str) -> None:
    quoted = redact_secret_values(status, message, [VALUE], OPERATION)
    assert quoted in message
    assert quoted.endswith(strip_object_name(message))


@pytest.mark.parametrize(
    "part", [TOKEN, TOKEN[3:11], TOKEN.upper(), VALUE, VALUE[5:15], VALUE.rstrip("="), f"x{TOKEN[:6]}y"]
)
@pytest.mark.parametrize(
    ("before", "who"),
    [
        ('admission webhook "w" denied the request: ', 'admission webhook "w" denied the request: '),
        (
            "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ",
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ",
        ),
        ('secrets "s" is forbidden: ', ""),
    ],
)
def test_message_with_secret_data_is_replaced_by_its_source(part: str, before: str, who: str) -> None:
    quoted = redact_secret_values(403, f"{before}token is {part}!", [VALUE], OPERATION)
    assert quoted == f"{who}its message contains a part of the Secret and is not shown"


def test_short_value_matches_as_a_whole_above_two_letters() -> None:
    pin, short = (base64.b64encode(value).decode() for value in (b"4711", b"ok"))
    assert "4711" not in redact_secret_values(
        403, 'admission webhook "w" denied the request: 4711 is weak', [pin], OPERATION
    )
    assert redact_secret_values(403, WEBHOOK + " ok", [short], OPERATION) == WEBHOOK + " ok"


@pytest.mark.parametrize("word", [TOKEN.encode().hex(), "eyJhbGciOiJIUzI1NiJ9", TOKEN[::-1]])
def test_words_like_tokens_are_redacted_and_names_are_kept(word: str) -> None:
    quoted = redact_secret_values(
        422, f'admission webhook "w" denied the request: "{word}" in pr-1a2b3c4d5e', [VALUE], OPERATION
    )
    assert quoted == 'admission webhook "w" denied the request: "(not shown)" in pr-1a2b3c4d5e'


@pytest.mark.parametrize(
    ("status", "message"), [(422, f"Secret is invalid: {TOKEN}"), (400, "json: bad"), (500, "boom")]
)
def test_unknown_message_is_not_quoted(status: int, message: str) -> None:
    assert redact_secret_values(status, message, [], OPERATION) == ""


def test_webhook_that_does_not_answer_is_named() -> None:
    message = 'Internal error occurred: failed calling webhook "w": failed to call webhook: connection refused'
    assert redact_secret_values(500, message, [VALUE], OPERATION) == message


def test_message_is_one_printable_line_of_bounded_length() -> None:
    assert single_line("a\n\n  b\x1b[31mc\u202e") == "a b?[31mc?"
    assert len(single_line("x" * 10_000)) == 600


def test_object_name_is_not_repeated_in_the_message() -> None:
    assert strip_object_name(QUOTA).startswith("exceeded quota: small")
    assert strip_object_name(WEBHOOK) == WEBHOOK


def test_values_of_a_secret_are_found_in_both_of_its_parts() -> None:
    assert values_of({"data": {"a": VALUE}, "stringData": {"b": TOKEN}}, None, {"data": None}) == (VALUE, VALUE)
