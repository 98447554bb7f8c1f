"""Tables of our own results and of those of others: what they hold, and that a build can be killed at any time."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import DataElement, dcmread
from pydicom.config import disable_value_validation

from orthanc_plugin.cohort import schema
from orthanc_plugin.cohort.build import MANIFEST, build, read_manifest
from orthanc_plugin.cohort.reading import unit_of
from orthanc_plugin.cohort.sources import FolderSource, Found
from orthanc_plugin.cohort.unit import Unit, unpack
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.support.cases.cohort_case import built, our_results, rows, shared, write
from tests.support.cases.expert_case import as_ohif_writes, edited, our_seg, read, small_ct
from tests.support.cases.results_case import ellipsoids, encode, radiomics_report, small_series


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of our own results, and the tables of it."""
    folder, out = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("tables")
    write(our_results(), folder)
    built(folder, out)
    return folder, out


def test_series_row_counts_its_instances_and_hides_the_patient(ours: tuple[Path, Path]) -> None:
    (row,) = rows(ours[1], "series")
    assert (row["series_instance_uid"], row["instances"], row["patient"]) == ("2.25.200", 12, "p2")
    assert (row["convolution_kernel"], row["kvp"], row["patient_age_y"], row["reason"]) == ("B30f", 120.0, 55.0, "")


def test_measurements_equal_the_report_to_the_last_bit(ours: tuple[Path, Path]) -> None:
    folder, out = ours
    report = next(ds for ds in map(dcmread, sorted(folder.iterdir())) if "Radiomics" in ds.get("SeriesDescription", ""))
    expected = {(row.label, row.feature): (row.value, row.unit, row.code) for row in read_radiomics_sr(report)}
    found = {
        (row["label"], row["feature"]): (row["value"], row["unit"], row["concept_code"])
        for row in rows(out, "measurements")
    }
    assert found == expected


def test_wide_rows_hold_the_values_of_the_long_ones(ours: tuple[Path, Path]) -> None:
    long = {(row["label"], row["feature"]): row["value"] for row in rows(ours[1], "measurements")}
    wide = rows(ours[1], "measurements_wide")
    assert len(wide) == 5
    for row in wide:
        assert row["shape_VoxelVolume"] == long[row["label"], "shape_VoxelVolume"]
        assert row["volume_ml"] == pytest.approx(row["shape_VoxelVolume"] / 1000)
        assert row["shape_Sphericity"] is None


def test_segments_landmarks_regions_and_checks_have_their_rows(ours: tuple[Path, Path]) -> None:
    out = ours[1]
    segments = rows(out, "segments")
    assert {(row["label"], row["structure_modifier"]) for row in segments} >= {("Left lung", "Left")}
    assert all(row["model"] == "chest_ellipsoids" and row["frames"] for row in segments)
    landmarks = {(row["kind"], row["landmark"]): row for row in rows(out, "landmarks")}
    assert landmarks["landmarks", "lung_start"]["position_mm"] == -290.0
    assert landmarks["body-landmarks", "L3"]["sd_mm"] is not None
    assert len([key for key in landmarks if key[0] == "body-landmarks"]) == 35
    regions = {row["region"]: row for row in rows(out, "regions")}
    assert (regions["chest"]["slices"], regions["chest"]["slices_of_report"]) == (4, 12)
    assert regions["legs"]["coverage"] == pytest.approx(1 / 3)
    checks = rows(out, "checks")
    assert {row["check"] for row in checks} >= {"complete", "side", "agreement"}
    assert all(row["passed"] is not None and row["value"] is not None and row["detail"] for row in checks)
    assert {row["model"] for row in checks} == {"chest_ellipsoids 1.0.0", "other_ellipsoids 2.0.0"}


def test_figures_on_the_input_have_their_rows(ours: tuple[Path, Path]) -> None:
    found = {row["check"]: row for row in rows(ours[1], "input_quality")}
    assert {"noise", "metal", "padding"} <= found.keys()
    assert all(str(row["note"]).startswith(f"input {check}") for check, row in found.items())
    assert found["metal"]["passed"] is not None
    assert found["padding"]["passed"] is None


def test_columns_carry_meaning_and_unit(ours: tuple[Path, Path]) -> None:
    from pyarrow import parquet

    found = parquet.read_schema(ours[1] / "landmarks.parquet")
    assert found.field("position_mm").metadata[b"unit"] == b"mm"
    assert found.names == [*schema.LANDMARKS.names]


