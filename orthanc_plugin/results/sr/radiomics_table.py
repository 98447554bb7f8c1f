"""Turn radiomics reports into tables: every feature of a stored report with its segment, model, code and conditions.

A feature that has no value is a row with the reason. Numbers equal those of the report to the last bit, so a table and
its report can never disagree.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path

from pydicom.dataset import Dataset

from orthanc_plugin.codes import NOT_MEASURED, SEG_INSTANCE, SEG_NUMBER, UNITLESS, UNITY
from orthanc_plugin.domain.measures import ORIGINAL
from orthanc_plugin.domain.radiomics_settings import RadiomicsMode
from orthanc_plugin.domain.spreadsheet import harmless
from orthanc_plugin.errors import ConfigError, EncodingError
from orthanc_plugin.radiomics.feature_codes import coded_features, names_by_concept
from orthanc_plugin.radiomics.parameters import AGGREGATION

_MEASUREMENTS, _GROUP = "126010", "125007"
_TRACKING_IDENTIFIER, _REFERENCED_SEGMENT, _SOURCE_SERIES = "112039", "121191", "121232"
_FINDING, _FINDING_SITE = "121071", "363698007"
_STATED = ("mode", "classes", "discretisation", "resampling", "resegmentation", "textures")
_ALGORITHM_NAME, _ALGORITHM_VERSION, _ALGORITHM_PARAMETERS = "111001", "111003", "111002"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One feature of a radiomics report.

    model_digest: SHA-256 of card and weights; empty where no model of ours made the mask.
    series_instance_uid: the CT that was measured.
    seg_sop_instance_uid: the object that holds the mask.
    image: `original`, or pyradiomics' name of the filtered image.
    feature: pyradiomics' name with its class, such as `shape_MeshVolume`; empty for an unknown code.
    code, scheme, meaning: the coded concept.
    value: None if the feature has none; `reason` says why.
    unit: UCUM; 1 for a number without a unit, whichever version wrote the report.
    segment_code, segment_scheme, segment_meaning: the coded structure; `segment_modifier`: its side, in words.
    mode, classes, discretisation, resampling, resegmentation, textures, filter: how it was measured, in words; empty
        where a report of an earlier version does not say.
    spacing_mm: (z y x) of the grid on which it was measured.
    voxels: voxels whose intensities count; None where the report does not say.
    software, library: what measured, with its version.
    patient: pseudonym of the patient, or what the caller makes of PatientID.
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
    value: float | None
    unit: str
    reason: str = ""
    segment_code: str = ""
    segment_scheme: str = ""
    segment_meaning: str = ""
    segment_modifier: str = ""
    mode: str = ""
    classes: str = ""
    discretisation: str = ""
    resampling: str = ""
    resegmentation: str = ""
    textures: str = ""
    filter: str = ""
    spacing_mm: str = ""
    voxels: int | None = None
    software: str = ""
    library: str = ""
    study_instance_uid: str = ""
    patient: str = ""


def read_radiomics_sr(ds: Dataset, patient: Callable[[str], str] = lambda patient_id: "") -> tuple[TableRow, ...]:
    """Read every feature of a radiomics report, in its order; those without a value follow the others of their group.

    Parameters
    ----------
    ds : Dataset
        The report as stored.
    patient : callable
        Turns PatientID into what the column `patient` holds.

    Raises
    ------
    EncodingError
        If the object is not a radiomics report of this software.
    """
    groups = [group for item in _children(ds, _MEASUREMENTS) for group in _children(item, _GROUP)]
    if not groups:
        raise _unreadable(ds)
    pseudonym = patient(str(ds.get("PatientID") or ""))
    try:
        return tuple(row for group in groups for row in _rows(ds, group, pseudonym))
    except (AttributeError, LookupError, ValueError) as error:
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


def to_parquet(rows: Sequence[TableRow]) -> bytes:
    """Write rows as a Parquet file with the names of the CSV, typed columns, and null where there is no value.

    Raises
    ------
    ConfigError
        If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigError("pyarrow is not installed: install the extra `parquet`, or take CSV or JSON") from None
    types = {int: pyarrow.int64(), float: pyarrow.float64()}
    numbers = {"segment_number": int, "voxels": int, "value": float}
    columns = [(field.name, types.get(numbers.get(field.name, str), pyarrow.string())) for field in fields(TableRow)]
    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], pyarrow.schema(columns))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def write_tables(report: Path, rows: Sequence[TableRow]) -> None:
    """Write CSV and JSON beside the file of a report, and Parquet if pyarrow is installed."""
    report.with_suffix(".csv").write_text(to_csv(rows), encoding="utf-8", newline="")
    report.with_suffix(".json").write_text(to_json(rows), encoding="utf-8")
    if find_spec("pyarrow") is not None:
        report.with_suffix(".parquet").write_bytes(to_parquet(rows))


