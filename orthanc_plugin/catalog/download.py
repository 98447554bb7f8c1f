"""Download one large file over HTTPS: resume it where it stopped and check its size.

Bytes are kept in `NAME.part`, and the validator (ETag or date) of their version in `NAME.part.json`. The rest is
requested for that version only; if the server has another version, the download starts again. A file gets its name when
it is complete. Only `catalog.install` and `service.ohif_package` import this module: the pipeline knows no HTTP.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

import httpx

from orthanc_plugin.catalog.records import RemoteFile
from orthanc_plugin.errors import ConfigError, ModelError, TransientError

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes received and the size (None: unknown)."""

MOST_FAILURES = 5
"""Interruptions in a row, without a byte received, after which a download fails."""

MOST_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(60.0)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TRY_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class _Interrupted(Exception):
    """The transfer ended before the file was complete; the bytes received are kept."""


@dataclass(frozen=True, slots=True)
class _State:
    """The version of the file whose first bytes are in `NAME.part`. validator: for If-Range."""

    url: str
    validator: str | None
    total: int | None


def download(
    file: RemoteFile, directory: Path, progress: Progress, pause: Callable[[float], object] = time.sleep
) -> Path:
    """Download a file, or the rest of it; return the path at once if the file is already there.

    Parameters
    ----------
    file : RemoteFile
        Its address must be https (http only on this machine).
    directory : Path
        An existing folder.
    progress : Progress
        Receives the progress.
    pause : callable
        Waits a number of seconds between two attempts.

    Raises
    ------
    ConfigError
        If the disk is full, or the address is not safe.
    ModelError
        If the server does not have the file, or its size is not the one that the publisher states.
    TransientError
        If the download is interrupted repeatedly; the next call resumes it.
    """
    target, part = directory / file.name, directory / f"{file.name}.part"
    if target.is_file():
        return target
    failures = 0
    with httpx.Client(timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as client:
        while True:
            before = _size(part)
            try:
                _transfer(client, file, part, progress)
                break
            except (httpx.TransportError, _Interrupted) as error:
                failures = 0 if _size(part) > before else failures + 1
                log.info("download of %s interrupted: %s", file.name, type(error).__name__)
                if failures == MOST_FAILURES:
                    raise TransientError(
                        f"{file.name}: interrupted after {_size(part)} bytes ({error}); run the command again to resume"
                    ) from error
                pause(2.0**failures)
    _check_size(file, _size(part))
    part.replace(target)
    _state_file(part).unlink(missing_ok=True)
    return target


def _transfer(client: httpx.Client, file: RemoteFile, part: Path, progress: Progress) -> None:
    """Request the missing bytes once and append them to `part`."""
    have, state = _size(part), _read_state(part)
    headers = {}
    if have and state and state.url == file.url and state.validator:
        if have == state.total:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": state.validator}
    with _answer(client, file.url, headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
            _restart(part, "the server has no more bytes")
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and headers:
            start, total = _content_range(response)
            if start != have or _validator(response) not in (None, headers["If-Range"]):
                _restart(part, "the server sent a different part")
        elif response.status_code == HTTPStatus.OK:
            have, total = 0, _content_length(response)
        else:
            raise _refused(response)
        if total is not None:
            _check_size(file, total)
            _check_room(part, file, total - have)
        if not have:  # before the new validator is written: it must never describe old bytes
            part.unlink(missing_ok=True)
        _write_state(part, _State(file.url, _validator(response) or headers.get("If-Range"), total))
        with part.open("ab" if have else "wb") as out:
            progress(file.name, have, total)
            for (
                chunk
            ) in response.iter_raw():  # without a chunk size: a partly filled chunk would be lost with the connection
                out.write(chunk)
                have += len(chunk)
                progress(file.name, have, total)
    if total is not None and have != total:
        raise _Interrupted(f"received {have} of {total} bytes")


@contextmanager
def _answer(client: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Open the response, following redirects; every address on the way must be safe."""
    origin = address = httpx.URL(url)
    for _ in range(MOST_REDIRECTS + 1):
        _check_address(address, origin)
        with client.stream("GET", address, headers=headers) as response:
            if response.next_request is None:
                yield response
                return
            address = response.next_request.url
    raise ModelError(
        f"{url} redirects more than {MOST_REDIRECTS} times; download the file yourself and pass it with --file"
    )


def _check_address(address: httpx.URL, origin: httpx.URL) -> None:
    local = address.host in _LOOPBACK
    if local and origin.host not in _LOOPBACK:
        raise ConfigError(
            f"{origin.host} redirects to this machine; download the file yourself and pass it with --file"
        )
    if address.scheme != "https" and not (address.scheme == "http" and local):
        raise ConfigError(
            f"{origin.host} leads to an address without https; download the file yourself and pass it with --file"
        )


def _refused(response: httpx.Response) -> Exception:
    status = response.status_code
    if status in _TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Interrupted(f"the server answered {status}")
    return ModelError(
        f"{response.url.host} answered {status} for {Path(response.url.path).name};"
        " download the file from its publisher and pass it with --file"
    )


def _restart(part: Path, why: str) -> None:
    part.unlink(missing_ok=True)
    raise _Interrupted(why)


def _check_size(file: RemoteFile, size: int) -> None:
    if file.size is not None and size != file.size:
        raise ModelError(f"{file.name} has {size} bytes, its publisher states {file.size}; this is a different file")


def _check_room(part: Path, file: RemoteFile, missing: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise ConfigError(
            f"{file.name} needs {missing / 1e9:.1f} GB more, {part.parent} only {free / 1e9:.1f} GB free; make room"
        )


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """Return first byte and total size of a partial response."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _content_length(response: httpx.Response) -> int | None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ModelError(f"{response.url.host} sends the file compressed; download it yourself and pass it with --file")
    length = response.headers.get("Content-Length")
    return int(length) if length else None


def _validator(response: httpx.Response) -> str | None:
    """Return what If-Range accepts: a strong ETag or a date (RFC 9110 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _write_state(part: Path, state: _State) -> None:
    _state_file(part).write_text(json.dumps(asdict(state)), encoding="utf-8")


def _read_state(part: Path) -> _State | None:
    try:
        return _State(**json.loads(_state_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
