"""A job database with decisions, backed up, lost and restored: the same for both kinds of database."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.jobs.backup import back_up, restore
from orthanc_plugin.jobs.queue import JobQueue
from tests.support.servers.front_door import enqueue, finish, skipped


def configured(folder: Path, database: str = "") -> Configuration:
    """Return settings with a state directory in a folder."""
    section: dict[str, object] = {
        "StateDirectory": str(folder / "state"),
        "Archives": {"local": {"Url": "http://127.0.0.1:1/dicom-web"}},
    }
    return parse_section(section | ({"Database": database} if database else {}), {})


def fill(configuration: Configuration) -> tuple[str, str]:
    """Write a job that is done, one that waits, and a skip; return the ids of the jobs."""
    with closing(JobQueue(configuration.database)) as queue:
        done, waiting = enqueue(queue, "1.2.1"), enqueue(queue, "1.2.2")
        finish(queue, done)
        queue.enqueue(skipped("1.2.3"))
    configuration.state_directory.mkdir(mode=0o700, exist_ok=True)
    for name in ("id", "pseudonym.key", "service.log", "worker-0.log.1", "service.lock", "audit.log"):
        (configuration.state_directory / name).write_text(f"content of {name}")
    return done, waiting


def decisions(configuration: Configuration) -> list[tuple[str, str]]:
    """Every decision as its series and state."""
    with closing(JobQueue(configuration.database)) as queue:
        return [(row.series_instance_uid, row.state.value) for row in queue.ledger.decisions()]


def check_that_a_restored_database_goes_on(configuration: Configuration, folder: Path, after: Configuration) -> None:
    """Back up, change, and restore; the job that waited is still in the engine's queue."""
    _, waiting = fill(configuration)
    before = decisions(configuration)
    back_up(configuration, folder / "backup.tar.gz")
    with closing(JobQueue(configuration.database)) as queue:
        queue.enqueue(skipped("1.2.4"))
        queue.cancel(waiting)
    assert decisions(configuration) != before
    restore(after, folder / "backup.tar.gz", replace=True)
    assert decisions(after) == before
    with closing(JobQueue(after.database)) as queue:
        assert queue._client.retrieve_workflow(waiting).get_status().status == "ENQUEUED"
        queue.cancel(waiting)
