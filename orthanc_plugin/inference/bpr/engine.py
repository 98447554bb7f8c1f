"""The engine of body part regression: score slices, make a curve of the scores, and read the curve.

PEER repeats bpreg 1.1.0 on the same weights, as closely as floating point allows. DEFAULT corrects the original:

- It turns a stack stored from head to foot along z only; the original also mirrors the slices.
- It recognises slices without a body by their pixels and does not score them; the original compares scores with four
  values that fit its own weights only.
- It smooths scores over millimetres without flattening the ends of the scan; the original smooths over slice numbers,
  across gaps too.
- If slices are closer than needed, it scores some and interpolates the scores between.
- It places landmarks between slices, with a standard deviation in mm; the original gives the slice below.
- If spacing is doubtful, it keeps the tag and adds a note; the original drops the tag.
- A curve that cannot be read gives a reason, without landmarks and regions.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.bpr import regions
from orthanc_plugin.inference.bpr.scores import Curve, Values, body_curve, peer_curve
from orthanc_plugin.inference.bpr.slices import slice_batches
from orthanc_plugin.inference.grid import Turn, canonical_turn
from orthanc_plugin.inference.network import End, Network
from orthanc_plugin.inference.providers import Provider

_BATCH = 16
_APART_MM = 4.0  # between scored slices; the smoothing has a sigma of 10 mm
_BODY_HU, _SMALLEST_CM2, _LOOK_MM = -500.0, 4.0, 3.5
_FEWEST_SLICES = 5  # fewer cannot show whether scores rise steadily
_RATIO = (0.3, 4.0)  # scores rise about three times as fast along a newborn as along an adult
_STEADY = 0.6  # net change of the scores divided by the sum of their steps
_TOP_SD = 3.0  # above the end of the head


class Mode(StrEnum):
    """DEFAULT corrects the original's errors, PEER reproduces them."""

    DEFAULT = "default"
    PEER = "peer"


class BprEngine:
    """Finds where in the body a CT lies.

    Raises
    ------
    ModelError
        If the card and its graph do not match.
    ConfigError
        If the provider does not start.
    """

    def __init__(self, card: ModelCard, wanted: Provider, mode: Mode = Mode.DEFAULT) -> None:
        if card.bpr is None or len(card.graphs) != 1:
            raise ModelError(
                f"{card.directory / 'card.json'} has no bpr section, or not exactly one graph; convert the model again"
            )
        self.card = card
        self.mode = mode
        self._model: BprModel = card.bpr
        slices, scores = End("slices", (1, self._model.size, self._model.size)), End("scores", (1,))
        self._network = Network(card.directory / card.graphs[0].file, slices, scores, wanted)
        self.provider = self._network.provider.value
        self._batch = _BATCH

    def sparing(self) -> BprEngine | None:
        """Return the same engine with one slice at once; None if it is that already."""
        if self._batch == 1:
            return None
        spared = copy(self)
        spared._batch = 1
        return spared

    def locate(self, volume: Volume) -> BodyLocation:
        """Score the slices of a CT and find its landmarks and regions; slices are counted from the feet.

        A scan that cannot be located has a `reason`, and no landmarks or regions.

        Raises
        ------
        InputError
            NOT_AXIAL if the slices are sagittal, coronal, or more than 30 degrees off.
        OutOfMemoryError
            If memory runs out.
        ModelError
            If the graph fails, or gives scores that are not finite.
        """
        turn = canonical_turn(volume)
        return self._as_peer(volume, turn) if self.mode is Mode.PEER else self._repaired(volume, turn)

    def _as_peer(self, volume: Volume, turn: Turn) -> BodyLocation:
        mirrored = turn.flipped[0]
        voxels = Turn(turn.axes, (mirrored, mirrored, mirrored)).forward(volume.voxels_hu)
        pixel_mm = volume.spacing_mm[turn.axes[1]], volume.spacing_mm[turn.axes[2]]
        z_mm, spacing_mm = _z_mm(volume, turn), volume.spacing_mm[0]
        curve = peer_curve(self._scores(voxels, pixel_mm, np.arange(len(voxels))), spacing_mm, self._model)
        silent = np.isfinite(curve.ratio) and not curve.valid_spacing
        tag = regions.NO_TAG if silent else regions.tag(curve.cleaned, len(voxels) * spacing_mm, self._model)
        location = _located(curve, z_mm, tag)
        if not curve.valid.size:
            return location
        return replace(
            location,
            landmarks=regions.peer_landmarks(curve, z_mm, self._model),
            regions=regions.regions(curve.cleaned, self._model),
            coverage=regions.coverage(curve.cleaned, self._model),
        )

    def _repaired(self, volume: Volume, turn: Turn) -> BodyLocation:
        voxels = turn.forward(volume.voxels_hu)
        pixel_mm = volume.spacing_mm[turn.axes[1]], volume.spacing_mm[turn.axes[2]]
        z_mm = _z_mm(volume, turn)
        body = _with_body(voxels, pixel_mm)
        scored = _scored(body, z_mm)
        scores = np.full(len(voxels), np.nan)
        if scored.size:
            found = self._scores(voxels, pixel_mm, scored)
            scores[body] = np.interp(z_mm[body], z_mm[scored], found)
        curve = body_curve(scores, z_mm, self._model)
        return self._judged(curve, z_mm, _notes(body, scored, curve))

    def _judged(self, curve: Curve, z_mm: Values, notes: tuple[str, ...]) -> BodyLocation:
        reason = _why_not(curve, self._model)
        found = {} if reason else regions.regions(curve.cleaned, self._model, _TOP_SD)
        if not found:
            no_part = "no slice lies in a part of the body that the model knows"
            return replace(_located(curve, z_mm, regions.NO_TAG), reason=reason or no_part, notes=notes)
        extent_mm = float(np.ptp(z_mm[curve.valid]))
        return replace(
            _located(curve, z_mm, regions.tag(curve.cleaned, extent_mm, self._model)),
            landmarks=regions.landmarks(curve, z_mm, self._model),
            regions=found,
            coverage=regions.coverage(curve.cleaned, self._model),
            notes=notes,
        )

    def _scores(self, voxels: Voxels, pixel_mm: tuple[float, float], indices: NDArray[np.intp]) -> Values:
        batches = slice_batches(voxels, pixel_mm, indices.tolist(), self._model, self._batch)
        return np.concatenate([self._network.run(batch)[:, 0] for batch in batches]).astype(np.float64)


