"""RT Structure Sets by readers that are not ours: plastimatch fills the contours, dciodvfy judges the object.

Planning systems join contours or combine them by XOR: both ways have to give the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Mask, Segmentation
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.inference.engine import SegmentationEngine, open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results import seg
from orthanc_plugin.results.rt.structure_set import encode_rtstruct
from orthanc_plugin.results.sc.preview import encode_preview
from orthanc_plugin.series.read import read_series
from tests.conformance.cases import lowest, real
from tests.conformance.readers import complaints, output_of, tool
from tests.support.cases.results_case import CARD, WITH_BODY, ellipsoids, provenance_of, small_series

Case = tuple[CtSeries, Segmentation, ModelCard]


@cache
def engine() -> SegmentationEngine:
    return open_engine(find_model("chest_structures", None), Provider.CPU)


def holes_and_islands() -> Case:
    series = small_series(64, 64)
    found = ellipsoids(series)
    labels = found.labels.copy()
    labels[:, 28:30, 40:46] = 0  # holes in the lung and the body
    labels[:, 44:52, 10:20], labels[:, 46:49, 13:17] = 0, 1  # and one with an island in it
    labels[5, 2, 2:60] = labels[6, 2:5, 3] = labels[7, 1, 1] = 5  # one pixel wide, and alone
    return series, replace(found, labels=labels), CARD


def by_engine(series: CtSeries) -> Case:
    return series, engine().segment(series.volume), engine().card


CASES: dict[str, Callable[[], Case]] = {
    "holes and islands": holes_and_islands,
    "phantom": lambda: by_engine(read_series(encode_phantom(make_phantom((40, 64, 64))))),
    "cip_ct64": lambda: by_engine(real("cip_ct64/dicom")),
    "lidc_0314_chest, 16 slices": lambda: by_engine(lowest(real("lidc_0314_chest/dicom"), 16)),
}


@pytest.mark.parametrize("case", CASES)
def test_plastimatch_gives_every_voxel_back(case: str, tmp_path: Path) -> None:
    series, found, card = CASES[case]()
    stored = seg.encode_seg(provenance_of(series, "2.25.1", card), found, WITH_BODY)
    kept = seg.decode_seg(stored, series, card)
    objects = {
        "rtstruct.dcm": encode_rtstruct(provenance_of(series, "2.25.2", card), stored, kept),
        "preview.dcm": encode_preview(provenance_of(series, "2.25.3", card), stored, kept),
    }
    for name, ds in objects.items():
        ds.save_as(tmp_path / name, enforce_file_format=True)
        assert complaints(tmp_path / name) == []
    names = [item.ROIName for item in objects["rtstruct.dcm"].StructureSetROISequence]
    whole = {segment.key: segment for segment in found.segments}
    made_of = [whole[segment.key.removesuffix("_remainder")] for segment in kept.segments]
    for option in ((), ("--xor-contours",)):
        read = filled(series, tmp_path, *option)
        assert set(read) == set(names)
        for name, segment in zip(names, made_of, strict=True):
            np.testing.assert_array_equal(read[name], found.mask(segment), err_msg=f"{name} {option}")


def filled(series: CtSeries, folder: Path, *options: str) -> dict[str, Mask]:
    """The masks that plastimatch makes of the contours, on the grid of the series."""
    out = folder / f"masks{len(options)}"
    SimpleITK.WriteImage(image_of(series), str(folder / "grid.mha"))
    status, text = output_of(
        tool("plastimatch"), "convert", "--input", str(folder / "rtstruct.dcm"), "--fixed", str(folder / "grid.mha"),
        "--output-prefix", str(out), "--prefix-format", "nrrd", *options,
    )  # fmt: skip
    assert status == 0, text
    return {path.stem: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) > 0 for path in out.iterdir()}


def image_of(series: CtSeries) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.zeros(series.volume.voxels_hu.shape, np.int16))
    axes = series.volume.affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(series.volume.affine[:3, 3].tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    return image
