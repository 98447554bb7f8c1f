"""Radiomics of the segments of one model, several organs at a time within a memory limit.

Organs whose shape the caller asks for get all classes, also on the filtered images that the settings name. All other
segments get volume and first order only. Masks are those of the SEG as stored.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
from scipy import ndimage

from orthanc_plugin.domain.masks import Labels, Mask, Segment, Segmentation
from orthanc_plugin.domain.measures import ORIGINAL, Conditions, FeatureValue, Missing, SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import Aggregation, FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.radiomics.discretise import MOST_BINS, Levels, filtered_bins, grey_levels
from orthanc_plugin.radiomics.feature_codes import coded_features
from orthanc_plugin.radiomics.filters import filtered_images, image_names
from orthanc_plugin.radiomics.firstorder import first_order_features
from orthanc_plugin.radiomics.ibsi_features import distribution_features, region_features
from orthanc_plugin.radiomics.memory import MOST_LEVELS, needed_mib
from orthanc_plugin.radiomics.parameters import discretisation, textures
from orthanc_plugin.radiomics.prepare import Region, prepare, resampling_mib
from orthanc_plugin.radiomics.resample import Box
from orthanc_plugin.radiomics.schedule import Task, run_within
from orthanc_plugin.radiomics.shape import shape_features, voxel_volume
from orthanc_plugin.radiomics.shape2d import shape2d_features
from orthanc_plugin.radiomics.textures import co_occurrence_cells, texture_features

_MOST_CELLS = MOST_LEVELS**2 * 13
"""Cells of the co-occurrence matrices of one image, over all its aggregations: as many as `MOST_LEVELS` in space."""
_ALWAYS_MIB = 256
"""Memory that a resampling may take whatever the limit: the smallest limit that a configuration can set."""

_Group = tuple[str, Aggregation | None]
"""The image, and the further aggregation of its textures; None for the first, which all other features go with."""

_DEFAULT = RadiomicsSettings()
_TOO_MANY_LEVELS = f"no textures: more than {MOST_LEVELS} grey levels; a larger BinWidth or a BinCount gives fewer"
_TOO_MANY_CELLS = (
    f"no co-occurrences: with those of the aggregations before, their matrices need more than {_MOST_CELLS:,} cells;"
    " a larger BinWidth, a smaller BinCount or fewer Aggregations need fewer"
)
_TOO_MANY_BINS = f"more than {MOST_BINS:,} grey levels; a larger BinWidth or a BinCount gives fewer"
_TOO_MANY_IVH_BINS = f"more than {MOST_BINS:,} bins; a larger IvhBinWidth or an IvhBinCount gives fewer"
_TOO_SMALL = "no radiomics: the segment has fewer than two voxels"
_ONE_VOXEL = "not measured: only one voxel counts"
_NOTHING_LEFT = "no radiomics: resampling and re-segmentation leave fewer than two voxels"
_VOLUME, _VOLUME_ALONE = "shape_VoxelVolume", "volume"
_DEPRECATED = frozenset(("shape_Compactness1", "shape_Compactness2", "shape_SphericalDisproportion"))
_OF_THE_REGION = frozenset(
    (
        FeatureClass.SHAPE,
        FeatureClass.SHAPE2D,
        FeatureClass.MORPHOLOGY,
        FeatureClass.SPATIAL,
        FeatureClass.LOCAL_INTENSITY,
    )
)
"""Classes that only the original image has."""
_OF_PAIRS = (FeatureClass.GLCM, FeatureClass.COOCCURRENCE)
"""Classes whose cost grows with the square of the grey levels."""
_OF_BINS = ("firstorder_Entropy", "firstorder_Uniformity")
"""Features of grey levels, beside those of the class `histogram` and the textures."""
_UNDEFINED = "undefined in this segment"
_SMALL_IMAGE = "no such image: the CT is too small for the filter"


def measure_segments(
    volume: Volume,
    segmentation: Segmentation,
    shape_keys: Collection[str],
    settings: RadiomicsSettings = _DEFAULT,
    *,
    workers: int = 1,
    memory_mib: int = 2048,
) -> tuple[SegmentFeatures, ...]:
    """Measure every segment, in the order of the segmentation; the original image first, then the filtered ones.

    Parameters
    ----------
    volume : Volume
    segmentation : Segmentation
        On the grid of the volume.
    shape_keys : collection of str
        Keys of the segments that get all classes and images of the settings. The others get VoxelVolume and first
        order of the original image.
    settings : RadiomicsSettings
    workers : int
        Organs at a time. It does not change any value.
    memory_mib : int
        Limit for all organs at work, without volume and label map. An organ that needs more is measured alone, but no
        organ is resampled to a grid that alone needs more.

    Returns
    -------
    tuple of SegmentFeatures
        One for each segment and image. A segment of too few voxels (`_least_voxels`), as stored or after resampling and
        re-segmentation, has a note instead of features, and so has one whose resampling needs too much memory. A note
        also names each feature without a finite value. What is missing is named feature by feature, with the reason.

    Raises
    ------
    ConfigError
        If pyradiomics is not installed.

    Source
    ------
    IBSI reference manual; pyradiomics 3.0.1, `featureextractor.py`.
    """
    # One pass for all: a mask of the whole volume for each of 117 structures takes minutes.
    boxes = _boxes(segmentation.labels)
    tasks = []
    for segment in segmentation.segments:
        box, wanted = _box_around(segment, boxes), settings if segment.key in shape_keys else _without_shape(settings)
        possible, refusal = _within_memory(volume, box, wanted, memory_mib)
        measure = partial(_measure, volume, segmentation, segment, box, wanted, possible, refusal)
        tasks.append(Task(needed_mib(volume, box, possible) if possible else 0.0, measure))
    measured = run_within(tasks, workers, memory_mib)
    return tuple(chain.from_iterable(measured))


def _boxes(labels: Labels) -> list[Box | None]:
    """Return the box of each label; to leave out empty slices, rows and columns first is faster."""
    if not labels.any():
        return []
    outer: list[slice] = [slice(None)] * 3
    for axis in range(3):
        (there,) = np.nonzero(labels[tuple(outer)].any(axis=tuple({0, 1, 2} - {axis})))
        outer[axis] = slice(int(there[0]), int(there[-1]) + 1)
    return [box and _moved(box, outer) for box in ndimage.find_objects(labels[tuple(outer)])]


def _moved(box: Box, outer: Sequence[slice]) -> Box:
    z, y, x = (slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, box, strict=True))
    return z, y, x


def _without_shape(settings: RadiomicsSettings) -> RadiomicsSettings:
    """Reduce the settings to those of a segment whose shape nobody asks for."""
    classes = tuple({FeatureClass.FIRSTORDER} & set(settings.classes))
    return replace(settings, classes=classes, log_sigma_mm=(), wavelet=False, filters=())


def _within_memory(
    volume: Volume, box: Box, wanted: RadiomicsSettings, memory_mib: float
) -> tuple[RadiomicsSettings | None, str]:
    """Return what can be measured of what is wanted, and why the rest cannot.

    A resampled grid may need too much memory as a whole, or only with the surroundings that filters read.
    """
    allowed = max(memory_mib, _ALWAYS_MIB)

    def needs(settings: RadiomicsSettings) -> float:
        return resampling_mib(volume.voxels_hu.shape, box, volume.spacing_mm, settings)

    if not all(axis.stop for axis in box) or (needed := needs(wanted)) <= allowed:
        return wanted, ""
    unfiltered = replace(wanted, log_sigma_mm=(), wavelet=False, filters=())
    reason = f"not measured: resampling needs {needed:.0f} MiB, and RadiomicsMemory allows {allowed:.0f}"
    return unfiltered if needs(unfiltered) <= allowed else None, reason


def _measure(
    volume: Volume,
    segmentation: Segmentation,
    segment: Segment,
    box: Box,
    wanted: RadiomicsSettings,
    possible: RadiomicsSettings | None,
    refusal: str,
) -> tuple[SegmentFeatures, ...]:
    if possible is None:
        return nothing_measured(segment, wanted, refusal)
    mask = replace(segmentation, labels=segmentation.labels[box]).mask(segment)
    least = _least_voxels(wanted)
    if np.count_nonzero(mask) < least:
        return nothing_measured(segment, wanted, _TOO_SMALL)
    region = prepare(volume.voxels_hu, mask, box, volume.spacing_mm, possible)
    if (left := np.count_nonzero(region.intensity)) < least:
        return nothing_measured(segment, wanted, _NOTHING_LEFT)
    if left == 1:
        possible = _of_one_voxel(possible)
    found = {
        group: _coded(segment, group, values, region, wanted, bins, highest)
        for group, values, bins, highest in _values(region, possible)
    }
    absent = refusal or (_ONE_VOXEL if left == 1 else _SMALL_IMAGE)
    return tuple(found.get(group) or _absent(segment, group, wanted, absent) for group in _groups(wanted))


def _least_voxels(settings: RadiomicsSettings) -> int:
    """Return how many voxels a segment needs; pyradiomics refuses one."""
    alone = settings.mode is RadiomicsMode.IBSI and FeatureClass.FIRSTORDER in settings.classes
    return 1 if alone else 2


def _of_one_voxel(settings: RadiomicsSettings) -> RadiomicsSettings:
    """Reduce the settings to what a single voxel has: a shape and an intensity."""
    kept = (FeatureClass.SHAPE, FeatureClass.FIRSTORDER)
    return replace(settings, classes=tuple(one for one in settings.classes if one in kept), aggregation=())


def _groups(settings: RadiomicsSettings) -> list[_Group]:
    """Name the groups of a segment, image by image: all features, then the textures of each further aggregation."""
    further = settings.aggregations[1:] if settings.textures else ()
    return [(image, one) for image in (ORIGINAL, *image_names(settings)) for one in (None, *further)]


def nothing_measured(segment: Segment, wanted: RadiomicsSettings, reason: str) -> tuple[SegmentFeatures, ...]:
    """Name all features of all images as missing, for a segment that is not measured; one note says why."""
    first, *others = (_absent(segment, group, wanted, reason) for group in _groups(wanted))
    return (first, *(replace(other, notes=()) for other in others))


def _absent(segment: Segment, group: _Group, wanted: RadiomicsSettings, reason: str) -> SegmentFeatures:
    missing = (Missing(_wanted_names(group, wanted), reason),)
    image, further = group
    return SegmentFeatures(segment.number, (), (reason,), image, missing, aggregation=further or "")


def _wanted_names(group: _Group, settings: RadiomicsSettings) -> tuple[str, ...]:
    """Name the features that a group gets, in the order of the code table."""
    image, further = group
    without = _OF_THE_REGION if image != ORIGINAL else frozenset()
    classes = set(settings.textures if further else settings.classes) - without

    def is_wanted(name: str) -> bool:
        if name == _VOLUME:
            return image == ORIGINAL and not further
        return name.split("_")[0] in classes and (settings.deprecated or name not in _DEPRECATED)

    return tuple(coded.name for coded in coded_features(settings.mode) if is_wanted(coded.name))


def _values(region: Region, settings: RadiomicsSettings) -> Iterator[tuple[_Group, dict[str, float], str, int]]:
    """Yield the feature values by full name, group by group; how the grey levels were made, and the highest."""
    further = [one for image, one in _groups(settings) if image == ORIGINAL and one]
    for image, voxels, bins in _images(region, settings):
        levels = grey_levels(voxels, region.intensity, settings, filtered=image != ORIGINAL)
        classes, highest = _affordable(levels, region.intensity, settings), int(levels.max())
        first = {} if image != ORIGINAL else _shape_features(region, settings) | region_features(region, settings)
        first |= _intensity_features(voxels, levels, region, settings, filtered=image != ORIGINAL)
        usual = settings.aggregations[0]
        yield (image, None), first | _textures(levels, region, settings, usual, classes[usual]), bins, highest
        for one in further:
            yield (image, one), _textures(levels, region, settings, one, classes[one]), bins, highest


def _images(region: Region, settings: RadiomicsSettings) -> Iterator[tuple[str, Voxels, str]]:
    """Yield each image in the organ's box, and how its grey levels are made."""
    yield ORIGINAL, region.inside_hu, discretisation(settings)
    for image, voxels in filtered_images(region.voxels_hu, region.spacing_mm, region.box, settings):
        yield image, voxels, filtered_bins(voxels, region.intensity, settings)


