"""Connections to a web archive: who we are there, whom we trust, and where no credentials go.

Proxies and .netrc are ignored, and redirects are not followed: credentials go to the configured address only.
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import requests

from orthanc_plugin.archive.pace import PacedAdapter, PacedTransport, TooSlowError, TooSlowTransportError
from orthanc_plugin.archive.tls import causes_of, client_context, tls_problem
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import ConfigError, TransientError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 2.1."""

Request = TypeVar("Request", requests.PreparedRequest, httpx.Request)


class _Bearer:
    """Logs in by a token; `requests` and `httpx` both call it with each request."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: Request) -> Request:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request


def open_session(name: str, settings: ArchiveSettings) -> requests.Session:
    """Open a session of `requests`, for DICOMweb.

    Raises
    ------
    ConfigError
        If a file of `settings` cannot be used.
    """
    _check_files(name, settings)
    session = plain_session(*named_addresses(settings))
    if settings.ca_file is not None:
        session.verify = str(settings.ca_file)
    if settings.client_certificate is not None:
        session.cert = (str(settings.client_certificate), str(settings.client_key))
    if settings.user:
        session.auth = (settings.user, settings.password.get_secret_value())
    elif _has_token(settings):
        session.auth = _Bearer(lambda: _token(name, settings))
    return session


def plain_session(*named: str) -> requests.Session:
    """Open a session without login that ignores the environment and follows no redirect.

    Parameters
    ----------
    *named : str
        The only addresses that it calls; none for any.
    """
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.adapters.clear()
    for address in named or ("http://", "https://"):
        session.mount(address, PacedAdapter())
    return session


def _server(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # the usual port of a scheme is None


def named_addresses(settings: ArchiveSettings) -> tuple[str, ...]:
    """Return the servers that an archive's settings name, each with the slash that ends its name."""
    urls = [urlsplit(url) for url in (settings.url, settings.orthanc_url) if url]
    return tuple(dict.fromkeys(f"{url.scheme}://{url.netloc}/" for url in urls))


def open_client(
    name: str, settings: ArchiveSettings, timeout: httpx.Timeout | float, base_url: str = ""
) -> httpx.Client:
    """Open a client of `httpx`, for Orthanc's REST API; raise as `open_session`."""
    _check_files(name, settings)
    verify = client_context(name, settings) if settings.ca_file or settings.client_certificate else True
    named = {_server(httpx.URL(address)) for address in named_addresses(settings)}

    def only_named(request: httpx.Request) -> None:
        if _server(request.url) not in named:
            raise httpx.UnsupportedProtocol("the configuration does not name this address", request=request)

    return httpx.Client(
        event_hooks={"request": [only_named]},
        base_url=base_url,
        auth=_auth(name, settings),
        transport=PacedTransport(verify=verify, trust_env=False),
        timeout=timeout,
        trust_env=False,
    )


def account_of(settings: ArchiveSettings) -> bytes:
    """Write the header `Authorization` of our account; empty if there is none, or if a file renews the token."""
    if settings.user:
        login = f"{settings.user}:{settings.password.get_secret_value()}"
        return b"Basic " + base64.b64encode(login.encode())
    token = settings.token.get_secret_value()
    return f"Bearer {token}".encode() if token else b""


def told(error: BaseException) -> str:
    """Say what went wrong with a connection, and what to do."""
    if problem := tls_problem(error):
        return problem
    if isinstance(error, TooSlowError | TooSlowTransportError):
        return str(error)
    if isinstance(error, requests.exceptions.InvalidSchema | httpx.UnsupportedProtocol):
        return "it leads to an address that the configuration does not name"
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects to another address: set Url to that one"
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return "a file of CaFile, ClientCertificate or ClientKey cannot be read any more"
    if isinstance(error, requests.ReadTimeout | httpx.ReadTimeout | httpx.WriteTimeout):
        return "it took the request and does not answer in time: its log may say why"
    if isinstance(error, requests.ConnectTimeout | httpx.ConnectTimeout):
        return _NOT_REACHED
    return _unconnected(error)


_NOT_REACHED = "it cannot be reached: check its address, that it runs, and firewalls on the way"


def _unconnected(error: BaseException) -> str:
    """Say why there is no connection, or why it ended."""
    causes = tuple(causes_of(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "the name of its host is not known: check its address and the name server"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "nothing listens at its address: check the address, and that it runs"
    if any(isinstance(cause, _BROKEN_OFF) for cause in causes):
        return "it broke off the connection: its log may say why"
    if isinstance(error, requests.ConnectionError | httpx.ConnectError):
        return _NOT_REACHED
    return f"the connection failed ({type(error).__name__}): its log may say why"


_BROKEN_OFF = (
    ConnectionResetError, BrokenPipeError, http.client.HTTPException, httpx.RemoteProtocolError, httpx.ReadError,
    httpx.WriteError, requests.exceptions.ChunkedEncodingError,
)  # fmt: skip


def _auth(name: str, settings: ArchiveSettings) -> httpx.Auth | _Bearer | None:
    if settings.user:
        return httpx.BasicAuth(settings.user, settings.password.get_secret_value())
    return _Bearer(lambda: _token(name, settings)) if _has_token(settings) else None


def _has_token(settings: ArchiveSettings) -> bool:
    return settings.token_file is not None or bool(settings.token.get_secret_value())


def _check_files(name: str, settings: ArchiveSettings) -> None:
    client_context(name, settings)
    if _has_token(settings):
        try:
            _token(name, settings)
        except TransientError as error:
            raise ConfigError(str(error)) from None


def _token(name: str, settings: ArchiveSettings) -> str:
    """Return the token; a file is read each time, because what renews it writes it anew."""
    try:
        written = settings.token_file.read_text() if settings.token_file else settings.token.get_secret_value()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise TransientError(f"archive {name}: TokenFile {settings.token_file} cannot be read: {why}") from None
    if not _TOKEN.fullmatch(token := written.strip()):
        where = f"TokenFile {settings.token_file}" if settings.token_file else "Token"
        raise TransientError(f"archive {name}: {where} holds no bearer token (letters, digits and -._~+/=)")
    return token
