"""A long series of thin slices is read within the memory that docs/geometry.md states."""

from __future__ import annotations

import numpy as np
import pytest

from orthanc_plugin.series.read import read_series
from tests.support.cases.compressed import LOSSLESS, compressed
from tests.support.cases.long_series import STEP_MM, long_series, peak_mib

BYTES_PER_VOXEL = 6.5
"""Two as stored, four in HU, and what checks and decoders hold for a moment."""
BESIDES_MIB = 200


@pytest.mark.parametrize(("slices", "side"), [(300, 512), (60, 1024)])
def test_memory_is_bound_by_the_voxels(slices: int, side: int) -> None:
    before, after = peak_mib(slices, side)
    assert after - before <= BYTES_PER_VOXEL * slices * side**2 / 2**20 + BESIDES_MIB


def test_1500_slices_of_a_third_of_a_millimetre_are_one_volume() -> None:
    volume = read_series(long_series(1500, 64)).volume
    assert volume.voxels_hu.shape == (1500, 64, 64)
    assert volume.spacing_mm[0] == pytest.approx(STEP_MM, abs=1e-6)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_many_slices_decoded_in_parallel_keep_their_places(syntax: str) -> None:
    expected = read_series(long_series(40, 64)).volume.voxels_hu
    read = read_series(compressed(ds, syntax) for ds in long_series(40, 64)).volume.voxels_hu
    np.testing.assert_array_equal(read, expected)