def _shape_features(region: Region, settings: RadiomicsSettings) -> dict[str, float]:
    mask, spacing_mm = region.morphological, region.spacing_mm
    shape = {"VoxelVolume": voxel_volume(mask, spacing_mm)}
    if FeatureClass.SHAPE in settings.classes:
        sample = settings.mode is RadiomicsMode.IBSI
        shape = shape_features(mask, spacing_mm, sample=sample, deprecated=settings.deprecated)
    shape2d = shape2d_features(mask, spacing_mm) if FeatureClass.SHAPE2D in settings.classes else {}
    return _named("shape", shape) | _named("shape2D", shape2d)


def _intensity_features(
    voxels: Voxels, levels: Levels, region: Region, settings: RadiomicsSettings, *, filtered: bool
) -> dict[str, float]:
    """Measure an image's values and grey levels, wherever they lie."""
    mask = region.intensity
    first_order = {}
    if FeatureClass.FIRSTORDER in settings.classes:
        first_order = first_order_features(voxels[mask], float(np.prod(region.spacing_mm)), levels[mask])
        if settings.mode is RadiomicsMode.IBSI and first_order["Variance"] > 0:
            first_order["Kurtosis"] -= 3  # excess; 0 if all values are equal
    found = _named("firstorder", first_order)
    if levels.max() > MOST_BINS:
        found = {name: value for name, value in found.items() if name not in _OF_BINS}
    return found | distribution_features(voxels, levels, region, settings, filtered=filtered)


