"""How results stand in the series list of a viewer: their number, their name, and their time.

A study may hold results of several CT series and several models. Their names therefore begin with what tells them
apart, and no two of them share a number. Viewers sort by number, and OHIF sorts by time, the latest first, so both
follow one order: segmentations, measurements, landmarks, regions, checks, other forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.source_text import plain_text, raw_text, whole_number

FIRST_NUMBER = 90_000_000
"""Above the SeriesNumbers that scanners give, and below the greatest that an IS can hold (PS3.5 6.2)."""

PLACES: Mapping[Output, tuple[int, str]] = MappingProxyType(
    {
        Output.SEG: (10, "Segments"),
        Output.PROBABILITIES: (12, "Probabilities"),
        Output.RADIOMICS: (20, "Radiomics"),
        Output.LANDMARKS: (30, "Landmarks"),
        Output.BODY_LANDMARKS: (32, "Body landmarks"),
        Output.VIEWER_LANDMARKS: (34, "Slice levels"),
        Output.BODY_REGIONS: (40, "Body regions"),
        Output.CHECKS: (50, "Checks"),
        Output.INPUT_QUALITY: (52, "Input quality"),
        Output.RTSTRUCT: (60, "Contours"),
        Output.SUMMARY_PDF: (70, "Summary"),
        Output.KEY_OBJECTS: (72, "Key images"),
        Output.SECONDARY_CAPTURE: (80, "Pictures"),
        Output.PREVIEW: (90, "Preview"),
    }
)
"""Place of each kind in the list, 10 to 99, and its name."""

_SOURCES, _MODELS = 10_000, 10
_LONG_STRING, _KERNEL = 64, 8


def series_number(kind: Output, source: Dataset, model: int) -> int:
    """Give the number of a series of results: 9, four digits of the source, two of the kind, one of the model.

    Parameters
    ----------
    kind : Output
        What the series holds.
    source : Dataset
        A header of the CT. Of its SeriesNumber the last four digits count; 0 stands for none.
    model : int
        Which model of the plan made it, from 0; the last digit counts.
    """
    number = abs(whole_number(source, "SeriesNumber") or 0) % _SOURCES
    return FIRST_NUMBER + number * 1000 + PLACES[kind][0] * 10 + model % _MODELS


def series_description(kind: Output, source: Dataset, model: str, status: str) -> str:
    """Give the name of a series of results, as in `Segments S3 chest_structures 1.0.0 B70f, research`.

    The name of the model is cut where all would exceed 64 characters.

    Parameters
    ----------
    kind, source
        As for `series_number`; the source is named by SeriesNumber and ConvolutionKernel.
    model : str
        Name and version.
    status : str
        What nobody may overlook, such as `research`.
    """
    number, kernel = _named(source)
    before = f"{PLACES[kind][1]} {number}".rstrip()
    after = f" {kernel}, {status}" if kernel else f", {status}"
    return f"{before} {model[: _LONG_STRING - len(before) - 1 - len(after)].rstrip()}{after}"


def source_name(source: Dataset) -> str:
    """Name a source by what people see of it in a list, as in `S3 B70f`."""
    return " ".join(filter(None, _named(source))) or "without a series number"


def _named(source: Dataset) -> tuple[str, str]:
    """Give SeriesNumber and ConvolutionKernel of a source as text; each empty if there is none."""
    number = whole_number(source, "SeriesNumber")
    kernel = plain_text((raw_text(source, "ConvolutionKernel") or "").split("\\")[0])[:_KERNEL].strip()
    return "" if number is None else f"S{number}", kernel


def series_time(kind: Output, begun: datetime, model: int) -> datetime:
    """Give the time of a series: when its job began, and up to a second more, by its place in the list.

    Results of one job are made in another order than they are read in. OHIF lists the latest first.
    """
    return begun.replace(microsecond=0) + timedelta(milliseconds=(99 - PLACES[kind][0]) * _MODELS - model % _MODELS)
