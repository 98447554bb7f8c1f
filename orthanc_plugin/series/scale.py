"""Whether lengths are in millimetres: a body whose lengths were all written in cm looks right and measures wrongly.

Lengths of which only some are in cm contradict each other. Where all are, nothing within the volume contradicts itself,
so three other sources are asked: the diameter that the scanner reconstructed (ReconstructionDiameter), the width of its
detector rows (SingleCollimationWidth), and the picture. No patient's trunk or head lies whole in a field of 75 mm.
Fingers, teeth, inner ears, newborns, animals and specimens are as small as they seem; nothing speaks against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.errors import InputError, Refusal

NARROW_FIELD_MM, LONG_IN_FIELDS = 60.0, 2.0
"""Only an inner ear or a few teeth are shown in so narrow a field, and such a scan is short."""

THICK_IN_STEPS = 5.0
"""Slices that overlap are two or three steps thick; contiguous ones ten where positions were written in cm."""

NARROW_BODY_MM = 75.0
"""A field of 700 mm in cm. The smallest fields of newborns measure 90 mm."""

DOUBTED_RATIO = 5.0
"""A reconstruction that was cut or enlarged afterwards keeps its old diameter; to a fifth nobody cuts a body."""

CM_RATIO, _CM_TOLERANCE = 10.0, 0.03

THIN_SHARE = 0.5
"""Slices are as thick as one row of the detector; half of it leaves room for deconvolution and overlap."""

ANIMAL_KV = 95.0
"""Scanners of small animals reach 90 kV, patients who are no children are mostly scanned with more."""

LIGHT_KG = 2.0

_TRUNK_OR_HEAD = frozenset(
    {
        "CHEST", "THORAX", "LUNG", "HEART", "ABDOMEN", "PELVIS", "LIVER", "KIDNEY", "SPINE", "TSPINE", "LSPINE",
        "CSPINE", "HEAD", "BRAIN", "SKULL", "NECK", "HEADNECK", "TRUNK", "WHOLEBODY", "CHESTABDOMEN", "ABDOMENPELVIS",
        "CHESTABDPELVIS", "CAP", "TAP",
    }
)  # fmt: skip
_AIR_HU, _LUNG_HU = -900.0, (-900.0, -550.0)
_LEAST_BORDER_AIR, _LEAST_LUNG = 0.9, 0.15
_LOOKED_AT, _PIXELS = 16, 128


def doubtful_lengths(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], thickness_mm: float
) -> Iterator[str]:
    """Note lengths of a grid (z, y, x) that do not fit each other: some may have been written in cm."""
    length, *sides = np.multiply(shape, spacing_mm)
    if max(sides) < NARROW_FIELD_MM and length > LONG_IN_FIELDS * max(sides):
        yield f"slices are only {max(sides):.0f} mm wide in a scan of {length:.0f} mm; check that PixelSpacing is in mm"
    if thickness_mm > THICK_IN_STEPS * spacing_mm[0]:
        step = spacing_mm[0]
        yield f"slices are {thickness_mm:g} mm thick but lie every {step:.2f} mm; check that positions are in mm"


def check_scale(
    headers: Sequence[Dataset], size: tuple[int, int], pixel_spacing_mm: tuple[float, float], voxels_hu: Voxels
) -> tuple[str, ...]:
    """Note lengths that other sources contradict, or refuse them.

    Parameters
    ----------
    headers : sequence of Dataset
        Of the slices.
    size : tuple of int
        Rows, columns of the slices as stored.
    pixel_spacing_mm : tuple of float
        Between rows, between columns.
    voxels_hu : ndarray, shape (slices, rows, columns), float32

    Raises
    ------
    InputError
        INVALID_SPACING: the scanner reconstructed a field of exactly ten times the width.

    Source
    ------
    DICOM PS3.3 C.8.2.1: ReconstructionDiameter is the diameter in mm of the region of which the image was made;
    C.8.15.3.3: SingleCollimationWidth in mm.
    """
    width = max(count * step for count, step in zip(size, pixel_spacing_mm, strict=True))
    return (*_against_the_diameter(headers, width), *_against_the_detector(headers), *_small(headers, width, voxels_hu))


def _against_the_diameter(headers: Sequence[Dataset], width: float) -> Iterator[str]:
    diameter = _typical(headers, "ReconstructionDiameter")
    if diameter is None or 1 / DOUBTED_RATIO < diameter / width < DOUBTED_RATIO:
        return
    found = f"slices are {width:.0f} mm wide, but ReconstructionDiameter says {diameter:.0f} mm"
    if abs(diameter / width / CM_RATIO - 1) < _CM_TOLERANCE and width < NARROW_BODY_MM:
        raise InputError(Refusal.INVALID_SPACING, f"{found}: PixelSpacing is in cm; export the series again in mm")
    yield f"{found}; check that PixelSpacing is in mm"


def _against_the_detector(headers: Sequence[Dataset]) -> Iterator[str]:
    row, thickness = (_typical(headers, keyword) for keyword in ("SingleCollimationWidth", "SliceThickness"))
    if row is not None and thickness is not None and thickness < THIN_SHARE * row:
        found = f"slices are {thickness:g} mm thick, thinner than the detector rows of {row:g} mm"
        yield f"{found}; check that SliceThickness is in mm"


def _small(headers: Sequence[Dataset], width: float, voxels_hu: Voxels) -> Iterator[str]:
    """Note a trunk or a head that lies whole in a field as narrow as an inner ear's."""
    if width >= NARROW_BODY_MM or _may_be_small(headers[0]):
        return
    part = str(headers[0].get("BodyPartExamined") or "").upper().replace(" ", "")
    rows, columns = (max(1, count // _PIXELS) for count in voxels_hu.shape[1:])
    looked = voxels_hu[:: max(1, len(voxels_hu) // _LOOKED_AT), ::rows, ::columns]
    border = np.concatenate([looked[:, (0, -1)].ravel(), looked[:, :, (0, -1)].ravel()])
    if float((border < _AIR_HU).mean()) < _LEAST_BORDER_AIR:
        return
    body = looked[looked > _LUNG_HU[0]]
    has_lungs = len(body) > 0 and float((body < _LUNG_HU[1]).mean()) >= _LEAST_LUNG
    if has_lungs if not part else part in _TRUNK_OR_HEAD:
        what = "with lungs" if has_lungs else f"of {part.lower()}"
        found = f"a whole body {what} lies in a field of {width:.0f} mm, too narrow for a patient"
        yield f"{found}; check the unit of lengths"


def _may_be_small(ds: Dataset) -> bool:
    """Tell whether the header speaks of an animal, a premature child, a phantom or a scanner for small things."""
    weight, size = _number(ds, "PatientWeight"), _number(ds, "PatientSize")
    species = str(ds.get("PatientSpeciesDescription") or "human").lower()
    if not species.startswith(("human", "homo")) or ds.get("QualityControlImage") == "YES":
        return True
    if weight is not None and weight > 0:
        return weight < LIGHT_KG
    if size is not None and size > LIGHT_KG / 4:  # metres
        return False
    voltage = _number(ds, "KVP")
    return voltage is not None and 0 < voltage < ANIMAL_KV


def _typical(headers: Sequence[Dataset], keyword: str) -> float | None:
    values = [value for ds in headers if (value := _number(ds, keyword)) is not None and value > 0]
    return median(values) if values else None


def _number(ds: Dataset, keyword: str) -> float | None:
    try:
        value = float(ds.get(keyword))
    except (TypeError, ValueError, BytesLengthException):
        return None
    return value if np.isfinite(value) else None
