"""Masks by makers that are not ours: dcmqi writes SEGs, plastimatch fills contours, and readers take the reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.pipeline.foreign import measure_masks, read_masks
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from orthanc_plugin.series.read import read_series
from tests.conformance import readers
from tests.conformance.readers import output_of, tool
from tests.integration.test_rtstruct_readers import filled, image_of
from tests.support.cases.foreign_case import balls, by_number, highdicom_seg, rtstruct, square
from tests.unit.pipeline.test_foreign import SERIES
from tests.unit.pipeline.test_pipeline import Store, context

Contour = list[tuple[float, float]]
_CODE = {"CodingSchemeDesignator": "SCT", "CodeValue": "52988006", "CodeMeaning": "Lesion"}
_ABNORMAL = {
    "CodingSchemeDesignator": "SCT",
    "CodeValue": "49755003",
    "CodeMeaning": "Morphologically Abnormal Structure",
}


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CtSeries]:
    folder = tmp_path_factory.mktemp("ct")
    instances = encode_phantom(make_phantom((16, 40, 40), (5, 8, 8)))
    for number, ds in enumerate(instances):
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder, read_series(iter(instances))


def by_dcmqi(folder: Path, series: CtSeries, masks: list[Mask], out: Path, *options: str) -> Path:
    """A SEG that dcmqi writes of one image for each mask."""
    described = []
    for number, mask in enumerate(masks, start=1):
        image = image_of(series)
        one = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        one.CopyInformation(image)
        SimpleITK.WriteImage(one, str(out / f"{number}.nrrd"))
        item = {"labelID": 1, "SegmentLabel": f"Lesion {number}", "SegmentAlgorithmType": "MANUAL"}
        codes = {"SegmentedPropertyCategoryCodeSequence": _ABNORMAL, "SegmentedPropertyTypeCodeSequence": _CODE}
        described.append([item | codes])
    meta = {"ContentCreatorName": "Reader1", "SeriesDescription": "Drawn", "SeriesNumber": "300", "InstanceNumber": "1"}
    (out / "meta.json").write_text(json.dumps(meta | {"segmentAttributes": described}))
    path = out / "seg.dcm"
    images = ",".join(str(out / f"{number}.nrrd") for number in range(1, len(masks) + 1))
    status, text = output_of(
        tool("itkimage2segimage"), "--inputImageList", images, "--inputDICOMDirectory", str(folder),
        "--inputMetadata", str(out / "meta.json"), "--outputDICOM", str(path), *options,
    )  # fmt: skip
    assert status == 0, text
    assert path.is_file(), text
    return path


@pytest.mark.parametrize(
    ("options", "overlap"),
    [
        ((), True),
        (("--skip",), True),
        (("--segmentationType", "labelmap"), False),
        (("--compress", "deflate"), True),
    ],
    ids=["binary", "binary sparse", "labelmap", "deflated"],
)
def test_segs_of_dcmqi_are_read_voxel_for_voxel(
    chest: tuple[Path, CtSeries], options: tuple[str, ...], overlap: bool, tmp_path: Path
) -> None:
    from pydicom import dcmread

    folder, series = chest
    centres = ((0, 0, 0.1), (0, 0, -0.1)) if overlap else ((0, 0.1, 0.5), (0, -0.1, -0.5))
    masks = balls(series, *centres, radius=0.4)
    found = read_masks(dcmread(by_dcmqi(folder, series, masks, tmp_path, *options)), series)
    read = by_number(found)
    assert [*read] == [1, 2]
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(read[number], mask)
    assert {segment.type.value for segment in found.segments} == {"52988006"}


def circle(x: float, y: float, radius: float) -> Contour:
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    points: NDArray[np.float64] = np.stack((x + radius * np.cos(angle), y + radius * np.sin(angle)), axis=1)
    return [(a, b) for a, b in points.tolist()]


def test_plastimatch_fills_contours_to_the_same_masks(tmp_path: Path) -> None:
    keyhole = [*square(4.3, 4.3, 20.4, 20.4), (4.3, 12.2), (8.2, 12.2), (8.2, 16.4), (15.7, 16.4), (15.7, 8.6)]
    keyhole += [(8.2, 8.6), (8.2, 12.2), (4.3, 12.2)]
    rois = {
        "disc": {2: [circle(14.3, 15.6, 9.3)], 3: [circle(14.3, 15.6, 4.4)]},
        "ring": {4: [circle(14.3, 15.6, 10.3), circle(15.2, 14.9, 4.6)]},
        "islands": {5: [circle(8.2, 8.7, 4.2), circle(21.6, 20.2, 6.1)]},
        "keyhole": {6: [keyhole]},
    }
    ds = rtstruct(SERIES, rois)
    ds.save_as(tmp_path / "rtstruct.dcm", enforce_file_format=True)
    read = by_number(read_masks(ds, SERIES))
    theirs = filled(SERIES, tmp_path, "--xor-contours")
    for number, name in enumerate(rois, start=1):
        np.testing.assert_array_equal(read[number], theirs[name], err_msg=name)


@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_readers_take_the_report_with_groups_that_have_no_value(kind: str, tmp_path: Path) -> None:
    mask, nothing = balls(SERIES, (0.1, 0, 0))[0], np.zeros(SERIES.source_shape, bool)
    one = nothing.copy()
    one[3, 4, 5] = True
    masks = highdicom_seg(SERIES, [mask, nothing, one])
    if kind == "RTSTRUCT":
        slices = {z: [square(4.6, 4.6, 12.4, 12.4)] for z in (4, 5)}
        masks = rtstruct(SERIES, {"GTV": slices, "none": {}, "between": {2.5: [square(1, 1, 9, 9)]}})
    store = Store()
    settings = RadiomicsSettings(log_sigma_mm=(20.0,))
    result = measure_masks(SERIES, masks, replace(context(store), radiomics=settings))
    assert result.stored is not None
    ds = store.objects[result.stored.sop_instance_uid]
    path = tmp_path / "radiomics_sr.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert readers.complaints(path) == []
    readers.dcmtk_reads_report(path, "AI Enrichment Report")
    readers.dcmqi_reads_report(path)
    readers.highdicom_reads_report(path)
    rows = read_radiomics_sr(ds)
    # One voxel has a volume and a mean, and no textures.
    one_voxel = {(3, False)} if kind == "SEG" else set()
    assert {(row.segment_number, row.value is None) for row in rows} == {(1, False), (2, True), (3, True)} | one_voxel


def test_structure_sets_of_plastimatch_are_read_voxel_for_voxel(chest: tuple[Path, CtSeries], tmp_path: Path) -> None:
    from pydicom import dcmread

    folder, series = chest
    masks = balls(series, (0, 0.1, 0.5), (0, -0.1, -0.5), radius=0.4)
    sets = SimpleITK.GetImageFromArray(sum(np.uint32(1 << n) * mask for n, mask in enumerate(masks)))
    sets.CopyInformation(image_of(series))
    SimpleITK.WriteImage(sets, str(tmp_path / "masks.nrrd"))
    status, text = output_of(
        tool("plastimatch"), "convert", "--input-ss-img", str(tmp_path / "masks.nrrd"),
        "--referenced-ct", str(folder), "--output-dicom", str(tmp_path / "out"),
    )  # fmt: skip
    assert status == 0, text
    (path,) = (tmp_path / "out").glob("rtss*.dcm")
    read = by_number(read_masks(dcmread(path), series))
    assert [*read] == [1, 2]
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(read[number], mask)
