"""A study of four series as a scanner sends it: soft and thin, sharp and thin, thick, and a scout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import FileDataset

from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom

STUDY = "2.25.4000"
STUDY_SERIES = {name: f"{STUDY}.{number}" for number, name in enumerate(("soft-thin", "sharp-thin", "thick", "scout"))}
BEST_RULE: dict[str, Any] = {"Name": "chest", "SeriesPerStudy": "best", "Radiomics": False, "Outputs": ["seg"]}


def four_series_of(phantom: Phantom) -> dict[str, list[FileDataset]]:
    """Make the four series of one phantom; the thick one holds every second slice, the scout two."""
    made = {name: encode_phantom(phantom, uid_seed=name) for name in STUDY_SERIES}
    made["thick"], made["scout"] = made["thick"][::2], made["scout"][:2]
    thickness_mm = phantom.volume.spacing_mm[0]
    _say(made["soft-thin"], "soft-thin", ConvolutionKernel="STANDARD")
    _say(made["sharp-thin"], "sharp-thin", ConvolutionKernel="LUNG")
    _say(made["thick"], "thick", ConvolutionKernel="STANDARD", SliceThickness=2 * thickness_mm)
    _say(made["scout"], "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return made


def _say(series: Sequence[FileDataset], name: str, **values: object) -> None:
    for ds in series:
        ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "FOUR-SERIES", STUDY, STUDY_SERIES[name]
        ds.SeriesDescription, ds.FrameOfReferenceUID = name, f"{STUDY}.9"
        for keyword, value in values.items():
            setattr(ds, keyword, value)
