"""Textures of grey levels in a mask: co-occurrence, runs, zones, neighbourhood differences, dependences.

Directions are averaged, neighbours are one voxel apart, and dependent neighbours have the voxel's own level. These are
pyradiomics' defaults, and IBSI's 3D averaged (or 2.5D direction merged) features. tests/parity/test_textures.py
compares every value with pyradiomics within 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.radiomics_settings import FeatureClass
from orthanc_plugin.radiomics.discretise import Levels
from orthanc_plugin.radiomics.glcm import co_occurrence_features
from orthanc_plugin.radiomics.matrices import (
    Floats,
    GreyLevels,
    co_occurrences,
    dependences,
    neighbourhood_differences,
    runs,
    zones,
)
from orthanc_plugin.radiomics.ngtdm import neighbourhood_features
from orthanc_plugin.radiomics.size_features import DEPENDENCE_NAMES, RUN_NAMES, ZONE_NAMES, size_features


def texture_features(
    levels: Levels,
    mask: Mask,
    classes: Collection[FeatureClass],
    *,
    force_2d: bool = False,
    ibsi: bool = False,
) -> dict[str, float]:
    """Measure the texture features of a structure, by pyradiomics' names with their class.

    Parameters
    ----------
    levels : ndarray, shape (z, y, x), int32
        Grey levels from 1 inside the mask; any value outside.
    mask : ndarray, shape (z, y, x), bool
        The structure; not empty.
    classes : collection of FeatureClass
        Classes that are not textures are ignored.
    force_2d : bool
        Whether only neighbours within a slice count.
    ibsi : bool
        Whether IBSI's definition, instead of pyradiomics', applies to voxels and directions without a neighbour (see
        `GreyLevels`).

    Returns
    -------
    dict
        Full name, such as "glcm_Contrast", to value; NaN if it is undefined (no two voxels touch).

    Raises
    ------
    ConfigError
        If pyradiomics is not installed.
    """
    grey = GreyLevels.of(levels, mask, force_2d, ibsi)
    return {
        f"{one}_{name}": value
        for one, measure in _CLASSES.items()
        if one in classes
        for name, value in measure(grey).items()
    }


def _glcm(grey: GreyLevels) -> dict[str, float]:
    return co_occurrence_features(co_occurrences(grey), grey.present)


def _glrlm(grey: GreyLevels) -> dict[str, float]:
    return _named(RUN_NAMES, size_features(runs(grey)))


def _glszm(grey: GreyLevels) -> dict[str, float]:
    return _named(ZONE_NAMES, size_features([zones(grey)]))


def _ngtdm(grey: GreyLevels) -> dict[str, float]:
    counts, differences = neighbourhood_differences(grey)
    level = np.flatnonzero(counts)
    return neighbourhood_features(counts[level], differences[level], level)


def _gldm(grey: GreyLevels) -> dict[str, float]:
    return _named(DEPENDENCE_NAMES, size_features([dependences(grey)]))


def _named(names: tuple[str, ...], values: Floats) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True) if name}


_CLASSES: dict[FeatureClass, Callable[[GreyLevels], dict[str, float]]] = {
    FeatureClass.GLCM: _glcm,
    FeatureClass.GLRLM: _glrlm,
    FeatureClass.GLSZM: _glszm,
    FeatureClass.NGTDM: _ngtdm,
    FeatureClass.GLDM: _gldm,
}
