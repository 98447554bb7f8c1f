"""Draw planes with the outlines of the structures, and the words and the legend beside them.

Nothing that identifies the patient is drawn: only structures, volumes, where the planes lie, and what the model is and
is not for. A picture is not a result itself: it shows at a glance whether a result is plausible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segment
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.headers import instance_number
from orthanc_plugin.results.provenance import is_ai, statements_of, warning_of
from orthanc_plugin.results.sc.outlines import Rgb, outline, windowed
from orthanc_plugin.results.sc.planes import Plane, surrounds

LINE, SMALL_LINE, GAP = 20, 16, 4
TEXT = (235, 235, 235)
_DIM = (150, 150, 150)
_ALERT = (255, 200, 60)
_WINDOWS = {"lung": (-600.0, 1500.0), "soft tissue": (40.0, 400.0)}
_LUNG_BELOW_HU = -400.0
_POSITIONS = {"axial": ("z", 2), "coronal": ("y", 1), "sagittal": ("x", 0)}
"""Letter and LPS axis of the position of each plane."""
_KEY = "Volumes are those of the masks. R, L, A, P, H, F: right, left, anterior, posterior, head, feet of the patient."
_MARGIN, _SWATCH = 6, 12

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def banner(card: ModelCard) -> str:
    """Say what is drawn first and largest on every picture."""
    if card.test_model:
        return warning_of(card)
    return f"{'AI' if is_ai(card) else 'Software'} result, not verified, research use only"


@lru_cache
def font(size: int) -> Font:
    """Return the font of all pictures."""
    return ImageFont.load_default(size)


def window_of(shown: Sequence[Plane], segments: Sequence[Segment]) -> str:
    """Choose the window that shows most of the structures."""
    numbers = [segment.number for segment in segments if not surrounds(segment)]
    found = np.concatenate([plane.voxels_hu[np.isin(plane.labels, numbers)] for plane in shown])
    return "lung" if found.size and np.median(found) < _LUNG_BELOW_HU else "soft tissue"


def draw_title(draw: ImageDraw.ImageDraw, width: int, card: ModelCard, more: str) -> None:
    """Draw banner, model and window at the top, in one line if they fit, or else in two.

    They stand in the middle, because viewers write into the corners.
    """
    written, title = font(14), f"{card.name} {card.version}   {more} window"
    beside = written.getlength(f"{banner(card)}   ")
    left = (width - beside - written.getlength(title)) / 2
    if left >= _MARGIN:
        draw.text((left, 10), banner(card), _ALERT, written)
        draw.text((left + beside, 10), title, TEXT, written)
        return
    for line, (text, colour) in enumerate(((banner(card), _ALERT), (title, TEXT))):
        shown = fitted(text, "", width - 2 * _MARGIN, written)
        draw.text(((width - written.getlength(shown)) / 2, 2 + line * LINE), shown, colour, written)


def said_lines(card: ModelCard, width: int) -> list[str]:
    """Break what is said below a picture into lines."""
    return [line for text in (_KEY, *statements_of(card)) for line in _wrapped(text, width - 2 * _MARGIN, font(12))]


def draw_said(draw: ImageDraw.ImageDraw, lines: Sequence[str], top: int) -> None:
    """Draw what is said below a picture."""
    for number, text in enumerate(lines):
        draw.text((_MARGIN, top + number * SMALL_LINE), text, _DIM, font(12))


def draw_entry(draw: ImageDraw.ImageDraw, at: tuple[int, int], segment: Segment, volume_ml: float, width: int) -> None:
    """Draw a line of the legend: colour, name and volume of a structure, in `width` pixels."""
    left, top = at[0] + _MARGIN, at[1]
    draw.rectangle((left, top + 4, left + _SWATCH, top + 14), segment.colour)
    text = fitted(segment.label, f"  {volume_text(volume_ml)}", width - 30, font(14))
    draw.text((left + _SWATCH + 8, top), text, TEXT, font(14))


def panel(plane: Plane, series: CtSeries, segments: Sequence[Segment], window: str, size: int) -> Image.Image:
    """Draw a plane as a square of `size` pixels, with outlines, place, and letters of the patient's sides."""
    level, width = _WINDOWS[window]
    grey = windowed(plane.voxels_hu, level, width)
    size_mm = np.array(plane.labels.shape) * plane.spacing_mm
    height, across = (max(1, round(mm)) for mm in size_mm * (size / size_mm.max()))
    image = np.asarray(Image.fromarray(grey).resize((across, height), Image.Resampling.BILINEAR).convert("RGB")).copy()
    labels = np.asarray(
        Image.fromarray(np.ascontiguousarray(plane.labels)).resize((across, height), Image.Resampling.NEAREST)
    )
    _outline(image, labels, segments)
    drawn = Image.new("RGB", (size, size))
    drawn.paste(Image.fromarray(image), ((size - across) // 2, (size - height) // 2))
    _letter(ImageDraw.Draw(drawn), plane, _place(plane, series), size)
    return drawn


def volume_text(volume_ml: float) -> str:
    """Write a volume with about three significant digits."""
    return f"{volume_ml:.{0 if volume_ml >= 100 else 1 if volume_ml >= 1 else 2}f} mL"


def fitted(label: str, end: str, room: float, written: Font) -> str:
    """Join label and end, with the label cut to what fits into `room` pixels."""
    room -= written.getlength(end)
    if written.getlength(label) <= room:
        return label + end
    cuts = (label[:n] for n in range(len(label), 0, -1))
    return next((f"{cut}…{end}" for cut in cuts if written.getlength(f"{cut}…") <= room), f"…{end}")


def _wrapped(text: str, width: int, written: Font) -> Iterator[str]:
    """Break a text into lines of at most `width` pixels."""
    line = ""
    for word in text.split():
        if line and written.getlength(f"{line} {word}") > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def _place(plane: Plane, series: CtSeries) -> str:
    """Say where a plane lies as reports do: its source slice, if it is one, and its position in the patient."""
    voxel = [(size - 1) / 2 for size in series.volume.voxels_hu.shape]
    voxel[plane.axis] = plane.at
    letter, patient = _POSITIONS[plane.name]
    position_mm = float((series.volume.affine @ [*voxel[::-1], 1.0])[patient])
    source = [] if plane.axis else [f"instance {instance_number(series.header_at(plane.at))}"]
    return f"{', '.join((plane.name, *source))}\n{letter} {position_mm:.1f} mm"


def _outline(image: Rgb, labels: NDArray[np.uint8], segments: Sequence[Segment]) -> None:
    """Colour the outermost pixels of each structure; if it surrounds others, only those at its outside."""
    colours, closed = np.zeros((256, 3), np.uint8), np.zeros(256, bool)
    for segment in segments:
        colours[segment.number] = segment.colour
        closed[segment.number] = not surrounds(segment)
    outline(image, labels, colours, closed)


def _letter(draw: ImageDraw.ImageDraw, plane: Plane, place: str, size: int) -> None:
    left, right, top, bottom = plane.edges
    middle, end = size // 2, size - 6
    for letter, corner, anchor in (
        (left, (6, middle), "lm"),
        (right, (end, middle), "rm"),
        (top, (middle, 4), "mt"),
        (bottom, (middle, end), "mb"),
    ):
        draw.text(corner, letter, _ALERT, font(14), anchor=anchor, stroke_width=2, stroke_fill=0)
    draw.multiline_text((6, 4), place, TEXT, font(12), stroke_width=2, stroke_fill=0)
