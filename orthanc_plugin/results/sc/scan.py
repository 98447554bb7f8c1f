"""A CT scan and its stored segmentations as pictures: any plane, any window, with outlines or without.

Planes stand as in `planes`: the patient's left is on the right of the picture, and the top shows the head or the front.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from orthanc_plugin.domain.masks import Colour, Labels
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.headers import instance_number
from orthanc_plugin.results.sc.outlines import outline, windowed
from orthanc_plugin.results.sc.planes import AXES, cut, turned, upright
from orthanc_plugin.results.seg.labels import REMAINDER
from orthanc_plugin.results.seg.reader import described_segments, read_labels

WINDOWS = {
    "soft-tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "wide": (0.0, 3000.0),
}
"""Level and width in HU, by name."""
SMALLEST, LARGEST = 512, 768
"""Pixels of the longer side of a picture."""
_UNNAMED_COLOUR, _WHITE = (255, 200, 60), (255, 255, 255)
_FAST = 1
_LINE_PIXELS = 2


@dataclass(frozen=True, slots=True)
class Structure:
    """A stored segment. key: number of its SEG in the job and SegmentNumber, as in `0-2`. model: who found it.

    surrounds: others lie inside it, as in a body, so that only its outside is drawn.
    """

    key: str
    label: str
    colour: Colour
    surrounds: bool
    model: str

    @property
    def place(self) -> tuple[int, int]:
        """Number of the SEG, and SegmentNumber."""
        layer, _, segment = self.key.partition("-")
        return int(layer), int(segment)


@dataclass(frozen=True, slots=True)
class PlaneView:
    """The planes of one direction. width, height: pixels of their pictures.

    name: `axial`, `coronal` or `sagittal`. count: how many, from the feet, the front, the right.
    best: the one that shows most of the structures. at_mm: where each lies in the patient (LPS z, y or x).
    numbers: InstanceNumber of the source slice of each (`?` if it has none); empty for the other directions.
    """

    name: str
    count: int
    width: int
    height: int
    best: int
    at_mm: tuple[float, ...]
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A scan with axes to the head, to the back and to the left.

    hounsfield: (z, y, x) int16. layers: (z, y, x) uint8 SegmentNumbers, one for each SEG.
    spacing_mm: (z, y, x). order, flips: how the axes of the volume were turned (`planes.upright`).
    """

    hounsfield: NDArray[np.int16]
    layers: tuple[Labels, ...]
    structures: tuple[Structure, ...]
    planes: tuple[PlaneView, ...]
    flipped_z: bool

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return self.hounsfield.nbytes + sum(layer.nbytes for layer in self.layers)

    def slice_from_feet(self, slice_index: int) -> int:
        """Give the axial plane of a slice of the volume."""
        return self.planes[0].count - 1 - slice_index if self.flipped_z else slice_index

    def png(self, plane: str, index: int, window: str, hidden: Collection[str] | None = ()) -> bytes:
        """Draw one plane as PNG.

        Parameters
        ----------
        plane : str
            `axial`, `coronal` or `sagittal`.
        index : int
            From the feet, the front, the right.
        window : str
            A name of `WINDOWS`.
        hidden : collection of str or None
            Keys of structures without outline; None: no outlines.

        Raises
        ------
        LookupError
            If there is no such plane or window.
        """
        view = next((view for view in self.planes if view.name == plane), None)
        if view is None or not 0 <= index < view.count:
            raise LookupError(f"{plane} {index}")
        grey = windowed(cut(self.hounsfield, AXES.index(plane), index), *WINDOWS[window])
        size = (view.width, view.height)
        picture = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)
        if hidden is not None and self.layers:
            picture = self._outlined(picture, AXES.index(plane), index, hidden)
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=_FAST)
        return file.getvalue()

    def _outlined(self, picture: Image.Image, axis: int, index: int, hidden: Collection[str]) -> Image.Image:
        image = np.asarray(picture.convert("RGB")).copy()
        for number, layer in enumerate(self.layers):
            colours, closed, shown = np.zeros((256, 3), np.uint8), np.zeros(256, bool), np.zeros(256, np.uint8)
            for structure in self.structures:
                layer_of, segment = structure.place
                if layer_of != number or structure.key in hidden:
                    continue
                colours[segment], closed[segment], shown[segment] = structure.colour, not structure.surrounds, segment
            plane = Image.fromarray(shown[cut(layer, axis, index)])
            labels = np.asarray(plane.resize(picture.size, Image.Resampling.NEAREST)).copy()
            for _ in range(_LINE_PIXELS):
                labels[outline(image, labels, colours, closed)] = 0
        return Image.fromarray(image)


