"""Workers that die, stop or meet bad archives: they store what a run without faults stores, or give a reason."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.admissions import open_admission
from orthanc_plugin.jobs.executor import executor_id
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.support.cases.enriched import small_chest
from tests.support.servers.orthanc_server import OrthancServer, free_port, wait_until

STEPS = ("retrieve", "segment", "measure", "report", "check", "close")
ENDS = (JobState.DONE, JobState.FAILED, JobState.SKIPPED)
TIMES = ("DA", "TM", "DT")
WITHIN_S = 120.0


@dataclass(frozen=True)
class Site:
    """A state directory on an archive."""

    directory: Path
    section: dict[str, object]

    def __post_init__(self) -> None:
        (self.directory / "section.json").write_text(json.dumps(self.section))

    @contextmanager
    def worker(self, dies_after: str = "-") -> Iterator[subprocess.Popen[bytes]]:
        script = Path(__file__).with_name("killing_worker.py")
        arguments = [str(self.directory / "section.json"), dies_after, str(self.directory / "died")]
        with (self.directory / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def log(self) -> str:
        return (self.directory / "worker.log").read_text()


def site(directory: Path, orthanc: OrthancServer, url: str = "") -> Site:
    local = {"Url": url or orthanc.dicomweb_url, "OrthancUrl": orthanc.url}
    account = {"User": orthanc.user, "Password": orthanc.password}
    return Site(
        directory,
        {"StateDirectory": str(directory / "state"), "StableAge": 0, "Provider": "cpu",
         "Archives": {"local": local | account}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def phantom() -> Sequence[Dataset]:
    return encode_phantom(small_chest(), uid_seed="jobs")


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[OrthancServer]:
    """An Orthanc for this module only: its tests need an empty archive."""
    with OrthancServer() as started:
        yield started


@pytest.fixture
def empty(server: OrthancServer) -> OrthancServer:
    """The Orthanc of this module, emptied."""
    for patient in server.rest("/patients"):  # type: ignore[attr-defined]
        server.rest(f"/patients/{patient}", "DELETE")
    return server


def send(orthanc: OrthancServer, instances: Sequence[Dataset]) -> None:
    """Store instances in one STOW request, through files."""
    folder = orthanc.directory / "sent"
    folder.mkdir(exist_ok=True)
    files = []
    for number, ds in enumerate(instances):
        files.append(folder / f"{number}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    orthanc.stow(files)


@contextmanager
def queue_of(place: Site) -> Iterator[JobQueue]:
    with closing(JobQueue(parse_section(place.section, {}).database)) as queue:
        yield queue


def admit(place: Site, queue: JobQueue, ds: Dataset) -> str:
    """Decide on the series; returns its job."""
    configuration = parse_section(place.section, {})
    with closing(open_admission(configuration, queue)) as admission:
        admission.hint(Hint("local", str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), stable=True))
        admission.tick(0.0)
    return queue.list()[0].id


def ended(queue: JobQueue, job: str, place: Site) -> JobView:
    try:
        return wait_until(lambda: view if (view := queue.show(job)).state in ENDS else None, WITHIN_S, "end of the job")
    except AssertionError:
        print(place.log()[-4000:])
        raise


def stored(place: Site, view: JobView) -> dict[str, str]:
    """Return the stored results of a job, without times."""
    configuration = parse_section(place.section, {})
    found = {}
    with closing(open_archive("local", configuration.archives["local"])) as archive:
        for item in view.objects:
            ds = archive.find(item.study_instance_uid, item.series_instance_uid, item.sop_instance_uid)
            assert ds is not None
            found[item.kind] = json.dumps(timeless(ds.to_json_dict()), sort_keys=True)
    return found


def timeless(value: object) -> object:
    """Remove dates and times from DICOM JSON: all else must be the same in each run."""
    if isinstance(value, dict):
        return {key: timeless(v) for key, v in value.items() if not (isinstance(v, dict) and v.get("vr") in TIMES)}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def results_in(orthanc: OrthancServer) -> int:
    series = orthanc.rest("/series?expand")  # one request: a withdrawal may remove series meanwhile
    return sum(one["MainDicomTags"]["Modality"] in ("SEG", "SR") for one in series)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, server: OrthancServer, phantom: Sequence[Dataset]
) -> tuple[JobView, dict[str, str]]:
    """The results of a run without faults."""
    place = site(tmp_path_factory.mktemp("undisturbed"), server)
    send(server, phantom)
    with queue_of(place) as queue, place.worker() as worker:
        view = ended(queue, admit(place, queue, phantom[0]), place)
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(10) == 0
    return view, stored(place, view)


def test_a_job_ends_done_with_seconds_and_memory_of_each_stage(undisturbed: tuple[JobView, dict[str, str]]) -> None:
    view, objects = undisturbed
    assert (view.state, view.error) == (JobState.DONE, "")
    assert [stage.name.split()[0] for stage in view.stages] == [
        "retrieve", "segment", "segment", "measure", "report", "check"
    ]  # fmt: skip
    assert all(stage.seconds >= 0 and stage.peak_mib > 50 for stage in view.stages)
    assert set(objects) == {"seg", "radiomics", "landmarks", "checks"}
    assert not any(item.adopted for item in view.objects)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_it_ends_with_the_same_objects(
    step: str, tmp_path: Path, undisturbed: tuple[JobView, dict[str, str]], empty: OrthancServer,
    phantom: Sequence[Dataset],
) -> None:  # fmt: skip
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue:
        job = admit(place, queue, phantom[0])
        with place.worker(dies_after=step) as victim:
            assert victim.wait(WITHIN_S) == -signal.SIGKILL
        with place.worker():
            view = ended(queue, job, place)
    assert view.state is JobState.DONE, view.error
    assert stored(place, view) == undisturbed[1]
    assert results_in(empty) == len(view.objects)


def test_what_is_done_with_a_job(tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]) -> None:
    """A retried job adopts; one more slice makes another job, whose results replace the earlier ones; a series that
    changed before its job ran is gone, and so are its results.
    """
    place = site(tmp_path, empty)
    send(empty, phantom[:-2])
    with queue_of(place) as queue, place.worker():
        first = admit(place, queue, phantom[0])
        assert ended(queue, first, place).state is JobState.DONE
        queue.retry(first)
        again = ended(queue, first, place)
        assert again.state is JobState.DONE
        assert all(item.adopted for item in again.objects)
        send(empty, phantom[-2:-1])
        late = admit(place, queue, phantom[0])
        assert late != first
        assert ended(queue, late, place).state is JobState.DONE
        row = queue.ledger.of_job(first)
        assert row is not None
        assert row.superseded_by
        wait_until(lambda: results_in(empty) == 4, 30, "the withdrawal of the first results")
        wait_until(lambda: [d.state for d in queue.show(first).deliveries] == [JobState.DONE], 30, "its record")
        assert queue.show(first).deliveries[0].kind == "withdraw"
        send(empty, phantom[-1:])
        queue.retry(late)
        gone = ended(queue, late, place)
        assert (gone.state, queue.ledger.of_job(late).reason) == (JobState.SKIPPED, "gone")  # type: ignore[union-attr]
        wait_until(lambda: results_in(empty) == 0, 30, "the withdrawal of results without a source")


def test_superseded_results_stay_if_the_settings_say_so(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    plain = site(tmp_path, empty)
    place = Site(plain.directory, {**plain.section, "KeepSuperseded": True})
    with queue_of(place) as queue, place.worker():
        for slices in (phantom[:-1], phantom[-1:]):
            send(empty, slices)
            assert ended(queue, admit(place, queue, phantom[0]), place).state is JobState.DONE
        assert results_in(empty) == 8
        assert not queue.deliveries.list()


def test_a_source_that_is_deleted_during_the_job_leaves_no_result(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue, place.worker():
        job = admit(place, queue, phantom[0])
        wait_until(lambda: queue.show(job).stage.startswith("measure"), WITHIN_S, "a stored SEG")
        for patient in empty.rest("/patients"):  # type: ignore[attr-defined]
            empty.rest(f"/patients/{patient}", "DELETE")
        view = ended(queue, job, place)
        assert (view.state, queue.ledger.of_job(job).reason) == (JobState.SKIPPED, "gone"), view.error  # type: ignore[union-attr]
        wait_until(lambda: queue.deliveries.list()[0].state is JobState.DONE, 30, "the withdrawal")
    assert empty.rest("/patients") == []


def test_results_go_with_a_series_that_is_deleted_after_its_job(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue, place.worker():
        job = admit(place, queue, phantom[0])
        assert ended(queue, job, place).state is JobState.DONE
        assert results_in(empty) == 4
        (series,) = empty.rest("/tools/find", "POST", {"Level": "Series", "Query": {"Modality": "CT"}})  # type: ignore[misc]
        empty.rest(f"/series/{series}", "DELETE")
        with closing(open_admission(parse_section(place.section, {}), queue)) as admission:
            for now in (0.0, 300.0):
                assert results_in(empty) == 4
                admission.reconcile(now)
        wait_until(lambda: results_in(empty) == 0, 30, "the withdrawal")
        row = queue.ledger.of_job(job)
        assert row is not None
        assert (row.state, row.reason) == (JobState.SKIPPED, "gone")


def test_an_archive_that_refuses_ends_the_job_with_its_answer(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue:
        job = admit(place, queue, phantom[0])
        away = site(tmp_path, empty, url=f"http://127.0.0.1:{free_port()}/dicom-web")
        with away.worker():
            view = ended(queue, job, place)
    assert view.state is JobState.FAILED
    assert view.error.startswith("TransientError: archive local: nothing listens at its address")


def test_a_poison_job_ends_after_three_workers(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue:
        job = admit(place, queue, phantom[0])
        for _ in range(4):
            (tmp_path / "died").unlink(missing_ok=True)
            with place.worker(dies_after="retrieve") as victim:
                ends = wait_until(
                    lambda v=victim: v.poll() is not None or settled(queue, job), WITHIN_S, "a death or an end"
                )
                assert ends
        assert settled(queue, job)
        view = queue.show(job)
    assert (view.state, view.error) == (JobState.FAILED, "the worker died each time it ran this job")


def settled(queue: JobQueue, job: str) -> bool:
    queue.settle()
    return queue.show(job).state is JobState.FAILED


def test_a_worker_stops_within_ten_seconds_and_its_job_goes_on(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue:
        job = admit(place, queue, phantom[0])
        with place.worker() as first:
            wait_until(lambda: queue.show(job).state is JobState.RUNNING, WITHIN_S, "start of the job")
            first.terminate()
            assert first.wait(10) == 0
        with place.worker():
            assert ended(queue, job, place).state is JobState.DONE


def test_a_worker_stops_in_time_although_another_program_locks_the_database(
    tmp_path: Path, empty: OrthancServer, phantom: Sequence[Dataset]
) -> None:
    place = site(tmp_path, empty)
    send(empty, phantom)
    with queue_of(place) as queue:
        job = admit(place, queue, phantom[0])
        with place.worker() as first:
            wait_until(lambda: queue.show(job).state is JobState.RUNNING, WITHIN_S, "start of the job")
            with closing(sqlite3.connect(tmp_path / "state" / "jobs.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                first.terminate()
                assert first.wait(10) == 0
        with place.worker():
            assert ended(queue, job, place).state is JobState.DONE
    assert "leaves with its jobs" in place.log()


def test_two_workers_never_share_a_slot(tmp_path: Path, empty: OrthancServer) -> None:
    place = site(tmp_path, empty)
    with place.worker() as first:
        wait_until(lambda: (tmp_path / "state" / "worker-0.lock").exists(), 30)
        wait_until(lambda: (tmp_path / "state" / "jobs.db").exists(), 30)
        with place.worker() as second:
            assert second.wait(60) == 1
        assert first.poll() is None
    assert "worker slot 0 is taken" in place.log()
    assert executor_id(tmp_path / "state", 0) != executor_id(tmp_path / "state", 1)
