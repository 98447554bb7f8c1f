"""Turn radiomics reports into tables: every number of a stored report with its segment, model and code.

Numbers equal those of the report to the last bit, so a table and its report can never disagree.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields

from pydicom.dataset import Dataset

from orthanc_plugin.codes import SEG_INSTANCE, SEG_NUMBER
from orthanc_plugin.domain.measures import ORIGINAL
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.radiomics.feature_codes import names_by_concept

_MEASUREMENTS, _GROUP = "126010", "125007"
_TRACKING_IDENTIFIER, _REFERENCED_SEGMENT, _SOURCE_SERIES = "112039", "121191", "121232"
_ALGORITHM_NAME, _ALGORITHM_VERSION, _ALGORITHM_PARAMETERS = "111001", "111003", "111002"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One number of a radiomics report.

    model_digest: SHA-256 of card and weights.
    series_instance_uid: the CT that was measured.
    image: `original`, or pyradiomics' name of the filtered image.
    feature: pyradiomics' name with its class, such as `shape_MeshVolume`; empty for an unknown code.
    code, scheme, meaning: the coded concept.
    unit: UCUM.
    """

    model: str
    model_version: str
    model_digest: str
    series_instance_uid: str
    seg_sop_instance_uid: str
    sr_sop_instance_uid: str
    segment_number: int
    label: str
    image: str
    feature: str
    code: str
    scheme: str
    meaning: str
    value: float
    unit: str


def read_radiomics_sr(ds: Dataset) -> tuple[TableRow, ...]:
    """Read every number of a radiomics report, in its order.

    Raises
    ------
    EncodingError
        If the object is not a radiomics report of this software.
    """
    groups = [group for item in _children(ds, _MEASUREMENTS) for group in _children(item, _GROUP)]
    if not groups:
        raise _unreadable(ds)
    try:
        return tuple(row for group in groups for row in _rows(ds, group))
    except (AttributeError, LookupError) as error:
        raise _unreadable(ds) from error


def to_csv(rows: Sequence[TableRow]) -> str:
    """Write rows as CSV (RFC 4180) under one line of names; `float` of a value's text gives exactly the value.

    Text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(field.name for field in fields(TableRow))
    writer.writerows([_cell(value) for value in astuple(row)] for row in rows)
    return text.getvalue()


def to_json(rows: Sequence[TableRow]) -> str:
    """Write rows as a JSON list of objects with the names of the CSV."""
    return json.dumps([asdict(row) for row in rows], allow_nan=False)


def _rows(ds: Dataset, group: Dataset) -> Iterator[TableRow]:
    seg_uid, segment_number = _segment(group)
    # The report states shared parameters once; reports before results version 3 repeated them in every group.
    texts = [item.TextValue for of in (ds, group) for item in _children(of, _ALGORITHM_PARAMETERS)]
    parameters = dict(text.split("=", 1) for text in texts if "=" in text)
    image = parameters.get("image", ORIGINAL)
    label = _child(group, _TRACKING_IDENTIFIER).TextValue.removesuffix(f", {image}")
    model, version = (_child(group, code).TextValue for code in (_ALGORITHM_NAME, _ALGORITHM_VERSION))
    series_uid = str(_child(group, _SOURCE_SERIES).UID)
    for item in group.ContentSequence:
        if item.ValueType != "NUM":
            continue
        concept, measured = item.ConceptNameCodeSequence[0], item.MeasuredValueSequence[0]
        yield TableRow(
            model,
            version,
            parameters["model_sha256"],
            series_uid,
            seg_uid,
            str(ds.SOPInstanceUID),
            segment_number,
            label,
            image,
            names_by_concept().get((concept.CodingSchemeDesignator, concept.CodeValue), ""),
            concept.CodeValue,
            concept.CodingSchemeDesignator,
            concept.CodeMeaning,
            float(measured.FloatingPointValue),
            measured.MeasurementUnitsCodeSequence[0].CodeValue,
        )


def _segment(group: Dataset) -> tuple[str, int]:
    """Read the UID of the SEG and the segment's number, for a BINARY SEG or a LABELMAP."""
    for item in _children(group, _REFERENCED_SEGMENT):
        reference = item.ReferencedSOPSequence[0]
        return str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber)
    return str(_child(group, SEG_INSTANCE.value).UID), int(_child(group, SEG_NUMBER.value).TextValue)


def _children(item: Dataset, code: str) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        if child.ConceptNameCodeSequence[0].CodeValue == code:
            yield child


def _child(item: Dataset, code: str) -> Dataset:
    child = next(_children(item, code), None)
    if child is None:
        raise LookupError(code)
    return child


def _cell(value: str | int | float) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _unreadable(ds: Dataset) -> EncodingError:
    return EncodingError(f"{ds.get('SOPInstanceUID', 'the object')} is not a radiomics report of this software")
