"""MCC of many grey levels, computed from the pairs that occur, equals pyradiomics' dense computation.

pyradiomics adds 2.2e-16 to each denominator. Where eigenvalues are close to 1 that is seen from the ninth digit on.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.radiomics import glcm
from orthanc_plugin.radiomics.glcm import co_occurrence_features
from orthanc_plugin.radiomics.matrices import GreyLevels, co_occurrences


def shares(levels: NDArray[np.int32]) -> NDArray[np.float64]:
    counts = co_occurrences(GreyLevels.of(levels, levels > 0, False))
    return np.asarray(counts / counts.sum((0, 1)))


def random_levels(size: int, highest: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(1, highest + 1, (size, size, size)).astype(np.int32)


def both(p: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    ours = [glcm._second_of_many_levels(one) for one in np.moveaxis(p, 2, 0)]
    return ours, glcm._second_eigenvalues(p).real.tolist()


@pytest.mark.parametrize(("size", "highest"), [(9, 40), (8, 130), (12, 200), (5, 300)])
def test_noise_of_many_levels_has_the_second_eigenvalue_of_the_dense_matrix(size: int, highest: int) -> None:
    ours, dense = both(shares(random_levels(size, highest)))
    assert ours == pytest.approx(dense, rel=1e-9)


def test_smooth_images_have_it_too() -> None:
    z, y, x = np.meshgrid(*[np.arange(14)] * 3, indexing="ij")
    ours, dense = both(shares((1 + z * 3 + y * 5 + x * 7 + random_levels(14, 4)).astype(np.int32)))
    assert ours == pytest.approx(dense, rel=1e-7)


def test_levels_that_never_meet_give_one() -> None:
    """Two parts without a common level: the second eigenvalue is 1, as often as there are further parts."""
    levels = np.zeros((4, 9, 9), np.int32)
    levels[:, :, :4], levels[:, :, 5:] = random_levels(9, 70)[:4, :, :4], random_levels(9, 70, 1)[:4, :, 5:] + 70
    ours, dense = both(shares(levels))
    assert ours == pytest.approx(dense, rel=1e-9)
    assert ours == [1.0] * 13


def test_two_levels_that_only_meet_each_other_give_one() -> None:
    p = np.zeros((3, 3, 1))
    p[0, 1] = p[1, 0] = 0.5
    ours, dense = both(p)
    assert ours == pytest.approx(dense)
    assert ours == [pytest.approx(1.0)]


@pytest.mark.parametrize(("kept", "expected"), [(1, 0.0), (3, 0.0)])
def test_few_levels_in_a_direction(kept: int, expected: float) -> None:
    p = np.zeros((5, 5, 1))
    p[:kept, :kept] = 1 / kept**2
    ours, dense = both(p)
    assert ours == [pytest.approx(expected, abs=1e-12)]
    assert dense == [pytest.approx(expected, abs=1e-12)]


def test_eight_hundred_levels_take_no_minute() -> None:
    """They took 95 s; now a third of a second on a quiet machine."""
    grey = GreyLevels.of(random_levels(16, 800), np.ones((16, 16, 16), bool), False)
    began = time.process_time()
    values = co_occurrence_features(co_occurrences(grey), grey.present)
    assert time.process_time() - began < 20
    assert 0 < values["MCC"] < 1


def test_the_same_levels_give_the_same_bits() -> None:
    p = shares(random_levels(8, 200))
    assert both(p)[0] == both(p)[0]


def test_a_search_that_does_not_end_is_undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise glcm.linalg.ArpackNoConvergence("%s", np.array([]), np.array([]))

    monkeypatch.setattr(glcm.linalg, "eigsh", never)
    assert np.isnan(glcm._second_of_many_levels(shares(random_levels(5, 60))[..., 0]))
