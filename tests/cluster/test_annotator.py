"""The webhook of the tests keeps up with the creates of `make soak`."""

from __future__ import annotations

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

import httpx

from tests.cluster.annotator import served

REVIEW = {"apiVersion": "v1", "kind": "AdmissionReview", "request": {"uid": "u"}}


def test_webhook_of_tests_answers_next_to_connections_without_handshake() -> None:
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(served(lambda _review: []))
        address = (urlsplit(endpoint.url).hostname, urlsplit(endpoint.url).port)
        for _ in range(64):
            stack.enter_context(socket.create_connection(address, timeout=5))
        trusted = ssl.create_default_context(cadata=endpoint.ca_pem.decode())
        client = stack.enter_context(httpx.Client(verify=trusted, trust_env=False, timeout=5))

        answers = [client.post(endpoint.url, json=REVIEW) for _ in range(2)]

        assert [answer.json()["response"]["allowed"] for answer in answers] == [True, True]
        assert len({answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}) == 1
