"""Power cuts and kills during the main job: nothing is lost, doubled or left running."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread

from orthanc_plugin.phantoms.dicom import write_phantom
from tests.support.cases.enriched import EnrichedOrthanc, files_of, small_chest
from tests.support.servers.orthanc_server import wait_until

KINDS = ["SEG", "SR", "SR", "SR"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, small_chest())
    return folder


@pytest.fixture
def new_server(orthanc_installed: None) -> Iterator[Callable[..., EnrichedOrthanc]]:
    made: list[EnrichedOrthanc] = []

    def make(**arguments: int) -> EnrichedOrthanc:
        made.append(EnrichedOrthanc(**arguments))
        return made[-1]

    yield make
    for server in made:
        server.close()


def uids(folder: Path) -> tuple[str, str]:
    ds = dcmread(files_of(folder)[0], stop_before_pixels=True)
    return ds.StudyInstanceUID, ds.SeriesInstanceUID


def process(server: EnrichedOrthanc, command: str) -> psutil.Process | None:
    for child in server.children():
        try:
            if command in child.cmdline():
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def test_restart_inside_stable_age_loses_nothing(new_server: Callable[..., EnrichedOrthanc], phantom: Path) -> None:
    study, series = uids(phantom)
    server = new_server(stable_age_s=3).start()
    server.await_service()
    server.stow(files_of(phantom))
    server.restart()
    assert server.await_final(series)["state"] == "done"
    assert [ds.Modality for ds in sorted(server.results(study), key=lambda ds: ds.Modality)] == KINDS


def test_series_that_arrives_while_the_service_is_down_is_enriched(
    new_server: Callable[..., EnrichedOrthanc], phantom: Path
) -> None:
    _, series = uids(phantom)
    server = new_server().start()
    server.await_service()
    service = process(server, "service")
    assert service is not None
    service.send_signal(signal.SIGSTOP)
    server.stow(files_of(phantom))
    time.sleep(3)  # the stable event is sent while nobody listens
    service.kill()
    assert server.await_final(series)["state"] == "done"


def test_orthanc_killed_leaves_no_orphan_and_the_job_ends_once(
    new_server: Callable[..., EnrichedOrthanc], phantom: Path
) -> None:
    study, series = uids(phantom)
    server = new_server().start()
    server.await_service()
    server.stow(files_of(phantom))
    wait_until(lambda: server.rows(series), 60, "a decision")
    family = server.children()
    assert len(family) >= 2
    server.kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
    server.start()
    assert server.await_final(series)["state"] == "done"
    assert sorted(ds.Modality for ds in server.results(study)) == KINDS


def test_stop_is_clean_within_ten_seconds(new_server: Callable[..., EnrichedOrthanc], phantom: Path) -> None:
    _, series = uids(phantom)
    server = new_server().start()
    server.await_service()
    server.stow(files_of(phantom))
    wait_until(lambda: server.rows(series), 60, "a decision")
    family = server.children()
    started = time.monotonic()
    assert server.stop() == 0
    _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []
    assert time.monotonic() - started < 15


def test_killed_worker_is_restarted_and_its_job_resumed(
    new_server: Callable[..., EnrichedOrthanc], phantom: Path
) -> None:
    study, series = uids(phantom)
    server = new_server().start()
    server.await_service()
    server.stow(files_of(phantom))
    wait_until(lambda: any(row["state"] == "running" for row in server.rows(series)), 60, "a running job")
    worker = process(server, "worker")
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert server.await_final(series)["state"] == "done"
    assert sorted(ds.Modality for ds in server.results(study)) == KINDS
