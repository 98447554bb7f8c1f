"""Stub workers on a job database, and what they did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from orthanc_plugin.domain.job import JobState, Priority
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.watch import Pace
from tests.support.fakes.hand_job import job as hand_job
from tests.support.servers.orthanc_server import wait_until

SHORT = Pace(beat_s=0.5, dead_s=6.0, idle_s=2.0)


@dataclass(frozen=True)
class Note:
    """One line that a stage left."""

    job: str
    stage: str
    what: str
    pid: int
    at: float


@dataclass(frozen=True)
class StubSite:
    """A job database and a folder for state directories; `seconds`: how long the second stage of a job takes.

    waits_for: what the second stage says that it waits for. fails: whether the last stage does.
    log_format: format of the logs of the workers.
    """

    directory: Path
    database: str
    seconds: float = 0.2
    pace: Pace = SHORT
    waits_for: str = ""
    fails: bool = False
    log_format: str = "text"

    @contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker with a state directory of its own."""
        section = {
            "StateDirectory": str(self.directory / name),
            "Database": self.database,
            "Log": {"Format": self.log_format},
            "Stub": {
                "Stores": str(self.directory / "notes"),
                "Seconds": self.seconds,
                "WaitsFor": self.waits_for,
                "Fails": self.fails,
            },
        }
        files = [self.directory / f"{name}.json", self.directory / "pace.json"]
        files[0].write_text(json.dumps(section))
        files[1].write_text(json.dumps(asdict(self.pace)))
        command = [sys.executable, str(Path(__file__).with_name("stub_worker.py")), str(files[0]), "0", str(files[1])]
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def notes(self) -> list[Note]:
        """Return what the stages left, in order."""
        file = self.directory / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        cells = (line.split(",") for line in lines)
        return [Note(job, stage, what, int(pid), float(at)) for job, stage, what, pid, at in cells]

    def ends(self, stage: str) -> Counter[str]:
        """Count how often a stage ended, for each job."""
        return Counter(note.job for note in self.notes() if (note.stage, note.what) == (stage, "ends"))

    def begun(self, stage: str) -> list[Note]:
        """Return the begins of a stage."""
        return [note for note in self.notes() if (note.stage, note.what) == (stage, "begins")]


def enqueue(queue: JobQueue, number: int, priority: Priority = Priority.NORMAL, job_id: str = "") -> str:
    """Queue one stub job and return its id."""
    job_id, made = job_id or f"job-{number}", hand_job(None)
    now = datetime.now(UTC)
    assert queue.enqueue(
        Decision(
            "local", "1.2", f"1.2.{number}", f"f{number}", 0, "", now, Verdict.ENRICH, JobState.QUEUED,
            job_id=job_id, rule="default", argument=made.to_json(), priority=priority,
        ),
        made,
    )  # fmt: skip
    return job_id


def check_that_the_urgent_job_comes_first(place: StubSite, queue: JobQueue) -> None:
    """Queue jobs of each priority, the urgent one last, and see in which order one worker takes them."""
    queue.pause(True)
    wanted = (Priority.BACKFILL, Priority.NORMAL, Priority.NORMAL, Priority.URGENT)
    jobs = [enqueue(queue, number, priority) for number, priority in enumerate(wanted)]
    assert [queue.show(job).priority for job in jobs] == list(wanted)
    queue.pause(False)
    with place.worker("a"):
        wait_until(lambda: all_done(queue), 60, "the end of the jobs")
    assert [note.job for note in place.begun("retrieve")] == [jobs[3], jobs[1], jobs[2], jobs[0]]


def all_done(queue: JobQueue) -> bool:
    """Tell whether no job is open; print nothing and settle what died."""
    queue.settle()
    return set(queue.ledger.counts()) == {JobState.DONE}
