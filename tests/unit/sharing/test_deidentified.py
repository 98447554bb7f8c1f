"""De-identified exports: no planted word survives, references still resolve, and every object still reads."""

from __future__ import annotations

import csv
import json
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as SrCode

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.cli import main as cli
from orthanc_plugin.pipeline.foreign import read_masks
from orthanc_plugin.series.read import read_series
from orthanc_plugin.sharing.export import Export, Layout, refusal
from orthanc_plugin.sharing.profile import Dates, Deidentifier
from orthanc_plugin.sharing.pseudonyms import Pseudonyms
from orthanc_plugin.validation.cases import compare_objects
from tests.conformance import readers
from tests.support.cases.expert_case import drawn_seg, organs, our_seg, read, small_ct, write
from tests.support.cases.foreign_case import as_read, rtstruct, square
from tests.support.cases.results_case import landmarks_report, radiomics_report

KEY = b"a key of this test only"
NAME = "Zyxwvson"


def site() -> list[Dataset]:
    """A study with a CT, our SEG and reports, an expert's SEG and RT structure set; of a patient with a name."""
    ct = small_ct()
    for ds in ct:
        ds.PatientID, ds.PatientName, ds.AccessionNumber = "QQ-77123", f"{NAME}^Quentin", "ACC99871"
        ds.InstitutionName, ds.StationName = "Klinikum Musterheim", "CTROOM42"
    series = read(ct)
    seg = our_seg(series)
    drawn = drawn_seg(
        series, {f"of {NAME}": organs(series)["airway"]}, {f"of {NAME}": SrCode("80891009", "SCT", "Heart")}
    )
    contours = rtstruct(series, {"Lung_L": {8: [square(20, 10, 26, 20)]}, f"GTV {NAME}": {8: [square(5, 5, 9, 9)]}})
    contours.PatientID = "QQ-77123"
    return [*ct, seg, radiomics_report(series, seg), landmarks_report(series, seg), drawn, contours]


OBJECTS = site()


def clean(ds: Dataset, dates: Dates = Dates.REMOVE) -> Dataset:
    return Deidentifier(Pseudonyms(KEY), dates).clean(ds)


def raw(ds: Dataset) -> bytes:
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


PLANTED = {
    "DS": ("PatientWeight", "77.1234"),
    "AE": ("ScheduledStationAETitle", "TOKENAE"), "AS": ("PatientAge", "099Y"), "CS": ("RequestPriority", "TOKENCS"),
    "DA": ("ScheduledProcedureStepStartDate", "19771231"), "DT": ("FrameAcquisitionDateTime", "19771231112233"),
    "LO": ("ProtocolName", "TOKENLO"), "LT": ("ImageComments", "TOKENLT"), "PN": ("OperatorsName", "TOKENPN^A"),
    "SH": ("StationName", "TOKENSH"), "ST": ("SegmentDescription", "TOKENST"), "UC": ("StrainDescription", "TOKENUC"),
    "UR": ("RetrieveURL", "http://tokenur"), "UT": ("TextString", "TOKENUT"),
    "UI": ("IrradiationEventUID", "1.2.77.99"),
    "OB": ("EncapsulatedDocument", b"TOKENOB0"), "UN": (None, b"TOKENUN0"), "OW": ("OverlayData", b"TOKENOW0"),
}  # fmt: skip


def plant(ds: Dataset) -> None:
    for vr, (keyword, value) in PLANTED.items():
        if keyword == "OverlayData":
            ds.add_new(0x60003000, "OW", value)
        elif keyword is None:
            ds.add_new(0x00189FFE, "UN", value)
        elif keyword == "TextString":
            ds.add_new(0x00700006, "ST", "TOKENUT0")
        else:
            ds[keyword] = DataElement(keyword, vr if vr != "UT" else "ST", value)
    block = ds.private_block(0x0099, "TOKENCREATOR", create=True)
    block.add_new(1, "LO", "TOKENPRIVATE")


