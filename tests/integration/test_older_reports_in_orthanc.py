"""A report of an older version is written anew after its series was deleted and its job was run again."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.cli import main as cli
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.support.cases.enriched import EnrichedOrthanc, small_chest
from tests.support.servers.orthanc_server import wait_until

NEW, OLD = "{unitless}", "1"


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    with EnrichedOrthanc() as orthanc:
        orthanc.await_service()
        yield orthanc


def units(item: Dataset) -> set[str]:
    """The units of all numbers of a report."""
    own = {one.MeasurementUnitsCodeSequence[0].CodeValue for one in item.get("MeasuredValueSequence", [])}
    return own.union(*(units(child) for child in item.get("ContentSequence", [])))


def as_older_versions_wrote(item: Dataset) -> None:
    for value in item.get("MeasuredValueSequence", []):
        unit = value.MeasurementUnitsCodeSequence[0]
        unit.CodeValue = OLD if unit.CodeValue == NEW else unit.CodeValue
    for child in item.get("ContentSequence", []):
        as_older_versions_wrote(child)


def delete_series(server: EnrichedOrthanc, series_uid: str) -> None:
    (found,) = server.client.post("/tools/lookup", content=series_uid).json()
    server.client.delete(f"/series/{found['ID']}").raise_for_status()


def run_again(server: EnrichedOrthanc, row: dict[str, str]) -> None:
    """Run the job again as the documentation says, and wait for its end."""
    config = server.directory / "orthanc.json"
    assert cli.main(["jobs", "retry", row["job_id"], "--config", str(config), "--json"]) == cli.EXIT_DONE
    server.await_final(row["series_instance_uid"])


def test_a_report_with_older_units_is_written_anew_once_its_series_is_deleted(server: EnrichedOrthanc) -> None:
    instances = encode_phantom(small_chest())
    server.send(*instances)
    row = server.await_final(instances[0].SeriesInstanceUID)
    assert row["state"] == "done"
    study_uid = instances[0].StudyInstanceUID

    def radiomics() -> Dataset:
        found = wait_until(
            lambda: [ds for ds in server.results(study_uid) if "adiomics" in ds.SeriesDescription], 60, "the report"
        )
        return found[0]

    report, kept = radiomics(), {ds.SOPInstanceUID for ds in server.results(study_uid)}
    assert NEW in units(report)
    assert OLD not in units(report)

    older = deepcopy(report)
    as_older_versions_wrote(older)
    delete_series(server, report.SeriesInstanceUID)
    server.send(older)
    assert OLD in units(radiomics())
    delete_series(server, report.SeriesInstanceUID)
    run_again(server, row)
    again = radiomics()
    assert NEW in units(again)
    assert OLD not in units(again)
    assert {ds.SOPInstanceUID for ds in server.results(study_uid)} == kept
    values = [{(one.feature, one.value) for one in read_radiomics_sr(ds)} for ds in (report, older, again)]
    assert values[0] == values[1] == values[2]
