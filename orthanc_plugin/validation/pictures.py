"""Pictures of where two masks disagree: an axial slice with the outline of each."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.sc.outlines import outline, windowed
from orthanc_plugin.results.sc.planes import cut, turned, upright
from orthanc_plugin.validation.structures import Pair

AI_COLOUR, EXPERT_COLOUR = (255, 140, 40), (70, 170, 255)
_SIZE, _MARGIN_MM = 360, 25.0
_LUNG_BELOW_HU = -400.0
_LUNG, _SOFT = (-600.0, 1500.0), (40.0, 400.0)


def disagreement(pair: Pair, series: CtSeries) -> tuple[Image.Image, int]:
    """Draw the axial slice on which most voxels are in one mask only, and return its index from the feet.

    The picture is seen from the feet: the patient's left is on its right.
    """
    shape = series.volume.voxels_hu.shape
    masks = [side.mask(shape) if side else np.zeros(shape, bool) for side in (pair.ai, pair.expert)]
    order, flips = upright(series.volume.affine)
    ai, expert, voxels = (turned(array, order, flips) for array in (*masks, series.volume.voxels_hu))
    apart = (ai ^ expert).sum(axis=(1, 2))
    index = int(apart.argmax()) if apart.any() else int((ai | expert).sum(axis=(1, 2)).argmax())
    rows_mm, columns_mm = (series.volume.spacing_mm[axis] for axis in order[1:])
    planes = [cut(array, 0, index) for array in (voxels, ai, expert)]
    window = _window(planes[1] | planes[2], (rows_mm, columns_mm))
    return _drawn(planes[0][window], planes[1][window], planes[2][window], (rows_mm, columns_mm)), index


def as_data_uri(picture: Image.Image) -> str:
    """Write a picture as PNG into a URI, so that a page holds it."""
    png = BytesIO()
    picture.save(png, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def _window(mask: Mask, spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Return the part of a slice around a mask."""
    spans = []
    for axis in range(2):
        present = np.flatnonzero(mask.any(axis=1 - axis))
        margin = round(_MARGIN_MM / spacing_mm[axis])
        first, last = (int(present[0]), int(present[-1])) if present.size else (0, mask.shape[axis] - 1)
        spans.append(slice(max(0, first - margin), last + margin + 1))
    return spans[0], spans[1]


def _drawn(hu: np.ndarray, ai: Mask, expert: Mask, spacing_mm: tuple[float, float]) -> Image.Image:
    inside = hu[ai | expert]
    level, width = _LUNG if inside.size and np.median(inside) < _LUNG_BELOW_HU else _SOFT
    size_mm = np.array(hu.shape) * spacing_mm
    height, across = (max(1, round(float(mm))) for mm in size_mm * (_SIZE / size_mm.max()))
    grey = Image.fromarray(windowed(hu, level, width)).resize((across, height), Image.Resampling.BILINEAR)
    image = np.asarray(grey.convert("RGB")).copy()
    for mask, colour in ((expert, EXPERT_COLOUR), (ai, AI_COLOUR)):
        labels = Image.fromarray(np.ascontiguousarray(mask, np.uint8)).resize(
            (across, height), Image.Resampling.NEAREST
        )
        colours = np.zeros((256, 3), np.uint8)
        colours[1] = colour
        outline(image, np.asarray(labels), colours, np.ones(256, bool))
    return Image.fromarray(image)
