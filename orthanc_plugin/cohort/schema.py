"""The tables of a cohort: every column with its type, its unit and its meaning, declared once.

Build, documentation and empty tables all follow this declaration. A table begins with what identifies a row and ends
with `reason`, which says why a row lacks something; it is empty where nothing is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

VERSION = 1
"""Raised when a column changes; tables of another version are built anew."""


class Kind(StrEnum):
    """Type of a column."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    YES_NO = "yes or no"


Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column. unit: UCUM, or empty."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table. meaning: what a row is."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        return tuple(column.name for column in self.columns)


def _text(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name, Kind.TEXT, meaning, unit)


def _whole(name: str, meaning: str) -> Column:
    return Column(name, Kind.WHOLE, meaning)


def _number(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name, Kind.NUMBER, meaning, unit)


def _yes_no(name: str, meaning: str) -> Column:
    return Column(name, Kind.YES_NO, meaning)


def _coded(name: str, of: str) -> tuple[Column, ...]:
    return (
        _text(f"{name}_code", f"code of {of}"),
        _text(f"{name}_scheme", f"coding scheme of {of}, such as SCT or IBSI"),
        _text(f"{name}_meaning", f"{of} in words"),
    )


_REASON = _text("reason", "why the row lacks something; empty where it lacks nothing")
_STUDY = _text("study_instance_uid", "StudyInstanceUID")
_SOURCE = _text("series_instance_uid", "SeriesInstanceUID of the CT that the row is about")
_OBJECT = _text("sop_instance_uid", "SOPInstanceUID of the SEG or SR that says so")
_CURRENT = _yes_no(
    "current",
    "whether no newer object of the same kind, model and version speaks of the series; what people drew always is",
)
_MODEL = (
    _text("model", "name of the model or the algorithm; empty where the object names none"),
    _text("model_version", "its version"),
)
_SEGMENT = (
    _text("seg_sop_instance_uid", "SOPInstanceUID of the SEG that holds the mask"),
    Column("segment_number", Kind.WHOLE, "SegmentNumber in that SEG"),
    _text("tracking_uid", "Tracking Unique Identifier"),
    _text("label", "name of the structure in the object"),
    *_coded("structure", "the structure"),
    _text("structure_modifier", "its side or part, in words"),
    _text("site_meaning", "where the report says that it lies (Finding Site), in words"),
)

SERIES = Table(
    "series",
    "A CT series: one that was read, or one that only results name",
    (
        _SOURCE,
        _STUDY,
        _text("patient", "what the setting Tables.Patient makes of PatientID"),
        _text("study_date", "StudyDate, YYYYMMDD"),
        _text("modality", "Modality"),
        _whole("series_number", "SeriesNumber"),
        _text("series_description", "SeriesDescription"),
        _text("manufacturer", "Manufacturer"),
        _text("manufacturer_model_name", "ManufacturerModelName"),
        _text("convolution_kernel", "ConvolutionKernel"),
        _number("slice_thickness_mm", "SliceThickness", "mm"),
        _number("pixel_spacing_mm", "PixelSpacing, the larger of both", "mm"),
        _number("kvp", "KVP", "kV"),
        _text("contrast_agent", "ContrastBolusAgent"),
        _text("body_part_examined", "BodyPartExamined"),
        _text("patient_sex", "PatientSex"),
        _number("patient_age_y", "PatientAge", "a"),
        _whole("instances", "number of instances; null where only results name the series"),
        _text("frame_of_reference_uid", "FrameOfReferenceUID"),
        _REASON,
    ),
)

OBJECTS = Table(
    "objects",
    "A SEG or SR that was looked at, and what became of it",
    (
        _OBJECT,
        _text("object_series_instance_uid", "SeriesInstanceUID of the object itself"),
        _STUDY,
        _SOURCE,
        _text("kind", "kind of our results, such as radiomics; seg or report for those of others"),
        _text("modality", "Modality of the object: SEG or SR"),
        _text("manufacturer", "Manufacturer of the object"),
        _text("series_description", "SeriesDescription of the object"),
        *_MODEL,
        _text("model_digest", "SHA-256 of card and weights; empty where no model of ours made it"),
        _text("created", "ContentDate and ContentTime, YYYYMMDDHHMMSS"),
        _CURRENT,
        _whole("rows", "rows that the object gave to other tables"),
        _text("place", "where the object was: a file, or the name of the archive"),
        _REASON,
    ),
)

