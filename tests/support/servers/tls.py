"""A private CA, its certificates, and a TLS front of a plain server on this machine."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A CA made by openssl in `directory`; every call makes one more certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory, self._name, self._count = directory, name, 0
        self.own = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN=Test {name}",
                 "-keyout", self.own.key, "-out", self.own.certificate)  # fmt: skip

    @property
    def file(self) -> Path:
        return self.own.certificate

    def sign(self, names: str = "IP:127.0.0.1,DNS:localhost", expired: bool = False) -> Certificate:
        """A certificate for these names."""
        self._count += 1
        base = self._directory / f"{self._name}-{self._count}"
        made = Certificate(base.with_suffix(".pem"), base.with_suffix(".key"))
        request, extensions = base.with_suffix(".csr"), base.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", made.key, "-out", request)
        if expired:
            self._sign_in_the_past(request, extensions, made)
        else:
            _openssl("x509", "-req", "-in", request, "-CA", self.own.certificate, "-CAkey", self.own.key,
                     "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", made.certificate)  # fmt: skip
        return made

    def _sign_in_the_past(self, request: Path, extensions: Path, made: Certificate) -> None:
        """`openssl ca` alone can choose the dates."""
        folder = made.key.with_suffix(".ca")
        folder.mkdir()
        (folder / "index").touch()
        (folder / "serial").write_text(f"{1000 + self._count}\n")
        settings = folder / "openssl.cnf"
        settings.write_text(
            "[ca]\ndefault_ca=x\n[x]\n"
            f"database={folder}/index\nserial={folder}/serial\nnew_certs_dir={folder}\ndefault_md=sha256\npolicy=p\n"
            "[p]\ncommonName=supplied\n"
        )
        _openssl("ca", "-batch", "-config", settings, "-cert", self.own.certificate, "-keyfile", self.own.key,
                 "-in", request, "-out", made.certificate, "-notext", "-extfile", extensions,
                 "-startdate", "20200101000000Z", "-enddate", "20210101000000Z")  # fmt: skip


@contextmanager
def tls_front(port: int, shown: Certificate, clients: Path | None = None) -> Iterator[int]:
    """Port of a TLS server on the loopback interface that hands every byte on to the plain server at `port`.

    `clients`: CA of the certificates that callers must show; None asks for none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_accept, args=(server, context, port), daemon=True).start()
        yield int(server.getsockname()[1])
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):  # closed at the end
        while True:
            plain, _ = server.accept()
            threading.Thread(target=_serve, args=(plain, context, port), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    try:
        plain.getpeername()
    except OSError:  # the caller has left; wrap_socket would leave the socket open
        plain.close()
        return
    raw = plain.dup()
    try:
        outside = context.wrap_socket(plain, server_side=True)
    except OSError:
        # What the caller sends meanwhile must be read, or the end of the connection overtakes the alert.
        raw.settimeout(5)
        with raw, suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(1 << 16):
                pass
        return
    raw.close()
    with (
        suppress(OSError),
        outside,
        closing(socket.create_connection(("127.0.0.1", port))) as inside,
    ):
        back = threading.Thread(target=_copy, args=(inside, outside), daemon=True)
        back.start()
        _copy(outside, inside)
        back.join(10)


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while content := one.recv(1 << 16):
            other.sendall(content)
        other.shutdown(socket.SHUT_WR)


def _openssl(*arguments: str | Path) -> None:
    assert shutil.which("openssl"), "the tests need Debian's package openssl (scripts/install-system)"
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