def test_objects_of_other_makers_have_rows(tmp_path: Path) -> None:
    built(shared("seg_sr_reference"), tmp_path)
    objects = rows(tmp_path, "objects")
    assert {row["manufacturer"] for row in objects} >= {"QIICR"}
    reports = [row for row in objects if row["modality"] == "SR"]
    assert len(reports) >= 5
    assert all(row["rows"] or row["reason"] for row in reports)
    measured = [row for row in rows(tmp_path, "measurements") if row["concept_meaning"] == "SUVbw"]
    assert {row["derivation"] for row in measured} >= {"Mean", "Maximum", "Minimum"}
    assert all(row["structure_meaning"] == "Neoplasm, Primary" and row["segment_number"] == 1 for row in measured)
    assert all(row["site_meaning"] == "pharyngeal tonsil (adenoid)" for row in measured)
    nodule = next(row for row in rows(tmp_path, "measurements") if row["label"] == "LungNodule0001" and row["value"])
    assert (nodule["value"], nodule["unit"], nodule["structure_meaning"]) == (10.0, "mm", "Nodule")
    reasons = {row["reason"] for row in rows(tmp_path, "series")}
    assert reasons == {"", "no instance of the series was read: only results name it"}


class TestOddObjects:
    def test_object_without_source_is_a_row_with_a_reason(self, tmp_path: Path) -> None:
        series = small_series()
        seg = encode(series, ellipsoids(series))
        report = radiomics_report(series, seg)
        del seg.ReferencedSeriesSequence
        del report.ContentSequence[-1]
        write([seg, report], tmp_path / "in")
        built(tmp_path / "in", tmp_path / "out")
        reasons = {row["kind"]: row["reason"] for row in rows(tmp_path / "out", "objects")}
        assert "does not name the series" in str(reasons["seg"])
        assert "no measurement group" in str(reasons["radiomics"])
        assert all(row["reason"] for row in rows(tmp_path / "out", "segments"))

    def test_number_without_value_keeps_its_row(self, tmp_path: Path) -> None:
        series = small_series()
        report = radiomics_report(series, encode(series, ellipsoids(series)))
        numbers = [i for i in report.ContentSequence[-1].ContentSequence[0].ContentSequence if i.ValueType == "NUM"]
        numbers[0].MeasuredValueSequence = []
        numbers[1].MeasuredValueSequence[0].FloatingPointValue = float("nan")
        write([report], tmp_path / "in")
        built(tmp_path / "in", tmp_path / "out")
        found = [row for row in rows(tmp_path / "out", "measurements") if row["value"] is None]
        assert {str(row["reason"]) for row in found} == {
            "the report states no value",
            "the value is not a finite number",
        }

    def test_number_without_name_unit_or_group_says_so_in_its_row(self, tmp_path: Path) -> None:
        series = small_series()
        report = radiomics_report(series, encode(series, ellipsoids(series)))
        part = report.ContentSequence[-1]
        numbers = [item for group in part.ContentSequence for item in group.ContentSequence if item.ValueType == "NUM"]
        part.ContentSequence.append(copy.deepcopy(numbers[2]))
        del numbers[0].ConceptNameCodeSequence
        del numbers[1].MeasuredValueSequence[0].MeasurementUnitsCodeSequence
        write([report], tmp_path / "in")
        built(tmp_path / "in", tmp_path / "out")
        found = [row for row in rows(tmp_path / "out", "measurements") if row["reason"] and row["value"] is not None]
        assert sorted(str(row["reason"]) for row in found) == [
            "the measurement has no name",
            "the number stands in no measurement group",
            "the value has no unit",
        ]

    def test_segments_that_share_a_number_say_so(self, tmp_path: Path) -> None:
        series = small_series()
        seg = encode(series, ellipsoids(series))
        seg.SegmentSequence.append(copy.deepcopy(seg.SegmentSequence[0]))
        write([seg], tmp_path / "in")
        built(tmp_path / "in", tmp_path / "out")
        reasons = [row["reason"] for row in rows(tmp_path / "out", "segments")]
        assert reasons.count("another segment has the same number") == 2

    def test_damaged_file_and_copy_are_rows_with_a_reason(self, tmp_path: Path) -> None:
        series = small_series()
        seg = encode(series, ellipsoids(series))
        folder = write([seg, seg], tmp_path / "in")
        whole = (folder / "000.dcm").read_bytes()
        (folder / "cut.dcm").write_bytes(whole[: len(whole) // 3])
        (folder / "note.txt").write_text("no DICOM")
        built(folder, tmp_path / "out")
        reasons = {row["place"]: str(row["reason"]) for row in rows(tmp_path / "out", "objects")}
        assert reasons["000.dcm"] == ""
        assert "same SOPInstanceUID" in reasons["001.dcm"]
        assert "cannot be read whole" in reasons["cut.dcm"]
        assert len(rows(tmp_path / "out", "segments")) == 5

    def test_newer_result_of_the_same_model_takes_the_place_of_the_older(self, tmp_path: Path) -> None:
        series = small_series()
        older, newer = (encode(series, ellipsoids(series), sop_instance_uid=uid) for uid in ("2.25.7", "2.25.5"))
        newer.ContentDate = "20270101"
        write([newer, older], tmp_path / "in")
        built(tmp_path / "in", tmp_path / "out")
        assert {row["sop_instance_uid"]: row["current"] for row in rows(tmp_path / "out", "objects")} == {
            "2.25.7": False,
            "2.25.5": True,
        }
        assert sum(bool(row["current"]) for row in rows(tmp_path / "out", "segments")) == 5

    def test_hostile_texts_stay_texts(self, tmp_path: Path) -> None:
        series = small_series()
        seg = encode(series, ellipsoids(series))
        seg.SegmentSequence[0].SegmentLabel = "=cmd|' /C calc'!A0"
        seg.SeriesDescription = "<script>alert(1)</script>"
        item = seg.ReferencedSeriesSequence[0]
        item["SeriesInstanceUID"] = DataElement(0x0020000E, "UI", "1'; DROP TABLE units; --", validation_mode=0)
        with disable_value_validation():
            write([seg], tmp_path / "in")
        built(tmp_path / "in", tmp_path / "out")
        (row,) = rows(tmp_path / "out", "objects")
        assert row["series_description"] == "<script>alert(1)</script>"
        assert row["series_instance_uid"] == ""
        assert row["reason"]

    def test_numbers_and_texts_that_no_table_can_hold(self, tmp_path: Path) -> None:
        series = small_series(SeriesNumber="999999999999", KVP="1e300")
        ct = our_results()[0]
        ct.SeriesNumber, ct.SeriesDescription = series.headers[0].SeriesNumber, "a\x00b\ud800"
        seg = encode(series, ellipsoids(series))
        seg.SegmentSequence[0].SegmentNumber = 65535
        with disable_value_validation():
            write([seg], tmp_path / "in")
        (tmp_path / "in" / "000.dcm").rename(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff\xfe.dcm"))
        built(tmp_path / "in", tmp_path / "out")
        (row,) = rows(tmp_path / "out", "objects")
        assert row["place"] == r"\xff\xfe.dcm"
        unit = unit_of(ct, "place", str)
        assert unit is not None
        assert unit.rows["series"][0]["series_description"] == "ab?"
        assert unit.rows["series"][0]["series_number"] == 999999999999

    def test_report_whose_items_have_lost_their_content(self, tmp_path: Path) -> None:
        """Every element of the first group is removed in turn: no build breaks, and no object is lost."""
        series = small_series()
        report = radiomics_report(series, encode(series, ellipsoids(series)))
        items = report.ContentSequence[-1].ContentSequence[0].ContentSequence
        for number, item in enumerate(items):
            for element in [*item]:
                changed = copy.deepcopy(report)
                del changed.ContentSequence[-1].ContentSequence[0].ContentSequence[number][element.tag]
                unit = unit_of(changed, "place", str)
                assert unit is not None
                assert unit.reason or len(unit.rows["measurements"]) >= 9
                assert unpack(unit.pack())["objects"]

    def test_seg_whose_elements_are_lost(self) -> None:
        series = small_series()
        seg = encode(series, ellipsoids(series))
        for element in [*seg]:
            if element.keyword in ("Modality", "PixelData"):
                continue
            changed = copy.copy(seg)
            del changed[element.tag]
            unit = unit_of(changed, "place", str)
            assert unit is not None
            assert unit.kind == "seg" or unit.reason


class TestAgain:
    def test_second_build_reads_nothing_and_gives_the_same_digest(self, ours: tuple[Path, Path]) -> None:
        again = built(*ours)
        assert again.read == 0
        assert again.known == 20
        assert again.digest == read_manifest(ours[1])["digest"]

    def test_gone_and_changed_files_are_noticed(self, tmp_path: Path) -> None:
        folder, out = write(our_results(), tmp_path / "in"), tmp_path / "out"
        first = built(folder, out)
        gone, changed = sorted(folder.iterdir())[-1], folder / "000.dcm"
        content, gone_content = changed.read_bytes(), gone.read_bytes()
        gone.unlink()
        os.utime(changed, ns=(1, 1))
        second = built(folder, out)
        assert (second.read, second.gone, second.rows["input_quality"]) == (1, 1, 0)
        gone.write_bytes(gone_content)
        changed.write_bytes(content)
        assert built(folder, out).digest == first.digest

    def test_build_that_breaks_off_goes_on_and_gives_the_same_digest(self, tmp_path: Path) -> None:
        folder = write(our_results(), tmp_path / "in")
        at_once = built(folder, tmp_path / "at-once").digest
        source = FolderSource(folder, lambda patient_id: f"p{len(patient_id)}")

        def breaks(done: int) -> None:
            if done == 9:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(source, tmp_path / "out", progress=breaks)
        assert not (tmp_path / "out" / MANIFEST).exists()
        after = built(folder, tmp_path / "out")
        assert (after.known, after.digest) == (9, at_once)

    def test_killed_build_gives_the_same_digest(self, tmp_path: Path) -> None:
        folder = write(our_results(), tmp_path / "in")
        at_once = built(folder, tmp_path / "at-once").digest
        for step in (3, 12, 18):
            out = tmp_path / f"killed-{step}"
            _kill_at(step, folder, out)
            assert built(folder, out).digest == at_once

    def test_folder_of_another_source_is_refused(self, tmp_path: Path) -> None:
        class Other:
            name = "archive other"

            def __iter__(self):  # type: ignore[no-untyped-def]
                yield Found("1", "1", lambda: Unit("1.2", "1.3", "1.4", kind="seg"))

        build(Other(), tmp_path)
        with pytest.raises(ConfigError, match="tables of archive other"):
            built(tmp_path, tmp_path)

    def test_two_builds_at_once_are_refused(self, tmp_path: Path) -> None:
        from orthanc_plugin.cohort.store import Store

        with Store(tmp_path, "folder"), pytest.raises(ConfigError, match="another build works"):
            built(tmp_path, tmp_path)


def _kill_at(step: int, folder: Path, out: Path) -> None:
    """Build in another process, which kills itself after so many objects."""
    code = f"""
import os, signal
from pathlib import Path
from orthanc_plugin.cohort.build import build
from orthanc_plugin.cohort.sources import FolderSource
source = FolderSource(Path({str(folder)!r}), lambda patient_id: f"p{{len(patient_id)}}")
build(source, Path({str(out)!r}), progress=lambda done: done == {step} and os.kill(os.getpid(), signal.SIGKILL))
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_edits_by_ohif_stay_current_beside_the_result_and_each_other(tmp_path: Path) -> None:
    ct = small_ct()
    series = read(ct)
    ours = our_seg(series)
    edits = [as_ohif_writes(series, ours, edited(series)) for _ in range(2)]
    built(write([*ct, ours, *edits], tmp_path / "in"), tmp_path / "out")
    objects = {row["sop_instance_uid"]: row["current"] for row in rows(tmp_path / "out", "objects")}
    assert objects == dict.fromkeys((str(ds.SOPInstanceUID) for ds in (ours, *edits)), True)


@pytest.mark.parametrize("modality", [None, "", "OT"])
def test_an_object_without_its_modality_is_read_by_its_sop_class(modality: str | None, tmp_path: Path) -> None:
    objects = our_results()
    for ds in objects:
        if modality is None:
            del ds.Modality
        else:
            ds.Modality = modality
    whole = built(write(our_results(), tmp_path / "whole"), tmp_path / "all").rows
    assert built(write(objects, tmp_path / "in"), tmp_path / "out").rows == whole


@pytest.mark.parametrize("rest", [b"", bytes(range(7, 255)) * 3], ids=["nothing", "rubbish"])
def test_a_dicom_file_that_tells_nothing_is_a_row_with_a_reason(rest: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + rest)
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    built(tmp_path / "in", tmp_path / "out")
    (row,) = rows(tmp_path / "out", "objects")
    assert row["place"] == "x.dcm"
    assert "DICOM" in str(row["reason"])
