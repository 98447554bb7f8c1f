"""TLS to an archive: its private CA, our certificate, and in plain words why a handshake failed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import ConfigError

_EXPIRED, _NOT_YET = 10, 9
_OTHER_HOST = (62, 64)
_UNKNOWN_CA = (2, 18, 19, 20, 21)
"""OpenSSL's X509_V_ERR codes."""

_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate: set ClientCertificate and ClientKey",
    "HANDSHAKE_FAILURE": "it refuses the handshake: it may ask for ClientCertificate and ClientKey",
    "UNKNOWN_CA": "it does not know the CA of our ClientCertificate",
    "BAD_CERTIFICATE": "it refuses our ClientCertificate",
    "CERTIFICATE_EXPIRED": "our ClientCertificate has expired: renew it",
    "WRONG_VERSION_NUMBER": "it does not speak TLS there: check address and port",
    "RECORD_LAYER_FAILURE": "it does not speak TLS there: check address and port",
}


def client_context(name: str, settings: ArchiveSettings) -> ssl.SSLContext:
    """Make the context of connections to an archive; with `CaFile`, only that CA is trusted.

    Raises
    ------
    ConfigError
        If a file is missing or is not what it should be; the message names the setting.
    """
    for key, path in _files(settings):
        _check_readable(name, key, path)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (ssl.SSLError, OSError, ValueError):
        raise ConfigError(f"archive {name}: CaFile {settings.ca_file} holds no certificate in PEM format") from None
    if settings.client_certificate is not None:
        _load_own(name, settings, context)
    return context


def server_context(name: str, settings: ArchiveSettings) -> ssl.SSLContext:
    """Make the context in which we accept connections from an archive, which must show a certificate of its CA.

    Raises
    ------
    ConfigError
        As `client_context`, and if there is no certificate of our own to show.
    """
    if settings.client_certificate is None:
        raise ConfigError(f"archive {name}: set ClientCertificate and ClientKey: the archive connects to us by TLS")
    client_context(name, settings)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.ca_file)
    _load_own(name, settings, context)
    if settings.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tls_problem(error: BaseException) -> str:
    """Say why a handshake failed and what to do; an empty text if TLS is not the cause."""
    found = next((cause for cause in causes_of(error) if isinstance(cause, ssl.SSLError)), None)
    if found is None:
        return ""
    if isinstance(found, ssl.SSLCertVerificationError):
        return _refused_certificate(found.verify_code)
    if isinstance(found, ssl.SSLEOFError):
        return (
            "it broke off the TLS connection: it may ask for a client certificate (ClientCertificate), or refuse ours"
        )
    alert = f"{found.reason} {found}"
    known = (text for key, text in _ALERTS.items() if key in alert)
    return next(known, f"the TLS handshake failed ({found.reason or type(found).__name__})")


def _refused_certificate(code: int) -> str:
    if code == _EXPIRED:
        return "its certificate has expired: renew it there"
    if code == _NOT_YET:
        return "its certificate is not valid yet: check the clocks"
    if code in _OTHER_HOST:
        return "its certificate is for another host name: use a name that the certificate holds"
    if code in _UNKNOWN_CA:
        return "its certificate is of an unknown CA: set CaFile to the certificate of the CA"
    return f"its certificate is refused (OpenSSL code {code})"


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Walk an error, what caused it, and what it carries: urllib3 hands the cause on as an argument."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]


def _files(settings: ArchiveSettings) -> Iterator[tuple[str, Path]]:
    named = {
        "CaFile": settings.ca_file,
        "ClientCertificate": settings.client_certificate,
        "ClientKey": settings.client_key,
    }
    yield from ((key, path) for key, path in named.items() if path is not None)


def _check_readable(name: str, key: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"archive {name}: {key} {path} cannot be read: {error.strerror}") from None


def _load_own(name: str, settings: ArchiveSettings, context: ssl.SSLContext) -> None:
    try:
        # An empty passphrase: an encrypted key must not ask at a terminal.
        context.load_cert_chain(str(settings.client_certificate), settings.client_key, password="")
    except (ssl.SSLError, OSError, ValueError):
        raise ConfigError(
            f"archive {name}: ClientCertificate and ClientKey are not a certificate and its key in PEM format"
            " without passphrase"
        ) from None
