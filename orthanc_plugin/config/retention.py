"""How long the service keeps what it knows of jobs, its logs, its audit log and pictures."""

from __future__ import annotations

from pydantic import Field

from orthanc_plugin.config.base import Settings

_DAYS = "days, 1 to 36500, or 0 for ever"


class RetentionSettings(Settings):
    """What is older is removed by the service, every few hours."""

    job_days: int = Field(default=0, ge=0, le=36500, description=_DAYS)
    log_days: int = Field(default=0, ge=0, le=36500, description=_DAYS)
    audit_days: int = Field(default=0, ge=0, le=36500, description=_DAYS)
    preview_minutes: int = Field(default=60, ge=1, le=1440, description="minutes, 1 to 1440")
