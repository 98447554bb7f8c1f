"""The same mask has the same numbers, whoever wrote it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE
from orthanc_plugin.domain.found_masks import Structure, as_segment
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.pipeline.foreign import measure_masks, read_masks
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.support.cases.foreign_case import by_number, highdicom_seg, rtstruct
from tests.support.makers import NAMES, chest, masks, written
from tests.unit.pipeline.test_pipeline import Store, context

_, SERIES = chest()
MASKS = masks(SERIES)


@pytest.fixture(scope="module")
def own() -> dict[tuple[int, str], float]:
    """What the masks measure without any object."""
    settings, values = RadiomicsSettings(), {}
    for number, mask in enumerate(MASKS, 1):
        segment = as_segment(Structure(number, "a", ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE, None), 1)
        labels = Segmentation(SERIES.on_volume(mask.astype(np.uint8)), (segment,))
        (found,) = measure_segments(SERIES.volume, labels, {segment.key}, settings)
        values |= {(number, one.name): one.value for one in found.features}
    return values


def measured(ds: Dataset) -> dict[tuple[int, str], float]:
    store = Store()
    result = measure_masks(SERIES, ds, replace(context(store), radiomics=RadiomicsSettings()))
    assert result.stored is not None
    rows = read_radiomics_sr(store.objects[result.stored.sop_instance_uid])
    return {(row.segment_number, row.feature): row.value for row in rows if row.value is not None}


@pytest.mark.parametrize("name", NAMES)
def test_masks_of_other_writers_are_read_voxel_for_voxel_and_measure_the_same(
    name: str, own: dict[tuple[int, str], float]
) -> None:
    ds = written(name)
    read = by_number(read_masks(ds, SERIES))
    for number, mask in enumerate(MASKS, 1):
        np.testing.assert_array_equal(read[number], mask)
    assert measured(ds) == own
    assert len(own) > 200


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_so_do_those_of_highdicom(kind: str, own: dict[tuple[int, str], float]) -> None:
    assert measured(highdicom_seg(SERIES, MASKS, kind)) == own


def test_a_frame_of_reference_of_its_own_is_taken_of_pydicom_seg_only_and_only_slice_by_slice() -> None:
    ds = written("pydicom-seg-cropped")
    assert any("frame of reference of their own" in note for note in read_masks(ds, SERIES).notes)
    ds.Manufacturer = "Somebody"
    refuses(ds)
    ds = written("pydicom-seg-cropped")
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.9"
    refuses(ds)
    ds = written("pydicom-seg-cropped")
    first, second = (ds.PerFrameFunctionalGroupsSequence[n].DerivationImageSequence for n in (0, 1))
    ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = second
    ds.PerFrameFunctionalGroupsSequence[1].DerivationImageSequence = first
    refuses(ds)


def test_corners_far_beyond_the_image_are_not_traced() -> None:
    """Whole numbers of pixels, which would need gigabytes to walk along."""
    corners = [(0.0, 0.0), (1e9, 0.0), (1e9, 4.0), (0.0, 4.0)]
    found = read_masks(rtstruct(SERIES, {"GTV": {2: [corners]}}), SERIES)
    assert not any("centre to centre" in note for note in found.notes)
    assert by_number(found)[1].sum() == 4 * 40


def refuses(ds: Dataset) -> None:
    with pytest.raises(MaskError) as refused:
        read_masks(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_FRAME_OF_REFERENCE
