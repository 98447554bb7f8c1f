"""Hand-made cohorts: folders of our own results, and of those of other makers, with what their tables must hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.cohort.build import Built, build
from orthanc_plugin.cohort.sources import FolderSource
from orthanc_plugin.domain.input_quality import InputLimits
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.quality.scan import measure_scan
from orthanc_plugin.results.sr.input_quality import encode_input_sr, method_card
from tests.support.cases.body_results_case import body_report, whole_body
from tests.support.cases.checks_case import OTHER, checks_report, stored
from tests.support.cases.realct import ROOT
from tests.support.cases.results_case import (
    ellipsoids,
    encode,
    landmarks_report,
    provenance_of,
    radiomics_report,
    small_series,
)


def our_results() -> list[Dataset]:
    """Make one CT of twelve slices and every kind of result that tables hold."""
    series = small_series(ConvolutionKernel="B30f", KVP=120)
    seg = encode(series, ellipsoids(series))
    return [
        *(_instance(header) for header in series.headers),
        seg,
        radiomics_report(series, seg),
        landmarks_report(series, seg),
        body_report(Output.BODY_LANDMARKS, series, whole_body(series)),
        body_report(Output.BODY_REGIONS, series, whole_body(series)),
        body_report(Output.VIEWER_LANDMARKS, series, whole_body(series)),
        checks_report(series, [stored(series), stored(series, OTHER)]),
        _input_report(series),
    ]


def _input_report(series: CtSeries) -> Dataset:
    limits = InputLimits()
    provenance = provenance_of(series, "2.25.1006", method_card(limits))
    return encode_input_sr(provenance, measure_scan(series, limits), limits, title=REPORT_TITLE)


def _instance(header: Dataset) -> Dataset:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return header


def write(objects: Iterable[Dataset], folder: Path) -> Path:
    """Write objects to a folder, one file each, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(objects):
        ds.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


def built(folder: Path, out: Path) -> Built:
    """Build the tables of a folder."""
    return build(FolderSource(folder, lambda patient_id: f"p{len(patient_id)}"), out)


def rows(out: Path, table: str) -> list[dict[str, object]]:
    """Read a table."""
    from pyarrow import parquet

    found: list[dict[str, object]] = parquet.read_table(out / f"{table}.parquet").to_pylist()
    return found


def shared(name: str, *, folder: str = "data") -> Path:
    """Find data that is shared between checkouts; skip on a developer's computer without it, fail in CI."""
    variable = {"data": "ENRICH_TEST_DATA", "reference": "ENRICH_TEST_REFERENCE"}[folder]
    found = Path(os.environ.get(variable, ROOT.parent / "shared" / folder)) / name
    if not found.exists():
        message = f"no {name}: set {variable} to the folder that holds it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found
