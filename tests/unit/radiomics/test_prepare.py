"""The steps before a feature, computed by hand: new grid, re-segmentation, grey levels, organs at a time."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.radiomics_settings import Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.radiomics.discretise import grey_levels
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.prepare import Region, prepare
from orthanc_plugin.radiomics.resample import Box, resampled
from orthanc_plugin.radiomics.schedule import Task, run_within

IBSI, LINEAR = RadiomicsSettings(), Interpolation.LINEAR
PYRADIOMICS = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS)


def row(*values: float) -> NDArray[np.float32]:
    """An image of one row along x."""
    return np.array([[values]], np.float32)


def whole(image: NDArray[np.float32]) -> Box:
    z, y, x = (slice(0, size) for size in image.shape)
    return z, y, x


def on_grid(image: NDArray[np.float32], inside: list[int], x_mm: float) -> tuple[list[float], list[bool]]:
    mask = np.array([[inside]], bool)
    voxels, found = resampled(image, mask, whole(image), (1.0, 1.0, 1.0), (0.0, 0.0, x_mm), LINEAR)
    return voxels.ravel().tolist(), found.ravel().tolist()


def test_centres_of_old_and_new_grid_coincide() -> None:
    assert on_grid(row(0, 40, 80, 120), [1, 1, 0, 0], 2.0) == ([20, 100], [True, False])


def test_the_new_grid_is_rounded_up_in_size() -> None:
    assert on_grid(row(0, 40, 80), [1, 1, 1], 2.0) == ([0, 80], [True, True])


def test_beyond_the_last_voxel_the_image_stays_as_it_is_there() -> None:
    expected = [0, 10, 30, 50, 70, 90, 110, 120]
    assert on_grid(row(0, 40, 80, 120), [1, 1, 1, 1], 0.5) == (expected, [True] * 8)


def test_hu_become_whole_numbers_and_half_a_voxel_is_inside() -> None:
    assert on_grid(row(0.4, 1, 7, 8), [0, 1, 0, 0], 2.0) == ([1, 8], [True, False])


def test_a_size_that_fits_is_not_rounded_up_by_a_rounding_error() -> None:
    image = row(1, 2, 3)
    voxels, _ = resampled(image, image > 0, whole(image), (1.0, 1.0, 0.3), (0.0, 0.0, 0.1 + 0.2), LINEAR)
    assert voxels.ravel().tolist() == [1, 2, 3]


@pytest.mark.parametrize("interpolation", Interpolation)
def test_an_organ_alone_has_the_voxels_it_has_in_the_whole_image(interpolation: Interpolation) -> None:
    image = np.random.default_rng(0).normal(0, 300, (30, 50, 50)).round().astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[12:18, 21:30, 20:31] = True
    box = (slice(12, 18), slice(21, 30), slice(20, 31))
    grid = (3.0, 0.8, 0.8), (2.0, 1.0, 1.0)
    all_voxels, inside_all = resampled(image, mask, whole(image), *grid, interpolation)
    voxels, inside = resampled(image, mask[box], box, *grid, interpolation)
    np.testing.assert_array_equal(voxels[inside], all_voxels[inside_all])


def re_segmented(image: NDArray[np.float32], settings: RadiomicsSettings) -> Region:
    return prepare(image, np.ones(image.shape, bool), whole(image), (1.0, 1.0, 1.0), settings)


def test_the_range_comes_first_and_the_standard_deviation_is_that_of_what_is_left() -> None:
    image = row(*[0] * 9, 10, 1000)  # of the ten in range the mean is 1, the standard deviation 3
    both = replace(IBSI, resegment_hu=(-100, 100), resegment_sigma=2)
    assert re_segmented(image, both).intensity.ravel().tolist() == [True] * 9 + [False] * 2
    assert re_segmented(image, replace(both, resegment_sigma=3)).intensity.sum() == 10  # 10 is 1 + 3 * 3
    assert re_segmented(image, replace(IBSI, resegment_sigma=3)).intensity.sum() == 10


def test_shape_keeps_its_mask_where_pyradiomics_cuts_it_to_the_box_of_what_is_left() -> None:
    image = row(0, 50, 900, 60, 900)
    ibsi, pyradiomics = (re_segmented(image, replace(one, resegment_hu=(10, 100))) for one in (IBSI, PYRADIOMICS))
    assert ibsi.morphological.ravel().tolist() == [True] * 5
    assert ibsi.intensity.ravel().tolist() == [False, True, False, True, False]
    assert pyradiomics.morphological.ravel().tolist() == [True] * 3
    assert pyradiomics.intensity.ravel().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("settings", "values", "expected"),
    [
        pytest.param(IBSI, (-1024, -1000, -975.5, -975, 0), [1, 1, 1, 2, 41], id="from air where there is no range"),
        pytest.param(replace(IBSI, resegment_hu=(-500, 400)), (-500, -476, -475, 400), [1, 1, 2, 37], id="from range"),
        pytest.param(replace(IBSI, bin_count=4), (10, 19, 20, 30, 49, 50), [1, 1, 2, 3, 4, 4], id="a number of bins"),
        pytest.param(replace(IBSI, bin_count=4), (7, 7), [1, 1], id="a number of bins of equal values"),
        pytest.param(PYRADIOMICS, (54, 75, 166), [1, 2, 5], id="pyradiomics from a multiple of the width"),
    ],
)
def test_grey_levels(settings: RadiomicsSettings, values: tuple[float, ...], expected: list[int]) -> None:
    image = row(*values, 999)
    mask = image != 999
    assert grey_levels(image, mask, settings).ravel().tolist() == [*expected, 0]


def test_bins_of_a_filtered_image_start_at_a_multiple_of_the_width() -> None:
    image = row(-30, -25, 0)
    assert grey_levels(image, image < 1, IBSI, filtered=True).ravel().tolist() == [1, 2, 3]


def test_tasks_keep_to_the_limit_the_largest_first_and_their_results_in_order() -> None:
    lock, begun, at_work, most = threading.Lock(), list[int](), set[int](), list[int]()

    def run(size: int) -> int:
        with lock:
            begun.append(size)
            at_work.add(size)
            most.append(sum(at_work))
        with lock:
            at_work.remove(size)
        return size

    sizes = [10, 70, 30, 200, 55, 20]
    results = run_within([Task(size, lambda size=size: run(size)) for size in sizes], workers=3, memory_mib=100)
    assert results == sizes
    assert begun[0] == 200  # above the limit: runs alone
    assert max(value for value in most if value != 200) <= 100


def test_an_error_of_one_task_is_the_error_of_all() -> None:
    def fail() -> int:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        run_within([Task(1, fail), Task(1, lambda: 1)], workers=2, memory_mib=10)


def test_several_organs_at_a_time_give_what_one_after_the_other_gives() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (8, 12, 12)).astype(np.uint8)
    segments = tuple(Segment(n, f"s{n}", f"S{n}", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (n,)) for n in (1, 2, 3))
    volume = Volume(rng.normal(0, 99, labels.shape).astype(np.float32), (2.0, 1.0, 1.0), np.eye(4))
    measured = [measure_segments(volume, Segmentation(labels, segments), {"s1", "s3"}, workers=n) for n in (1, 3)]
    assert measured[0] == measured[1]
