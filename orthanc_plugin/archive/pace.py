"""A least pace of answers: one that comes byte by byte would hold the series of every archive, or a worker, for days.

A limit between two bytes, which both HTTP clients have, does not see it. Only the time of waiting counts, not what is
done with the bytes.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import requests
from requests.adapters import HTTPAdapter

WINDOW_S = 60.0
LEAST_BYTES = 64 * 1024
"""What must arrive within each window."""


class TooSlowError(requests.RequestException):
    """The answer comes so slowly that nobody can wait for its end."""


class TooSlowTransportError(httpx.TransportError):
    """The same, as an error of `httpx`."""


class _Pace:
    """Counts bytes and the time spent on waiting for them."""

    def __init__(self, error: Callable[[str], Exception]) -> None:
        self._error = error
        self._waited_s, self._arrived = 0.0, 0

    def next(self, read: Callable[[], bytes], close: Callable[[], None]) -> bytes:
        """Read the next piece; close the connection of an answer that is too slow."""
        began = time.monotonic()
        piece = read()
        self._waited_s += time.monotonic() - began
        self._arrived += len(piece)
        if self._waited_s > WINDOW_S:
            if self._arrived < LEAST_BYTES and piece:
                close()
                raise self._error(f"it sends less than {LEAST_BYTES // 1024} KiB in {WINDOW_S:g} s")
            self._waited_s, self._arrived = 0.0, 0
        return piece


def _blocks(raw: Any, size: int, decode_content: bool | None = None) -> Iterator[bytes]:
    """Yield the body in blocks, as `urllib3.HTTPResponse.stream` does, but look at each piece that arrives."""
    pace, pieces, held = _Pace(TooSlowError), [], 0
    while piece := pace.next(lambda: raw.read1(size, decode_content=decode_content), raw.close):
        pieces.append(piece)
        held += len(piece)
        if held >= size:
            yield b"".join(pieces)
            pieces, held = [], 0
    if pieces:
        yield b"".join(pieces)


class PacedAdapter(HTTPAdapter):
    """Transport of `requests` that raises TooSlowError."""

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request; its answer is read at no less than the pace."""
        answer = super().send(*arguments, **options)
        # A weak reference: in a circle, sockets would stay open until the garbage collector comes by.
        answer.raw.stream = partial(_blocks, weakref.proxy(answer.raw))
        return answer


class _PacedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        pace, pieces = _Pace(TooSlowTransportError), iter(self._stream)
        while piece := pace.next(lambda: next(pieces, b""), self.close):
            yield piece

    def close(self) -> None:
        self._stream.close()


class PacedTransport(httpx.HTTPTransport):
    """Transport of `httpx` that raises TooSlowTransportError."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer is read at no less than the pace."""
        answer = super().handle_request(request)
        if isinstance(answer.stream, httpx.SyncByteStream):
            answer.stream = _PacedStream(answer.stream)
        return answer