def test_planted_words_of_every_vr_do_not_survive_at_any_depth() -> None:
    ds = as_read(OBJECTS[0])
    plant(ds)
    item, below = Dataset(), Dataset()
    plant(item)
    plant(below)
    item.RequestAttributesSequence = [below]
    ds.RequestAttributesSequence = [item]
    ds.ReferencedStudySequence = [item]
    kept = Dataset()
    plant(kept)
    kept.CodeValue, kept.CodingSchemeDesignator, kept.CodeMeaning = "1", "SCT", f"code of {NAME}"
    ds.AnatomicRegionSequence = [kept]
    ds.preamble = b"TOKENPREAMBLE".ljust(128, b"\0")
    ds.file_meta.SourceApplicationEntityTitle = "TOKENMETA"
    ds.BodyPartExamined, ds.ConvolutionKernel = "ZYXWVSON", f"B30 {NAME}"
    source = raw(ds)
    for word in (b"TOKENAE", b"TOKENPREAMBLE", b"TOKENPRIVATE", b"19771231", NAME.encode()):
        assert word in source
    made = raw(clean(ds))
    for word in (b"TOKEN", b"token", b"19771231", b"1.2.77.99", b"099Y", b"77.1234", b"QQ-77123", b"ACC99871",
                 b"Musterheim", b"CTROOM",
                 b"Quentin", NAME.encode(), NAME.upper().encode(), str(ds.StudyInstanceUID).encode()):  # fmt: skip
        assert word not in made, word


@pytest.mark.parametrize("index", range(-5, 0), ids=["seg", "radiomics", "landmarks", "drawn seg", "rtstruct"])
def test_objects_hold_nothing_of_the_patient_and_are_valid(index: int, tmp_path: Path) -> None:
    source = OBJECTS[index]
    before, after = tmp_path / "before.dcm", tmp_path / "after.dcm"
    source.save_as(before, enforce_file_format=True)
    ds = clean(source)
    ds.save_as(after, enforce_file_format=True)
    found = after.read_bytes()
    for word in (NAME.encode(), b"Quentin", b"QQ-77123", b"ACC99871", b"Musterheim"):
        assert word not in found
    old = {str(element.value) for element in source.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert not any(uid.encode() in found for uid in old if not uid.startswith("1.2.840.10008."))
    assert [line for line in readers.complaints(after) if line not in readers.complaints(before)] == []
    assert ds.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in ds.DeidentificationMethodCodeSequence] == ["113100", "113104", "113105"]


