"""Webhooks: the only addresses that are told of events, and the secret that proves who tells."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from orthanc_plugin.config.base import Secret, Settings, WebAddress, is_loopback

WebhookName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
SHORTEST_SECRET = 24


class Event(StrEnum):
    """What happened. The value is a stable code."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    DELIVERY_FAILED = "delivery-failed"


class WebhookSettings(Settings):
    """An address that is told of events."""

    url: WebAddress = Field(description="http(s)://host[:port][/path] without user")
    secret: Secret = Field(min_length=SHORTEST_SECRET, description=f"a text of at least {SHORTEST_SECRET} characters")
    events: tuple[Event, ...] = Field(
        default=tuple(Event), description="a list of " + ", ".join(f'"{event}"' for event in Event)
    )

    @model_validator(mode="after")
    def _safe_on_its_way(self) -> WebhookSettings:
        if self.url.startswith("http:") and not is_loopback(urlsplit(self.url).hostname or ""):
            raise ValueError("Url needs https://; only an address of this computer may be without TLS")
        return self
