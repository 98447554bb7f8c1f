"""The audit log: its key, and the syslog server to which it is sent."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from orthanc_plugin.config.base import AbsolutePath, Secret, Settings

_SHORTEST_KEY = 24


class AuditSettings(Settings):
    """Who did what is always written down; this says how it is protected and where it is sent."""

    key: Secret = Field(default=SecretStr(""), description=f"a text of {_SHORTEST_KEY} characters or more, or empty")
    syslog: str = Field(
        default="",
        pattern=r"^((udp|tcp|tls)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):\d{1,5})?$",
        description="udp://, tcp:// or tls:// with host:port, or empty",
    )
    ca_file: AbsolutePath | None = Field(default=None, description="absolute path of a PEM file, or null")
    site: str = Field(default="", max_length=64, description="a text of at most 64 characters, or empty")

    @model_validator(mode="after")
    def _fits(self) -> AuditSettings:
        if 0 < len(self.key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"Key needs {_SHORTEST_KEY} characters or more")
        if self.ca_file is not None and not self.syslog.startswith("tls:"):
            raise ValueError("CaFile is for a Syslog address that begins with tls://")
        return self
