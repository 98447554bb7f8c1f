"""Draw one picture of a segmentation: planes with the outlines of the structures, and a legend with their volumes.

It shows at a glance whether a result is plausible; it is not a result itself. Nothing that identifies the patient is
drawn: only structures, volumes, where the planes lie, and what the model is and is not for.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import highdicom
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.headers import complete, image_references, instance_number, result_headers
from orthanc_plugin.results.provenance import Provenance, is_ai, statements_of, warning_of
from orthanc_plugin.results.sc.planes import Plane, planes, surrounds
from orthanc_plugin.results.seg.labels import comments

SETTINGS = "6 axial planes, 1 coronal plane, 1 sagittal plane; legend"
"""What decides the picture beside the SEG; enters the SOPInstanceUID."""

_PANEL = 320
_ACROSS = 4
_GAP = 4
_LINE, _SMALL_LINE = 20, 16
_TEXT = (235, 235, 235)
_DIM = (150, 150, 150)
_ALERT = (255, 200, 60)
_WINDOWS = {"lung": (-600.0, 1500.0), "soft tissue": (40.0, 400.0)}
_LUNG_BELOW_HU = -400.0
_POSITIONS = {"axial": ("z", 2), "coronal": ("y", 1), "sagittal": ("x", 0)}
"""Letter and LPS axis of the position of each plane."""
_KEY = "Volumes are those of the masks. R, L, A, P, H, F: right, left, anterior, posterior, head, feet of the patient."
_BRIGHTEST = 200  # below white: pale outlines stay visible on bone, and on all of a lung window

Rgb = NDArray[np.uint8]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def preview_png(series: CtSeries, segmentation: Segmentation, card: ModelCard) -> bytes:
    """Draw the picture as PNG.

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    file = io.BytesIO()
    _montage(series, segmentation, card).save(file, "PNG")
    return file.getvalue()


