"""Prepare a CT in the card's axes for a network, like nnU-Net v1 or v2.

Both crop to the non-zero voxels, transpose, resample and normalise. v1 resamples before it normalises, v2 after; they
also treat masks and a previous stage differently. `Prepared` keeps what the way back needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Scheme
from orthanc_plugin.errors import ConfigError, InputError, Refusal
from orthanc_plugin.inference.grid import Field, Spacing
from orthanc_plugin.inference.nnunet.resample import (
    Labels,
    Shape,
    resample_image,
    resample_labels,
    resampled_shape,
    separate_axis,
)

Box = tuple[slice, slice, slice]
Mask = NDArray[np.bool_]

_EPSILON = 1e-8
_OUTSIDE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An array for the network, and how it was made.

    data: (channels, z, y, x) float32, network axes: the CT, then one mask for each label of the previous stage.
    shape: shape (z, y, x) of the volume in the card's axes, before the crop.
    box: the crop, in the card's axes.
    cropped_shape: shape of the crop in network axes, before resampling.
    spacing_mm: spacing of the volume, network axes.
    target_mm: spacing of `data`, network axes.
    """

    data: Field
    shape: Shape
    box: Box
    cropped_shape: Shape
    spacing_mm: Spacing
    target_mm: Spacing


class Resample(Protocol):
    """`resample_image`, or what does the same elsewhere."""

    def __call__(
        self, image: Field, shape: Sequence[int], *, order: int, order_z: int = 0, separate: int | None = None
    ) -> Field:
        """Resample an image to another grid of the same extent."""


def preprocess(
    voxels_hu: Field,
    spacing_mm: Spacing,
    configuration: Configuration,
    previous_labels: Labels | None = None,
    resample: Resample = resample_image,
) -> Prepared:
    """Prepare a CT for a configuration's network.

    Parameters
    ----------
    voxels_hu : ndarray, shape (z, y, x), float32
        In the card's axes, finite; not changed.
    spacing_mm : tuple of float
        (z, y, x), card's axes.
    configuration : Configuration
        The network's configuration.
    previous_labels : ndarray, shape (z, y, x), integer, optional
        Labels 1 to n of the first stage's network on the same grid; a cascade's second stage needs them.
    resample : callable
        Resamples the CT.

    Raises
    ------
    InputError
        NO_PIXELS if every voxel is zero; TOO_FEW_SLICES if the crop is thinner than half a target voxel.
    ConfigError
        If a second stage does not get the labels of the first stage.

    Source
    ------
    nnU-Net v1 `GenericPreprocessor.preprocess_test_case` and `PreprocessorFor2D`; v2 `DefaultPreprocessor.run_case`.
    """
    _refuse_thin(voxels_hu.shape)
    axes = configuration.transpose_forward
    box = _nonzero_box(voxels_hu)
    outside = _outside(voxels_hu) if _needs_mask(configuration) else None
    grid = _Grid.of(spacing_mm, configuration, voxels_hu[box].transpose(axes).shape)
    if outside is not None:
        outside = outside[box].transpose(axes)
    image = _image(voxels_hu[box].transpose(axes), outside, grid, configuration, resample)
    channels = [image]
    if configuration.previous is not None:
        channels += _previous_masks(previous_labels, box, outside, grid, configuration)
    shape = _triple(voxels_hu.shape)
    return Prepared(np.stack(channels), shape, box, grid.shape, grid.spacing_mm, grid.target_mm)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The grid before and after resampling, in network axes."""

    shape: Shape
    new_shape: Shape
    spacing_mm: Spacing
    target_mm: Spacing
    separate: int | None

    @classmethod
    def of(cls, spacing_mm: Spacing, configuration: Configuration, shape: tuple[int, ...]) -> _Grid:
        z, y, x = (spacing_mm[axis] for axis in configuration.transpose_forward)
        target_mm = (configuration.spacing_mm[0] or z, *configuration.spacing_mm[1:])
        separate = separate_axis((z, y, x), target_mm, configuration.data_resampling.force_separate_z)
        new_shape = resampled_shape(shape, (z, y, x), target_mm)
        _refuse_thin(new_shape)
        return cls(_triple(shape), new_shape, (z, y, x), target_mm, separate)


def _refuse_thin(shape: tuple[int, ...]) -> None:
    if 0 in shape:
        raise InputError(Refusal.TOO_FEW_SLICES, "the image is thinner than half a voxel of the model")


def _triple(shape: tuple[int, ...]) -> Shape:
    z, y, x = shape
    return z, y, x


def _nonzero_box(voxels: Field) -> Box:
    """Find the bounding box of the non-zero voxels; the originals also fill holes, which does not change it."""
    z, y, x = (_nonzero_range(np.moveaxis(voxels, axis, 0)) for axis in range(3))
    return z, y, x


def _nonzero_range(planes: Field) -> slice:
    indices = range(len(planes))
    start = next((index for index in indices if planes[index].any()), None)
    if start is None:
        raise InputError(Refusal.NO_PIXELS, "every voxel is 0 HU; there is nothing to segment")
    return slice(start, next(index for index in reversed(indices) if planes[index].any()) + 1)


def _needs_mask(configuration: Configuration) -> bool:
    """Check whether a mask is needed: v1 masks any normalised image, v2 z-scores and labels of a previous stage."""
    normalisation, v2 = configuration.normalisation, configuration.framework is Framework.V2
    masked = {Scheme.ZSCORE} if v2 else {Scheme.ZSCORE, Scheme.CT}
    return (normalisation.use_mask and normalisation.scheme in masked) or (v2 and configuration.previous is not None)


def _outside(voxels: Field) -> Mask | None:
    """Find zero voxels that connect to the border of the array by faces; None if no border voxel is zero."""
    faces = [np.moveaxis(voxels, axis, 0)[end] for axis in range(3) for end in (0, -1)]
    if all(face.all() for face in faces):
        return None
    parts, count = ndimage.label(voxels == 0)
    reaches_border = np.zeros(count + 1, np.bool_)
    for axis in range(3):
        for end in (0, -1):
            reaches_border[np.moveaxis(parts, axis, 0)[end]] = True
    reaches_border[0] = False
    return np.asarray(reaches_border[parts])


def _image(image: Field, outside: Mask | None, grid: _Grid, configuration: Configuration, resample: Resample) -> Field:
    """Resample and normalise, in the framework's order."""
    rule, normalisation = configuration.data_resampling, configuration.normalisation
    if configuration.framework is Framework.V2:
        image = _normalised(image, outside, normalisation, Framework.V2)
    image = resample(image, grid.new_shape, order=rule.order, order_z=rule.order_z, separate=grid.separate)
    if configuration.framework is Framework.V2:
        return image
    if outside is not None:
        code = np.where(outside, np.int8(_OUTSIDE), np.int8(0))
        outside = resample_labels(code, grid.new_shape, order=1, separate=grid.separate) == _OUTSIDE
    return _normalised(image, outside, normalisation, Framework.V1)


