"""Report landmarks: one image-level group per landmark, with the slice on which it lies.

The tracking identifier repeats name and slice, because OHIF's text view shows neither modifiers nor images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.measures import Landmark
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.headers import instance_number
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.content import source_image, target_region
from orthanc_plugin.results.sr.report import encode_report

_ALGORITHM_NAME = "111001"
_TRACKED = re.compile(r"(.+), instance .+, z (-?[0-9.]+) mm")


def encode_landmarks_sr(
    provenance: Provenance, seg: Dataset, landmarks: Sequence[Landmark], *, title: Code, notes: Sequence[str]
) -> Dataset:
    """Encode the levels found in a stored SEG (PS3.16 TID 1500, 1501).

    Raises
    ------
    EncodingError
        If there is no landmark.
    """
    algorithm = provenance.group_algorithm()
    groups = [_group(landmark, provenance.series, seg, algorithm) for landmark in landmarks]
    return encode_report(
        provenance,
        groups,
        title=title,
        kind=Output.LANDMARKS,
        notes=notes,
        evidence=[seg],
    )


def model_of_landmarks_sr(report: Dataset) -> str:
    """Read the name of the model that found the landmarks of a stored report."""
    return next((str(item.TextValue) for item in _texts(report) if _concept(item) == _ALGORITHM_NAME), "")


def read_landmarks_sr(report: Dataset) -> tuple[tuple[str, float], ...]:
    """Read name and height (LPS z, mm) of each landmark of a stored report."""
    texts = [str(item.TextValue) for item in _texts(report)]
    return tuple((found[1], float(found[2])) for text in texts if (found := _TRACKED.fullmatch(text)))


def _texts(report: Dataset) -> Iterator[Dataset]:
    return (item for item in _items(report) if item.ValueType == "TEXT")


def _concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _items(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _group(
    landmark: Landmark, series: CtSeries, seg: Dataset, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    header = series.header_at(landmark.slice_index)
    text = f"{landmark.name}, instance {instance_number(header)}, z {landmark.z_mm:.1f} mm"
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=identity.tracking_uid(seg.SOPInstanceUID, landmark.name), identifier=text),
        algorithm_id=algorithm,
        qualitative_evaluations=[target_region(landmark.structure, landmark.modifier)],
        source_images=[source_image(header)],
    )
