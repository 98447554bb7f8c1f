"""The study that the browser shows, and what its segmentations hold, read without our own reader."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from highdicom.color import CIELabColor
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom
from tests.support.cases.enriched import EnrichedOrthanc

CTS = (
    lambda: make_thorax_phantom((56, 64, 64), seed=1),
    lambda: make_phantom((56, 60, 61), (3.0, 3.2, 3.2), seed=2),
)
"""Columns of the first are a multiple of 8, so its SEG are BINARY; those of the second (a small patient) LABELMAP."""
HOSTILE = '<img src=x onerror="window.hacked=1">'

Segment = tuple[int, str, tuple[int, int, int]]
"""Number, label and colour (RGB)."""
Voxels = dict[tuple[str, int], tuple[int, int]]
"""By SOP instance of the CT and segment: the number of voxels, and the sum of their places in the image."""


@dataclass(frozen=True)
class EnrichedStudy:
    """A study in the archive. series: its CT. results: the objects of each CT's job, with their SeriesNumbers."""

    uid: str
    series: tuple[str, ...]
    results: tuple[tuple[Dataset, ...], ...]

    def of(self, number: int, modality: str, description: str = "") -> list[Dataset]:
        """Results of one CT, in reading order."""
        found = (ds for ds in self.results[number] if ds.Modality == modality)
        return sorted(
            (ds for ds in found if ds.SeriesDescription.startswith(description)), key=lambda ds: int(ds.SeriesNumber)
        )


def enrich_study(site: EnrichedOrthanc, folder: Path) -> EnrichedStudy:
    """Send one study with two CT, and wait until both are done."""
    series, study_uid = [], ""
    for number, make in enumerate(CTS, 1):
        files = write_phantom(folder / str(number), make(), uid_seed=str(number))
        for file in files:
            ds = dcmread(file)
            study_uid = study_uid or ds.StudyInstanceUID
            ds.StudyInstanceUID, ds.SeriesNumber, ds.PatientID = study_uid, number, "P1"
            ds.PatientName, ds.StudyDescription, ds.SeriesDescription = "<b>Phantom^<i>Chest", HOSTILE, HOSTILE
            ds.save_as(file)
        series.append(str(ds.SeriesInstanceUID))
        site.stow(files)
    for uid in series:
        row = site.await_final(uid, within_s=600)
        assert (row["state"], row["reason"]) == ("done", ""), row
    return EnrichedStudy(study_uid, tuple(series), tuple(_results(site, uid) for uid in series))


def segments_of(seg: Dataset) -> list[Segment]:
    """Segments as the object tells them, without a background."""
    return [
        (int(item.SegmentNumber), str(item.SegmentLabel), _rgb(item.RecommendedDisplayCIELabValue))
        for item in seg.SegmentSequence
        if item.SegmentNumber != 0
    ]


def voxels_of(seg: Dataset) -> Voxels:
    """Count each segment in each image of the CT."""
    voxels: Voxels = {}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, item in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for number in np.unique(frame[frame > 0]):
            places = np.flatnonzero(frame == number)
            binary = "SegmentIdentificationSequence" in item
            segment = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber if binary else number
            voxels[str(source), int(segment)] = (places.size, int(places.sum()))
    return voxels


def _rgb(lab: list[int]) -> tuple[int, int, int]:
    return CIELabColor.from_dicom_value(lab).to_rgb(clip=True)


def _results(site: EnrichedOrthanc, series_uid: str) -> tuple[Dataset, ...]:
    """The objects of the job of one CT."""
    (row,) = (row for row in site.rows(series_uid) if not row["superseded_by"])
    objects = site.api(f"jobs/{row['job_id']}")["objects"]
    return tuple(_stored(site, stored["sop_instance_uid"]) for stored in objects)


def _stored(site: EnrichedOrthanc, sop_uid: str) -> Dataset:
    (found,) = site.client.post("/tools/lookup", content=sop_uid).json()
    return dcmread(BytesIO(site.client.get(f"/instances/{found['ID']}/file").content))
