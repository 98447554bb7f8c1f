"""Backfill of studies that a real Orthanc held before anybody watched it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.desk import EXIT_DONE
from orthanc_plugin.config.read import load_configuration
from orthanc_plugin.domain.job import Priority
from orthanc_plugin.errors import TransientError
from orthanc_plugin.jobs.admissions import open_admission
from orthanc_plugin.jobs.orders import Orders, OrderState, parse_query
from orthanc_plugin.jobs.queue import JobQueue
from tests.support.fakes.memory_archive import ct_series
from tests.support.servers.orthanc_server import OrthancServer

DATES = ("20191231", "20200101", "20200615", "20201231", "20210101")
IN_2020 = "StudyDate=20200101-20201231,ModalitiesInStudy=CT"


@pytest.fixture(scope="module")
def orthanc(orthanc_installed: None) -> Iterator[OrthancServer]:
    """An Orthanc of this module's own: its tests count studies by date, and other tests of the run store some too."""
    with OrthancServer() as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, orthanc: OrthancServer) -> Path:
    """Five CT studies and an MR study in Orthanc; the settings of a service that has never run."""
    directory = tmp_path_factory.mktemp("site")
    files = []
    for number, (date, modality) in enumerate([*((date, "CT") for date in DATES), ("20200202", "MR")]):
        study = f"1.2.826.0.1.77.{number}"
        for ds in ct_series(study=study, series=f"{study}.1", patient=f"BACKFILL{number}", modality=modality):
            ds.StudyDate, ds.file_meta.MediaStorageSOPInstanceUID = date, ds.SOPInstanceUID
            files.append(directory / f"{ds.SOPInstanceUID}.dcm")
            ds.save_as(files[-1], enforce_file_format=True)
    orthanc.stow(files)
    local = {"Url": orthanc.dicomweb_url, "OrthancUrl": orthanc.url, "User": orthanc.user, "Password": orthanc.password}
    section = {"StateDirectory": str(directory / "state"), "Archives": {"local": local}}
    (directory / "orthanc.json").write_text(json.dumps({"Enrichment": section}))
    return directory / "orthanc.json"


def test_no_study_is_lost_behind_an_offset(site: Path, orthanc: OrthancServer) -> None:
    query = parse_query([IN_2020])
    with closing(DicomWebArchive("local", orthanc.dicomweb_url, orthanc.user, orthanc.password)) as archive:
        every, two, none = (archive.studies(query, offset) for offset in (0, 1, 3))
    assert set(every) == {f"1.2.826.0.1.77.{number}" for number in (1, 2, 3)}
    assert set(two) | set(none) <= set(every)  # an Orthanc that is asked without a limit ignores the offset
    wrong = DicomWebArchive("local", orthanc.url + "/wrong", orthanc.user, orthanc.password)
    with closing(wrong), pytest.raises(TransientError, match="check its Url"):
        wrong.studies(query, 0)


def test_a_running_service_carries_out_what_the_command_asks_for(
    site: Path, orthanc: OrthancServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = json.loads(site.read_text())["Enrichment"]
    section |= {"StateDirectory": str(tmp_path / "state"), "Service": {"Port": 0}, "Workers": 0}
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps({"Enrichment": section}))
    command = [sys.executable, "-m", "orthanc_plugin.cli", "service", "--config", str(file)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as service:
        try:
            assert service.stdout is not None
            assert b"port" in service.stdout.readline()
            asked = ["backfill", "--config", str(file), "--query", IN_2020, "--limit", "2", "--json"]
            assert cli.main(asked) == EXIT_DONE
            told = capsys.readouterr()
            order = json.loads(told.out)
            assert (order["state"], order["looked_at"], order["jobs"], order["known"]) == ("done", 2, 2, 0)
            assert "2 of 2 studies" in told.err
            assert cli.main([*asked[:-3], "--json"]) == EXIT_DONE
            order = json.loads(capsys.readouterr().out)
            assert (order["looked_at"], order["jobs"], order["known"]) == (3, 1, 2)
            service.terminate()
            assert service.wait(15) == 0
        finally:
            service.kill()


def test_old_studies_of_a_year_become_jobs_and_are_not_asked_for_twice(
    site: Path, orthanc: OrthancServer, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = load_configuration(site, {})
    with closing(JobQueue(configuration.database)) as queue, closing(open_admission(configuration, queue)) as admission:
        orders = Orders(queue.ledger)
        admission.tick(0.0)
        assert cli.main(["backfill", "--config", str(site), "--query", IN_2020, "--dry-run", "--json"]) == EXIT_DONE
        assert json.loads(capsys.readouterr().out)["counts"] == {"job by rule default": 3}
        assert queue.list() == ()
        placed = orders.place_query("local", parse_query([IN_2020]))
        for turn in range(1, 40):
            admission.tick(3.0 * turn)
        order = orders.get(placed.id)
        assert (order.state, order.looked_at, order.jobs, order.unreadable) == (OrderState.DONE, 3, 3, 0)
        assert {(job.study_instance_uid, job.priority) for job in queue.list()} == {
            (f"1.2.826.0.1.77.{number}", Priority.BACKFILL) for number in (1, 2, 3)
        }
        assert cli.main(["backfill", "--config", str(site), "--query", IN_2020, "--dry-run", "--json"]) == EXIT_DONE
        assert json.loads(capsys.readouterr().out)["counts"] == {"decided on before": 3}
