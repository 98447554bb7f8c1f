"""Textures of grey levels in a mask: co-occurrence, runs, zones, neighbourhood differences, dependences.

Neighbours are one voxel apart, and dependent neighbours have the voxel's own level. `Aggregation` says how slices and
directions become one value. pyradiomics averages over 3D directions, or over those of all slices merged (its
`force2D`); tests/parity/test_textures.py compares these values with pyradiomics within 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.radiomics_settings import Aggregation, FeatureClass
from orthanc_plugin.radiomics.discretise import Levels
from orthanc_plugin.radiomics.distances import border_distance
from orthanc_plugin.radiomics.glcm import co_occurrence_features
from orthanc_plugin.radiomics.matrices import (
    Floats,
    GreyLevels,
    SizeMatrix,
    co_occurrences,
    dependences,
    neighbourhood_differences,
    occupied_box,
    runs,
    zone_distances,
    zones,
)
from orthanc_plugin.radiomics.ngtdm import neighbourhood_features
from orthanc_plugin.radiomics.size_features import (
    DEPENDENCE_NAMES,
    DISTANCE_NAMES,
    NORMALISED_GREY,
    PERCENTAGE,
    RUN_NAMES,
    ZONE_NAMES,
    energy,
    merged,
    size_features,
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A volume, or one of its slices, with the voxels' distance to the border of the shape."""

    grey: GreyLevels
    distance: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class _Structure:
    """What the textures of a structure are computed from.

    parts: the volume, or each slice that has voxels.
    highest: highest grey level of the structure.
    """

    parts: tuple[_Part, ...]
    aggregation: Aggregation
    highest: int

    @property
    def greys(self) -> list[GreyLevels]:
        """Grey levels of each part."""
        return [part.grey for part in self.parts]


def texture_features(
    levels: Levels,
    mask: Mask,
    classes: Collection[FeatureClass],
    aggregation: Aggregation = Aggregation.VOLUME_AVERAGED,
    *,
    morphological: Mask | None = None,
    ibsi: bool = False,
) -> dict[str, float]:
    """Measure the texture features of a structure, by pyradiomics' names with their class.

    Parameters
    ----------
    levels : ndarray, shape (z, y, x), int32
        Grey levels from 1 inside the mask; any value outside.
    mask : ndarray, shape (z, y, x), bool
        The voxels whose intensities count; not empty.
    classes : collection of FeatureClass
        Classes that are not textures are ignored.
    aggregation : Aggregation
        What becomes of slices and directions.
    morphological : ndarray, shape (z, y, x), bool, or None
        The shape to whose border distance zones are measured; None: the mask.
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
    shape = mask if morphological is None else morphological
    parts = [slice(z, z + 1) for z in np.flatnonzero(mask.any(axis=(1, 2)))] if aggregation.by_slice else [slice(None)]
    distances = FeatureClass.GLDZM in classes
    structure = _Structure(
        tuple(_part(levels[at], mask[at], shape[at] if distances else None, aggregation, ibsi) for at in parts),
        aggregation,
        int(levels[mask].max()),
    )
    found = {one: measure(structure) for one, measure in _CLASSES.items() if one in classes}
    if FeatureClass.COOCCURRENCE in classes:
        glcm = found.get(FeatureClass.GLCM) or _glcm(structure)
        found[FeatureClass.COOCCURRENCE] = {
            "Dissimilarity": glcm["DifferenceAverage"],
            "SumVariance": glcm["ClusterTendency"],
        }
    return {f"{one}_{name}": value for one, values in found.items() for name, value in values.items()}


def co_occurrence_cells(levels: Levels, mask: Mask, aggregation: Aggregation) -> int:
    """Count the cells of the co-occurrence matrices of a structure: pairs of levels that occur, by directions.

    Their time and memory grow with it. `levels` and `mask` are as in `texture_features`.
    """
    directions = 4 if aggregation.flat else 13
    parts = zip(levels, mask, strict=True) if aggregation.by_slice else [(levels, mask)]
    return sum(int(np.count_nonzero(np.bincount(part[inside]))) ** 2 * directions for part, inside in parts)


def _part(levels: Levels, mask: Mask, shape: Mask | None, aggregation: Aggregation, ibsi: bool) -> _Part:
    distance = np.zeros(mask.shape, np.int32) if shape is None else border_distance(shape, aggregation.flat)
    return _Part(GreyLevels.of(levels, mask, aggregation.flat, ibsi), distance[occupied_box(mask)])


def _glcm(structure: _Structure) -> dict[str, float]:
    """Average over all matrices that have a pair: those of a slice count as often as it has such directions."""
    found, weights = [], []
    for grey in structure.greys:
        counts, level = _with_highest(co_occurrences(grey), grey.present, structure.highest)
        counts = counts.sum(2, keepdims=True) if structure.aggregation.merges_directions else counts
        found.append(co_occurrence_features(counts, level))
        weights.append(int(np.count_nonzero(counts.any(axis=(0, 1)))))
    return found[0] if len(found) == 1 else _mean(found, weights)


def _with_highest(counts: Floats, level: NDArray[np.int64], highest: int) -> tuple[Floats, NDArray[np.int64]]:
    """Give a slice the structure's number of grey levels, which normalises two features."""
    if level[-1] == highest:
        return counts, level
    return np.pad(counts, ((0, 1), (0, 1), (0, 0))), np.append(level, highest)


