"""No real CT is refused for its values: the table of docs/geometry.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.plausibility import Sample, check_plausible
from tests.support.cases.realct import real_ct

SERIES = (
    "cip_ct64/dicom", "lidc_0314_chest/dicom", "ts_example_ct/example_ct_dicom", "gantry_tilt/philips_tilt",
    "gantry_tilt/ge_irregular_tilt", "enhanced_4d_ct/dicom_enhanced",
)  # fmt: skip


def samples(folder: Path, step: int = 4) -> list[Sample]:
    files = sorted(file for file in folder.iterdir() if file.name != "DIRFILE" and file.suffix not in (".md", ".txt"))
    slices = [ds for ds in map(dcmread, files) if "NumberOfFrames" not in ds]
    return [
        (ds.pixel_array[::step, ::step].ravel() * float(ds.RescaleSlope) + float(ds.RescaleIntercept)).astype("f4")
        for ds in slices
    ]


@pytest.mark.real_ct
@pytest.mark.parametrize("name", SERIES)
def test_real_series_are_plausible_without_a_note(name: str) -> None:
    assert check_plausible(samples(real_ct(name))) == ()


@pytest.mark.real_ct
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("fault", ["intercept lost", "8 bits", "slope 1000", "slope 10", "unsigned", "inverted"])
def test_real_series_with_a_fault_are_refused(name: str, fault: str) -> None:
    formula = {
        "intercept lost": lambda v: np.clip(v + 1024, 0, 4095),
        "8 bits": lambda v: np.rint(np.clip((v + 1350) / 1500 * 255, 0, 255)),
        "slope 1000": lambda v: v * 1000,
        "slope 10": lambda v: v * 10,
        "unsigned": lambda v: np.where(v < 0, v + 65536, v),
        "inverted": lambda v: 3071 - v,
    }[fault]
    with pytest.raises(InputError) as caught:
        check_plausible([formula(sample).astype("f4") for sample in samples(real_ct(name), 8)])
    assert caught.value.reason is Refusal.IMPLAUSIBLE_HU


@pytest.mark.real_ct
def test_planning_ct_with_a_zeroed_background_is_plausible_without_a_note() -> None:
    files = sorted(real_ct("open_kbp").rglob("*.npz"))[::9]
    assert len(files) == 11
    for file in files:
        with np.load(file) as patient:
            voxels = patient["v"].astype(np.float32) - 1024
        assert check_plausible([one.ravel() for one in voxels]) == (), file.name


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((4, 16, 20), (3, 2, 1.5)),
        ((12, 16, 20), (3, 2, 1.5)),
        ((56, 64, 64), (3, 3.2, 3.2)),
        ((24, 16, 16), (5, 20, 20)),
    ],
)
def test_phantoms_are_plausible(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    assert check_plausible([one.ravel() for one in make_phantom(shape, spacing_mm).volume.voxels_hu]) == ()
