"""Report what a series is worth as input: one image-level group with a number, an answer and a sentence for each check.

No model made it, so the report names the method and its limits where others name their model. No standard scheme has
the concepts of these checks, apart from SliceThickness, so they are private.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import Engine, GraphFile, ModelCard
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.input_quality import InputCheck, InputFigure, InputLimits
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.provenance import MANUFACTURER, PRODUCT, Provenance
from orthanc_plugin.results.sr.content import comment, measurement, yes_or_no
from orthanc_plugin.results.sr.report import encode_report

METHOD_VERSION = "1"
"""Raised when a figure is measured in another way, so that the report gets another UID."""


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


SCAN = _private("QI_SCAN", "Quality of the scan as input")

CONCEPTS: Mapping[InputCheck, tuple[Code, Code]] = MappingProxyType(
    {
        InputCheck.NOISE: (
            _private("QI_NOISE_OK", "Noise is below the limit"),
            _private("QI_NOISE", "Standard deviation in uniform soft tissue"),
        ),
        InputCheck.AIR_NOISE: (
            _private("QI_AIR_OK", "Noise in air is below the limit"),
            _private("QI_AIR_NOISE", "Standard deviation in air"),
        ),
        InputCheck.SLICE_THICKNESS: (
            _private("QI_CONTIGUOUS", "There are no gaps between slices"),
            Code("112225", "DCM", "Slice Thickness"),
        ),
        InputCheck.TRUNCATED: (
            _private("QI_WHOLE", "Body lies within the reconstructed field of view"),
            _private("QI_TRUNCATED", "Fraction of the body outline at the edge of the field"),
        ),
        InputCheck.METAL: (
            _private("QI_METAL_OK", "Scan contains little metal"),
            _private("QI_METAL", "Fraction of the slices with metal"),
        ),
        InputCheck.REPEATED: (
            _private("QI_DISTINCT", "No slice repeats the pixels of another"),
            _private("QI_REPEATED", "Number of slices that repeat another"),
        ),
        InputCheck.JUMPS: (
            _private("QI_SMOOTH", "Adjacent slices are consistent"),
            _private("QI_JUMP", "Largest step between slices relative to those around it"),
        ),
        InputCheck.PADDING: (
            _private("QI_PADDING_OK", "Padding is below the limit"),
            _private("QI_PADDING", "Fraction of the voxels that are padding"),
        ),
        InputCheck.CONTRAST: (
            _private("QI_CONTRAST_OK", "Contrast of the blood agrees with the header"),
            _private("QI_BLOOD", "Median of the blood pool"),
        ),
        InputCheck.BODY_PART: (
            _private("QI_PART_OK", "Location in the body agrees with BodyPartExamined"),
            _private("QI_PART", "Fraction of the named region within the scan"),
        ),
    }
)
"""For each check, the statement that is true or false, and the meaning of the number."""


def method_card(limits: InputLimits) -> ModelCard:
    """Describe the method as results describe a model; another limit gives another digest."""
    text = limits_text(limits)
    return ModelCard(
        schema=1,
        name="input_quality",
        version=METHOD_VERSION,
        engine=Engine.CLASSICAL_CHEST,
        graphs=(GraphFile("none.onnx", "0" * 64),),
        axes=("z:S", "y:P", "x:L"),
        preprocessing={},
        labels=(),
        manufacturer=MANUFACTURER,
        licence="AGPL-3.0-or-later",
        citation=PRODUCT,
        intended_use="Judging how well a CT series is suited for segmentation.",
        limits=(),
        directory=Path(),
        digest=identity.digest("input quality", METHOD_VERSION, text),
    )


def limits_text(limits: InputLimits) -> str:
    """Say the limits as the report does."""
    return f"noise {limits.max_noise_hu:g} HU, truncated {limits.max_truncated:g}, metal {limits.max_metal:g}"


def encode_input_sr(
    provenance: Provenance, figures: Sequence[InputFigure], limits: InputLimits, *, title: Code
) -> Dataset:
    """Encode the figures of one series (PS3.16 TID 1500, 1501).

    Parameters
    ----------
    provenance : Provenance
        With the card that `method_card` gives.
    figures : sequence of InputFigure
    limits : InputLimits
        By which the checks passed or failed.
    title : Code
        Document title.

    Raises
    ------
    EncodingError
        If a number is not finite.
    """
    failed = [figure for figure in figures if figure.passed is False]
    asked = sum(figure.passed is not None for figure in figures)
    summary = f"{asked - len(failed)} of {asked} checks of the input passed. Limits: {limits_text(limits)}."
    return encode_report(
        provenance,
        [_group(provenance, figures)],
        title=title,
        kind=Output.INPUT_QUALITY,
        notes=[*provenance.series.notes, summary, *(figure.note for figure in failed)],
    )


def _group(provenance: Provenance, figures: Sequence[InputFigure]) -> sr.MeasurementsAndQualitativeEvaluations:
    uid = identity.tracking_uid(provenance.sop_instance_uid, "input")
    name = f"{PRODUCT} input checks"
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=uid, identifier="scan as input"),
        finding_type=concept(SCAN),
        algorithm_id=sr.AlgorithmIdentification(name, __version__),
        measurements=[measurement(CONCEPTS[f.check][1], f.value, f.unit) for f in figures if f.value is not None],
        qualitative_evaluations=[yes_or_no(CONCEPTS[f.check][0], f.passed) for f in figures if f.passed is not None],
    )
    group[0].ContentSequence.extend([comment(figure.note) for figure in figures])
    return group