def _affordable(levels: Levels, mask: Mask, settings: RadiomicsSettings) -> dict[Aggregation, tuple[FeatureClass, ...]]:
    """Return the texture classes of each aggregation whose matrices are not too many; the first ones come first."""
    if not settings.textures or levels.max() > MOST_LEVELS:
        return dict.fromkeys(settings.aggregations, ())
    pairs = [one for one in settings.textures if one in _OF_PAIRS]
    chosen: dict[Aggregation, tuple[FeatureClass, ...]] = {}
    left = _MOST_CELLS
    for one in settings.aggregations:
        cells = co_occurrence_cells(levels, mask, one) if pairs else 0
        fits = cells <= left
        left -= cells if fits else 0
        chosen[one] = settings.textures if fits else tuple(c for c in settings.textures if c not in pairs)
    return chosen


def _textures(
    levels: Levels,
    region: Region,
    settings: RadiomicsSettings,
    aggregation: Aggregation,
    classes: Collection[FeatureClass],
) -> dict[str, float]:
    if not classes:
        return {}
    ibsi, shape = settings.mode is RadiomicsMode.IBSI, region.morphological
    return texture_features(levels, region.intensity, classes, aggregation, morphological=shape, ibsi=ibsi)


def _named(feature_class: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{feature_class}_{name}": value for name, value in values.items()}


def _coded(
    segment: Segment,
    group: _Group,
    values: Mapping[str, float],
    region: Region,
    settings: RadiomicsSettings,
    bins: str,
    highest: int,
) -> SegmentFeatures:
    undefined = tuple(name for name, value in values.items() if not math.isfinite(value))
    left_out = [name for name in _wanted_names(group, settings) if name not in values]
    alone = np.count_nonzero(region.intensity) == 1
    reasons = {name: _ONE_VOXEL if alone else _why_left_out(name, highest) for name in left_out}
    image, further = group
    notes = [f"{_UNDEFINED}: {', '.join(undefined)}"] if undefined else []
    missing = [Missing(undefined, _UNDEFINED)] if undefined else []
    for reason in dict.fromkeys(reasons.values()):
        notes.append(reason)
        missing.append(Missing(tuple(name for name in left_out if reasons[name] == reason), reason))
    return SegmentFeatures(
        segment.number,
        tuple(
            FeatureValue(coded.name, coded.concept, coded.unit, values[coded.name], coded.derivation)
            for coded in coded_features(settings.mode)
            if coded.name in values and coded.name not in undefined
        ),
        tuple(notes),
        image,
        tuple(missing),
        Conditions(
            _classes(values, settings),
            bins,
            region.spacing_mm,
            int(np.count_nonzero(region.intensity)),
            textures(further or settings.aggregations[0]) if settings.textures else "",
        ),
        further or "",
    )


def _why_left_out(name: str, highest: int) -> str:
    """Say why an image has no value of a feature that was wanted; `highest` is its highest grey level."""
    of = name.split("_")[0]
    if of == FeatureClass.IVH:
        return _TOO_MANY_IVH_BINS
    if name in _OF_BINS or of == FeatureClass.HISTOGRAM:
        return _TOO_MANY_BINS
    return _TOO_MANY_LEVELS if highest > MOST_LEVELS else _TOO_MANY_CELLS


def _classes(values: Collection[str], settings: RadiomicsSettings) -> str:
    """Name the classes that were measured."""
    measured = {name.split("_")[0] for name in values}
    volume = [_VOLUME_ALONE] if _VOLUME in values and FeatureClass.SHAPE not in settings.classes else []
    deprecated = ["deprecated"] if _DEPRECATED & set(values) else []
    return " ".join([*volume, *(name for name in settings.classes if name in measured), *deprecated])


def _box_around(segment: Segment, boxes: Sequence[Box | None]) -> Box:
    """Return the smallest box around a structure and all it covers; an empty box if none of them is there."""
    there = [box for number, box in enumerate(boxes, start=1) if number in segment.covers and box is not None]
    z, y, x = (
        slice(min((box[axis].start for box in there), default=0), max((box[axis].stop for box in there), default=0))
        for axis in range(3)
    )
    return z, y, x
