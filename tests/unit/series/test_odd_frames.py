"""Enhanced CT with functional groups in unusual places: rules and loader see the volume of the classic series."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from orthanc_plugin.config.rule import DEFAULT_RULE
from orthanc_plugin.domain.reading import Phase, ReadSettings
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.rules.decide import explain
from orthanc_plugin.rules.tags import series_tags
from orthanc_plugin.series.read import read_series
from tests.support.phantoms.multiframe import enhanced_ct

COUNT = 24
PHANTOM = make_phantom((COUNT, 16, 20), (3.0, 8.0, 8.0))


@cache
def classic() -> tuple[FileDataset, ...]:
    return tuple(encode_phantom(PHANTOM))


def item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def in_each_frame(ds: FileDataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.update(deepcopy(ds.SharedFunctionalGroupsSequence[0]))
    del ds.SharedFunctionalGroupsSequence


def of_the_instance(ds: FileDataset) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence"):
        ds.update(shared[keyword].value[0])
        delattr(shared, keyword)


def with_empty_items(ds: FileDataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence, group.PlaneOrientationSequence = [item()], []


def overridden(ds: FileDataset) -> None:
    right = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = deepcopy(right)
    right[0].PixelSpacing = [5, 5]


def without_dimensions(ds: FileDataset) -> None:
    del ds.DimensionOrganizationSequence, ds.DimensionIndexSequence
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.FrameContentSequence


def derived_from_others(ds: FileDataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        other = item(ImagePositionPatient=[5, 5, 5], PixelSpacing=[9, 9], RescaleSlope="7", StackID="9")
        group.DerivationImageSequence, group.ReferencedImageSequence = [other], [deepcopy(other)]


def with_private_groups(ds: FileDataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        private = item(ImagePositionPatient=[1, 2, 3], PixelSpacing=[9, 9])
        group.private_block(0x0019, "MAKER", create=True).add_new(1, "SQ", [private])


def with_second_items(ds: FileDataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence.append(item(ImagePositionPatient=[0, 0, 0]))


CHANGES: list[Callable[[FileDataset], None]] = [
    in_each_frame,
    of_the_instance,
    with_empty_items,
    overridden,
    without_dimensions,
    derived_from_others,
    with_private_groups,
    with_second_items,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_groups_in_unusual_places_give_the_same_volume(
    change: Callable[[FileDataset], None], is_shuffled: bool
) -> None:
    slices = classic()
    order = np.random.default_rng(5).permutation(COUNT) if is_shuffled else range(COUNT)
    ds = enhanced_ct([slices[index] for index in order])
    change(ds)
    (verdict,) = explain([DEFAULT_RULE], series_tags([ds], archive="a", today=date(2026, 1, 1)))
    assert verdict.reasons == ()
    found = read_series([ds])
    np.testing.assert_array_equal(found.volume.voxels_hu, PHANTOM.volume.voxels_hu)
    assert found.notes == ()


@pytest.mark.parametrize("keyword", ["NominalPercentageOfRespiratoryPhase", "NominalRespiratoryTriggerDelayTime"])
def test_respiratory_phases_are_told_apart(keyword: str) -> None:
    later = [deepcopy(ds) for ds in classic()]
    for ds in later:
        ds.PixelData = (np.frombuffer(ds.PixelData, "<i2") + 30).astype("<i2").tobytes()
    ds = enhanced_ct([one for pair in zip(classic(), later, strict=True) for one in pair])
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        group.RespiratorySynchronizationSequence = [item(**{keyword: 50.0 * (number % 2)})]
    found = read_series([ds], ReadSettings(phase=Phase.LAST))
    np.testing.assert_array_equal(found.volume.voxels_hu, PHANTOM.volume.voxels_hu + 30)
    assert found.marks == (f"phase 2 of 2 by {keyword} (last): {COUNT} of {2 * COUNT} images",)
