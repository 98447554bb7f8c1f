"""The job database on PostgreSQL: ledger, queue and a worker of its own configuration, by nothing but the URL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from orthanc_plugin.config.read import load_configuration
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import EnrichError, Refusal
from orthanc_plugin.jobs import backup, heartbeat, ledger
from orthanc_plugin.jobs.admissions import open_admission
from orthanc_plugin.jobs.cores import NICENESS
from orthanc_plugin.jobs.database import database_engine_url
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision, Verdict
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.watch import Pace
from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.faults.stub_site import StubSite, all_done, check_that_the_urgent_job_comes_first, enqueue
from tests.support.cases.backups import check_that_a_restored_database_goes_on, configured
from tests.support.cases.enriched import small_chest
from tests.support.servers.orthanc_server import OrthancServer, wait_until
from tests.support.servers.postgresql import PASSWORD, PostgreSql, postgresql

LONG_UID = "1.2." + "9" * 100
SKIP = Decision(
    "local", "1.2", LONG_UID, "f1", 0, "", datetime(2026, 1, 1, tzinfo=UTC), Verdict.SKIP, JobState.SKIPPED,
    reason="no-rule", detail="rule " * 1000,
)  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSql]:
    with postgresql() as server:
        yield server


def test_uids_that_are_too_long_are_decided_on_all_the_same(database: PostgreSql) -> None:
    with closing(JobQueue(database.url)) as queue:
        assert queue.enqueue(SKIP)
        assert not queue.enqueue(SKIP)
        assert queue.ledger.of_series("local", LONG_UID) == (SKIP,)


def test_a_series_that_was_passed_over_is_found_once_the_chosen_one_is_refused(database: PostgreSql) -> None:
    decided = datetime(2026, 1, 2, tzinfo=UTC)
    chosen = Decision(
        "local", "1.8", "1.8.1", "f8", 0, "", decided, Verdict.ENRICH, JobState.SKIPPED,
        reason=Refusal.MISSING_SLICE, job_id="j8", rule="chest",
    )  # fmt: skip
    other = replace(
        chosen, series_instance_uid="1.8.2", fingerprint="f9", decision=Verdict.SKIP, job_id="",
        reason=Refusal.BETTER_SERIES,
    )  # fmt: skip
    elsewhere = replace(other, study_instance_uid="1.9", series_instance_uid="1.9.2", fingerprint="f10")
    with closing(JobQueue(database.url)) as queue:
        for decision in (chosen, other, elsewhere):
            assert queue.enqueue(decision)
        assert queue.ledger.passed_over(decided) == (other,)
        assert queue.ledger.passed_over(decided + timedelta(days=1)) == ()
        queue.ledger.give_up(other)
        assert queue.ledger.passed_over(decided) == ()


def test_a_restart_of_the_database_is_not_noticed(database: PostgreSql) -> None:
    with closing(JobQueue(database.url)) as queue:
        before = queue.ledger.counts()
        database.restart()
        assert queue.ledger.counts() == before


def test_a_worker_with_a_configuration_of_its_own_carries_a_job_out(
    tmp_path: Path, database: PostgreSql, orthanc: OrthancServer
) -> None:
    files = []
    for number, ds in enumerate(encode_phantom(small_chest(), uid_seed="postgresql")):
        files.append(tmp_path / f"{number}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    orthanc.stow(files)
    local = {"Url": orthanc.dicomweb_url, "OrthancUrl": orthanc.url, "User": orthanc.user, "Password": orthanc.password}
    section = {"StateDirectory": str(tmp_path / "state"), "Database": database.url, "Archives": {"local": local}}
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps({"Enrichment": section | {"Provider": "cpu"}}))
    command = [sys.executable, "-m", "orthanc_plugin.cli", "worker", "--config", str(file), "--slot", "3"]
    configuration = load_configuration(file, {})
    log = tmp_path / "worker.log"
    with closing(JobQueue(configuration.database)) as queue, closing(open_admission(configuration, queue)) as admission:
        admission.hint(Hint("local", str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), stable=True))
        admission.tick(0.0)
        (job,) = [each for each in queue.list() if each.series_instance_uid == ds.SeriesInstanceUID]
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as worker:
            try:
                ends = (JobState.DONE, JobState.FAILED, JobState.SKIPPED)
                view = wait_until(lambda: v if (v := queue.show(job.id)).state in ends else None, 120.0, "the job")
                assert (view.state, view.error) == (JobState.DONE, "")
                assert psutil.Process(worker.pid).nice() >= NICENESS
                assert len(view.objects) == 4  # SEG, and SR of radiomics, landmarks and checks
                worker.terminate()
                assert worker.wait(10) == 0
            finally:
                worker.kill()
    assert PASSWORD not in log.read_text()
    assert not list((tmp_path / "state").glob("*.db"))


def test_another_worker_takes_over_within_a_minute(tmp_path: Path) -> None:
    """With the default pace: two workers, each with a state directory of its own, one of them killed in mid-job."""
    with postgresql() as server, closing(JobQueue(server.url)) as queue:
        place = StubSite(tmp_path, server.url, seconds=5.0, pace=Pace())
        jobs = [enqueue(queue, number) for number in range(2)]
        with place.worker("a") as first, place.worker("b"):
            wait_until(lambda: len(place.begun("segment stub")) == 2, 60, "both at work")
            first.kill()
            killed = time.monotonic()
            wait_until(lambda: len(place.begun("segment stub")) == 3, 60, "the take-over")
            assert time.monotonic() - killed < 60
            wait_until(lambda: all_done(queue), 30, "the end of the jobs")
    assert place.ends("segment stub") == dict.fromkeys(jobs, 1)


def test_an_urgent_job_that_was_queued_last_comes_first(tmp_path: Path) -> None:
    with postgresql() as server, closing(JobQueue(server.url)) as queue:
        check_that_the_urgent_job_comes_first(StubSite(tmp_path, server.url), queue)


def test_clocks_that_differ_make_no_job_stuck(database: PostgreSql, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's clock is an hour behind, and that of the judge an hour ahead."""

    class Behind(datetime):
        hours = -1

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=cls.hours)

    with closing(JobQueue(database.url)) as queue:
        job = enqueue(queue, 77)
        for module in (ledger, heartbeat):
            monkeypatch.setattr(module, "datetime", Behind)
        assert queue.ledger.start(job)
        queue.heartbeats.beat("worker-0", "steps-1", [])
        Behind.hours = 1
        assert job not in queue.stuck()
        with queue.ledger.begin() as connection:
            long_ago = (datetime.now(UTC) - timedelta(hours=2)).isoformat(timespec="milliseconds")
            connection.execute(sa.update(ledger._decisions).values(started_at=long_ago))
        assert job in queue.stuck()
        queue.heartbeats.beat("worker-0", "steps-1", [job])
        assert job not in queue.stuck()
        monkeypatch.undo()
        queue.cancel(job)


def test_a_backup_is_restored(database: PostgreSql, tmp_path: Path) -> None:
    engine = sa.create_engine(database_engine_url(database.url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE kept"))
    engine.dispose()
    site = configured(tmp_path, database.url.replace("/postgres", "/kept"))
    check_that_a_restored_database_goes_on(site, tmp_path, site)


def test_a_backup_without_the_programs_of_postgresql(
    database: PostgreSql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    JobQueue(database.url).close()
    site = configured(tmp_path, database.url)
    monkeypatch.setattr(backup.shutil, "which", lambda program: None)
    with pytest.raises(EnrichError, match="apt install postgresql-client"):
        backup.back_up(site, tmp_path / "b.tar.gz")
    assert list(tmp_path.glob("**/*.tar.gz")) == []
