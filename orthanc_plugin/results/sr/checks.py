"""Quality checks as a report: one image-level group a segment, with yes or no, a number and a sentence for each check.

Groups are tied to segments by tracking UID and not by reference, so that a report of a LABELMAP validates too. Yes and
No (CID 230) answer a statement; Succeeded and Failed (CID 6042) would say whether the check itself could be run. What
OHIF's text view does not show of a group stands in words as comments in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType

from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.codes import BILATERAL, LEFT, PRIVATE_SCHEME, RIGHT, Code
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.algorithm import (
    MANUFACTURER,
    PRODUCT,
    checks_equipment,
    concept,
    model_equipment,
    parameters,
)
from orthanc_plugin.results.seg.labels import segment_label
from orthanc_plugin.results.sr.group_parts import measurement, put_groups, yes_or_no
from orthanc_plugin.results.sr.report import encode_report, separate

SERIES_NUMBER = 9809


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


CONCEPTS: Mapping[Check, tuple[Code, Code]] = MappingProxyType(
    {
        Check.COMPLETE: (
            _private("QC_COMPLETE", "Structure lies whole inside the searched slices"),
            _private("QC_MARGIN", "Empty slices between structure and nearer end"),
        ),
        Check.ONE_PIECE: (
            _private("QC_ONE_PIECE", "Structure is one piece"),
            _private("QC_PIECES", "Number of pieces"),
        ),
        Check.SIDE: (
            _private("QC_SIDE", "Structure lies on its side of the patient"),
            _private("QC_OFFSET", "Distance to its own side of partner or middle"),
        ),
        Check.VOLUME: (
            _private("QC_VOLUME", "Volume is in the range of adults"),
            Code("YEKZ", "IBSI", "Volume from Voxel Summation"),
        ),
        Check.INSIDE_BODY: (
            _private("QC_INSIDE_BODY", "Lung lies inside the body"),
            _private("QC_PART_INSIDE", "Part of the lung with tissue on all sides"),
        ),
        Check.BETWEEN_LUNGS: (
            _private("QC_BETWEEN", "Heart lies between the lungs"),
            _private("QC_ACROSS", "Place between centres of right lung (0) and left lung (1)"),
        ),
        Check.AGREEMENT: (
            _private("QC_AGREEMENT", "Another model finds the structure in the same place"),
            _private("QC_DICE", "Dice coefficient with the other model"),
        ),
    }
)
"""Of each check: the statement that holds or not, and what the number is."""

_COMMENT = CodedConcept("121106", "DCM", "Comment")
_LATERALITIES = {LEFT, RIGHT, BILATERAL}


def encode_checks_sr(
    series: CtSeries,
    segs: Sequence[Dataset],
    results: Sequence[CheckResult],
    cards: Sequence[ModelCard],
    *,
    sop_instance_uid: str,
    provider: str,
    created: datetime,
    title: Code,
    notes: Sequence[str] = (),
) -> Dataset:
    """Quality checks of the segments of one series (PS3.16 TID 1500, 1501).

    Parameters
    ----------
    segs : sequence of Dataset
        The stored SEGs, in any order; a model whose SEG was held back has none.
    results : sequence of CheckResult
        Of any of the models. Where the SEG is stored, `segment_number` is the stored SegmentNumber.
    cards : sequence of ModelCard
        All models that results speak of.

    Raises
    ------
    EncodingError
        If there is no result, or one that fits no card or not its SEG.
    """
    _refuse_unknown(results, cards)
    checked = [card for card in cards if card.name in {result.model for result in results}]
    groups = [
        group
        for card in checked
        for group in _groups(
            [result for result in results if result.model == card.name],
            card,
            next((seg for seg in segs if seg.DeviceSerialNumber == card.digest), None),
            sop_instance_uid,
            _algorithm(card, provider),
        )
    ]
    if not groups:
        raise EncodingError("a report of quality checks without a result is never written")
    ds = encode_report(
        series,
        segs,
        groups[:1],
        checked[0],
        sop_instance_uid=sop_instance_uid,
        provider=provider,
        created=created,
        title=title,
        description="quality checks",
        series_number=SERIES_NUMBER,
        notes=[*series.notes, *notes, *_summary(results, checked)],
        algorithms=[*(model_equipment(card, created, provider) for card in checked[1:]), checks_equipment(created)],
    )
    for (group,) in groups:
        separate(group)
    put_groups(ds, [group for (group,) in groups])
    return ds


def _refuse_unknown(results: Sequence[CheckResult], cards: Sequence[ModelCard]) -> None:
    if strange := {result.model for result in results} - {card.name for card in cards}:
        raise EncodingError(f"check results of {', '.join(sorted(strange))} have no model card")


def _algorithm(card: ModelCard, provider: str) -> sr.AlgorithmIdentification:
    """Who checked, and whose masks."""
    whose = [*(f"{name}={v}" for name, v in parameters(card, provider).items()), f"model={card.name} {card.version}"]
    name = f"{PRODUCT} quality checks"
    return sr.AlgorithmIdentification(name, __version__, parameters=whose, manufacturer=MANUFACTURER)


def _groups(
    results: Sequence[CheckResult],
    card: ModelCard,
    seg: Dataset | None,
    sop_instance_uid: str,
    algorithm: sr.AlgorithmIdentification,
) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    """A group for each segment of one model."""
    by_number = attrgetter("segment_number")
    for number, same in groupby(sorted(results, key=by_number), key=by_number):
        asked = [*same]
        label = _label(asked[0], card)
        own = identity.tracking_uid(sop_instance_uid, f"{card.name} {label.key}")
        uid = own if seg is None else _tracking_uid(seg, number, label)
        tracking = sr.TrackingIdentifier(uid=uid, identifier=f"{card.name}: {label.label}")
        yield _group(asked, label, tracking, algorithm)


def _group(
    results: Sequence[CheckResult],
    label: CardLabel,
    tracking: sr.TrackingIdentifier,
    algorithm: sr.AlgorithmIdentification,
) -> sr.MeasurementsAndQualitativeEvaluations:
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking,
        finding_category=concept(label.category),
        finding_type=concept(label.type),
        finding_sites=[_site(label)],
        algorithm_id=algorithm,
        measurements=[measurement(CONCEPTS[r.check][1], r.value, r.unit) for r in results],
        qualitative_evaluations=[yes_or_no(CONCEPTS[r.check][0], r.passed) for r in results],
    )
    comments = [sr.TextContentItem(_COMMENT, _sentence(r), sr.RelationshipTypeValues.CONTAINS) for r in results]
    group[0].ContentSequence = sr.ContentSequence([*group[0].ContentSequence, *comments])
    return group


def _label(result: CheckResult, card: ModelCard) -> CardLabel:
    label = next((label for label in card.labels if label.key == result.key), None)
    if label is None:
        raise EncodingError(f"{card.name} has no structure {result.key}, of which there is a check result")
    return label


def _tracking_uid(seg: Dataset, number: int, label: CardLabel) -> str:
    """As stored; the label tells numbers of the model from those of the SEG."""
    stored = {int(item.SegmentNumber): item for item in seg.SegmentSequence}.get(number)
    if stored is None or stored.SegmentLabel != segment_label(label.label):
        raise EncodingError(
            f"segment {number} of SEG {seg.SOPInstanceUID} is not {label.label}, as a check result says"
        )
    return str(stored.TrackingUID)


def _site(label: CardLabel) -> sr.FindingSite:
    modifier = concept(label.modifier) if label.modifier else None
    if label.modifier in _LATERALITIES:
        return sr.FindingSite(concept(label.type), laterality=modifier)
    return sr.FindingSite(concept(label.type), topographical_modifier=modifier)


def _sentence(result: CheckResult) -> str:
    return f"{result.check.value} {'passed' if result.passed else 'FAILED'}: {result.detail}"


def _summary(results: Sequence[CheckResult], checked: Sequence[ModelCard]) -> Iterator[str]:
    """What a reader wants first: how many failed, and which."""
    failed = [result for result in results if not result.passed]
    yield f"{len(results) - len(failed)} of {len(results)} checks passed. A passed check does not make a mask right."
    for card in checked:
        if told := [f"{_label(r, card).label}: {r.check.value}" for r in failed if r.model == card.name]:
            yield f"FAILED in {card.name}: {'; '.join(told)}"
