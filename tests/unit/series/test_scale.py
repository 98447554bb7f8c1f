"""Lengths that were all written in cm are refused or noted; what is truly small is not."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from orthanc_plugin.series.read import read_series

Series = list[FileDataset]
CM, INCH = 0.1, 1 / 25.4
WIDTH_MM = 400


@cache
def chest() -> Phantom:
    return make_phantom((24, 50, 50), (6.0, 8.0, 8.0))


def scaled(factor: float, series: Series | None = None, **tags: Any) -> Series:
    """Write all lengths of a chest in another unit; it says nothing of a patient but what `tags` tell."""
    series = encode_phantom(chest()) if series is None else series
    for ds in series:
        for keyword in ("ImagePositionPatient", "PixelSpacing"):
            setattr(ds, keyword, [f"{float(value) * factor:.6f}" for value in ds.get(keyword)])
        ds.SliceThickness = f"{float(ds.SliceThickness) * factor:.6f}"
        for keyword in ("QualityControlImage", "BodyPartExamined", "KVP", "PatientWeight", "ReconstructionDiameter"):
            if keyword in ds:
                delattr(ds, keyword)
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
    return series


def notes(series: Series) -> str:
    return " ".join(read_series(series).notes)


@pytest.mark.parametrize("diameter", [400, 410])
def test_a_reconstruction_of_ten_times_the_width_is_refused(diameter: float) -> None:
    with pytest.raises(InputError, match="slices are 40 mm wide, but ReconstructionDiameter says 4") as caught:
        read_series(scaled(CM, ReconstructionDiameter=diameter))
    assert caught.value.reason is Refusal.INVALID_SPACING


@pytest.mark.parametrize(
    ("factor", "tags"),
    [
        (CM, {"ReconstructionDiameter": 500}),
        (CM, {"ReconstructionDiameter": 250}),
        (INCH, {"ReconstructionDiameter": 400}),
        (10 * CM, {"ReconstructionDiameter": 40}),
    ],
)
def test_another_contradiction_is_noted(factor: float, tags: dict[str, Any]) -> None:
    assert "ReconstructionDiameter says" in notes(scaled(factor, **tags))


def test_slices_thinner_than_the_detector_are_noted() -> None:
    assert "slices are 0.6 mm thick, thinner than the detector rows of 1.5 mm" in notes(
        scaled(CM, SingleCollimationWidth=1.5)
    )
    assert "detector" not in notes(scaled(1, SingleCollimationWidth=0.625, SliceThickness=0.67))


ADULT: dict[str, dict[str, Any]] = {
    "nothing is known": {},
    "part of the body": {"BodyPartExamined": "CHEST"},
    "voltage of adults": {"KVP": 120},
    "low voltage, heavy": {"KVP": 80, "PatientWeight": 70},
    "low voltage, tall": {"KVP": 70, "PatientSize": 1.7},
    "species": {"PatientSpeciesDescription": "Homo sapiens"},
    "weight is not a number": {"PatientWeight": "0", "KVP": "100"},
}


@pytest.mark.parametrize("name", ADULT)
@pytest.mark.parametrize("factor", [CM, INCH])
def test_a_whole_chest_in_a_field_of_40_mm_is_noted(name: str, factor: float) -> None:
    assert f"lies in a field of {WIDTH_MM * factor:.0f} mm" in notes(scaled(factor, **ADULT[name]))


SMALL: dict[str, dict[str, Any]] = {
    "a mouse": {"PatientSpeciesDescription": "Mus musculus"},
    "a mouse by weight": {"PatientWeight": 0.025, "KVP": 120, "BodyPartExamined": "CHEST"},
    "scanner for small animals": {"KVP": 70, "ReconstructionDiameter": 40},
    "a premature child": {"PatientWeight": 0.9, "KVP": 80, "BodyPartExamined": "CHEST"},
    "phantom": {"QualityControlImage": "YES", "KVP": 120},
    "a hand": {"BodyPartExamined": "HAND", "KVP": 120},
}


@pytest.mark.parametrize("name", SMALL)
def test_what_may_be_small_is_not_noted(name: str) -> None:
    assert "field of" not in notes(scaled(CM, **SMALL[name]))


def drawn(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> Series:
    """Encode any volume as a series without words on the patient."""
    affine = np.diag([spacing_mm[2], spacing_mm[1], spacing_mm[0], 1.0])
    phantom = Phantom(Volume(hu.astype(np.float32), spacing_mm, affine), np.zeros(hu.shape, np.uint8), {}, 0)
    return scaled(1, encode_phantom(phantom), KVP=120)


def bodies(*discs: tuple[float, float, float], mm: float = 0.25, size: int = 240) -> np.ndarray:
    """Draw cylinders (row mm, column mm, radius mm) of soft tissue with a bone in each, blurred edges."""
    rows, columns = np.indices((size, size)) * mm
    plane = np.full((size, size), -1000.0)
    for row, column, radius in discs:
        distance = np.hypot(rows - row, columns - column)
        flesh = np.clip((radius - distance) / 0.7 + 0.5, 0, 1)
        plane += flesh * 1040 + np.clip((min(radius / 3, 8) - distance) / 0.7 + 0.5, 0, 1) * 700
    noise = np.random.default_rng(3).normal(0, 25, (24, size, size))
    return np.rint(plane + noise)


@pytest.mark.parametrize(
    "discs",
    [
        pytest.param([(30, 30, 9)], id="a finger"),
        pytest.param([(30, 8 + 14 * n, 6) for n in range(4)], id="four fingers of a child"),
        pytest.param([(30, 30, 24)], id="a wrist"),
    ],
)
def test_fingers_and_wrists_are_not_noted(discs: list[tuple[float, float, float]]) -> None:
    assert "field" not in notes(drawn(bodies(*discs), (0.5, 0.25, 0.25)))


def test_an_inner_ear_in_a_narrow_field_is_not_noted() -> None:
    plane = bodies((30, 30, 80))
    plane[:, 80:140, 80:140] = -850  # air cells
    series = drawn(plane, (0.5, 0.25, 0.25))
    for ds in series:
        ds.BodyPartExamined = "HEAD"
    assert "field" not in notes(series)
