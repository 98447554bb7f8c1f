"""Write the masks of this folder, in an environment of its own (Python 3.11, "pydicom<3", pydicom-seg, rt-utils).

`python -m tests.support.makers.source FOLDER` writes the CT and the masks; then, here: `python write_masks.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom_seg  # type: ignore[import-not-found]
import SimpleITK
from rt_utils import RTStructBuilder  # type: ignore[import-not-found]

LESION = {"CodeValue": "52988006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lesion"}
ABNORMAL = {
    "CodeValue": "49755003", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Morphologically Abnormal Structure",
}  # fmt: skip
SEGMENTS = [
    {
        "labelID": number,
        "SegmentDescription": f"Lesion {number}",
        "SegmentLabel": f"Lesion {number}",
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": ABNORMAL,
        "SegmentedPropertyTypeCodeSequence": LESION,
    }
    for number in (1, 2)
]
META: dict[str, Any] = {
    "ContentCreatorName": "Reader1",
    "SeriesDescription": "Drawn",
    "SeriesNumber": "300",
    "InstanceNumber": "1",
    "segmentAttributes": [SEGMENTS],
    "ContentLabel": "SEGMENTATION",
    "ContentDescription": "Drawn",
}


def main(folder: Path) -> None:
    """Write all files of this folder."""
    files = sorted((folder / "ct").glob("*.dcm"), key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]))
    headers = [pydicom.dcmread(file) for file in files]
    masks = np.load(folder / "masks.npy")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    labels = SimpleITK.GetImageFromArray(sum(n * mask.astype(np.uint8) for n, mask in enumerate(masks, 1)))
    labels.CopyInformation(reader.Execute())
    here = Path(__file__).parent
    template = pydicom_seg.template.from_dcmqi_metainfo(META)
    for name, cropped in (("pydicom-seg", False), ("pydicom-seg-cropped", True)):
        writer = pydicom_seg.MultiClassWriter(template, inplane_cropping=cropped, skip_empty_slices=cropped)
        writer.write(labels, headers).save_as(here / f"{name}.dcm")
    for name, approximate in (("rt-utils", True), ("rt-utils-exact", False)):
        structures = RTStructBuilder.create_new(dicom_series_path=str(folder / "ct"))
        for number, mask in enumerate(masks, 1):
            structures.add_roi(np.moveaxis(mask, 0, -1), name=f"Lesion {number}", approximate_contours=approximate)
        structures.save(str(here / f"{name}.dcm"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
