"""Which phase of a classic series of several is read, and when none can be told."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from orthanc_plugin.domain.reading import Phase, ReadSettings
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series

Series = list[FileDataset]
COUNT = 12


@cache
def _phantom() -> tuple[FileDataset, ...]:
    return tuple(encode_phantom(make_phantom((COUNT, 16, 20), (3.0, 2.0, 1.5))))


def phases(*counts: int, **values: tuple[object, ...]) -> Series:
    """One phase for each count of slices, from the head on; each 10 HU denser than the one before."""
    made = []
    for phase, count in enumerate(counts):
        for number, source in enumerate(_phantom()[:count]):
            ds = deepcopy(source)
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.{phase + 1}{number:03d}"
            ds.RescaleIntercept = -1024 + 10 * phase
            for keyword, each in values.items():
                setattr(ds, keyword, each[phase])
            made.append(ds)
    return made


def chosen(series: Series, phase: Phase) -> tuple[float, str]:
    """Mean HU above that of the first phase, and what the results say."""
    found = read_series(series, ReadSettings(phase=phase))
    plain = read_series(list(_phantom())[: len(found.headers)])
    return float(np.mean(found.volume.voxels_hu - plain.volume.voxels_hu)), found.marks[0]


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("AcquisitionNumber", (5, 12)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("TriggerTime", ("75", "400")),
        ("NominalPercentageOfCardiacPhase", (30.0, 70.0)),
        ("AcquisitionTime", ("091500", "101500")),
        ("AcquisitionDateTime", ("20250101091500", "20250101101500")),
    ],
)
def test_phases_are_told_apart_by(keyword: str, values: tuple[object, ...]) -> None:
    series = phases(
        COUNT, COUNT, **{"AcquisitionNumber": (1, 1), "AcquisitionTime": ("090000", "090000"), keyword: values}
    )
    for phase, offset in ((Phase.FIRST, 0), (Phase.LAST, 10), (Phase.LARGEST, 0)):
        found, mark = chosen(series, phase)
        assert found == pytest.approx(offset, abs=0.1)
        assert f"by {keyword} ({phase})" in mark


def test_the_largest_phase_is_that_of_most_images() -> None:
    series = phases(8, COUNT, AcquisitionNumber=(2, 3))
    assert chosen(series, Phase.LARGEST)[0] == pytest.approx(10, abs=0.1)
    assert chosen(series, Phase.FIRST) == (
        pytest.approx(0, abs=0.1), "phase 1 of 2 by AcquisitionNumber (first): 8 of 20 images",
    )  # fmt: skip


def test_an_ordinary_series_is_read_as_without_the_option() -> None:
    plain = read_series(list(_phantom()))
    for phase in Phase:
        found = read_series(list(_phantom()), ReadSettings(phase=phase))
        np.testing.assert_array_equal(found.volume.voxels_hu, plain.volume.voxels_hu)
        assert (found.marks, found.variant) == ((), "")


def test_no_attribute_that_tells_phases_apart_refuses_them() -> None:
    series = phases(COUNT, COUNT, AcquisitionNumber=(1, 1))
    for number, ds in enumerate(series):
        ds.AcquisitionTime = f"{number:06d}"  # of each image another: tells images, not phases
    with pytest.raises(InputError, match="no attribute tells the phases apart") as caught:
        read_series(series, ReadSettings(phase=Phase.FIRST))
    assert caught.value.reason is Refusal.DUPLICATE_POSITIONS


def test_a_part_of_a_phase_is_not_taken_for_one() -> None:
    series = phases(COUNT, 4, AcquisitionNumber=(1, 2))
    assert chosen(series, Phase.FIRST)[0] == pytest.approx(0, abs=0.1)
    with pytest.raises(InputError, match="no attribute"):
        read_series(series, ReadSettings(phase=Phase.LAST))


def test_several_phases_are_refused_by_default() -> None:
    with pytest.raises(InputError, match="2 images at each position") as caught:
        read_series(phases(COUNT, COUNT, AcquisitionNumber=(1, 2)))
    assert caught.value.reason is Refusal.DUPLICATE_POSITIONS
