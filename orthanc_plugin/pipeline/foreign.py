"""Measure masks that others made: a SEG or an RT structure set of any maker gives the same report as masks of ours."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import Engine, ModelCard
from orthanc_plugin.codes import HISTOGRAM_ANALYSIS
from orthanc_plugin.domain.found_masks import FoundMasks, as_segment
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.uids import LABEL_MAP_SEGMENTATION
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.pipeline.context import Context, ReportResult, reference
from orthanc_plugin.radiomics.features import measure_segments, nothing_measured
from orthanc_plugin.radiomics.parameters import describe
from orthanc_plugin.results.foreign import check_object
from orthanc_plugin.results.provenance import MANUFACTURER
from orthanc_plugin.results.rt.foreign import read_foreign_rtstruct, series_of_rtstruct
from orthanc_plugin.results.seg.foreign import read_foreign_seg, series_of_seg
from orthanc_plugin.results.source_text import whole_number
from orthanc_plugin.results.sr import radiomics as radiomics_sr


def read_masks(mask: Dataset, series: CtSeries) -> FoundMasks:
    """Read the masks of an object onto the grid of a CT.

    Raises
    ------
    MaskError
        If the object holds no masks, or they do not fit the CT.
    """
    sop_class = mask.get("SOPClassUID")
    if sop_class in (SegmentationStorage, LABEL_MAP_SEGMENTATION):
        return read_foreign_seg(mask, series)
    if sop_class == RTStructureSetStorage:
        return read_foreign_rtstruct(mask, series)
    raise MaskError(Refusal.MASK_UNREADABLE, "the object is neither a segmentation nor an RT structure set")


def named_series(mask: Dataset) -> set[str]:
    """Return the SeriesInstanceUIDs that a SEG or an RT structure set names as its source; empty if it names none."""
    if mask.get("SOPClassUID") == RTStructureSetStorage:
        return series_of_rtstruct(mask)
    return series_of_seg(mask)


def measure_masks(series: CtSeries, mask: Dataset, context: Context) -> ReportResult:
    """Measure radiomics of the masks of an object, and store them as SR, or adopt the SR that is stored already.

    Parameters
    ----------
    series : CtSeries
        The CT on which the masks were drawn.
    mask : Dataset
        A SEG or an RT structure set, with its content.
    context : Context
        As for all stages.

    Returns
    -------
    ReportResult
        Structures that cannot be measured stand in the report with the reason.

    Raises
    ------
    MaskError
        If the masks do not fit the CT, or the object holds none.
    StoreError
        If the archive refuses the SR or does not give it back.
    """
    check_object(mask)
    library = " with image library" if context.image_library else ""
    settings = f"{context.report_settings} {describe(context.radiomics)}{library} of {context.fingerprint}"
    uid = identity.sr_uid(str(mask.SOPInstanceUID), Output.RADIOMICS, settings)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, Output.RADIOMICS, True))
    found = read_masks(mask, series)
    measured = _measured(series, found, context)
    if not measured:
        raise MaskError(Refusal.NO_MASKS, "the object describes no structure")
    card = measuring_card(mask)
    provenance = context.provenance(series, card, uid, "")
    # Its last digit tells the reports on several objects of a study apart in the list of a viewer.
    order = whole_number(mask, "SeriesNumber") or 0
    segmentation = Segmentation(np.zeros((0, 0, 0), np.uint8), found.segments, found.notes)
    encoded = radiomics_sr.encode_radiomics_sr(
        replace(provenance, order=order), mask, segmentation, measured,
        title=context.title, settings=context.radiomics, image_library=context.image_library,
    )  # fmt: skip
    stored, adopted = context.keep(series, encoded)
    notes = (*found.notes, *radiomics_sr.named_notes(measured, segmentation))
    return ReportResult(reference(stored, Output.RADIOMICS, adopted), notes)


def _measured(series: CtSeries, found: FoundMasks, context: Context) -> tuple[SegmentFeatures, ...]:
    """Measure every structure, in the order of their numbers; all get shape and textures."""
    settings = context.radiomics
    kept = (
        measure_segments(
            series.volume, layer, {segment.key for segment in layer.segments}, settings,
            workers=context.processes, memory_mib=context.memory_mib,
        )
        for layer in found.layers
    )  # fmt: skip
    refused = (nothing_measured(as_segment(one, 0), settings, reason) for one, reason in found.refused)
    return tuple(sorted(chain(*kept, *refused), key=lambda one: one.segment_number))


def measuring_card(mask: Dataset) -> ModelCard:
    """Make the card that reports on such masks carry: no model of ours made them."""
    number = whole_number(mask, "SeriesNumber")
    return ModelCard(
        directory=Path(),
        digest=identity.digest("radiomics of masks that others made", __version__),
        schema=1,
        name="masks" if number is None else f"masks S{number}",
        version=__version__,
        engine=Engine.CLASSICAL_CHEST,
        graphs=(),
        axes=("z:S", "y:P", "x:L"),
        preprocessing={},
        labels=(),
        manufacturer=MANUFACTURER,
        licence="AGPL-3.0-or-later",
        citation="",
        intended_use="Radiomics of masks that others made.",
        limits=("The masks are measured as they are. Nobody checked here whether they are right.",),
        algorithm_family=HISTOGRAM_ANALYSIS,
    )
