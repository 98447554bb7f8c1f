"""The base class of all settings, and the kinds of values they hold."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    model_validator,
)
from pydantic.alias_generators import to_pascal

SECRETS = object()
"""Serialization context that writes passwords in clear text."""


def _key(name: str) -> str:
    """Give the key in orthanc.json of a field: PascalCase, without the unit."""
    return to_pascal(re.sub("_(s|mm|hu|mib)$", "", name))


SETTINGS_CONFIG = ConfigDict(alias_generator=_key, extra="forbid", hide_input_in_errors=True)


class Settings(BaseModel):
    """Base of all parts of the configuration: keys as in orthanc.json, no unknown keys, immutable."""

    model_config = ConfigDict(**SETTINGS_CONFIG, frozen=True)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a valid regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class Range(Settings):
    """A range from `Min` to `Max`, both included. None: no limit."""

    min: float | None = Field(default=None, description="a number, or null for no lower limit")
    max: float | None = Field(default=None, description="a number, or null for no upper limit")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("Min must not be above Max")
        return self

    def __contains__(self, value: float) -> bool:
        """Return whether a value lies in the range."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def in_words(self, unit: str = "") -> str:
        """Describe the range in words."""
        if self.max is None:
            return "known" if self.min is None else f"{self.min:g}{unit} or more"
        return f"{self.max:g}{unit} or less" if self.min is None else f"{self.min:g} to {self.max:g}{unit}"


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", text):
        raise ValueError("not a web address")
    return text.rstrip("/")


def _optional_web_address(text: str) -> str:
    return _web_address(text) if text else ""


VIEWER_FIELDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
"""What the address of a viewer may have in braces."""


def viewer_address(text: str) -> str:
    """Refuse schemes that run code in a page (`javascript:`), and braces that would stay in the address."""
    fields = re.findall(r"{(\w*)}", text)
    if text and not (
        re.fullmatch(r"(?:(?:https?|weasis|slicer)://|/(?!/))[^\s\\<>\"'`]+", text)
        and "StudyInstanceUID" in fields
        and set(fields) <= {*VIEWER_FIELDS}
        and not re.search(r"[{}]", re.sub(r"{\w*}", "", text))
    ):
        raise ValueError("not the address of a viewer")
    return text


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this computer only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not an absolute path")
    return path


def _reveal_on_request(secret: SecretStr, info: SerializationInfo[Any]) -> str:
    return secret.get_secret_value() if info.context is SECRETS else str(secret)


def _fetched(text: object) -> object:
    """Fetch a secret that is named instead of written: `file:/path`, or `credential:NAME` of systemd."""
    found = re.fullmatch("(file:)(/.+)|(credential:)(.*)", text) if isinstance(text, str) else None
    if found is None:
        return text
    path = Path(found[2]) if found[1] else _credential(found[4])
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file that it names cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("the file that it names is not a text in UTF-8") from None
    if not secret:
        raise ValueError("the file that it names is empty")
    return secret


def _credential(name: str) -> Path:
    """Return the file of a credential that systemd passed on (LoadCredential=, SetCredentialEncrypted=)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise ValueError("it names a credential of systemd, but CREDENTIALS_DIRECTORY is not set")
    if not name or "/" in name or name in (".", ".."):
        raise ValueError("a credential of systemd has a name without slashes")
    return Path(folder) / name


Secret = Annotated[SecretStr, BeforeValidator(_fetched), PlainSerializer(_reveal_on_request, when_used="json")]
WebAddress = Annotated[str, AfterValidator(_web_address)]
OptionalWebAddress = Annotated[str, AfterValidator(_optional_web_address)]
ViewerAddress = Annotated[str, AfterValidator(viewer_address)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