def _z_mm(volume: Volume, turn: Turn) -> Values:
    """Compute the position (LPS z) of the middle of each slice, from the feet up."""
    count, rows, columns = volume.voxels_hu.shape
    index = np.arange(count)[:: -1 if turn.flipped[0] else 1]
    x, y, z, origin = volume.affine[2]
    return np.asarray(x * (columns - 1) / 2 + y * (rows - 1) / 2 + z * index + origin, np.float64)


def _with_body(voxels: Voxels, pixel_mm: tuple[float, float]) -> NDArray[np.intp]:
    """Find slices that show tissue; only every few pixels are examined."""
    down, across = (max(1, int(_LOOK_MM / mm)) for mm in pixel_mm)
    pixel_cm2 = down * across * pixel_mm[0] * pixel_mm[1] / 100.0
    least = _SMALLEST_CM2 / pixel_cm2
    planes = voxels[:, ::down, ::across]
    seen = [np.count_nonzero(plane > _BODY_HU) >= least and plane.min() < plane.max() for plane in planes]
    return np.flatnonzero(np.array(seen, bool))


def _scored(body: NDArray[np.intp], z_mm: Values) -> NDArray[np.intp]:
    """Choose the slices to score: some of each unbroken run, including its ends."""
    step = max(1, int(_APART_MM / np.median(np.diff(z_mm)))) if len(z_mm) > 1 else 1
    runs = np.split(body, np.flatnonzero(np.diff(body) > 1) + 1)
    return np.unique(np.concatenate([np.append(run[::step], run[-1:]) for run in runs]))


def _located(curve: Curve, z_mm: Values, tag: str) -> BodyLocation:
    """Describe a curve, without landmarks and regions."""
    return BodyLocation(
        raw_scores=_numbers(curve.raw),
        scores=_numbers(curve.cleaned),
        z_mm=tuple(map(float, z_mm)),
        landmarks=(),
        regions={},
        coverage={},
        slope_per_mm=_number(curve.slope_per_mm),
        slope_ratio=_number(curve.ratio),
        expected_spacing_mm=_number(curve.expected_spacing_mm),
        valid_spacing=curve.valid_spacing,
        reversed=curve.reversed,
        tag=tag,
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _numbers(values: Values) -> tuple[float | None, ...]:
    return tuple(map(_number, values))


def _why_not(curve: Curve, model: BprModel) -> str:
    """Say why a curve cannot be read; empty if it can."""
    at = curve.valid
    if at.size < _FEWEST_SLICES:
        return f"{at.size} slices show a body; {_FEWEST_SLICES} are needed"
    extent_mm = np.ptp(curve.along_mm[at])
    if extent_mm < regions.SHORTEST_MM:
        return f"slices with a body extend over {extent_mm:.0f} mm; {regions.SHORTEST_MM:.0f} mm are needed"
    if not _RATIO[0] <= curve.ratio <= _RATIO[1]:
        return f"scores change {curve.ratio:.2f} times as fast along the scan as they do in people"
    steps = np.diff(curve.cleaned[at])
    if abs(steps.sum()) < _STEADY * np.abs(steps).sum():
        return "scores neither rise nor fall steadily along the scan"
    if (np.abs(steps / np.diff(curve.along_mm[at])) > _RATIO[1] * model.tangential_max).any():
        return "scores leap between neighbouring slices, as they do in no body"
    return ""


def _notes(body: NDArray[np.intp], scored: NDArray[np.intp], curve: Curve) -> tuple[str, ...]:
    count = len(curve.raw)
    notes = []
    if len(body) < count:
        notes.append(f"{count - len(body)} of {count} slices show no body and have no score")
    if len(scored) < len(body):
        notes.append(f"{len(scored)} of {len(body)} slices were scored, scores between them interpolated")
    if np.isfinite(curve.ratio) and not curve.valid_spacing:
        notes.append(f"slice spacing is doubtful, the tag uncertain: scores change {curve.ratio:.2f} times as expected")
    if curve.reversed:
        notes.append("scores fall toward the head: the scan may be stored upside down")
    return tuple(notes)