def _mean(values: list[dict[str, float]], weights: list[int] | None = None) -> dict[str, float]:
    """Average each feature over the matrices for which it is defined; NaN if there is none."""
    table = np.array([list(one.values()) for one in values])
    defined = np.isfinite(table)
    share = defined * np.array([1] * len(values) if weights is None else weights)[:, None]
    with np.errstate(invalid="ignore"):
        mean = np.where(defined, table * share, 0).sum(0) / share.sum(0)
    return dict(zip(values[0], mean.tolist(), strict=True))


def _glrlm(structure: _Structure) -> dict[str, float]:
    of_parts = [runs(grey) for grey in structure.greys]
    if structure.aggregation.merges_directions:
        return _named(RUN_NAMES, size_features(merged(of_part) for of_part in of_parts if of_part))
    return _named(RUN_NAMES, size_features(matrix for of_part in of_parts for matrix in of_part))


def _glszm(structure: _Structure) -> dict[str, float]:
    return _named(ZONE_NAMES, size_features(zones(grey) for grey in structure.greys))


def _ngtdm(structure: _Structure) -> dict[str, float]:
    found = []
    for grey in structure.greys:
        counts, differences = neighbourhood_differences(grey)
        level = np.flatnonzero(counts)
        found.append(neighbourhood_features(counts[level], differences[level], level))
    return found[0] if len(found) == 1 else _mean(found)


def _gldm(structure: _Structure) -> dict[str, float]:
    return _named(DEPENDENCE_NAMES, size_features(dependences(grey) for grey in structure.greys))


def _gldzm(structure: _Structure) -> dict[str, float]:
    matrices = [zone_distances(part.grey, part.distance) for part in structure.parts]
    values = size_features(matrices)
    values[PERCENTAGE] = np.mean([_zones_per_voxel(*pair) for pair in zip(matrices, structure.greys, strict=True)])
    return _named(DISTANCE_NAMES, values)


def _zones_per_voxel(matrix: SizeMatrix, grey: GreyLevels) -> float:
    return float(matrix.count.sum() / grey.counts.sum())


def _ngldm(structure: _Structure) -> dict[str, float]:
    matrices = [dependences(grey) for grey in structure.greys]
    return {
        "GrayLevelNonUniformityNormalized": float(size_features(matrices)[NORMALISED_GREY]),
        "DependencePercentage": 1.0,  # every voxel has a dependence, itself
        "DependenceEnergy": float(np.mean([energy(matrix) for matrix in matrices])),
    }


def _named(names: tuple[str, ...], values: Floats) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True) if name}


_CLASSES: dict[FeatureClass, Callable[[_Structure], dict[str, float]]] = {
    FeatureClass.GLCM: _glcm,
    FeatureClass.GLRLM: _glrlm,
    FeatureClass.GLSZM: _glszm,
    FeatureClass.NGTDM: _ngtdm,
    FeatureClass.GLDM: _gldm,
    FeatureClass.GLDZM: _gldzm,
    FeatureClass.NGLDM: _ngldm,
}
