"""Draw pictures for archives and viewers that show no SEG: a montage, then each of its planes large.

They are single-frame Secondary Captures of one series (decision 0026).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sc import drawing
from orthanc_plugin.results.sc.drawing import GAP, LINE, SMALL_LINE
from orthanc_plugin.results.sc.image import Picture, encode_picture
from orthanc_plugin.results.sc.planes import Plane
from orthanc_plugin.results.sc.preview import montage, planes_of

SETTINGS = "montage of 6 axial planes, 1 coronal plane, 1 sagittal plane; each plane at 512 pixels; legend"
"""What decides the pictures beside the SEG; enters their SOPInstanceUIDs."""

_PANEL, _LEGEND = 512, 320


def pictures(series: CtSeries, segmentation: Segmentation, card: ModelCard) -> Iterator[Picture]:
    """Draw the montage, and then its planes one by one.

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    shown = planes_of(series, segmentation)
    window = drawing.window_of(shown, segmentation.segments)
    volumes_ml = (voxels * series.volume.voxel_ml for voxels in segmentation.voxels())
    found = list(zip(segmentation.segments, volumes_ml, strict=True))
    yield Picture(montage(series, segmentation, card, shown), shows_profile=True)
    for plane in shown:
        yield Picture(
            _key_image(series, found, card, plane, window),
            None if plane.axis else (series.source_index(plane.at),),
            plane.edges,
            plane.name == "sagittal",
        )


def encode_capture(provenance: Provenance, seg: Dataset, picture: Picture, number: int, first: str) -> Dataset:
    """Encode one of the pictures of a stored SEG.

    Parameters
    ----------
    number : int
        Its InstanceNumber.
    first : str
        SOPInstanceUID of the first picture of the series.
    """
    return encode_picture(provenance, seg, picture, Output.SECONDARY_CAPTURE, number=number, first=first)


def _key_image(
    series: CtSeries, found: Sequence[tuple[Segment, float]], card: ModelCard, plane: Plane, window: str
) -> Image.Image:
    """Draw one plane with the words around it, and beside it the structures that it shows, with their volumes in mL."""
    width, top = _PANEL + GAP + _LEGEND, 2 * LINE
    said = drawing.said_lines(card, width)
    below = top + _PANEL + GAP
    canvas = Image.new("RGB", (width, below + len(said) * SMALL_LINE + GAP))
    draw = ImageDraw.Draw(canvas)
    drawing.draw_title(draw, width, card, window)
    canvas.paste(drawing.panel(plane, series, [segment for segment, _ in found], window, _PANEL), (0, top))
    present = set(np.unique(plane.labels).tolist())
    _draw_legend(draw, [entry for entry in found if entry[0].number in present], top)
    drawing.draw_said(draw, said, below)
    return canvas


def _draw_legend(draw: ImageDraw.ImageDraw, entries: Sequence[tuple[Segment, float]], top: int) -> None:
    left, room = _PANEL + GAP, _PANEL // LINE
    shown = entries if len(entries) <= room else entries[: room - 1]
    for number, (segment, volume_ml) in enumerate(shown):
        drawing.draw_entry(draw, (left, top + number * LINE), segment, volume_ml, _LEGEND)
    if more := len(entries) - len(shown):
        at = (left + 6, top + len(shown) * LINE)
        draw.text(at, f"and {more} more", drawing.TEXT, drawing.font(14))
