"""The section "Enrichment" of orthanc.json: one schema for the service, the workers and every command."""

from __future__ import annotations

import os
from datetime import time
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from orthanc_plugin.codes import REPORT_TITLE, Code
from orthanc_plugin.config.access import AccessSettings
from orthanc_plugin.config.archives import ArchiveName, ArchiveSettings
from orthanc_plugin.config.audit import AuditSettings
from orthanc_plugin.config.base import (
    SECRETS,
    AbsolutePath,
    OptionalWebAddress,
    Secret,
    Settings,
    ViewerAddress,
    is_loopback,
)
from orthanc_plugin.config.retention import RetentionSettings
from orthanc_plugin.config.rule import DEFAULT_RULE, Rule
from orthanc_plugin.config.webhooks import WebhookName, WebhookSettings
from orthanc_plugin.logs import LogFormat

SECTION = "Enrichment"
_KEY_LENGTH = 16


class ServiceSettings(Settings):
    """The service: who starts it, and where it listens."""

    start: bool = Field(
        default=True, description="true (the plugin starts the service) or false (it runs elsewhere, see Url)"
    )
    python: str = Field(
        default="", description="absolute path of the Python of the virtual environment", pattern="^(/.*)?$"
    )
    host: str = Field(
        default="127.0.0.1", description="an address to listen on; one that is not loopback needs AllowRemote: true"
    )
    port: int = Field(default=8043, ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")
    allow_remote: bool = Field(default=False, description="true or false")
    url: OptionalWebAddress = Field(
        default="", description="http(s)://host[:port][/path] without user; needed if Start is false"
    )
    internal_url: OptionalWebAddress = Field(
        default="", description="http(s)://host[:port][/path] without user, or empty: Url"
    )
    secret: Secret = Field(default=SecretStr(""), description="a text shared by plugin and service if Start is false")

    @model_validator(mode="after")
    def _exposed_by_choice(self) -> ServiceSettings:
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"Host {self.host} is reachable from other computers: set Host to 127.0.0.1 behind a TLS proxy,"
                " or AllowRemote to true"
            )
        if not self.start and not self.url:
            raise ValueError("Start is false: set Url to where the service runs")
        return self


class ReportTitle(Settings):
    """The coded title of the reports (PS3.3 Table 8.8-1)."""

    value: str = Field(
        default=REPORT_TITLE.value, pattern=r"^[^\\\s]{1,16}$", description="1 to 16 characters without spaces"
    )
    scheme: str = Field(
        default=REPORT_TITLE.scheme, pattern=r"^[^\\\s]{1,16}$", description="1 to 16 characters without spaces"
    )
    meaning: str = Field(default=REPORT_TITLE.meaning, pattern=r"^[^\\]{1,64}$", description="1 to 64 characters")

    @property
    def code(self) -> Code:
        """The title as a coded concept."""
        return Code(self.value, self.scheme, self.meaning)


class ViewerSettings(Settings):
    """Where pages and buttons open a study, and the OHIF that the service serves."""

    url: ViewerAddress = Field(
        default="",
        description="empty (the OHIF of the service), or an address of scheme http, https, weasis or slicer, or a path"
        " that begins with /; with {StudyInstanceUID}, and with {SeriesInstanceUID} and {SOPInstanceUID} if you want",
    )
    directory: AbsolutePath | None = Field(default=None, description="absolute path of a folder, or null")


class PatientColumn(StrEnum):
    """What tables call a patient."""

    PSEUDONYM = "pseudonym"
    ID = "id"
    NONE = "none"


class TableSettings(Settings):
    """What the tables of radiomics hold beside the values of the reports."""

    patient: PatientColumn = Field(
        default=PatientColumn.PSEUDONYM, description=", ".join(f'"{column}"' for column in PatientColumn)
    )
    key: Secret = Field(default=SecretStr(""), description="a text of 16 characters or more, or empty")

    @model_validator(mode="after")
    def _long_enough(self) -> TableSettings:
        if 0 < len(self.key.get_secret_value()) < _KEY_LENGTH:
            raise ValueError(f"Key needs {_KEY_LENGTH} characters or more")
        return self


class BackfillSettings(Settings):
    """How the studies of a backfill are mixed in."""

    lead: int = Field(default=20, ge=1, le=10000, description="1 to 10000")
    hours: str = Field(
        default="",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$",
        description='empty (at any time), or local times such as "20:00-06:00"',
    )

    @property
    def in_words(self) -> str:
        """What a backfill waits for outside its hours."""
        return f"the hours of backfills, {self.hours} (Backfill.Hours)"

    def is_open(self, now: time) -> bool:
        """Tell whether a backfill may work at this local time; the hours may go over midnight."""
        if not self.hours:
            return True
        start, end = (time.fromisoformat(text) for text in self.hours.split("-"))
        return start <= now < end if start < end else not end <= now < start


