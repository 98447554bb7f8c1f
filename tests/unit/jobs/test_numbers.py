"""The numbers and the picture of a job, read back from its archive."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState, StageOutcome
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.numbers import StoredResults
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.results.sr.radiomics_table import to_csv, to_json
from tests.support.cases.location_case import CHEST
from tests.support.fakes.hand_job import HandProcess, job, run
from tests.support.fakes.memory_archive import MemoryArchive
from tests.support.servers.front_door import enqueue

ARCHIVES = parse_section({"Archives": {"local": {"Url": "http://pacs"}}}, {}).archives


@dataclass(frozen=True)
class Ended:
    """A job that ended, and what it stored."""

    id: str
    outcomes: dict[str, StageOutcome]
    archive: MemoryArchive
    results: StoredResults

    def stored(self, kind: Output) -> Dataset:
        (found,) = (o.stored for o in self.outcomes.values() if o.stored is not None and o.stored.kind is kind)
        ds = self.archive.find(found.study_instance_uid, found.series_instance_uid, found.sop_instance_uid)
        assert ds is not None
        return ds


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    process = HandProcess(CHEST)
    outcomes = run(process, job(None, Output.RADIOMICS, Output.PREVIEW))
    with closing(JobQueue(f"sqlite:///{tmp_path_factory.mktemp('state') / 'jobs.db'}")) as queue:
        job_id = enqueue(queue, "1.2.100")
        end(queue, job_id, tuple(o.stored for o in outcomes.values() if o.stored is not None))

        def opened(name: str, settings: ArchiveSettings) -> MemoryArchive:
            return process.archive

        yield Ended(job_id, outcomes, process.archive, StoredResults(queue, ARCHIVES, opened))


def end(queue: JobQueue, job_id: str, objects: tuple[StoredObject, ...]) -> None:
    assert queue.ledger.start(job_id)
    queue.ledger.end(job_id, JobState.DONE, "", "", Summary((), objects))


def test_the_tables_hold_the_numbers_of_the_stored_report(ended: Ended) -> None:
    rows = ended.results.radiomics(ended.id)
    in_report = sorted(
        float(item.MeasuredValueSequence[0].FloatingPointValue)
        for group in ended.stored(Output.RADIOMICS).ContentSequence[-1].ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    )
    in_csv = [float(row["value"]) for row in csv.DictReader(io.StringIO(to_csv(rows)))]
    assert sorted(in_csv) == in_report
    assert [row["value"] for row in json.loads(to_json(rows))] == in_csv


def test_the_preview_is_the_picture_of_the_stored_object(ended: Ended) -> None:
    png = ended.results.preview(ended.id)
    assert png is not None
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), ended.stored(Output.PREVIEW).pixel_array)
    assert ended.results.preview(ended.id, ended.stored(Output.PREVIEW).SOPInstanceUID) == png
    assert ended.results.preview(ended.id, ended.stored(Output.RADIOMICS).SOPInstanceUID) is None


def test_a_job_without_a_report_has_no_numbers_and_no_picture(tmp_path: Path) -> None:
    with closing(JobQueue(f"sqlite:///{tmp_path / 'jobs.db'}")) as queue:
        job_id = enqueue(queue, "1.2.101")
        end(queue, job_id, ())
        results = StoredResults(queue, ARCHIVES)
        assert results.radiomics(job_id) == ()
        assert results.preview(job_id) is None


def test_a_report_that_was_deleted_is_an_error_that_names_it(ended: Ended) -> None:
    series = ended.stored(Output.RADIOMICS).SeriesInstanceUID
    kept = dict(ended.archive.instances)
    ended.archive.delete(series)
    try:
        with pytest.raises(EnrichError, match="no longer in its archive"):
            ended.results.radiomics(ended.id)
    finally:
        ended.archive.instances = kept
