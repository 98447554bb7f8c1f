"""CT series with a token in an element of every VR, valid and invalid, that nothing outside the archive may show."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from struct import pack

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import generate_uid

Value = str | bytes | float

TOKEN, NUMBER, UID = "QZXW", 271828.1828, "1.2.276.9876549876549"
FOUND = re.compile(rb"qzxw|q\0z\0x\0w|UVpYV|271828\.18|9876549876549", re.IGNORECASE)
"""A token as text, in UTF-16, in Base64, as a number or in a UID."""

_BYTES = TOKEN.encode() * 4
_NUMBERS = {"AT": "<L", "FD": "<d", "FL": "<f", "SL": "<l", "SS": "<h", "SV": "<q", "UL": "<L", "US": "<H", "UV": "<Q"}
VALID: dict[str, Value] = {
    "AE": TOKEN, "AS": "042Y", "AT": 0x00100010, "CS": TOKEN, "DA": "19010203", "DS": str(NUMBER), "DT": "19010203",
    "FD": NUMBER, "FL": NUMBER, "IS": "27182818", "LO": TOKEN, "LT": TOKEN, "OB": _BYTES, "OD": _BYTES, "OF": _BYTES,
    "OL": _BYTES, "OV": _BYTES, "OW": _BYTES, "PN": f"{TOKEN}^{TOKEN}", "SH": TOKEN, "SL": 27182818, "SS": 31415,
    "ST": TOKEN, "SV": 27182818, "TM": "010203", "UC": TOKEN, "UI": UID, "UL": 27182818, "UN": _BYTES,
    "UR": f"http://{TOKEN}/", "US": 31415, "UT": TOKEN, "UV": 27182818,
}  # fmt: skip
INVALID = {
    "AE": TOKEN * 5, "AS": TOKEN, "CS": f"{TOKEN}\u00e9 lower", "DA": f"{TOKEN}-13", "DS": f"{TOKEN}.5.5",
    "DT": TOKEN, "IS": f"{TOKEN}1", "LO": TOKEN * 20, "PN": f"{TOKEN}=" * 5, "SH": TOKEN * 9,
    "TM": f"{TOKEN}:61", "UI": f"{TOKEN}.UI", "UR": f"  {TOKEN} {TOKEN}", "LT": TOKEN * 3000, "ST": TOKEN * 300,
}  # fmt: skip
_PATIENT = {
    "PatientName": f"{TOKEN}^NAME", "PatientID": f"{TOKEN}-ID", "OtherPatientNames": f"{TOKEN}^OTHER",
    "PatientAddress": TOKEN, "PatientComments": TOKEN, "AccessionNumber": f"{TOKEN}AC", "StudyDescription": TOKEN,
    "SeriesDescription": TOKEN, "ReferringPhysicianName": f"{TOKEN}^REF", "InstitutionName": TOKEN,
    "ProtocolName": TOKEN, "StationName": TOKEN, "StudyID": TOKEN, "Occupation": TOKEN,
}  # fmt: skip
_ODD = {
    "PatientBirthDate": f"{TOKEN}BD", "PatientAge": TOKEN, "PatientSex": TOKEN, "StudyDate": f"{TOKEN}SD",
    "StudyTime": TOKEN, "SeriesNumber": TOKEN, "PatientWeight": TOKEN, "KVP": TOKEN,
    "AcquisitionNumber": TOKEN, "ContentDate": TOKEN, "SliceLocation": TOKEN,
}  # fmt: skip
BREAKS = {
    "position": ("ImagePositionPatient", f"{TOKEN}\\0\\0"),
    "orientation": ("ImageOrientationPatient", "\\".join([TOKEN] * 6)),
    "spacing": ("PixelSpacing", f"{TOKEN}\\{TOKEN}"),
    "slope": ("RescaleSlope", TOKEN),
    "frame": ("FrameOfReferenceUID", f"{TOKEN}.frame"),
    "instance": ("InstanceNumber", TOKEN),
    "image-type": ("ImageType", f"{TOKEN}\\{TOKEN}"),
    "charset": ("SpecificCharacterSet", TOKEN),
    "type": ("RescaleType", TOKEN),
}
"""Elements that the pipeline reads, each with a value that it cannot use."""


def planted(folder: Path, out: Path, odd: bool = False, breaks: str = "", first: int | None = None) -> list[Path]:
    """Copy a CT as a new study with the tokens in it. `odd`: invalid values, too. `breaks`: a key of BREAKS."""
    out.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for path in sorted(folder.iterdir())[:first]:
        ds = dcmread(path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        _plant(ds, _PATIENT)
        _private(ds, 0x0011, VALID)
        if odd:
            _plant(ds, _ODD)
            _private(ds, 0x0013, INVALID)
        if breaks:
            keyword, value = BREAKS[breaks]
            _plant(ds, {keyword: value})
        files.append(out / path.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.save_as(files[-1], enforce_file_format=True)
    return files


def hits(content: bytes) -> list[bytes]:
    """Return what of a content tells a token, with what stands around it."""
    return [content[max(0, m.start() - 60) : m.end() + 60] for m in FOUND.finditer(content)]


def _plant(ds: Dataset, values: Mapping[str, Value]) -> None:
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        _put(ds, tag, dictionary_VR(tag), value)


def _private(ds: Dataset, group: int, values: Mapping[str, Value]) -> None:
    block, inner = ds.private_block(group, TOKEN, create=True), Dataset()
    for number, (vr, value) in enumerate(values.items(), 1):
        _put(ds, block.get_tag(number), vr, value)
        if vr in ("PN", "LO", "DA", "DS"):
            _put(inner, block.get_tag(number), vr, value)
    sequence = block.get_tag(0xF0)
    ds[sequence] = DataElement(sequence, "SQ", Sequence([inner]))


def _put(ds: Dataset, tag: int, vr: str, value: Value) -> None:
    """Put a value as bytes that no check of pydicom has seen."""
    content = value if isinstance(value, bytes) else pack(_NUMBERS[vr], value) if vr in _NUMBERS else value.encode()  # type: ignore[union-attr]
    content += (b"\0" if vr in ("UI", "UN", "OB") else b" ") * (len(content) % 2)
    ds._dict[BaseTag(tag)] = RawDataElement(BaseTag(tag), vr, len(content), content, 0, False, True)
