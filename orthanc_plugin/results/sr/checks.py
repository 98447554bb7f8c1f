"""Report quality checks: one image-level group per segment, with an answer, a number and a sentence for each check.

Groups are tied to segments by tracking UID and not by reference, so that the report of a LABELMAP validates too. The
answers are Yes and No (CID 230); Succeeded and Failed (CID 6042) would say whether the check could be run. Comments in
the group repeat in words what OHIF's text view does not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType

from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.provenance import PRODUCT, Provenance, checks_equipment, statements_of
from orthanc_plugin.results.seg.labels import segment_label
from orthanc_plugin.results.sr.content import comment, finding_site, measurement, yes_or_no
from orthanc_plugin.results.sr.report import encode_report


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


CONCEPTS: Mapping[Check, tuple[Code, Code]] = MappingProxyType(
    {
        Check.COMPLETE: (
            _private("QC_COMPLETE", "Structure lies completely within the analysed slices"),
            _private("QC_MARGIN", "Empty slices between structure and nearest end"),
        ),
        Check.ONE_PIECE: (
            _private("QC_ONE_PIECE", "Structure is one piece"),
            _private("QC_PIECES", "Number of pieces"),
        ),
        Check.SIDE: (
            _private("QC_SIDE", "Structure lies on the expected side of the patient"),
            _private("QC_OFFSET", "Lateral distance from contralateral structure or midline"),
        ),
        Check.VOLUME: (
            _private("QC_VOLUME", "Volume lies within the adult range"),
            Code("YEKZ", "IBSI", "Volume from Voxel Summation"),
        ),
        Check.INSIDE_BODY: (
            _private("QC_INSIDE_BODY", "Lung lies within the body"),
            _private("QC_PART_INSIDE", "Fraction of the lung surrounded by tissue"),
        ),
        Check.BETWEEN_LUNGS: (
            _private("QC_BETWEEN", "Heart lies between the lungs"),
            _private("QC_ACROSS", "Position between centres of right (0) and left (1) lung"),
        ),
        Check.AGREEMENT: (
            _private("QC_AGREEMENT", "Another model finds the structure in the same location"),
            _private("QC_DICE", "Dice coefficient with the other model"),
        ),
        Check.PARTNER: (
            _private("QC_PARTNER", "Contralateral lung is segmented"),
            _private("QC_PARTNER_RATIO", "Volume of the contralateral lung relative to this one"),
        ),
        Check.GAS: (
            _private("QC_GAS", "Lung holds no large part of gas without vessels"),
            _private("QC_GAS_ML", "Volume of the largest part of gas without vessels"),
        ),
        Check.CONTRAST: (
            _private("QC_CONTRAST", "Bone holds no contrast medium"),
            _private("QC_CONTRAST_ML", "Volume of the largest even part of bone"),
        ),
        Check.IN_IMAGE: (
            _private("QC_IN_IMAGE", "Edge of the image plane does not cut the structure"),
            _private("QC_EDGE_AREA", "Area of contact with the edge of the image plane"),
        ),
        Check.CLOSED: (
            _private("QC_CLOSED", "Lung is closed against the air around the body"),
            _private("QC_OPEN_AREA", "Area of contact with air around the body in the adjacent slice"),
        ),
        Check.UPRIGHT: (
            _private("QC_UPRIGHT", "Airway lies higher than the lungs"),
            _private("QC_ABOVE_LUNGS", "Height of the airway above the lungs"),
        ),
        Check.MEMBERS: (
            _private("QC_MEMBERS", "Passes of the model agree on the structure"),
            _private("QC_MEMBERS_DICE", "Mean Dice coefficient of the passes with the joint result"),
        ),
        Check.BORDER: (
            _private("QC_BORDER", "Model is certain of the border of the structure"),
            _private("QC_ENTROPY", "Mean entropy of the probabilities at the border"),
        ),
    }
)
"""For each check, the statement that is true or false, and the meaning of the number."""


def encode_checks_sr(
    models: Sequence[Provenance],
    segs: Sequence[Dataset],
    results: Sequence[CheckResult],
    *,
    title: Code,
    notes: Sequence[str] = (),
) -> Dataset:
    """Encode the quality checks of the segments of one series (PS3.16 TID 1500, 1501).

    Parameters
    ----------
    models : sequence of Provenance
        One for each model that results speak of, equal in series, UID and time.
    segs : sequence of Dataset
        The stored SEGs, in any order; a model whose SEG was held back has none.
    results : sequence of CheckResult
        Of any of the models. Where the SEG is stored, `segment_number` is the stored SegmentNumber.

    Raises
    ------
    EncodingError
        If there is no result, or if a result fits no card or does not fit its SEG.
    """
    _refuse_unknown(results, [model.card for model in models])
    checked = [model for model in models if model.card.name in {result.model for result in results}]
    if not checked:
        raise EncodingError("a report of quality checks without a result is never written")
    first = next((model for model in checked if model.card.test_model), checked[0])
    others = [model for model in checked if model is not first]
    said = [text for model in others for text in statements_of(model.card)]
    return encode_report(
        first,
        [group for model in checked for group in _groups(results, model, segs)],
        title=title,
        kind=Output.CHECKS,
        notes=[*said, *first.series.notes, *notes, *_summary(results, [model.card for model in checked])],
        evidence=segs,
        algorithms=[*(model.equipment() for model in others), checks_equipment(first.created)],
        parameters=[text for model in others for text in model.parameter_texts],
    )


def _refuse_unknown(results: Sequence[CheckResult], cards: Sequence[ModelCard]) -> None:
    if strange := {result.model for result in results} - {card.name for card in cards}:
        raise EncodingError(f"check results of {', '.join(sorted(strange))} have no model card")


def _algorithm(model: Provenance) -> sr.AlgorithmIdentification:
    """Identify the checks, and the model whose masks they look at."""
    name = f"{PRODUCT} quality checks"
    return sr.AlgorithmIdentification(name, __version__, parameters=[f"model={model.model}"])


def _groups(
    results: Sequence[CheckResult], model: Provenance, segs: Sequence[Dataset]
) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    """Make a group for each segment of one model."""
    card, algorithm, by_number = model.card, _algorithm(model), attrgetter("segment_number")
    seg = next((seg for seg in segs if seg.DeviceSerialNumber == card.digest), None)
    own = [result for result in results if result.model == card.name]
    for number, same in groupby(sorted(own, key=by_number), key=by_number):
        of_segment = [*same]
        label = _label(of_segment[0], card)
        derived = identity.tracking_uid(model.sop_instance_uid, f"{card.name} {label.key}")
        uid = derived if seg is None else _tracking_uid(seg, number, label)
        tracking = sr.TrackingIdentifier(uid=uid, identifier=f"{card.name}: {label.label}")
        yield _group(of_segment, label, tracking, algorithm)


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
        finding_sites=[finding_site(label.type, label.modifier)],
        algorithm_id=algorithm,
        measurements=[measurement(CONCEPTS[r.check][1], r.value, r.unit) for r in results],
        qualitative_evaluations=[yes_or_no(CONCEPTS[r.check][0], r.passed) for r in results],
    )
    group[0].ContentSequence.extend([comment(_sentence(r)) for r in results])
    return group


def _label(result: CheckResult, card: ModelCard) -> CardLabel:
    label = next((label for label in card.labels if label.key == result.key), None)
    if label is None:
        raise EncodingError(f"{card.name} has no structure {result.key}, but there is a check result for it")
    return label


def _tracking_uid(seg: Dataset, number: int, label: CardLabel) -> str:
    """Find the stored TrackingUID; the label shows whether the number is the model's or the SEG's."""
    stored = {int(item.SegmentNumber): item for item in seg.SegmentSequence}.get(number)
    if stored is None or stored.SegmentLabel != segment_label(label.label):
        raise EncodingError(
            f"segment {number} of SEG {seg.SOPInstanceUID} is not {label.label}, although a check result says so"
        )
    return str(stored.TrackingUID)


def _sentence(result: CheckResult) -> str:
    return f"{result.check.value} {'passed' if result.passed else 'FAILED'}: {result.detail}"


def _summary(results: Sequence[CheckResult], checked: Sequence[ModelCard]) -> Iterator[str]:
    """Say how many checks failed, and which."""
    failed = [result for result in results if not result.passed]
    passed = f"{len(results) - len(failed)} of {len(results)} checks passed."
    yield f"{passed} Passing every check does not mean that a mask is correct."
    for card in checked:
        if named := [f"{_label(r, card).label}: {r.check.value}" for r in failed if r.model == card.name]:
            yield f"FAILED in {card.name}: {'; '.join(named)}"
