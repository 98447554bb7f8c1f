"""No real CT is refused for its values: the table of docs/geometry.md."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.plausibility import check_plausible, fills_11_bits, wrapped
from tests.support.cases.hu_faults import FITTED, HELD_OUT, SERIES, stored_values
from tests.support.cases.realct import real_ct


@pytest.mark.real_ct
@pytest.mark.parametrize("name", SERIES)
def test_real_series_are_plausible_without_a_note(name: str) -> None:
    assert check_plausible(stored_values(real_ct(name))) == ()


@pytest.mark.real_ct
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("fault", FITTED)
def test_real_series_with_a_fault_are_refused(name: str, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        check_plausible([FITTED[fault](values).astype("f4") for values in stored_values(real_ct(name), 8)])
    assert caught.value.reason is Refusal.IMPLAUSIBLE_HU


NOTED = frozenset({"offset +150 HU", "offset -150 HU"})
UNSEEN = frozenset(
    {"bone wraps at 12 bits, signed", "bone wraps at 11 bits, signed", "bone wraps at 11 bits, unsigned"}
)


@pytest.mark.real_ct
@pytest.mark.parametrize("name", SERIES)
def test_faults_of_other_kinds_are_found(name: str) -> None:
    values = stored_values(real_ct(name), 8)
    for fault, formula in HELD_OUT.items():
        changed = [np.asarray(formula(one), np.float32) for one in values]
        if fault in UNSEEN or np.mean([np.mean(a != b) for a, b in zip(changed, values, strict=True)]) < 1e-4:
            continue
        try:
            assert check_plausible(changed), fault
        except InputError:
            assert fault not in NOTED, fault


@pytest.mark.real_ct
@pytest.mark.parametrize("fault", ["bone wraps at 11 bits, signed", "bone wraps at 11 bits, unsigned"])
@pytest.mark.parametrize("name", ["lidc_0314_chest/dicom", "gantry_tilt/ge_irregular_tilt"])
def test_bone_that_wraps_at_11_bits_is_noted(name: str, fault: str) -> None:
    files = sorted(file for file in real_ct(name).iterdir() if file.suffix == ".dcm")
    slices = [ds for ds in map(dcmread, files[:: max(1, len(files) // 20)]) if "NumberOfFrames" not in ds]
    planes = [ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in slices]
    changed = [HELD_OUT[fault](np.asarray(plane, np.float32)) for plane in planes]
    assert fills_11_bits(changed)
    assert not fills_11_bits(planes)
    assert len(wrapped(changed)) == 1
    assert wrapped([np.clip(plane, -1024, 1000) for plane in planes]) == ()


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
