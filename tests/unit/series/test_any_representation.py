"""However a body is stored, it is the same body in patient space: random turns, mirrors, orders and splits."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.phantom import affine, make_phantom
from orthanc_plugin.series.read import read_series
from tests.support.cases.representations import Representation, Split, places, representations, sampled, stored, turned

LEAST_DICE = 0.95
"""Of body and lungs that are sampled anew on a turned grid: their borders move by parts of a voxel of 3 mm. Airways and
bone of this small chest are one or two voxels wide, so they are compared on the grid where they were drawn only."""


@cache
def small() -> Volume:
    return rounded(make_phantom((9, 14, 18)).volume)


@cache
def chest() -> Volume:
    """A chest of 17 x 20 x 20 cm: the coarsest that the built-in model finds whole."""
    return rounded(make_phantom((56, 64, 64), (3.0, 3.2, 3.2)).volume)


def rounded(volume: Volume) -> Volume:
    return Volume(np.maximum(volume.voxels_hu.round(), -1024), volume.spacing_mm, volume.affine)


@cache
def organs() -> Segmentation:
    return segmented(chest())


def segmented(volume: Volume) -> Segmentation:
    return open_engine(find_model("chest_structures", None), Provider.CPU).segment(volume)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(representations())
@example(Representation((0, 1, 2), (False, False, False), (0.0, 0.0, 0.0), 0, Split.SLICES))
def test_every_voxel_keeps_its_value_at_its_place(how: Representation) -> None:
    series = read_series(stored(small(), how))
    read = sampled(series.volume.voxels_hu, series.volume.affine, places(small(), how.turn))
    np.testing.assert_array_equal(read, small().voxels_hu.ravel())


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(representations(10.0, axial=True))
def test_the_same_organs_are_found_at_their_places(how: Representation) -> None:
    volume = read_series(stored(chest(), how)).volume
    found = segmented(volume)
    assert [s.key for s in found.segments] == [s.key for s in organs().segments]
    labels = sampled(found.labels, volume.affine, places(chest(), how.turn)).reshape(organs().labels.shape)
    np.testing.assert_array_equal(labels, organs().labels)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.tuples(*[st.floats(-4.0, 4.0)] * 3), representations(0.0, axial=True))
def test_organs_stay_where_they_are_on_a_turned_grid(grid: tuple[float, float, float], how: Representation) -> None:
    """The patient lies still, and the slices are cut at an angle."""
    spacing = (3.0, 3.0, 3.0)
    turned_affine = turned(affine((66, 74, 74), spacing), grid)
    bare = Volume(np.zeros((66, 74, 74), np.float32), spacing, turned_affine)
    inverse = np.linalg.inv(chest().affine)
    index = (places(bare) @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1].T
    voxels = (
        ndimage.map_coordinates(chest().voxels_hu, index, order=1, cval=-1000.0).round().reshape(bare.voxels_hu.shape)
    )
    cut = Volume(voxels.astype(np.float32), spacing, turned_affine)
    volume = read_series(stored(cut, how)).volume
    found = segmented(volume)
    labels = sampled(found.labels, volume.affine, places(chest()))
    for key in ("body", "lung_left", "lung_right"):
        mine, expected = found.segment(key), organs().segment(key)
        assert mine is not None, key
        assert expected is not None, key
        assert dice(np.isin(labels, mine.covers), organs().mask(expected).ravel()) >= LEAST_DICE, key
