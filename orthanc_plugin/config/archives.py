"""Archives, and the accounts that the service and the workers use there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from orthanc_plugin.config.base import OptionalWebAddress, Secret, Settings, WebAddress

ArchiveName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]


class ArchiveSettings(Settings):
    """An archive, and the account with which the service and the workers log in to it."""

    url: WebAddress = Field(description="the DICOMweb root, http(s)://host[:port]/path without user")
    orthanc_url: OptionalWebAddress = Field(
        default="", description="Orthanc's REST root, or empty if the archive is not an Orthanc"
    )
    user: str = Field(default="", pattern="^[^:]*$", description="a user name without colon, or empty for no login")
    password: Secret = Field(default=SecretStr(""), description="a text; needed if User is set")

    @model_validator(mode="after")
    def _password_for_user(self) -> ArchiveSettings:
        if self.user and not self.password.get_secret_value():
            raise ValueError("User is set but Password is empty")
        return self