def _rows(ds: Dataset, group: Dataset, patient: str) -> Iterator[TableRow]:
    common = _common(ds, group, patient)
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            concept, measured = item.ConceptNameCodeSequence[0], item.MeasuredValueSequence[0]
            scheme, code = concept.CodingSchemeDesignator, concept.CodeValue
            yield replace(
                common,
                feature=names_by_concept().get((scheme, code), ""),
                code=code,
                scheme=scheme,
                meaning=concept.CodeMeaning,
                value=float(measured.FloatingPointValue),
                unit=_unit(measured),
            )
    for item in _children(group, NOT_MEASURED.value):
        yield from _missing_rows(common, item.TextValue)


def _unit(measured: Dataset) -> str:
    value = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
    return UNITY if value == UNITLESS else value


def _missing_rows(common: TableRow, text: str) -> Iterator[TableRow]:
    names, reason = text.split(": ", 1)
    coded = {one.name: one for one in coded_features(RadiomicsMode(common.mode))}
    for name in names.split(", "):
        row = replace(common, feature=name, reason=reason)
        if (one := coded.get(name)) is not None:
            concept = one.concept
            row = replace(row, code=concept.value, scheme=concept.scheme, meaning=concept.meaning, unit=one.unit.value)
        yield row


def _common(ds: Dataset, group: Dataset, patient: str) -> TableRow:
    """Return what all rows of a group share."""
    seg_uid, segment_number = _segment(group)
    # The report states shared parameters once; reports before results version 3 repeated them in every group.
    texts = [item.TextValue for of in (ds, group) for item in _children(of, _ALGORITHM_PARAMETERS)]
    stated: dict[str, str] = dict(text.split("=", 1) for text in texts if "=" in text)
    image = stated.get("image", ORIGINAL)
    label = _child(group, _TRACKING_IDENTIFIER).TextValue
    label = label.removesuffix(f", {stated.get(AGGREGATION)}").removesuffix(f", {image}")
    model, version = (_child(group, code).TextValue for code in (_ALGORITHM_NAME, _ALGORITHM_VERSION))
    finding = next(_children(group, _FINDING), None)
    kind = finding.ConceptCodeSequence[0] if finding is not None else Dataset()
    return TableRow(
        model=model,
        model_version=version,
        model_digest=stated["model_sha256"],
        series_instance_uid=str(_child(group, _SOURCE_SERIES).UID),
        seg_sop_instance_uid=seg_uid,
        sr_sop_instance_uid=str(ds.SOPInstanceUID),
        segment_number=segment_number,
        label=label,
        image=image,
        feature="",
        code="",
        scheme="",
        meaning="",
        value=None,
        unit="",
        segment_code=kind.get("CodeValue", ""),
        segment_scheme=kind.get("CodingSchemeDesignator", ""),
        segment_meaning=kind.get("CodeMeaning", ""),
        segment_modifier=_modifier(group),
        filter=stated.get("filter", "none" if image == ORIGINAL else image),
        spacing_mm=stated.get("spacing", "").split(" mm")[0],
        voxels=int(stated["voxels"]) if "voxels" in stated else None,
        software=stated.get("software", ""),
        library=f"pyradiomics {stated['pyradiomics']}" if "pyradiomics" in stated else "",
        study_instance_uid=str(ds.StudyInstanceUID),
        patient=patient,
        **{name: stated.get(name, "") for name in _STATED},
    )


def _modifier(group: Dataset) -> str:
    """Read the side or part of the structure; empty if it has none."""
    for site in _children(group, _FINDING_SITE):
        for item in site.get("ContentSequence", ()):
            return str(item.ConceptCodeSequence[0].CodeMeaning)
    return ""


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


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    text = repr(value) if isinstance(value, float) else str(value)
    return harmless(text) if isinstance(value, str) else text


def _unreadable(ds: Dataset) -> EncodingError:
    return EncodingError(f"{ds.get('SOPInstanceUID', 'the object')} is not a radiomics report of this software")
