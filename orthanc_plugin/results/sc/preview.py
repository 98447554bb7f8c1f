"""Draw one picture of a segmentation: planes with the outlines of the structures, and a legend with their volumes."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sc import drawing
from orthanc_plugin.results.sc.drawing import GAP, LINE, SMALL_LINE
from orthanc_plugin.results.sc.image import Picture, encode_picture
from orthanc_plugin.results.sc.planes import Plane, planes

SETTINGS = "6 axial planes, 1 coronal plane, 1 sagittal plane; legend"
"""What decides the picture beside the SEG; enters the SOPInstanceUID."""

_PANEL, _ACROSS = 320, 4


def preview_png(series: CtSeries, segmentation: Segmentation, card: ModelCard) -> bytes:
    """Draw the picture as PNG.

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    file = io.BytesIO()
    montage(series, segmentation, card, planes_of(series, segmentation)).save(file, "PNG")
    return file.getvalue()


def encode_preview(provenance: Provenance, seg: Dataset, segmentation: Segmentation) -> Dataset:
    """Encode the picture as a Secondary Capture Image in a series of its own.

    Parameters
    ----------
    seg : Dataset
        The SEG as stored.
    segmentation : Segmentation
        What `decode_seg` reads from it.

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    shown = planes_of(provenance.series, segmentation)
    picture = Picture(montage(provenance.series, segmentation, provenance.card, shown), shows_profile=True)
    return encode_picture(provenance, seg, picture, Output.PREVIEW)


def planes_of(series: CtSeries, segmentation: Segmentation) -> list[Plane]:
    """Choose the planes of a picture; raise EncodingError if there is no segment."""
    if not segmentation.segments:
        raise EncodingError("a picture without a structure is never written")
    return list(planes(series.volume, segmentation))


def grid(series: CtSeries, segmentation: Segmentation, shown: Sequence[Plane], window: str) -> Image.Image:
    """Draw planes beside each other, without words around them."""
    canvas = Image.new("RGB", _size(shown))
    _paste_planes(canvas, 0, series, segmentation, shown, window)
    return canvas


def montage(series: CtSeries, segmentation: Segmentation, card: ModelCard, shown: Sequence[Plane]) -> Image.Image:
    """Draw planes with the words and the legend around them."""
    segments = segmentation.segments
    window = drawing.window_of(shown, segments)
    (width, height), lines = _size(shown), -(-len(segments) // _ACROSS)
    top = 2 * LINE
    bottom = top + height + GAP
    below = bottom + lines * LINE + GAP
    said = drawing.said_lines(card, width)
    canvas = Image.new("RGB", (width, below + len(said) * SMALL_LINE + GAP))
    draw = ImageDraw.Draw(canvas)
    drawing.draw_title(draw, width, card, window)
    _paste_planes(canvas, top, series, segmentation, shown, window)
    for number, (segment, voxels) in enumerate(zip(segments, segmentation.voxels(), strict=True)):
        at = (number // lines * (_PANEL + GAP), bottom + number % lines * LINE)
        drawing.draw_entry(draw, at, segment, voxels * series.volume.voxel_ml, _PANEL)
    drawing.draw_said(draw, said, below)
    return canvas


def _size(shown: Sequence[Plane]) -> tuple[int, int]:
    return _ACROSS * (_PANEL + GAP) - GAP, -(-len(shown) // _ACROSS) * (_PANEL + GAP)


def _paste_planes(
    canvas: Image.Image, top: int, series: CtSeries, segmentation: Segmentation, shown: Sequence[Plane], window: str
) -> None:
    for number, plane in enumerate(shown):
        corner = (number % _ACROSS * (_PANEL + GAP), top + number // _ACROSS * (_PANEL + GAP))
        canvas.paste(drawing.panel(plane, series, segmentation.segments, window, _PANEL), corner)