def test_references_resolve_and_masks_still_lie_on_the_ct() -> None:
    cleaned = [as_read(clean(ds)) for ds in OBJECTS]
    ct, (seg, radiomics, landmarks, drawn, contours) = cleaned[:-5], cleaned[-5:]
    series = read_series(iter(ct))
    known = {str(ds.SOPInstanceUID) for ds in cleaned}
    for ds in (seg, radiomics, landmarks):
        named = {str(e.value) for e in ds.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
        assert named <= known
    assert {str(ds.StudyInstanceUID) for ds in cleaned} == {str(ct[0].StudyInstanceUID)}
    assert {str(ds.PatientID) for ds in cleaned} == {Pseudonyms(KEY).patient("QQ-77123")}
    found = read_masks(seg, series)
    assert [segment.label for segment in found.segments] == ["Left lung", "Right lung", "Trachea and main bronchi"]
    voxels = sorted(int(layer.mask(s).sum()) for layer in found.layers for s in layer.segments)
    assert voxels == sorted(int(mask.sum()) for mask in organs(series).values())
    opened = highdicom.seg.segread(BytesIO(raw(seg)))
    assert opened.number_of_segments == 3
    labels = [s.label for s in read_masks(drawn, series).segments]
    assert labels == ["Heart"]
    assert [s.label for s in read_masks(contours, series).segments] == ["Lung_L", "ROI 2"]
    assert compare_objects(series, seg, contours).rows
    np.testing.assert_array_equal(ct[0].pixel_array, OBJECTS[0].pixel_array)


def test_dates_go_or_move_together() -> None:
    assert not clean(OBJECTS[0]).StudyDate
    moved = [clean(ds, Dates.SHIFT) for ds in OBJECTS]
    days = {str(ds.StudyDate) for ds in moved if ds.get("StudyDate")}
    assert len(days) == 1
    assert days != {"20200101"}
    assert not moved[0].PatientBirthDate
    assert moved[0].LongitudinalTemporalInformationModified == "MODIFIED"
    assert moved[0].DeidentificationMethodCodeSequence[-1].CodeValue == "113107"


def test_the_same_key_gives_the_same_and_another_key_another() -> None:
    one, other = Pseudonyms(KEY), Pseudonyms(b"another key of this test")
    assert one.uid("1.2.3") == Pseudonyms(KEY).uid("1.2.3") != other.uid("1.2.3")
    assert one.patient("A ") == one.patient("A") != one.patient("B")
    assert one.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert one.moved("2024", "A") == ""
    with pytest.raises(ValueError, match="16 bytes"):
        Pseudonyms(b"short")


@pytest.mark.parametrize("layout", ["dicom", "bids"])
def test_the_command_writes_a_folder(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / QUIET, *OBJECTS)
    key = tmp_path / "key"
    key.write_bytes(KEY)
    words = ["export", "--deidentified", "--patient", "QQ-77123", "--ct", str(folder), "--layout", layout,
             "--key-file", str(key), "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert cli.main(words) == cli.EXIT_DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["written"], told["refused"]) == (len(OBJECTS), 0)
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    assert {(out / row["file"]).is_file() for row in rows} == {True}
    text = "".join(str(path) for path in out.rglob("*"))
    assert NAME not in text
    assert "QQ" not in text
    patient = Pseudonyms(KEY).patient("QQ-77123")
    if layout == "bids":
        assert (out / "participants.tsv").read_text() == f"participant_id\nsub-{patient}\n"
        assert json.loads((out / "dataset_description.json").read_text())["BIDSVersion"]
    archive = FolderArchive(out, tmp_path / "none")
    assert {s.patient_id for s in archive.series} == {patient}
    assert cli.main(words) == cli.EXIT_FAILED  # never into a folder that holds something


QUIET = "in"


def test_what_may_show_words_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    burned, screen, nobody = (as_read(ds) for ds in OBJECTS[:3])
    burned.BurnedInAnnotation = "YES"
    screen.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    nobody.PatientID = ""
    other = as_read(OBJECTS[-2])
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.3"
    folder = write(tmp_path / "in", burned, screen, nobody, other)
    words = ["export", "--deidentified", "--study", str(burned.StudyInstanceUID), "--ct", str(folder), "--out"]
    assert cli.main([*words, str(tmp_path / "out"), "--json"]) == cli.EXIT_FAILED
    told = capsys.readouterr()
    assert json.loads(told.out) == {"written": 0, "refused": 4, "out": str(tmp_path / "out")}
    rows = list(csv.DictReader((tmp_path / "out" / "refused.csv").read_text().splitlines()))
    assert len({row["reason"] for row in rows}) == 4
    assert str(burned.SeriesInstanceUID) not in (tmp_path / "out" / "refused.csv").read_text() + told.err


def test_a_study_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = as_read(OBJECTS[0])
    folder = write(tmp_path / "in", there)
    words = [
        "export",
        "--deidentified",
        "--study",
        str(there.StudyInstanceUID),
        "--study",
        "1.2.3",
        "--ct",
        str(folder),
    ]
    assert cli.main([*words, "--out", str(tmp_path / "out"), "--json"]) == cli.EXIT_FAILED
    told = capsys.readouterr()
    assert json.loads(told.out)["written"] == 1
    assert "study 1.2.3 is not there" in " ".join(told.err.split())


@pytest.mark.parametrize(
    ("keyword", "value", "word"),
    [
        ("ImageType", "SCREEN SAVE", "screen"),
        ("ImageType", "localizer", "localizer"),
        ("BurnedInAnnotation", "Yes", "burned"),
    ],
)
def test_one_value_or_another_spelling_is_enough_to_refuse_a_picture(keyword: str, value: str, word: str) -> None:
    ds = as_read(OBJECTS[0])
    with disable_value_validation():
        setattr(ds, keyword, value)
    assert word in refusal(ds)


def test_names_that_are_words_of_anatomy_or_numbers_break_no_codes() -> None:
    odd = as_read(OBJECTS[-5])
    odd.PatientName, odd.PatientID, odd.InstitutionName = "Long^Phil", "1009", "Heart and Lung Center, Left Bank"
    made = clean(odd)
    assert [item.SegmentLabel for item in made.SegmentSequence] == [item.SegmentLabel for item in odd.SegmentSequence]
    kinds = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in made.SegmentSequence]
    assert kinds == ["39607008", "39607008", "110726009"]


def test_numbers_that_are_like_an_identifier_stay_numbers() -> None:
    ct = as_read(OBJECTS[0])
    ct.PatientID, ct.AccessionNumber = "1024", "2048"
    ct.RescaleIntercept, ct.AcquisitionNumber, ct.Laterality = "-1024", "2048", ""
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "Klinikum", "DNS"
    ct.IssuerOfAccessionNumberSequence = [issuer]
    made = clean(ct)
    assert (made.RescaleIntercept, made.AcquisitionNumber) == (-1024, 2048)
    assert "Laterality" in made
    assert "IssuerOfAccessionNumberSequence" not in made


def test_an_object_that_cannot_be_written_is_refused_and_the_others_are_exported(tmp_path: Path) -> None:
    odd = as_read(OBJECTS[0])
    odd.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.8.1"
    made = Export(tmp_path / "out", Deidentifier(Pseudonyms(KEY)), Layout.DICOM)
    for ds in (odd, OBJECTS[1]):
        made._add(ds, "")
    assert ([one.reason for one in made.refused], len(made.written)) == (
        ["the object cannot be written anew: ValueError"],
        1,
    )


def test_one_patient_means_exactly_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = as_read(OBJECTS[1])
    other.PatientID = "QQ-77124"
    folder = write(tmp_path / "in", OBJECTS[0], other)
    words = ["export", "--deidentified", "--ct", str(folder), "--out", str(tmp_path / "out"), "--json", "--patient"]
    assert cli.main([*words, "QQ-77123"]) == cli.EXIT_FAILED
    assert json.loads(capsys.readouterr().out)["written"] == 1
    assert "another patient" in (tmp_path / "out" / "refused.csv").read_text()
    assert cli.main([*words[:-3], str(tmp_path / "none"), *words[-2:], "QQ*"]) == cli.EXIT_FAILED
    assert "without wildcards" in capsys.readouterr().out


def test_an_edit_that_kept_our_name_is_not_trusted_with_texts() -> None:
    edit = as_read(OBJECTS[-5])
    edit.SOPInstanceUID = edit.file_meta.MediaStorageSOPInstanceUID = "2.25.66"
    edit.SegmentSequence[0].SegmentLabel = "seen by Dr Somebody"
    assert next(item.SegmentLabel for item in clean(edit).SegmentSequence) == "Lung"


def test_wrong_use_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("short")
    words = ["export", "--deidentified", "--ct", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.main(words) == cli.EXIT_CONFIG
    assert cli.main([*words, "--study", "1.2", "--key-file", str(tmp_path / "key")]) == cli.EXIT_CONFIG
    assert "shorter than 16 bytes" in capsys.readouterr().err


def test_reading_again_is_the_same_file(tmp_path: Path) -> None:
    made = clean(OBJECTS[-5])
    assert raw(dcmread(BytesIO(raw(made)))) == raw(made)
