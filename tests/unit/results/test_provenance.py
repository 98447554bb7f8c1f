"""Every kind of object says who made it, and names source and patient only in the attributes for them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pydicom
import pypdf
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import VR

from orthanc_plugin import RESULTS_VERSION, __version__, identity
from orthanc_plugin.catalog.card import Engine
from orthanc_plugin.codes import ARTIFICIAL_INTELLIGENCE, MORPHOLOGICAL_OPERATIONS, Code
from orthanc_plugin.domain.input_quality import InputLimits
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.document.summary import pdf_of
from orthanc_plugin.results.sr.input_quality import method_card
from tests.conformance.cases import FEW, Case
from tests.conformance.kinds import KINDS, Kind
from tests.support.cases.results_case import CARD, small_series

ALLOWED = {
    "PatientID": "PID-7731",
    "PatientName": "Planted^Name",
    "PatientBirthDate": "19430712",
    "IssuerOfPatientID": "ISSUER-31",
    "AccessionNumber": "ACC-9917",
    "StudyID": "SID-5521",
    "ReferringPhysicianName": "Referrer^Secret",
    "StudyDescription": "Secret of the study",
}
NOWHERE = {
    "InstitutionName": "Hospital of Planting",
    "OperatorsName": "Operator^Secret",
    "OtherPatientIDs": "OTHER-4411",
    "PatientAddress": "Hidden Street",
    "PatientComments": "Secret comment",
    "SeriesDescription": "Secret of the series",
    "ProtocolName": "Secret protocol",
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(
        "planted", small_series(slices=16, **ALLOWED, **NOWHERE), tmp_path_factory.mktemp("planted"), landmarks=FEW
    )


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def made(kind: Kind, case: Case) -> Dataset:
    """Encode an object and read it back."""
    buffer = io.BytesIO()
    ds = kind.make(case)
    assert ds is not None
    ds.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def texts(ds: Dataset) -> list[tuple[str, str]]:
    """Yield keyword and value of every element that holds neither a UID nor numbers in bytes, and what a PDF says."""
    numbers = {VR.UI, VR.SQ, VR.OB, VR.OW, VR.US, VR.FD, VR.FL, VR.UL, VR.AT}
    found = [(element.keyword, str(element.value)) for element in ds.iterall() if element.VR not in numbers]
    if "EncapsulatedDocument" in ds:
        pdf = pypdf.PdfReader(io.BytesIO(pdf_of(ds)))
        said = [*(page.extract_text() for page in pdf.pages), *map(str, (pdf.metadata or {}).values())]
        found.extend(("EncapsulatedDocument", " ".join(text.split())) for text in said)
    return found


def test_uids_of_the_source_stand_in_uid_attributes_alone(made: Dataset, case: Case) -> None:
    who = case.series.identity
    uids = {who.study_instance_uid, who.series_instance_uid, *who.sop_instance_uids, *who.frame_of_reference_uids}
    assert [(keyword, text) for keyword, text in texts(made) if any(uid in text for uid in uids)] == []
    named = {str(uid) for element in made.iterall() if element.VR == VR.UI for uid in uids if uid == element.value}
    assert {who.study_instance_uid, who.series_instance_uid, who.sop_instance_uids[0]} & named


def test_what_identifies_the_patient_stands_in_its_own_attribute_alone(made: Dataset) -> None:
    found = {(keyword, value) for keyword, text in texts(made) for value in ALLOWED.values() if value in text}
    assert found == set(ALLOWED.items())
    assert [keyword for keyword, text in texts(made) if any(value in text for value in NOWHERE.values())] == []


def test_its_model_is_contributing_equipment_with_all_that_repeats_the_run(made: Dataset, kind: Kind) -> None:
    card = method_card(InputLimits()) if kind.output is Output.INPUT_QUALITY else CARD
    (model,) = (item for item in made.ContributingEquipmentSequence if item.get("ManufacturerModelName") == card.name)
    assert (model.Manufacturer, model.SoftwareVersions) == (card.manufacturer, card.version)
    assert model.DeviceUID == identity.device_uid(card.digest)
    assert model.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    facts = (f"model_sha256={card.digest}", f"software=orthanc-enrichment {__version__}", "provider=CPU")
    for fact in (*facts, f"results_version={RESULTS_VERSION}"):
        assert fact in model.ContributionDescription


def test_its_limits_are_told_in_every_kind(kind: Kind, tmp_path: Path) -> None:
    """A test model that ran on a patient must say so in SEG, reports, contours and pictures."""
    if kind.output is Output.INPUT_QUALITY:
        return  # measured without a model
    card = replace(CARD, test_model=True, intended_use="Phantoms only.", limits=("Finds no lung.", "Finds no bone."))
    ds = kind.make(Case("limited", small_series(slices=16), tmp_path, card, landmarks=FEW))
    assert ds is not None
    said = "\n".join(text for _, text in texts(ds))
    for sentence in ("TEST MODEL, NOT FOR PATIENTS. Research use, not for diagnosis", "Generated by software",
                     "not verified by a physician", "Intended use: Phantoms only.",
                     "Limitations: Finds no lung. Finds no bone."):  # fmt: skip
        assert sentence in said
    assert "not for patients" in ds.SeriesDescription
    if kind.output is Output.SEG:
        assert ds.ContentDescription.startswith("TEST MODEL, NOT FOR PATIENTS")
    if kind.output is Output.RTSTRUCT:
        assert ds.StructureSetLabel == "TEST MODEL"


@pytest.mark.parametrize(
    ("engine", "stated", "code"),
    [
        (Engine.CLASSICAL_CHEST, None, "123104"),
        (Engine.NNUNET, None, "123110"),
        (Engine.NNUNET, Code("123105", "DCM", "Histogram Analysis"), "123105"),
    ],
)
def test_the_method_is_that_of_the_card(engine: Engine, stated: Code | None, code: str, tmp_path: Path) -> None:
    card = replace(CARD, engine=engine, algorithm_family=stated)
    case = Case("method", small_series(slices=16), tmp_path, card, landmarks=FEW)
    for name in ("SEG", "landmarks", "body regions", "RTSTRUCT"):
        ds = KINDS[name].make(case)
        assert ds is not None
        items = [item for element in ds.iterall() if element.VR == "SQ" for item in element.value]
        families = {item.CodeValue for item in items if item.get("CodeValue", "").startswith("1231")}
        assert code in families
        assert families & {"123104", "123105", "123110"} == {code}
        assert ("AI " in "\n".join(text for _, text in texts(ds) if "AI Enrichment" not in text)) is (code == "123110")


def test_every_family_is_of_its_context_group() -> None:
    for family in (ARTIFICIAL_INTELLIGENCE, MORPHOLOGICAL_OPERATIONS):
        assert any(getattr(codes.cid7162, name).value == family.value for name in codes.cid7162.dir())


def test_each_kind_of_output_is_held(tmp_path: Path) -> None:
    assert {kind.output for kind in KINDS.values()} == set(Output)
