"""A patient over time: what radiomics reports of several studies say of one structure, and whether it changed.

Values are those of the stored reports, of one model at a time: two models measure two things. A change is held against
the repeatability of the measurement: with a within-subject coefficient of variation w, two measurements of an
unchanged structure differ in 95 of 100 cases by less than a factor of exp(1.96 * sqrt(2) * w).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset

from orthanc_plugin.archive.patients import studies_of_patient
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.codes import BILATERAL, LEFT, RIGHT, Code
from orthanc_plugin.domain.measures import ORIGINAL
from orthanc_plugin.errors import ConfigError, EncodingError, InputError
from orthanc_plugin.results.rt.tg263 import primary_name
from orthanc_plugin.results.source_text import plain_text, raw_text
from orthanc_plugin.results.sr.radiomics_table import TableRow, read_radiomics_sr
from orthanc_plugin.validation.csv_input import read_csv

VOLUME = "shape_VoxelVolume"
TIMELINE = "timeline"
"""What reports of values over time name instead of a model."""
_FACTOR = 1.96 * math.sqrt(2)
_TABLE = Path(__file__).with_name("repeatability.csv")
_MM3_IN_ML = 1000.0


class Change(StrEnum):
    """How a value compares with the one before."""

    FIRST = "first"
    WITHIN = "within repeatability"
    BEYOND = "beyond repeatability"
    UNKNOWN = "no limit known"


@dataclass(frozen=True, slots=True)
class Limit:
    """How well a measurement repeats. wcv: within-subject coefficient of variation; source: who measured it, on what.

    Source
    ------
    Obuchowski and Bullen, Stat Methods Med Res 2018;27:3139 (wCV, repeatability coefficient); QIBA.
    """

    wcv: float
    source: str

    @property
    def percent(self) -> tuple[float, float]:
        """Greatest fall and greatest rise, in percent, that repeated measurements explain."""
        ratio = math.exp(_FACTOR * self.wcv)
        return 100 * (1 / ratio - 1), 100 * (ratio - 1)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one structure in one study.

    date: of the study, YYYY-MM-DD; empty if unknown. days: since the first study of this structure.
    change_percent, total_percent: against the study before, and against the first one. prior_study: the one before.
    low_percent, high_percent: what repeated measurements explain. note: what makes the two scans hard to compare.
    concept_code ... structure_modifier: the feature and the structure as the report codes them.
    """

    structure: str
    model: str
    model_digest: str
    measure: str
    value: float
    unit: str
    date: str
    study_instance_uid: str
    series_instance_uid: str
    report_sop_instance_uid: str
    scanner: str = ""
    kernel: str = ""
    slice_mm: str = ""
    days: int | None = None
    prior_study: str = ""
    change: Change = Change.FIRST
    change_percent: float | None = None
    total_percent: float | None = None
    low_percent: float | None = None
    high_percent: float | None = None
    limit_source: str = ""
    note: str = ""
    report_series_instance_uid: str = ""
    concept_code: str = ""
    concept_scheme: str = ""
    concept_meaning: str = ""
    structure_code: str = ""
    structure_scheme: str = ""
    structure_meaning: str = ""
    structure_modifier: str = ""


def read_limits(file: Path = _TABLE) -> Mapping[tuple[str, str], Limit]:
    """Read limits by structure and measure from a CSV with the columns structure, measure, wcv_percent, source.

    Raises
    ------
    ConfigError
        If the file is not such a table.
    """
    rows = read_csv(file, "file of limits", ("structure", "measure", "wcv_percent", "source"), may_be_empty=True)
    try:
        limits = {(r["structure"], r["measure"]): Limit(float(r["wcv_percent"]) / 100, r["source"]) for r in rows}
    except ValueError:
        raise ConfigError(f"{file.name}: wcv_percent must be a number") from None
    if not all(0 < limit.wcv < 1 for limit in limits.values()):
        raise ConfigError(f"{file.name}: wcv_percent must lie between 0 and 100")
    return limits


def timeline(
    archive: Archive, patient_id: str, measures: Sequence[str], limits: Mapping[tuple[str, str], Limit]
) -> tuple[tuple[Value, ...], tuple[str, ...]]:
    """Gather the values of a patient from all studies of an archive.

    Parameters
    ----------
    archive : Archive
    patient_id : str
        Exactly as in the archive.
    measures : sequence of str
        Features by pyradiomics' names; volumes are given in mL.
    limits : mapping
        By structure and measure.

    Returns
    -------
    values
        By structure, model and measure, the oldest study first.
    notes
        What could not be read.

    Raises
    ------
    InputError
        If the PatientID has a wildcard.
    TransientError
        If the archive is away.
    """
    found: list[Value] = []
    notes: list[str] = []
    for study in studies_of_patient(archive, patient_id):
        for series in archive.series_of(study, "SR"):
            for report in archive.retrieve(study, series):
                if str(report.get("PatientID") or "").strip() != patient_id:
                    continue
                try:
                    found += _values(report, measures)
                except EncodingError:
                    continue  # another kind of report
                except InputError as error:
                    notes.append(f"series {series}: {error}")
    scans = {(v.study_instance_uid, v.series_instance_uid): Dataset() for v in found}
    for place in scans:
        header = next(iter(archive.headers(*place)), None)
        if header is None:
            notes.append(f"the CT {place[1]} is not in the archive; its scanner and kernel are unknown")
        scans[place] = header or Dataset()
    described = [_described(value, scans[value.study_instance_uid, value.series_instance_uid]) for value in found]
    return tuple(_compared(described, limits)), tuple(notes)