def make_scan(series: CtSeries, segs: Iterable[Dataset]) -> Scan:
    """Turn a series and its stored segmentations for drawing.

    Raises
    ------
    EncodingError
        If a SEG does not fit the series.
    """
    order, flips = upright(series.volume.affine)
    hounsfield = np.rint(np.clip(series.volume.voxels_hu, -32768, 32767)).astype(np.int16)
    layers, structures = [], []
    for number, seg in enumerate(segs):
        layers.append(turned(read_labels(seg, series), order, flips))
        structures += [_structure(f"{number}-{int(item.SegmentNumber)}", item) for item in described_segments(seg)]
    structures = _coloured_apart(structures)
    whole = turned(hounsfield, order, flips)
    spacing = [series.volume.spacing_mm[axis] for axis in order]
    views = tuple(
        PlaneView(
            AXES[axis],
            whole.shape[axis],
            *_size(whole.shape, spacing, axis),
            _best(layers, structures, axis) if structures else whole.shape[axis] // 2,
            _positions_mm(series, order, flips, axis),
            _numbers(series, flips[axis]) if order[axis] == 0 else (),
        )
        for axis in range(3)
    )
    return Scan(whole, tuple(layers), tuple(structures), views, flips[0])


def _coloured_apart(structures: list[Structure]) -> list[Structure]:
    """Lighten a colour that a structure of an earlier SEG has: models share the colours of what both find."""
    taken: dict[Colour, int] = {}
    shown = []
    for structure in structures:
        layer, colour = structure.place[0], structure.colour
        while taken.setdefault(colour, layer) != layer and colour != _WHITE:
            colour = (_lighter(colour[0]), _lighter(colour[1]), _lighter(colour[2]))
        shown.append(replace(structure, colour=colour))
    return shown


def _lighter(part: int) -> int:
    return (part + 256) // 2


def _structure(key: str, item: Dataset) -> Structure:
    value = item.get("RecommendedDisplayCIELabValue")
    red, green, blue = CIELabColor.from_dicom_value(list(value)).to_rgb(clip=True) if value else _UNNAMED_COLOUR
    label = str(item.SegmentLabel)
    stated = next(iter(item.get("SegmentationAlgorithmIdentificationSequence") or ()), Dataset())
    model = str(stated.get("AlgorithmName") or item.get("SegmentAlgorithmName") or "")
    return Structure(key, label, (red, green, blue), label.endswith(REMAINDER), model)


def _size(shape: tuple[int, ...], spacing: list[float], axis: int) -> tuple[int, int]:
    """Give width and height of the pictures of a plane, with square pixels."""
    rows, columns = (other for other in range(3) if other != axis)
    height_mm, width_mm = shape[rows] * spacing[rows], shape[columns] * spacing[columns]
    finest = min(spacing[rows], spacing[columns])
    longer = min(max(max(height_mm, width_mm) / finest, SMALLEST), LARGEST)
    scale = longer / max(height_mm, width_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _best(layers: list[Labels], structures: list[Structure], axis: int) -> int:
    """Find the plane in which structures cover most pixels; those that surround others count if there are no others."""
    inner = [structure for structure in structures if not structure.surrounds] or structures
    counted = np.zeros((len(layers), 256), bool)
    for structure in inner:
        counted[structure.place] = True
    across = tuple(other for other in range(3) if other != axis)
    covered = sum(np.count_nonzero(counted[n][layer], axis=across) for n, layer in enumerate(layers))
    return int(np.argmax(covered))


def _numbers(series: CtSeries, flipped: bool) -> tuple[str, ...]:
    """Give the InstanceNumber, and frame, of the source slice at, or nearest to, each plane."""
    slices = range(len(series.volume.voxels_hu))
    return tuple(instance_number(series.header_at(index)) for index in (reversed(slices) if flipped else slices))


def _positions_mm(series: CtSeries, order: tuple[int, ...], flips: tuple[bool, ...], axis: int) -> tuple[float, ...]:
    """Give the position in the patient of the middle of each plane across an axis of the upright volume."""
    shape, across = series.volume.voxels_hu.shape, order[axis]
    voxel = np.tile([(size - 1) / 2 for size in shape], (shape[across], 1))
    steps = np.arange(shape[across])
    voxel[:, across] = steps[::-1] if flips[axis] else steps
    patient = (series.volume.affine @ np.column_stack([voxel[:, ::-1], np.ones(len(voxel))]).T)[2 - axis]
    return tuple(round(float(mm), 2) for mm in patient)
