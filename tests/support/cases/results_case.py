"""Hand-made cases for the results room: a small CT series, a label map of ellipsoids, and a card that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from highdicom import ContributingEquipment, sr
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from orthanc_plugin.catalog.card import CardLabel, Engine, ModelCard
from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LEFT, LUNG, REPORT_TITLE, RIGHT, TISSUE, Code
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.measures import FeatureValue, SegmentFeatures
from orthanc_plugin.domain.plan import DEFAULT_SEG, Output, SegSettings
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.identity import SeriesIdentity
from orthanc_plugin.quality.landmarks import find_landmarks
from orthanc_plugin.results import seg
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.content import source_image, target_region
from orthanc_plugin.results.sr.landmarks import encode_landmarks_sr
from orthanc_plugin.results.sr.radiomics import encode_radiomics_sr
from orthanc_plugin.results.sr.report import encode_report

CREATED = datetime(2026, 1, 2, 3, 4, 5)
SEG_UID, RADIOMICS_UID, LANDMARKS_UID = "2.25.1001", "2.25.1002", "2.25.1003"
WITH_BODY = replace(DEFAULT_SEG, body=True)
"""Also stores the rest of the body, so that there is a structure that covers others."""

BODY = CardLabel(
    1,
    "body",
    "Body",
    ANATOMICAL_STRUCTURE,
    Code("38266002", "SCT", "Entire body"),
    None,
    (200, 170, 140),
    (1, 2, 3, 4, 5),
    False,
)
LUNG_LEFT = CardLabel(2, "lung_left", "Left lung", ANATOMICAL_STRUCTURE, LUNG, LEFT, (60, 140, 220), (2,), True)
LUNG_RIGHT = CardLabel(3, "lung_right", "Right lung", ANATOMICAL_STRUCTURE, LUNG, RIGHT, (60, 200, 160), (3,), True)
AIRWAY = CardLabel(
    4,
    "airway",
    "Trachea and main bronchi",
    ANATOMICAL_STRUCTURE,
    Code("110726009", "SCT", "Trachea and bronchus"),
    None,
    (240, 220, 80),
    (4,),
    True,
)
BONE = CardLabel(5, "bone", "Bone", TISSUE, Code("3138006", "SCT", "Bone"), None, (240, 240, 230), (5,), False)

CARD = ModelCard(
    directory=Path("."),
    schema=1,
    name="chest_ellipsoids",
    version="1.0.0",
    engine=Engine.CLASSICAL_CHEST,
    digest="ab" * 32,
    graphs=(),
    axes=("z:S", "y:P", "x:L"),
    preprocessing={},
    labels=(BODY, LUNG_LEFT, LUNG_RIGHT, AIRWAY, BONE),
    manufacturer="orthanc-enrichment project",
    licence="AGPL-3.0-or-later",
    citation="none",
    intended_use="tests",
    limits=(),
)


def small_series(rows: int = 32, columns: int = 32, slices: int = 12, **attributes: object) -> CtSeries:
    """Make a series of water with complete headers; `attributes` override them, and None deletes one."""
    uids = tuple(f"2.25.300{index}" for index in range(slices))
    affine = np.diag((8.0, 8.0, 5.0, 1.0))
    affine[:3, 3] = (-128.0, -128.0, -300.0)
    headers = tuple(_header(uid, index, rows, columns, attributes) for index, uid in enumerate(uids))
    identity = SeriesIdentity("P1", "2.25.100", "2.25.200", uids, ("2.25.400",))
    volume = Volume(np.zeros((slices, rows, columns), np.float32), (5.0, 8.0, 8.0), affine)
    return CtSeries(identity, volume, headers, "2.25.400")


def _header(uid: str, index: int, rows: int, columns: int, attributes: dict[str, object]) -> Dataset:
    ds = Dataset()
    values: dict[str, object] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": "2.25.100",
        "SeriesInstanceUID": "2.25.200",
        "FrameOfReferenceUID": "2.25.400",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700131",
        "PatientSex": "F",
        "PatientAge": "055Y",
        "StudyDate": "20250102",
        "StudyTime": "101112",
        "StudyID": "1",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Roe^Richard",
        "StudyDescription": "Chest",
        "Manufacturer": "Maker",
        "ManufacturerModelName": "Scanner",
        "Modality": "CT",
        "InstanceNumber": index + 1,
        "Rows": rows,
        "Columns": columns,
        "PixelSpacing": [8.0, 8.0],
        "SliceThickness": 5.0,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-128.0, -128.0, -300.0 + 5.0 * index],
    }
    for keyword, value in (values | attributes).items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def cut(series: CtSeries, rows: int, columns: int) -> CtSeries:
    """Cut the images of a series to that size."""
    voxels = np.ascontiguousarray(series.volume.voxels_hu[:, :rows, :columns])
    return replace(series, volume=replace(series.volume, voxels_hu=voxels))


def provenance_of(series: CtSeries, sop_instance_uid: str, card: ModelCard = CARD, provider: str = "CPU") -> Provenance:
    """State who made an object of a case."""
    return Provenance(series, card, sop_instance_uid, provider, CREATED)


def segment(label: CardLabel) -> Segment:
    """Make a segment of a structure of the card."""
    return Segment(
        label.number, label.key, label.label, label.category, label.type, label.modifier, label.colour, label.covers
    )


def ellipsoids(series: CtSeries, *absent: CardLabel, card: ModelCard = CARD) -> Segmentation:
    """Make a chest of ellipsoids: a body around lungs, airway and bone; what is `absent` becomes body."""
    shape = series.volume.voxels_hu.shape
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij", sparse=True)
    labels = np.where((y / 0.8) ** 2 + (x / 0.9) ** 2 + 0 * z < 1, np.uint8(BODY.number), np.uint8(0))
    lung = [(z / 0.7) ** 2 + (y / 0.5) ** 2 + ((x - side) / 0.3) ** 2 < 1 for side in (0.45, -0.45)]
    shapes = {
        LUNG_LEFT: lung[0],
        LUNG_RIGHT: lung[1],
        AIRWAY: (y**2 + x**2 < 0.015) & (z > -0.1),
        BONE: ((y - 0.55) ** 2 + x**2 < 0.03) & (z < 2),
    }
    for label, inside in shapes.items():
        if label not in absent:
            labels[inside] = label.number
    return Segmentation(labels, tuple(segment(label) for label in card.labels if label not in absent))


def encode(
    series: CtSeries,
    segmentation: Segmentation,
    *,
    card: ModelCard = CARD,
    sop_instance_uid: str = SEG_UID,
    settings: SegSettings = WITH_BODY,
) -> Dataset:
    """Encode the SEG of a case."""
    return seg.encode_seg(provenance_of(series, sop_instance_uid, card), segmentation, settings)


def features_of(segmentation: Segmentation) -> list[SegmentFeatures]:
    """Make two features per segment."""
    volume = Code("YEKZ", "IBSI", "Volume from Voxel Summation")
    mean = Code("Q4LE", "IBSI", "Mean intensity")
    return [
        SegmentFeatures(
            s.number,
            (
                FeatureValue(
                    "shape_VoxelVolume", volume, Code("mm3", "UCUM", "cubic millimeter"), 1.5e6 + s.number + 1 / 3
                ),
                FeatureValue("firstorder_Mean", mean, Code("[hnsf'U]", "UCUM", "Hounsfield unit"), -800.25),
            ),
        )
        for s in segmentation.segments
    ]


def radiomics_report(series: CtSeries, stored: Dataset, features: list[SegmentFeatures] | None = None) -> Dataset:
    """Encode the radiomics SR of a stored SEG."""
    kept = seg.decode_seg(stored, series, CARD)
    features = features_of(kept) if features is None else features
    provenance = provenance_of(series, RADIOMICS_UID)
    return encode_radiomics_sr(provenance, stored, kept, features, title=REPORT_TITLE, settings=RadiomicsSettings())


def landmarks_report(series: CtSeries, stored: Dataset, *notes: str, card: ModelCard = CARD) -> Dataset:
    """Encode the landmarks SR of a stored SEG."""
    found = find_landmarks(seg.decode_seg(stored, series, card), series.volume)
    provenance = provenance_of(series, LANDMARKS_UID, card)
    return encode_landmarks_sr(provenance, stored, found, title=REPORT_TITLE, notes=notes)


def report_on(
    segs: Sequence[Dataset], *, provider: str = "", algorithms: Sequence[ContributingEquipment] = ()
) -> Dataset:
    """Encode a report with one group that says `Lung` about the first slice of the small series."""
    series = small_series()
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid="2.25.1098", identifier="a group"),
        qualitative_evaluations=[target_region(LUNG)],
        source_images=[source_image(series.headers[0])],
    )
    return encode_report(
        provenance_of(series, "2.25.1097", provider=provider), [group],
        title=REPORT_TITLE, kind=Output.LANDMARKS, notes=(), evidence=segs, algorithms=algorithms,
    )  # fmt: skip
