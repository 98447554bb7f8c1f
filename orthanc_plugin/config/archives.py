"""Archives, and the accounts that the service and the workers use there."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from orthanc_plugin.config.base import AbsolutePath, OptionalWebAddress, Secret, Settings, is_loopback

ArchiveName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
_AE_TITLE = r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$"
"""VR AE without leading or trailing spaces (PS3.5 6.2)."""
_TITLE = "1 to 16 characters without backslash"


class Retrieve(StrEnum):
    """Service by which a DIMSE archive sends a series."""

    GET = "C-GET"
    MOVE = "C-MOVE"


class Fallback(StrEnum):
    """What an archive gets in place of an object that it does not support."""

    BINARY_SEG = "binary-seg"
    COMPREHENSIVE_SR = "comprehensive-sr"
    ENHANCED_SR = "enhanced-sr"
    RTSTRUCT = "rtstruct"
    SECONDARY_CAPTURE = "secondary-capture"


class DimseSettings(Settings):
    """A DICOM node, and the AE title that we have there."""

    host: str = Field(pattern=r"^[^\s/@:]+$", description="a host name or an IPv4 address")
    port: int = Field(ge=1, le=65535, description="a port from 1 to 65535")
    aet: str = Field(alias="AET", pattern=_AE_TITLE, description=_TITLE)
    calling_aet: str = Field(default="ENRICHMENT", alias="CallingAET", pattern=_AE_TITLE, description=_TITLE)
    retrieve: Retrieve = Field(default=Retrieve.GET, description='"C-GET" or "C-MOVE"')
    move_aet: str = Field(
        default="",
        alias="MoveAET",
        pattern=f"^$|{_AE_TITLE}",
        description=f"{_TITLE}, or empty: CallingAET",
    )
    listen_port: int = Field(
        default=0, ge=0, le=65535, description="a port from 1 to 65535; needed for C-MOVE and Commitment"
    )
    commitment: bool = Field(default=False, description="true or false")
    tls: bool = Field(default=False, description="true or false")

    @property
    def destination_aet(self) -> str:
        """AE title to which a C-MOVE sends."""
        return self.move_aet or self.calling_aet

    @property
    def is_called_back(self) -> bool:
        """Whether the node connects to us."""
        return self.retrieve is Retrieve.MOVE or self.commitment

    @model_validator(mode="after")
    def _listens_where_needed(self) -> DimseSettings:
        if self.is_called_back and not self.listen_port:
            raise ValueError("C-MOVE and Commitment need ListenPort: the archive connects to us there")
        return self


class ArchiveSettings(Settings):
    """An archive, and the account with which the service and the workers log in to it."""

    url: OptionalWebAddress = Field(
        default="",
        description="the DICOMweb root, http(s)://host[:port]/path without user; or Dimse or Folder instead",
    )
    orthanc_url: OptionalWebAddress = Field(
        default="", description="Orthanc's REST root, or empty if the archive is not an Orthanc"
    )
    dimse: DimseSettings | None = Field(default=None, description="an object, or null")
    folder: AbsolutePath | None = Field(default=None, description="absolute path of a folder, or null")
    user: str = Field(default="", pattern="^[^:]*$", description="a user name without colon, or empty for no login")
    password: Secret = Field(default=SecretStr(""), description="a text; needed if User is set")
    token: Secret = Field(default=SecretStr(""), description="a bearer token, or empty")
    token_file: AbsolutePath | None = Field(
        default=None, description="absolute path of a file that holds a bearer token, or null"
    )
    ca_file: AbsolutePath | None = Field(default=None, description="absolute path of a PEM file, or null")
    client_certificate: AbsolutePath | None = Field(default=None, description="absolute path of a PEM file, or null")
    client_key: AbsolutePath | None = Field(
        default=None, description="absolute path of a PEM file without passphrase, or null"
    )
    fallback: tuple[Fallback, ...] = Field(
        default=(), description="a list of " + ", ".join(f'"{form}"' for form in Fallback)
    )
    rejection_notes: bool = Field(default=False, description="true or false")

    @property
    def uses_tls(self) -> bool:
        """Whether any connection to the archive is encrypted."""
        addresses = (self.url, self.orthanc_url)
        return any(a.startswith("https:") for a in addresses) or bool(self.dimse and self.dimse.tls)

    @property
    def plain_hosts(self) -> tuple[str, ...]:
        """Other computers to which a connection is not encrypted."""
        web = (urlsplit(a).hostname or "" for a in (self.url, self.orthanc_url) if a.startswith("http:"))
        node = (self.dimse.host,) if self.dimse and not self.dimse.tls else ()
        return tuple(dict.fromkeys(host for host in (*web, *node) if not is_loopback(host)))

    @property
    def readable_login(self) -> str:
        """Where the password can be read on its way, and what to do; empty if nowhere."""
        if not (self.user and self.plain_hosts):
            return ""
        return (
            f"User and Password go to {', '.join(self.plain_hosts)} without encryption, so whoever is on the way can"
            " read them: use https:// addresses, or a network that nobody else uses"
        )

    @model_validator(mode="after")
    def _of_one_kind(self) -> ArchiveSettings:
        if [bool(self.url), self.dimse is not None, self.folder is not None].count(True) != 1:
            raise ValueError("exactly one of Url, Dimse and Folder is needed")
        web_only = {"OrthancUrl": self.orthanc_url, "User": self.user, "TokenFile": self.token_file}
        web_only["Token"] = self.token.get_secret_value()
        if not self.url and (unused := [key for key, value in web_only.items() if value]):
            raise ValueError(f"{', '.join(unused)}: only an archive with Url knows this")
        return self

    @model_validator(mode="after")
    def _one_login(self) -> ArchiveSettings:
        if self.user and not self.password.get_secret_value():
            raise ValueError("User is set but Password is empty")
        logins = [bool(self.user), bool(self.token.get_secret_value()), self.token_file is not None]
        if logins.count(True) > 1:
            raise ValueError("User, Token and TokenFile are three ways to log in: set one of them")
        return self

    @model_validator(mode="after")
    def _token_that_nobody_reads(self) -> ArchiveSettings:
        has_token = self.token_file is not None or bool(self.token.get_secret_value())
        plain = (urlsplit(a).hostname or "" for a in (self.url, self.orthanc_url) if a.startswith("http:"))
        if has_token and not all(map(is_loopback, plain)):
            raise ValueError(
                "Token and TokenFile need https:// addresses, because whoever reads a token on the way can use it;"
                " only an address of this computer, such as http://localhost, may be without TLS"
            )
        return self

    @model_validator(mode="after")
    def _certificates_that_are_used(self) -> ArchiveSettings:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("ClientCertificate and ClientKey belong together: set both or none")
        if (self.ca_file or self.client_certificate) and not self.uses_tls:
            raise ValueError("CaFile and ClientCertificate need TLS: an https:// address, or Dimse.Tls")
        if self.dimse and self.dimse.tls and self.dimse.is_called_back and self.client_certificate is None:
            raise ValueError("with Dimse.Tls, C-MOVE and Commitment need ClientCertificate and ClientKey")
        return self