SEGMENTS = Table(
    "segments",
    "A segment of a SEG",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        _whole("segment_number", "SegmentNumber"),
        _text("tracking_uid", "TrackingUID"),
        _text("label", "SegmentLabel"),
        *_coded("category", "the category"),
        *_coded("structure", "the structure (SegmentedPropertyType)"),
        _text("structure_modifier", "its side or part, in words"),
        _text("region_meaning", "AnatomicRegion in words"),
        _text("algorithm_type", "SegmentAlgorithmType"),
        *_MODEL,
        _whole("frames", "frames of the SEG that hold the segment; null for a LABELMAP"),
        _CURRENT,
        _REASON,
    ),
)

MEASUREMENTS = Table(
    "measurements",
    "A number or a coded answer about one structure, as the report states it",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        *_SEGMENT,
        *_MODEL,
        _text("image", "original, or the name of the filtered image"),
        _text(
            "feature", "name with its class, such as shape_MeshVolume; SCHEME_CODE where the concept has no name here"
        ),
        *_coded("concept", "what was measured"),
        _text("derivation", "statistic that the number is, in words, such as Mean"),
        _text("method", "measurement method in words"),
        _number("value", "the number; null where there is none, and the reason says why"),
        _text("unit", "UCUM unit of the value"),
        _text("answer", "coded answer in words, where the row is no number"),
        _text("conditions", "what the report says on how it was measured: name=value; ..."),
        _CURRENT,
        _REASON,
    ),
)

LANDMARKS = Table(
    "landmarks",
    "A level of the body in one series",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        _text("kind", "kind of the report; body-landmarks come from slices, landmarks from masks"),
        *_MODEL,
        _text("landmark", "name, such as lung_start or L3"),
        *_coded("structure", "the structure"),
        _text("structure_modifier", "part of it, such as Top"),
        _number("position_mm", "position along the axis from feet to head (LPS z)", "mm"),
        _number("sd_mm", "standard deviation that the report states", "mm"),
        _text("slice_sop_instance_uid", "SOPInstanceUID of the slice that shows it"),
        _CURRENT,
        _REASON,
    ),
)

REGIONS = Table(
    "regions",
    "A region of the body in one series",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        *_MODEL,
        _text("region", "region, such as Chest"),
        _text("structure_code", "code of the region; several are joined by +"),
        _whole("slices", "slices that show the region"),
        _whole("slices_of_report", "slices of which the report speaks"),
        _number("share", "slices that show the region, of those of which the report speaks (0 to 1)", "1"),
        _number("coverage", "part of the region that lies in the scan (0 to 1)", "1"),
        _number("bottom_mm", "lowest slice (LPS z)", "mm"),
        _number("top_mm", "highest slice (LPS z)", "mm"),
        _CURRENT,
        _REASON,
    ),
)

CHECKS = Table(
    "checks",
    "The result of one quality check of one structure",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        _text("model", "name of the model that found the structure"),
        _text("tracking_uid", "Tracking Unique Identifier of the segment"),
        _text("label", "name of the structure"),
        *_coded("structure", "the structure"),
        _text("structure_modifier", "its side or part, in words"),
        _text("check", "name of the check"),
        _yes_no("passed", "whether it passed"),
        _number("value", "what was measured"),
        _text("unit", "UCUM unit of the value"),
        _text("detail", "the check in a sentence"),
        _CURRENT,
        _REASON,
    ),
)

INPUT_QUALITY = Table(
    "input_quality",
    "One figure on the quality of a series as input",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        _text("check", "name of the check"),
        _yes_no("passed", "whether it passed; null where the figure has no limit"),
        _number("value", "what was measured"),
        _text("unit", "UCUM unit of the value"),
        _text("note", "the figure in a sentence"),
        _CURRENT,
        _REASON,
    ),
)

