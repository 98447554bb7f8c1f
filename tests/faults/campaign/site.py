"""The system under faults, and the count of what it lost, doubled or left behind."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import httpx
import psutil
from pydicom.dataset import FileDataset

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.hint import WAITING
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.watch import Pace
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.servers.orthanc_server import wait_until

RULE = {"Name": "campaign", "Radiomics": False, "Locate": "", "Outputs": ["seg", "checks"]}
RESULTS = 2
"""SEG and checks: the objects of each job."""
QUICK = Pace(beat_s=0.5, dead_s=6.0, idle_s=3.0)
HINT_S = 20.0
"""A hint that cannot be sent is tried again within this time."""
MARKER = "CAMPAIGN_SITE"
"""Environment variable that all processes of a site inherit."""


@dataclass(frozen=True, slots=True)
class Census:
    """What became of the series that were sent.

    lost: series without a job that is done and has its results. doubled: series with two jobs, or an object too many.
    orphans: objects that belong to no job, jobs and hints that stay open, processes that outlive the site.
    """

    sent: int
    lost: int
    doubled: int
    orphans: int


class Site(EnrichedOrthanc):
    """Orthanc with the plugin, the service of `stand_in.py` and its workers.

    Parameters
    ----------
    seconds : float
        How long the model takes.
    through : str
        DICOMweb root that the service and its workers use; empty: that of Orthanc.
    section : mapping
        Further keys of the section "Enrichment".
    environment : mapping
        Further environment variables of all processes.
    """

    def __init__(
        self,
        *,
        seconds: float = 0.1,
        through: Callable[[str], str] = str,
        section: Mapping[str, object] | None = None,
        stable_age_s: int = 1,
        pace: Pace = QUICK,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(stable_age_s=stable_age_s, section={"Workers": 2, "Rules": [RULE], **(section or {})})
        self.mark = uuid.uuid4().hex
        assert self.enrichment is not None
        self.enrichment["Service"] |= {"Python": str(self._python())}
        local = self.enrichment["Archives"]["local"]
        local["Url"] = through(local["Url"])
        paces = {"CAMPAIGN_SECONDS": str(seconds), "CAMPAIGN_PACE": json.dumps(asdict(pace)), MARKER: self.mark}
        self.environment |= paces | {"PYTHONDONTWRITEBYTECODE": ""} | dict(environment or {})
        self.sent: list[str] = []

    def _python(self) -> Path:
        """Write what the plugin starts as Service.Python: it ignores the arguments for the real service."""
        file = self.directory / "python"
        script = Path(__file__).with_name("stand_in.py")
        file.write_text(f"#!/bin/sh\nexec {sys.executable} {script} service\n")
        file.chmod(0o700)
        return file

    def send(self, count: int = 1) -> list[str]:
        """Store so many new series of 20 small slices; return their SeriesInstanceUIDs."""
        sent = [self._send(f"{self.mark}-{len(self.sent) + number}") for number in range(count)]
        self.sent += sent
        return sent

    def _send(self, seed: str) -> str:
        instances = encode_phantom(tiny_chest(), uid_seed=seed)
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        content = b"".join(head + _file(ds) + b"\r\n" for ds in instances) + f"--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        account = (self.user, self.password)  # a new connection: Orthanc may be closing the one of an earlier request
        url = f"{self.dicomweb_url}/studies"
        answer = httpx.post(url, content=content, headers=headers, auth=account, timeout=300, trust_env=False)
        answer.raise_for_status()
        return str(instances[0].SeriesInstanceUID)

    @contextmanager
    def queue(self) -> Iterator[JobQueue]:
        """Open the job database beside the service."""
        with closing(JobQueue(parse_section(self.enrichment, {}).database)) as queue:
            yield queue

    def processes(self, what: str) -> list[psutil.Process]:
        """Return the running processes of the site: `service`, `worker`, or all by an empty text."""
        return [process for process in psutil.process_iter() if self._is_ours(process, what)]

    def _is_ours(self, process: psutil.Process, what: str) -> bool:
        try:
            words = process.cmdline()
            stand_in = len(words) > 2 and words[1].endswith("stand_in.py") and (not what or words[2] == what)
            return stand_in and process.environ().get(MARKER) == self.mark
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def await_done(self, queue: JobQueue, within_s: float) -> None:
        """Wait until every series that was sent has a job that is done; a dead end does not end the wait."""
        wait_until(lambda: queue.ledger.counts().get(JobState.DONE, 0) >= len(self.sent), within_s, "the last job")

    def census(self, queue: JobQueue) -> Census:
        """Count, after the last job; stops Orthanc and all that it started."""
        stored = self._stored()
        rows = {uid: queue.ledger.of_series("local", uid) for uid in self.sent}
        made = {
            uid: [item.sop_instance_uid for row in found for item in row.summary.objects] for uid, found in rows.items()
        }
        known = {sop for sops in made.values() for sop in sops}
        lost = [
            uid for uid, found in rows.items()
            if JobState.DONE not in [row.state for row in found] or sum(sop in stored for sop in made[uid]) < RESULTS
        ]  # fmt: skip
        doubled = [
            uid for uid, found in rows.items() if len(found) > 1 or sum(stored[sop] for sop in made[uid]) > RESULTS
        ]  # fmt: skip
        for row in (row for uid in lost for row in rows[uid]):
            print("lost:", row.series_instance_uid, row.state, row.reason, row.detail, file=sys.stderr)
        orphans = [*(stored.keys() - known), *self._left_open(queue), *self._left_running()]
        for orphan in orphans:
            print("orphan:", orphan, file=sys.stderr)
        return Census(len(self.sent), len(lost), len(doubled), len(orphans))

    def _left_open(self, queue: JobQueue) -> list[str]:
        """Jobs that are not ended, and hints that are not decided on; the last stable event may still come."""
        wait = self.stable_age_s + HINT_S

        def left() -> list[str]:
            return [*(row.job_id for row in queue.ledger.open_jobs()), *queue.ledger.notes(WAITING)]

        time.sleep(self.stable_age_s)
        with suppress(AssertionError):
            wait_until(lambda: not left(), wait, "an empty queue")
        return left()

    def _left_running(self) -> list[str]:
        """Stop Orthanc; return the processes that outlive it."""
        processes = self.processes("")
        self.stop()
        _, alive = psutil.wait_procs(processes, timeout=20)
        return [str(process) for process in {*alive, *self.processes("")}]

    def _stored(self) -> Counter[str]:
        """Count the SEG and SR in Orthanc by SOPInstanceUID."""
        found: Counter[str] = Counter()
        for modality in ("SEG", "SR"):
            query = {"Level": "Instance", "Expand": True, "Query": {"Modality": modality}}
            instances = self.rest("/tools/find", "POST", query)
            assert isinstance(instances, list)
            found.update(instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances)
        return found


@cache
def tiny_chest() -> Phantom:
    """A chest of 20 slices of 32 x 32 pixels."""
    return make_phantom(shape=(20, 32, 32), spacing_mm=(6.0, 6.4, 6.4))


def _file(ds: FileDataset) -> bytes:
    content = BytesIO()
    ds.save_as(content, enforce_file_format=True)
    return content.getvalue()