class LogSettings(Settings):
    """How service and workers write their logs."""

    format: LogFormat = Field(default=LogFormat.TEXT, description=", ".join(f'"{form}"' for form in LogFormat))


class Configuration(Settings):
    """The whole section. docs/configuration.md describes each key."""

    service: ServiceSettings = Field(default=ServiceSettings(), description="an object")
    state_directory: AbsolutePath = Field(
        default=Path("/var/lib/orthanc-enrichment"), description="absolute path of a folder of its own, on a local disk"
    )
    database: str = Field(
        default_factory=lambda valid: f"sqlite:///{valid.get('state_directory')}/jobs.db",
        pattern=r"^(sqlite:////.+|postgresql(\+psycopg)?://.+)$",
        repr=False,
        description="sqlite:////absolute/path or postgresql://...; left out: jobs.db in StateDirectory",
    )
    models_directory: AbsolutePath | None = Field(default=None, description="absolute path of a folder, or null")
    provider: Literal["auto", "cpu", "cuda", "tensorrt", "openvino"] = Field(
        default="auto", description='"auto", "cpu", "cuda", "tensorrt" or "openvino"'
    )
    archives: dict[ArchiveName, ArchiveSettings] = Field(
        description="an object, its names of 1 to 32 letters, digits, - or _"
    )
    stable_age_s: float = Field(default=60.0, ge=0, le=86400, description="seconds, 0 to 86400")
    reconcile_s: float = Field(
        default=300.0, alias="ReconcileSeconds", gt=0, le=86400, description="seconds, above 0 to 86400"
    )
    keep_superseded: bool = Field(default=False, description="true or false")
    wait_for_memory: bool = Field(default=True, description="true or false")
    viewer: ViewerSettings = Field(default=ViewerSettings(), description="an object with Url and Directory")
    backfill: BackfillSettings = Field(default=BackfillSettings(), description="an object with Lead and Hours")
    webhooks: dict[WebhookName, WebhookSettings] = Field(
        default={}, description="an object, its names of 1 to 32 letters, digits, - or _"
    )
    keep_without_source: bool = Field(default=False, description="true or false")
    take_over_s: float = Field(default=30.0, alias="TakeOverSeconds", ge=15, le=3600, description="seconds, 15 to 3600")
    stuck_s: float = Field(default=120.0, alias="StuckSeconds", ge=15, le=86400, description="seconds, 15 to 86400")
    workers: int = Field(default=1, ge=0, le=64, description="0 (only remote workers) to 64")
    worker_cores: int = Field(default=0, ge=0, le=4096, description="1 to 4096, or 0 for all but one")
    radiomics_processes: int = Field(
        default=0, ge=0, le=64, description="1 to 64, or 0 for one per core that each worker has"
    )
    radiomics_memory_mib: int = Field(default=2048, ge=256, le=1048576, description="MiB, 256 to 1048576")
    report_title: ReportTitle = Field(default=ReportTitle(), description="an object with Value, Scheme and Meaning")
    tables: TableSettings = Field(default=TableSettings(), description="an object with Patient and Key")
    retention: RetentionSettings = Field(default=RetentionSettings(), description="an object")
    log: LogSettings = Field(default=LogSettings(), description="an object")
    audit: AuditSettings = Field(default=AuditSettings(), description="an object")
    access: AccessSettings = Field(default=AccessSettings(), description="an object")
    require_tls: bool = Field(default=False, description="true or false")
    rules: tuple[Rule, ...] = Field(default=(DEFAULT_RULE,), description="a list of rules, tried in this order")

    @model_validator(mode="after")
    def _encrypted_where_asked(self) -> Configuration:
        plain = {name: archive.plain_hosts for name, archive in self.archives.items() if archive.plain_hosts}
        if self.require_tls and plain:
            named = "; ".join(f"{name} ({', '.join(hosts)})" for name, hosts in plain.items())
            raise ValueError(
                f"RequireTls is true, but these archives are reached without TLS: {named}: use https:// or Dimse.Tls"
            )
        return self

    @property
    def processes_for_radiomics(self) -> int:
        """Number of organs that a worker measures at the same time."""
        return self.radiomics_processes or max(1, len(os.sched_getaffinity(0)) // max(1, self.workers))


def section_json(configuration: Configuration) -> str:
    """Write the section as one line of JSON, passwords included: only for the stdin of a child process."""
    return configuration.model_dump_json(by_alias=True, context=SECRETS)