JOBS = Table(
    "jobs",
    "A decision on a series in the job database",
    (
        _text("job_id", "id of the job; empty for a series that got none"),
        _text("archive", "archive of the series"),
        _STUDY,
        _SOURCE,
        _text("state", "state: done, skipped, failed, ..."),
        _text("rule", "rule that decided"),
        _text("models", "models of the plan, joined by commas"),
        _text("priority", "priority"),
        _text("first_seen", "when it was decided, ISO 8601, UTC"),
        _text("started_at", "when a worker began"),
        _text("ended_at", "when it ended"),
        _number("seconds", "from begin to end", "s"),
        _whole("objects", "objects that it stored"),
        _yes_no("current", "whether no newer content of the series was decided on"),
        _text("detail", "the reason as a sentence"),
        _text("reason", "code of the reason for a skip or a failure"),
    ),
)

DELIVERIES = Table(
    "deliveries",
    "A copy of a job's results to a further archive, a withdrawal, or a webhook",
    (
        _text("job_id", "id of the job"),
        _text("kind", "deliver, withdraw or notify"),
        _text("destination", "archive, or webhook after @"),
        _text("state", "state"),
        _text("created_at", "when it was queued, ISO 8601, UTC"),
        _text("ended_at", "when it ended"),
        _text("notes", "what it did, in lines"),
        _text("reason", "why it failed"),
    ),
)

SHADOW = Table(
    "shadow",
    "A structure as a shadow model of a rule found it, beside the same structure of a model of the rule",
    (
        _text("job_id", "id of the job"),
        _STUDY,
        _SOURCE,
        _text("rule", "rule that names the shadow model"),
        _text("shadow", "name of the shadow model"),
        _text("shadow_digest", "SHA-256 of its card and weights"),
        _text("model", "name of the model of the rule; empty where none looks for the structure"),
        _text("model_digest", "SHA-256 of its card and weights"),
        _text("label", "name of the structure in the card of the shadow model"),
        _text("structure_code", "SCT code of the structure"),
        _text("modifier_code", "SCT code of its side; empty if it has none"),
        _number("shadow_ml", "volume by the shadow model; 0 where it found nothing", "mL"),
        _number("model_ml", "volume by the model of the rule; 0 where it found nothing", "mL"),
        _number("dice", "Dice coefficient of both (0 to 1); null where neither found the structure", "1"),
        _text("ended_at", "when the job ended, ISO 8601, UTC"),
        _yes_no("current", "whether the job is the last one that ran this shadow on the present content of the series"),
        _text("note", "remarks of the stage, in lines"),
        _text("reason", "why nothing was compared"),
    ),
)

KEYS_OF_WIDE = Table(
    "measurements_wide",
    "A structure in one report, with a column for each feature of the original image",
    (
        _OBJECT,
        _STUDY,
        _SOURCE,
        *_SEGMENT,
        *_MODEL,
        _CURRENT,
        _number(
            "volume_ml", "volume from voxels, otherwise that of the mesh or the one that the report names so", "mL"
        ),
    ),
)
"""The columns before the features; these have the names of the column `feature` and the unit of their rows there."""

USUAL_FEATURES = ("shape_MeshVolume", "shape_Sphericity", "shape_SurfaceArea", "shape_VoxelVolume", "firstorder_Mean")
"""Features that have a column even where no report has them, so that ready queries always find them."""

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        table.name: table
        for table in (
            SERIES,
            OBJECTS,
            SEGMENTS,
            MEASUREMENTS,
            LANDMARKS,
            REGIONS,
            CHECKS,
            INPUT_QUALITY,
            JOBS,
            DELIVERIES,
            SHADOW,
        )
    }
)
"""The tables whose columns do not depend on the data, by name; `measurements_wide` is written out of `measurements`."""

ALL_TABLES = (*TABLES, KEYS_OF_WIDE.name)
