"""What the status page says where the service does not answer: words, and no name of a class."""

from __future__ import annotations

import http.client
import socket
import ssl

from tests.support.cases.plugin_case import Load


def test_a_service_that_does_not_answer_is_told_in_words(load: Load) -> None:
    plugin, _ = load()
    for error, words in (
        (ConnectionRefusedError(111, "x"), "nothing listens there"),
        (TimeoutError(), "no answer in time"),
        (socket.gaierror(-2, "x"), "the name of its host is not known"),
        (ssl.SSLError(1, "x"), "the TLS handshake failed: check its certificate"),
        (ConnectionResetError(104, "x"), "it broke off the connection"),
        (http.client.BadStatusLine("x"), "it broke off the connection"),
        (OSError(113, "x"), "it cannot be reached"),
    ):
        assert plugin.unreached(error) == words
