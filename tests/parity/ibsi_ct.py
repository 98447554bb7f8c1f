"""Configurations A to E of IBSI 1 on its CT phantom, which cannot be shipped: `python -m tests.parity.ibsi_ct`.

Get `ibsi_1_ct_radiomics_phantom` from https://github.com/theibsi/data_sets and name one of its folders in
IBSI_CT_PHANTOM. It holds `image` (one NIfTI file, or a DICOM series) and `mask` (the mask of GTV-1, one NIfTI file;
IBSI's RTSTRUCT is the same region, but filling contours is another step, with another error). The values published in
the reference manual come from the folder `ibsi_doc_reference` of ENRICH_TEST_DATA. Prints one row a configuration and
what each misses; ends with 1 if anything is missed. Settings: 05_Reference_data_sets.rst of the manual.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.radiomics_settings import Aggregation, FeatureClass, Interpolation, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics.features import measure_segments
from tests.parity.ibsi_reference import Published, Row, by_row, published
from tests.support.cases.realct import real_ct

VARIABLE = "IBSI_CT_PHANTOM"

FLAT = tuple(one for one in Aggregation if one.flat)
VOLUME = tuple(one for one in Aggregation if not one.flat)
_EVERYTHING = RadiomicsSettings(
    classes=tuple(one for one in FeatureClass if one is not FeatureClass.SHAPE2D), deprecated=True
)

CONFIGURATIONS = {
    "A": replace(_EVERYTHING, aggregation=FLAT, resegment_hu=(-500, 400), bin_width_hu=25),
    "B": replace(_EVERYTHING, aggregation=FLAT, spacing_mm=(0, 2, 2), resegment_hu=(-500, 400), bin_count=32),
    "C": replace(
        _EVERYTHING, aggregation=VOLUME, spacing_mm=(2, 2, 2), resegment_hu=(-1000, 400), bin_width_hu=25,
        ivh_bin_width_hu=2.5,
    ),
    "D": replace(_EVERYTHING, aggregation=VOLUME, spacing_mm=(2, 2, 2), resegment_sigma=3, bin_count=32),
    "E": replace(
        _EVERYTHING, aggregation=VOLUME, spacing_mm=(2, 2, 2), interpolation=Interpolation.CUBIC,
        resegment_hu=(-1000, 400), resegment_sigma=3, bin_count=32, ivh_bin_count=1000,
    ),
}  # fmt: skip
DIGITAL_PHANTOM = replace(_EVERYTHING, aggregation=tuple(Aggregation), bin_width_hu=1, resegment_hu=(1, 6))


def main() -> int:
    """Measure, compare, print; 0 if every value is within its tolerance."""
    if VARIABLE not in os.environ:
        print(f"{VARIABLE} names no folder with image and mask of the IBSI CT phantom")
        return 2
    volume, segmentation = read_phantom(Path(os.environ[VARIABLE]))
    missed = 0
    for letter, settings in CONFIGURATIONS.items():
        expected = published(f"config. {letter}")
        rows = list(_misses(volume, segmentation, expected, settings))
        missed += len(rows)
        print(f"{letter}: {len(expected) - len(rows)} of {len(expected)} within the tolerance", *rows, sep="\n  ")
    return int(missed > 0)


def read_phantom(folder: Path) -> tuple[Volume, Segmentation]:
    """Image and region on one grid, z upward, whatever the orientation of the files."""
    image, mask = (sitk.DICOMOrient(_read(folder / name), "LPS") for name in ("image", "mask"))
    x_mm, y_mm, z_mm = image.GetSpacing()
    volume = Volume(sitk.GetArrayFromImage(image).astype(np.float32), (z_mm, y_mm, x_mm), np.eye(4))
    labels = (sitk.GetArrayFromImage(mask) > 0).astype(np.uint8)
    assert labels.shape == volume.voxels_hu.shape, "image and mask differ in size"
    roi = Segment(1, "roi", "GTV-1", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (1,))
    return volume, Segmentation(labels, (roi,))


def read_digital_phantom() -> tuple[Volume, Segmentation]:
    """Image and region of IBSI's digital phantom, voxels of 2 mm."""
    folder = real_ct("ibsi_1_digital_phantom/nifti")
    image, label = (
        sitk.GetArrayFromImage(sitk.ReadImage(folder / name)) for name in ("image/phantom.nii.gz", "mask/mask.nii.gz")
    )
    roi = Segment(1, "roi", "ROI", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (1,))
    volume = Volume(image.astype(np.float32), (2.0, 2.0, 2.0), np.eye(4))
    return volume, Segmentation((label == 1).astype(np.uint8), (roi,))


def _read(folder: Path) -> sitk.Image:
    files = sorted(folder.glob("*.nii*"))
    return sitk.ReadImage(files[0] if files else sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def measured(volume: Volume, segmentation: Segmentation, settings: RadiomicsSettings) -> dict[Row, float]:
    """Measure the region and sort its features by the manual's rows."""
    return by_row(measure_segments(volume, segmentation, {"roi"}, settings), settings)


def _misses(
    volume: Volume, segmentation: Segmentation, expected: dict[Row, Published], settings: RadiomicsSettings
) -> Iterator[str]:
    values = measured(volume, segmentation, settings)
    for row, one in expected.items():
        name = " ".join(filter(None, row))
        if row not in values:
            yield f"{name}: no value, published {one.value:g}"
        elif not one.matches(values[row]):
            yield f"{name}: {values[row]:g}, published {one.value:g} +- {one.tolerance:g}"


if __name__ == "__main__":
    sys.exit(main())