def _normalised(image: Field, outside: Mask | None, rule: Normalisation, framework: Framework) -> Field:
    match rule.scheme:
        case Scheme.NONE:
            return image
        case Scheme.CT:
            out, mean, sd = np.clip(image, rule.low_hu, rule.high_hu), rule.mean_hu, rule.sd_hu
            outside = outside if framework is Framework.V1 else None
        case Scheme.ZSCORE:
            inside = image if outside is None else image[~outside]
            out, mean, sd = image.copy(), float(inside.mean()), float(inside.std())
    out -= mean
    out /= sd + _EPSILON if framework is Framework.V1 and rule.scheme is Scheme.ZSCORE else max(sd, _EPSILON)
    if outside is not None:
        out[outside] = 0
    return out


def _previous_masks(
    labels: Labels | None, box: Box, outside: Mask | None, grid: _Grid, configuration: Configuration
) -> list[Field]:
    """Make a mask on the network's grid for each of the first stage's labels 1 to n."""
    if labels is None or configuration.previous is None:
        raise ConfigError(f"{configuration.name} is the second stage of a cascade: run its first stage first")
    previous = configuration.previous
    if configuration.framework is Framework.V1:
        # v1 resamples the labels of the whole volume to the shape of the crop; if the crop cuts, the labels shift.
        labels, separate = labels.transpose(configuration.transpose_forward), None
    else:
        labels, separate = labels[box].transpose(configuration.transpose_forward), grid.separate
        if outside is not None:
            labels = np.where(outside & (labels == 0), _OUTSIDE, labels.astype(np.int16))
    labels = resample_labels(labels, grid.new_shape, order=previous.order, separate=separate)
    heads = previous.part.configurations[0].heads
    numbers = range(1, heads + 1) if previous.part.regions else range(1, heads)
    return [(labels == number).astype(np.float32) for number in numbers]