def _values(report: Dataset, measures: Sequence[str]) -> Iterator[Value]:
    day = str(report.get("StudyDate") or "")
    date = f"{day[:4]}-{day[4:6]}-{day[6:8]}" if len(day) == 8 and day.isdigit() else ""
    for row in read_radiomics_sr(report):
        if row.feature in measures and row.image == ORIGINAL and row.value is not None:
            in_ml = row.feature == VOLUME
            yield Value(
                _structure(row), f"{row.model} {row.model_version}", row.model_digest,
                "volume" if in_ml else row.feature, row.value / _MM3_IN_ML if in_ml else row.value,
                "mL" if in_ml else row.unit, date, row.study_instance_uid, row.series_instance_uid,
                row.sr_sop_instance_uid, report_series_instance_uid=str(report.SeriesInstanceUID),
                concept_code=row.code, concept_scheme=row.scheme, concept_meaning=row.meaning,
                structure_code=row.segment_code, structure_scheme=row.segment_scheme,
                structure_meaning=row.segment_meaning, structure_modifier=row.segment_modifier,
            )  # fmt: skip


def _structure(row: TableRow) -> str:
    """Return the TG-263 name of a row's structure, or else its label."""
    kind = Code(row.segment_code or "?", row.segment_scheme or "?", row.segment_meaning or "?")
    return primary_name(kind, side_of(row.segment_modifier)) or row.label


def side_of(modifier: str) -> Code | None:
    """Return the code of a side that a report states in words; None if it is no side."""
    return next((side for side in (LEFT, RIGHT, BILATERAL) if side.meaning == modifier), None)


def _described(value: Value, header: Dataset) -> Value:
    texts = {k: plain_text(raw_text(header, k) or "") for k in ("Manufacturer", "ManufacturerModelName")}
    return replace(
        value,
        scanner=" ".join(filter(None, texts.values())),
        kernel=plain_text((raw_text(header, "ConvolutionKernel") or "").split("\\")[0]),
        slice_mm=plain_text(raw_text(header, "SliceThickness") or ""),
    )


def _compared(values: Iterable[Value], limits: Mapping[tuple[str, str], Limit]) -> Iterator[Value]:
    groups: dict[tuple[str, str, str, str], list[Value]] = defaultdict(list)
    for value in values:
        groups[value.structure, value.model, value.model_digest, value.measure].append(value)
    for key, members in sorted(groups.items()):
        yield from _series(_one_of_each_study(members), limits.get((key[0], key[3])))


def _one_of_each_study(values: list[Value]) -> list[Value]:
    """Choose one scan of each study: reconstructed as the newest study's, if there is one."""
    studies: dict[str, list[Value]] = defaultdict(list)
    for value in sorted(values, key=lambda v: (v.date, v.study_instance_uid, v.series_instance_uid)):
        studies[value.study_instance_uid].append(value)
    *_, newest = studies.values()
    wanted = newest[0].kernel, newest[0].slice_mm
    return [min(one, key=lambda v: (v.kernel, v.slice_mm) != wanted) for one in studies.values()]


def _series(values: list[Value], limit: Limit | None) -> Iterator[Value]:
    low, high = limit.percent if limit else (None, None)
    source = limit.source if limit else ""
    first = values[0]
    for prior, value in zip([None, *values], values, strict=False):
        value = replace(value, low_percent=low, high_percent=high, limit_source=source, days=_days(first, value))
        if prior is None:
            yield value
            continue
        percent, total = _percent(prior.value, value.value), _percent(first.value, value.value)
        yield replace(
            value, prior_study=prior.study_instance_uid, change_percent=percent, total_percent=total,
            change=_verdict(percent, low, high), note="; ".join(_differences(prior, value)),
        )  # fmt: skip


def _verdict(percent: float | None, low: float | None, high: float | None) -> Change:
    if percent is None or low is None or high is None:
        return Change.UNKNOWN
    return Change.WITHIN if low <= percent <= high else Change.BEYOND


def _percent(before: float, now: float) -> float | None:
    return 100 * (now / before - 1) if before > 0 else None


def _days(first: Value, value: Value) -> int | None:
    from datetime import date

    try:
        return (date.fromisoformat(value.date) - date.fromisoformat(first.date)).days
    except ValueError:
        return None


def _differences(prior: Value, value: Value) -> Iterator[str]:
    """Say what differs between two scans and can change a measurement."""
    for what, keyword in (("scanner", "scanner"), ("kernel", "kernel"), ("slice thickness", "slice_mm")):
        before, now = getattr(prior, keyword), getattr(value, keyword)
        if before != now:
            yield f"another {what} ({before or 'unknown'}, now {now or 'unknown'})"
    if not value.date or not prior.date:
        yield "a study without a date"
