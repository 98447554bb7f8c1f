"""Webhooks: tell other programs that a series is done, failed or was skipped, or that a delivery failed.

A notice is a delivery of its own: a workflow with retries that is listed, retried and cancelled like a copy. It names
UIDs and no patient data, and is signed as the Standard Webhooks specification says: HMAC-SHA256 over id, time and body.
Only addresses of the configuration are called; redirects are not followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from orthanc_plugin.archive.connection import told
from orthanc_plugin.config.webhooks import Event, WebhookSettings
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.errors import ConfigError, EnrichError, TransientError
from orthanc_plugin.identity import digest
from orthanc_plugin.jobs.deliveries import Deliveries
from orthanc_plugin.jobs.engine import NOTIFY
from orthanc_plugin.jobs.ledger import Decision

MARK = "@"
"""Before the name of a webhook where that of an archive may stand; no archive is called so."""
TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_LATER = (408, 425, 429)
"""Statuses that ask to come again, beside all from 500."""
_REMEDIES = {
    401: ": the receiver does not accept the signature: compare its secret with Secret",
    403: ": the receiver does not accept the signature: compare its secret with Secret",
    404: ": nothing takes messages at its Url: correct it",
    405: ": nothing takes messages at its Url: correct it",
}
_EVENT_OF = {JobState.DONE: Event.DONE, JobState.FAILED: Event.FAILED, JobState.SKIPPED: Event.SKIPPED}


@dataclass(frozen=True, slots=True)
class Notice(JsonRecord):
    """What a webhook is told.

    results: SOPInstanceUIDs of the stored objects. destination: of a delivery that failed; else empty.
    """

    event: str
    job: str
    archive: str
    study_instance_uid: str
    series_instance_uid: str
    rule: str
    reason: str
    detail: str
    results: tuple[str, ...] = ()
    destination: str = ""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Queues notices for the webhooks of a configuration."""

    settings: Mapping[str, WebhookSettings] = field(default_factory=dict)

    def tell(self, deliveries: Deliveries, row: Decision) -> None:
        """Tell how a job or a decision ended. Telling it twice does nothing; other states are not told."""
        event = _EVENT_OF.get(row.state)
        if event is not None:
            results = tuple(item.sop_instance_uid for item in row.summary.objects)
            self._queue(deliveries, row, _notice(event, row, row.detail, results))

    def delivery_failed(self, deliveries: Deliveries, row: Decision, destination: str, detail: str) -> None:
        """Tell that a delivery of a job failed at last."""
        self._queue(deliveries, row, _notice(Event.DELIVERY_FAILED, row, detail, destination=destination))

    def _queue(self, deliveries: Deliveries, row: Decision, notice: Notice) -> None:
        for name, settings in self.settings.items():
            if notice.event in settings.events:
                deliveries.add(subject_of(row), f"{MARK}{name}", notice.to_json(), NOTIFY, run=row.started_at)


def subject_of(row: Decision) -> str:
    """Give the id under which the notices of a decision are queued: that of its job, or one of the skip."""
    return row.job_id or digest(f"skip {row.fingerprint}")


def _notice(event: Event, row: Decision, detail: str, results: tuple[str, ...] = (), destination: str = "") -> Notice:
    return Notice(
        event, row.job_id, row.archive, row.study_instance_uid, row.series_instance_uid, row.rule, row.reason, detail,
        results, destination,
    )  # fmt: skip


def send(settings: Mapping[str, WebhookSettings], name: str, message_id: str, notice: Notice, now: datetime) -> str:
    """Send a notice, and say what the other side answered.

    Parameters
    ----------
    settings : mapping
        Webhooks by name.
    name : str
    message_id : str
        The same for each try, so that the receiver can drop what it has.
    notice : Notice
    now : datetime
        Time of this try.

    Raises
    ------
    ConfigError
        If there is no such webhook in the configuration any more.
    TransientError
        If the other side does not answer, or asks to come again.
    EnrichError
        If it refuses.
    """
    webhook = settings.get(name.removeprefix(MARK))
    if webhook is None:
        raise ConfigError(f"the configuration has no webhook {name.removeprefix(MARK)}")
    body = json.dumps({"type": f"series.{notice.event}", "timestamp": now.isoformat(), "data": _data(notice)}).encode()
    headers = signed(webhook.secret.get_secret_value(), message_id, now, body)
    try:
        with httpx.Client(timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client:
            status = client.post(webhook.url, content=body, headers=headers).status_code
    except httpx.HTTPError as error:
        raise TransientError(f"webhook {name.removeprefix(MARK)}: {told(error)}") from None
    if status >= 500 or status in _LATER:
        raise TransientError(f"webhook {name.removeprefix(MARK)} answered {status}")
    if not 200 <= status < 300:
        raise EnrichError(f"webhook {name.removeprefix(MARK)} answered {status}{_remedy(status)}")
    return f"answered {status}"


def _remedy(status: int) -> str:
    if 300 <= status < 400:
        return ": it redirects, and nobody follows: set its Url to the address that takes messages"
    return _REMEDIES.get(status, "")


def try_out(settings: Mapping[str, WebhookSettings], name: str, message_id: str, now: datetime) -> str:
    """Send a notice of the event `test` at once, and say what the other side answered; raise as `send`."""
    detail = "this is a test: the webhook works"
    return send(settings, name, message_id, Notice("test", "", "", "", "", "", "", detail), now)


def signed(secret: str, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Make the headers of a message (Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`)."""
    timestamp = str(int(now.timestamp()))
    mac = hmac.new(_key(secret), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(mac.digest()).decode()}",
    }


def _key(secret: str) -> bytes:
    """Give the key: what follows `whsec_` in Base64, as the libraries of the specification write it, or the text."""
    prefix, _, encoded = secret.partition("_")
    try:
        return base64.b64decode(encoded, validate=True) if prefix == "whsec" else secret.encode()
    except ValueError:
        return secret.encode()


def _data(notice: Notice) -> dict[str, object]:
    content: dict[str, object] = json.loads(notice.to_json())
    return content
