"""What codes mean, in the words of people who read results. A code without words here stands for itself."""

from __future__ import annotations

from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import Refusal

_CHECKS = {
    Check.COMPLETE: "Lies completely in the scan",
    Check.ONE_PIECE: "Is one piece",
    Check.SIDE: "Lies on the right side of the patient",
    Check.VOLUME: "Has a volume that adults have",
    Check.INSIDE_BODY: "Lies inside the body",
    Check.BETWEEN_LUNGS: "Lies between the lungs",
    Check.AGREEMENT: "Another model finds the same",
    Check.PARTNER: "The other lung was found, too",
    Check.GAS: "Is lung, not gas",
    Check.CONTRAST: "Is bone, not contrast medium",
    Check.IN_IMAGE: "Is not cut by the edge of the image",
    Check.CLOSED: "Is closed against the air around the body",
    Check.UPRIGHT: "Lies above the middle of the lungs",
    Check.MEMBERS: "The passes of the model agree on it",
    Check.BORDER: "The model is sure of its border",
}
_KINDS = {
    Output.SEG: "Segmentation",
    Output.PROBABILITIES: "Probabilities",
    Output.RADIOMICS: "Radiomics report",
    Output.LANDMARKS: "Landmarks of the masks",
    Output.BODY_LANDMARKS: "Landmarks of the body",
    Output.BODY_REGIONS: "Regions of the body",
    Output.VIEWER_LANDMARKS: "Landmarks for viewers",
    Output.CHECKS: "Quality checks",
    Output.RTSTRUCT: "RT structure set",
    Output.PREVIEW: "Preview",
    Output.INPUT_QUALITY: "Quality of the input",
    Output.SECONDARY_CAPTURE: "Slices with outlines",
    Output.SUMMARY_PDF: "Summary",
    Output.KEY_OBJECTS: "Key images",
}
_REASONS: dict[str, str] = {
    Refusal.NOT_CT: "It is not a CT",
    Refusal.NO_RULE: "No rule takes it",
    Refusal.RULE_ERROR: "A rule asks for what the archive does not know",
    Refusal.TEST_MODEL: "The model was trained on phantoms only",
    Refusal.BETTER_SERIES: "Another series of the study is better",
    Refusal.TOO_FEW_SLICES: "It has too few slices",
    Refusal.UNREADABLE: "It cannot be read",
    Refusal.NO_PIXELS: "It has no pixels",
    Refusal.NOT_HU: "Its values are not Hounsfield units",
    Refusal.IMPLAUSIBLE_HU: "Its Hounsfield units are implausible",
    Refusal.MISSING_SLICE: "Slices are missing",
    Refusal.NOT_AXIAL: "Its slices are not axial",
    Refusal.NOT_COVERED: "The scan does not show enough of the body",
    Refusal.HELD_BACK: "The result failed a quality check and is held back",
    Refusal.INPUT_QUALITY: "The quality of the input is too low",
    Refusal.GONE: "The series is gone",
    "failed": "The job failed",
    "cancelled": "A person cancelled the job",
}


def check(code: str) -> str:
    """Say what a quality check asks."""
    return _CHECKS.get(Check(code), code) if code in list(Check) else code


def kind(code: str) -> str:
    """Name a kind of result."""
    return _KINDS.get(Output(code), code.replace("-", " ").capitalize())


def reason(code: str) -> str:
    """Say what the reason of a skip or a failure means."""
    return _REASONS.get(code, code.replace("-", " "))