def encode_preview(provenance: Provenance, seg: Dataset, segmentation: Segmentation) -> Dataset:
    """Encode the picture as a Secondary Capture Image in a series of its own.

    Parameters
    ----------
    seg : Dataset
        The SEG as stored.
    segmentation : Segmentation
        What `decode_seg` reads from it.

    Returns
    -------
    Dataset
        RGB, 8 bit. BurnedInAnnotation is NO: the attribute is about text that identifies patient and date
        (DICOM PS3.3 C.7.6.1), and this text does not.

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    headers = result_headers(provenance.series)
    # highdicom quotes a physician's name without `^` in a warning, so names are copied afterwards.
    ds = highdicom.sc.SCImage(
        np.asarray(_montage(provenance.series, segmentation, provenance.card)),
        "RGB",
        8,
        "PATIENT",
        study_instance_uid=headers[0].StudyInstanceUID,
        patient_orientation=("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[provenance.equipment()],
        **provenance.sop_arguments(Output.PREVIEW),
    )
    ds.copy_patient_and_study_information(headers[0])
    ds.PatientOrientation = []  # three of them
    ds.ImageLaterality = "U"  # whole cross sections: no paired part
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "NO"
    ds.DerivationDescription = f"Outlines of the structures found by {provenance.model}. {banner(provenance.card)}"
    ds.ImageComments = comments((*statements_of(provenance.card), *provenance.series.marks))
    ds.SourceImageSequence = image_references([*headers, seg])
    complete(ds, provenance, Output.PREVIEW)
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    return ds


def banner(card: ModelCard) -> str:
    """Say what is drawn first and largest on every picture."""
    if card.test_model:
        return warning_of(card)
    return f"{'AI' if is_ai(card) else 'Software'} result, not verified, research use only"


def _montage(series: CtSeries, segmentation: Segmentation, card: ModelCard) -> Image.Image:
    volume, segments = series.volume, segmentation.segments
    if not segments:
        raise EncodingError("a preview without a structure is never written")
    shown = list(planes(volume, segmentation))
    window = _window(shown, [segment.number for segment in segments if not surrounds(segment)])
    rows, lines = -(-len(shown) // _ACROSS), -(-len(segments) // _ACROSS)
    top, bottom = 2 * _LINE, rows * (_PANEL + _GAP) + 2 * _LINE + _GAP
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    width = _ACROSS * (_PANEL + _GAP) - _GAP
    said = [line for text in (_KEY, *statements_of(card)) for line in _wrapped(text, width - 12, small)]
    below = bottom + lines * _LINE + _GAP
    canvas = Image.new("RGB", (width, below + len(said) * _SMALL_LINE + _GAP))
    draw = ImageDraw.Draw(canvas)
    draw.text((6, 10), banner(card), _ALERT, font)
    title = f"{card.name} {card.version}   {window} window"
    draw.text((6 + font.getlength(f"{banner(card)}   "), 10), title, _TEXT, font)
    for number, plane in enumerate(shown):
        corner = (number % _ACROSS * (_PANEL + _GAP), top + number // _ACROSS * (_PANEL + _GAP))
        canvas.paste(_panel(plane, segments, window, _place(plane, series), font), corner)
    for number, (segment, voxels) in enumerate(zip(segments, segmentation.voxels(), strict=True)):
        left, line = number // lines * (_PANEL + _GAP) + 6, bottom + number % lines * _LINE
        draw.rectangle((left, line + 4, left + 12, line + 14), segment.colour)
        text = f"  {_volume(voxels * volume.voxel_ml)}"
        draw.text((left + 20, line), _fitted(segment.label, text, font), _TEXT, font)
    for number, text in enumerate(said):
        draw.text((6, below + number * _SMALL_LINE), text, _DIM, small)
    return canvas


def _wrapped(text: str, width: int, font: _Font) -> Iterator[str]:
    """Break a text into lines of at most `width` pixels."""
    line = ""
    for word in text.split():
        if line and font.getlength(f"{line} {word}") > width:
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


def _window(shown: Sequence[Plane], numbers: Sequence[int]) -> str:
    """Choose the window that shows most of the structures."""
    found = np.concatenate([plane.voxels_hu[np.isin(plane.labels, numbers)] for plane in shown])
    return "lung" if found.size and np.median(found) < _LUNG_BELOW_HU else "soft tissue"


def _panel(plane: Plane, segments: Sequence[Segment], window: str, place: str, font: _Font) -> Image.Image:
    level, width = _WINDOWS[window]
    grey = np.clip((plane.voxels_hu - (level - width / 2)) * (_BRIGHTEST / width), 0, _BRIGHTEST).astype(np.uint8)
    size_mm = np.array(plane.labels.shape) * plane.spacing_mm
    height, across = (max(1, round(mm)) for mm in size_mm * (_PANEL / size_mm.max()))
    image = np.asarray(Image.fromarray(grey).resize((across, height), Image.Resampling.BILINEAR).convert("RGB")).copy()
    labels = np.asarray(
        Image.fromarray(np.ascontiguousarray(plane.labels)).resize((across, height), Image.Resampling.NEAREST)
    )
    _outline(image, labels, segments)
    panel = Image.new("RGB", (_PANEL, _PANEL))
    panel.paste(Image.fromarray(image), ((_PANEL - across) // 2, (_PANEL - height) // 2))
    _letter(ImageDraw.Draw(panel), plane, place, font)
    return panel


def _outline(image: Rgb, labels: NDArray[np.uint8], segments: Sequence[Segment]) -> None:
    """Colour the outermost pixels of each structure; if it surrounds others, only those at its outside."""
    colours, closed = np.zeros((256, 3), np.uint8), np.zeros(256, bool)
    for segment in segments:
        colours[segment.number] = segment.colour
        closed[segment.number] = not surrounds(segment)
    padded = np.pad(labels, 1)
    edge = np.zeros(labels.shape, bool)
    for beside in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        edge |= (beside != labels) & ((beside == 0) | closed[labels])
    edge &= labels > 0
    image[edge] = colours[labels[edge]]


def _letter(draw: ImageDraw.ImageDraw, plane: Plane, place: str, font: _Font) -> None:
    left, right, top, bottom = plane.edges
    middle, end = _PANEL // 2, _PANEL - 6
    for letter, corner, anchor in (
        (left, (6, middle), "lm"),
        (right, (end, middle), "rm"),
        (top, (middle, 4), "mt"),
        (bottom, (middle, end), "mb"),
    ):
        draw.text(corner, letter, _ALERT, font, anchor=anchor, stroke_width=2, stroke_fill=0)
    draw.multiline_text((6, 4), place, _TEXT, ImageFont.load_default(12), stroke_width=2, stroke_fill=0)


def _volume(volume_ml: float) -> str:
    return f"{volume_ml:.{0 if volume_ml >= 100 else 1 if volume_ml >= 1 else 2}f} mL"


def _fitted(label: str, end: str, font: _Font) -> str:
    """Join label and end, with the label cut to the width of a column."""
    room = _PANEL - 30 - font.getlength(end)
    if font.getlength(label) <= room:
        return label + end
    return next(
        f"{cut}…{end}" for cut in (label[:n] for n in range(len(label), -1, -1)) if font.getlength(f"{cut}…") <= room
    )
