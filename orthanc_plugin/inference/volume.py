"""The engine `volume`: run any ONNX network as its card says, and turn its outputs into labels.

1. Turn the volume to the card's axes. 2. Resample and change HU to network units. 3. Run the whole image, or patches
whose outputs are averaged with Gaussian weights. 4. Resample each output to the CT's grid and decide. 5. Clean up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.graph import ends_of
from orthanc_plugin.catalog.volume import FLOATS, Cleaning, Intensity, Padding, Placing, Scheme, Values, VolumeModel
from orthanc_plugin.domain.masks import Labels, Segmentation
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.grid import Field, Spacing
from orthanc_plugin.inference.memory import memory_errors
from orthanc_plugin.inference.nnunet.orientation import network_turn
from orthanc_plugin.inference.patches import patches
from orthanc_plugin.inference.probabilities import Shares, in_bytes, of_segments, too_many
from orthanc_plugin.inference.providers import Provider, open_session
from orthanc_plugin.inference.segments import segments_present

_LEAST_SD = 1e-6
_PADDING: Mapping[Padding, Literal["edge", "constant"]] = {Padding.EDGE: "edge", Padding.ZERO: "constant"}
_REACH = {6: 1, 18: 2, 26: 3}
"""Neighbours of a voxel to the steps between them."""


class VolumeEngine:
    """Segments, or finds landmarks, with one ONNX network.

    Raises
    ------
    ModelError
        If the card has no `volume` section, or its graph cannot be loaded.
    ConfigError
        If the provider does not start.
    """

    def __init__(self, card: ModelCard, wanted: Provider) -> None:
        if card.volume is None:
            raise ModelError(f"{card.directory / 'card.json'} has no volume section; convert the model again")
        self.card, self._model = card, card.volume
        self._graph = card.graphs[0].file
        self._session, provider = open_session(card.directory / self._graph, wanted, arena=False)
        self.provider: str = provider.value
        self._element = FLOATS[ends_of(card.directory / self._graph).inputs[0][1]]

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a CT (see `SegmentationEngine`).

        Raises
        ------
        InputError
            If the volume is too oblique.
        OutOfMemoryError
            If memory runs out.
        ModelError
            If the graph fails, or gives another shape than its card says, or values that are not finite.
        """
        with memory_errors(self._graph, self.provider):
            return self._segmented(volume, None)

    def segment_with_probabilities(self, volume: Volume) -> Segmentation:
        """Segment a CT and keep the probabilities, which landmarks do not have; raises as `segment`."""
        if self._model.values is Values.HEATMAPS:
            return self.segment(volume)
        why = too_many(len(self.card.labels), volume.voxels_hu.shape)
        with memory_errors(self._graph, self.provider):
            found = self._segmented(volume, None if why else {})
        return replace(found, notes=(*found.notes, why)) if why else found

    def _segmented(self, volume: Volume, shares: dict[int, Shares] | None) -> Segmentation:
        turn = network_turn(volume, self.card.axes)
        z, y, x = (volume.spacing_mm[axis] for axis in turn.axes)
        hu = turn.forward(volume.voxels_hu)
        outputs = self._outputs(prepared(hu, (z, y, x), self._model))
        labels = decided(outputs, hu.shape, (z, y, x), self._model)
        if shares is not None:
            shares |= probabilities(outputs, hu.shape, self._model)
        for rule in self._model.cleaning:
            clean(labels, rule, float(np.prod(volume.spacing_mm)) / 1000.0)
        labels = np.ascontiguousarray(turn.backward(labels))
        present = segments_present(labels, self.card.labels)
        return Segmentation(labels, present, probabilities=of_segments(shares or {}, present, turn))

    def _outputs(self, image: Field) -> Field:
        """Run the network over an image (z, y, x): (outputs, z, y, x)."""
        if not self._model.planar:
            return self._over(image[None])
        half = self._model.slices // 2
        slabs = np.pad(image, ((half, half), (0, 0), (0, 0)), mode="edge")
        planes = (self._over(slabs[z : z + self._model.slices]) for z in range(len(image)))
        return np.stack(list(planes), axis=1)

    def _over(self, image: Field) -> Field:
        """Run the network over (channels, *sides), in patches where the card says so."""
        sides = image.shape[1:]
        patch = self._model.patch_size
        wanted = [max(pair) for pair in zip(sides, patch, strict=True)] if patch else [
            -(-side // self._model.multiple_of) * self._model.multiple_of for side in sides
        ]  # fmt: skip
        middle = self._model.placing is Placing.FIXED
        before = [(n - side) // 2 if middle else 0 for n, side in zip(wanted, sides, strict=True)]
        added = [(low, n - side - low) for low, n, side in zip(before, wanted, sides, strict=True)]
        padded = np.pad(image, ((0, 0), *added), mode=_PADDING[self._model.padding])
        inner = (slice(None), *(slice(low, low + side) for low, side in zip(before, sides, strict=True)))
        if patch is None:
            return self._run(padded)[inner]
        total = np.zeros((len(self._model.numbers), *wanted), np.float32)
        for place, share in patches(wanted, patch, self._model):
            total[(slice(None), *place)] += self._run(padded[(slice(None), *place)]) * share
        return total[inner]

    def _run(self, image: Field) -> Field:
        """Run one patch (channels, *sides): (outputs, *sides)."""
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, RuntimeException

        feed = {self._model.input: np.ascontiguousarray(image[None], self._element)}
        try:
            with memory_errors(self._graph, self.provider):
                (found,) = self._session.run([self._model.output], feed)
        except (EPFail, Fail, InvalidArgument, RuntimeException) as error:
            raise ModelError(
                f"{self._graph} fails on input {image.shape}: {type(error).__name__}; check patch_size and multiple_of"
            ) from error
        expected = (1, len(self._model.numbers), *image.shape[1:])
        if found.shape != expected:
            raise ModelError(f"{self._graph} gives {found.shape}, its card says {expected}")
        if not np.isfinite(found).all():
            raise ModelError(f"{self._graph} gives values that are not finite numbers")
        return np.asarray(found[0], np.float32)


def prepared(hu: Voxels, spacing_mm: Spacing, model: VolumeModel) -> Field:
    """Resample a CT (z, y, x) to the grid of the card and change it to network units."""
    sizes = [
        side if wanted is None else max(1, round(side * mm / wanted))
        for side, mm, wanted in zip(hu.shape, spacing_mm, model.spacing_mm, strict=True)
    ]
    if model.resize is not None:
        sizes[1:] = model.resize
    return in_network_units(resampled(hu, sizes), model.intensity)


def resampled(image: NDArray[Any], sizes: list[int] | tuple[int, ...]) -> Field:
    """Resample to other sizes of the same extent: order 1, edge values continued."""
    values = np.asarray(image, np.float32)
    if list(image.shape) == list(sizes):
        return values
    factors = [new / old for new, old in zip(sizes, image.shape, strict=True)]
    out = np.empty(tuple(sizes), np.float32)
    ndimage.zoom(values, factors, output=out, order=1, mode="nearest", grid_mode=True)
    return out


def in_network_units(hu: Field, how: Intensity) -> Field:
    """Change HU to network units."""
    if how.scheme is Scheme.NONE:
        return hu
    clipped = np.clip(hu, how.low_hu, how.high_hu)
    counted = clipped[clipped != 0] if how.nonzero else clipped
    if how.nonzero and counted.size:
        clipped[clipped == 0] = counted.mean() if how.mean is None else how.mean
    match how.scheme:
        case Scheme.WINDOW:
            low, high = how.low_hu, how.high_hu
        case Scheme.RANGE:
            low, high = float(clipped.min()), float(clipped.max())
            high = max(high, low + _LEAST_SD)
        case _:
            mean = (float(counted.mean()) if counted.size else 0.0) if how.mean is None else how.mean
            sd = max(float(counted.std()) if counted.size else 0.0, _LEAST_SD) if how.sd is None else how.sd
            return np.asarray((clipped - mean) / sd, np.float32)
    return np.asarray((clipped - low) * ((how.high - how.low) / (high - low)) + how.low, np.float32)


def decided(outputs: Field, shape: tuple[int, ...], spacing_mm: Spacing, model: VolumeModel) -> Labels:
    """Turn outputs on the network's grid into labels (z, y, x) on the CT's grid, one output at a time."""
    labels = np.zeros(shape, np.uint8)
    if model.values is Values.HEATMAPS:
        for number, heat in zip(model.numbers, outputs, strict=True):
            _mark(labels, heat, number, spacing_mm, model)
        return labels
    if model.values in (Values.SIGMOID, Values.SIGMOID_LOGITS):
        limit = model.threshold if model.values is Values.SIGMOID else float(logit(model.threshold))
        for number, values in zip(model.numbers, outputs, strict=True):
            if number:
                labels[resampled(values, shape) > limit] = number
        return labels
    best = np.array(resampled(outputs[0], shape))  # a copy: without resampling it is the output itself
    labels[...] = model.numbers[0]
    for number, output in zip(model.numbers[1:], outputs[1:], strict=True):
        values = resampled(output, shape)
        np.copyto(labels, number, where=values > best)
        np.maximum(best, values, out=best)
    return labels


def probabilities(outputs: Field, shape: tuple[int, ...], model: VolumeModel) -> dict[int, Shares]:
    """Compute the probability of each label number (z, y, x) on the CT's grid, one output at a time."""
    numbered = [(number, values) for number, values in zip(model.numbers, outputs, strict=True) if number]
    if model.values is Values.SIGMOID_LOGITS:
        return {number: in_bytes(expit(resampled(values, shape))) for number, values in numbered}
    if model.values is not Values.LOGITS:
        return {number: in_bytes(resampled(values, shape)) for number, values in numbered}
    best = np.full(shape, -np.inf, np.float32)
    for values in outputs:
        np.maximum(best, resampled(values, shape), out=best)
    total = np.zeros(shape, np.float32)
    for values in outputs:
        total += np.exp(resampled(values, shape) - best)
    return {number: in_bytes(np.exp(resampled(values, shape) - best) / total) for number, values in numbered}


def _mark(labels: Labels, heat: Field, number: int, spacing_mm: Spacing, model: VolumeModel) -> None:
    """Paint a ball around the highest voxel of a heatmap."""
    if not number or heat.max() < model.threshold:
        return
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    ratios = [new / old for new, old in zip(labels.shape, heat.shape, strict=True)]
    centre = [(at + 0.5) * ratio - 0.5 for at, ratio in zip(peak, ratios, strict=True)]
    axes = np.ogrid[tuple(map(slice, labels.shape))]
    squares = (((axis - at) * mm) ** 2 for axis, at, mm in zip(axes, centre, spacing_mm, strict=True))
    labels[sum(squares) <= model.radius_mm**2] = number
    labels[tuple(round(at) for at in centre)] = number


def clean(labels: Labels, rule: Cleaning, voxel_ml: float) -> None:
    """Remove components of one label that its rule does not keep, in place."""
    boxes = ndimage.find_objects((labels == rule.number).view(np.uint8))
    if not boxes:
        return
    part = labels[boxes[0]]
    near = ndimage.generate_binary_structure(3, _REACH[rule.neighbours])
    components, _ = ndimage.label(part == rule.number, near)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    goes = sizes * voxel_ml < rule.least_ml
    if rule.largest:
        goes |= np.arange(len(sizes)) != sizes.argmax()
    goes[0] = False
    part[goes[components]] = 0
