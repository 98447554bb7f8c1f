"""Series of the conformance matrix: every real one that the loader accepts, odd sizes, phantoms, unusual headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pydicom
import pydicom.config
import pytest
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import DEFAULT_SEG, SegEncoding
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.results import seg
from orthanc_plugin.results.sr.body_codes import LEVELS
from orthanc_plugin.series.read import read_series
from tests.support.cases.body_results_case import whole_body
from tests.support.cases.realct import real_ct
from tests.support.cases.results_case import CARD, SEG_UID, cut, ellipsoids, provenance_of, small_series


@dataclass(frozen=True)
class Case:
    """One series with everything that objects are made of.

    gaps: wrong messages of dciodvfy about every object of the series, with their number.
    landmarks: largest number of body landmarks; each costs readers a tenth of a second.
    """

    name: str
    series: CtSeries
    folder: Path
    card: ModelCard = CARD
    gaps: Mapping[str, int] = field(default_factory=dict)
    landmarks: int = len(LEVELS)

    @cached_property
    def found(self) -> Segmentation:
        return ellipsoids(self.series, card=self.card)

    @cached_property
    def location(self) -> BodyLocation:
        whole = whole_body(self.series)
        return replace(whole, landmarks=whole.landmarks[: self.landmarks])

    @cached_property
    def stored(self) -> Dataset:
        """The SEG of default settings as an archive gives it back."""
        stored = self.stored_as(SegEncoding.AUTO)
        assert stored is not None
        return stored

    @cached_property
    def kept(self) -> Segmentation:
        """What the stored SEG holds."""
        return seg.decode_seg(self.stored, self.series, self.card)

    def stored_as(self, encoding: SegEncoding) -> Dataset | None:
        """Write the SEG to a file and read it; None if viewers would scramble it."""
        if encoding is SegEncoding.BINARY and self.series.volume.voxels_hu.shape[2] % 8:
            with pytest.raises(EncodingError, match="scramble"):
                self._encode(encoding)
            return None
        path = self.folder / f"{encoding}.dcm"
        if not path.exists():
            self._encode(encoding).save_as(path, enforce_file_format=True)
        return pydicom.dcmread(path)

    def _encode(self, encoding: SegEncoding) -> Dataset:
        settings = replace(DEFAULT_SEG, encoding=encoding, body=encoding is not SegEncoding.AUTO)
        return seg.encode_seg(provenance_of(self.series, SEG_UID, self.card), self.found, settings)


def instances_in(folder: Path) -> Iterator[Dataset]:
    """Yield the instances of a folder; other files are skipped."""
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            yield pydicom.dcmread(path)
        except InvalidDicomError:
            continue


def real(name: str) -> CtSeries:
    """A real series."""
    return read_series(instances_in(real_ct(name)))


def lowest(series: CtSeries, slices: int) -> CtSeries:
    """Keep the lowest slices of a series, which have its kind of headers at a fraction of its size."""
    volume = replace(series.volume, voxels_hu=series.volume.voxels_hu[:slices].copy())
    return replace(series, volume=volume, headers=series.headers[:slices])


def single_frames() -> CtSeries:
    """Read the slices from which an Enhanced CT was made."""
    return read_series(
        ds for ds in instances_in(real_ct("enhanced_4d_ct/dicom_enhanced")) if "NumberOfFrames" not in ds
    )


def with_uids() -> CtSeries:
    """Read a series that has no UIDs, and add them."""

    def repaired() -> Iterator[Dataset]:
        for number, ds in enumerate(instances_in(real_ct("ts_example_ct/example_ct_dicom"))):
            ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"2.25.1{number}"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
            yield ds

    return read_series(repaired())


SMALL: dict[str, Callable[[], CtSeries]] = {
    "cip_ct64": lambda: real("cip_ct64/dicom"),
    "cip_ct64, 61 x 63": lambda: cut(real("cip_ct64/dicom"), 61, 63),
    "phantom": lambda: read_series(encode_phantom(make_phantom((24, 48, 56)))),
    "201 x 204": lambda: small_series(201, 204),
    "37 x 40": lambda: small_series(37, 40),
}
LARGE: dict[str, Callable[[], CtSeries]] = {
    "lidc_0314_chest, 48 slices": lambda: lowest(real("lidc_0314_chest/dicom"), 48),
    "ct-3slice": lambda: real("seg_sr_reference/dcmqi/data/segmentations/ct-3slice"),
    "enhanced_4d_ct, single frames": single_frames,
    "ts_example_ct, with UIDs": with_uids,
}
WHOLE: dict[str, Callable[[], CtSeries]] = {"lidc_0314_chest": lambda: real("lidc_0314_chest/dicom")}
"""Only in the full matrix."""


@dataclass(frozen=True)
class Header:
    """An unusual header. name: PatientName in results. bytes_gap: number of texts too long if bytes are counted."""

    attributes: Mapping[str, object]
    name: str | None = None
    charset: tuple[bytes, bytes] | None = None
    bytes_gap: int = 0

    @property
    def patient_name(self) -> str:
        return str(self.attributes.get("PatientName", "Doe^Jane") or "") if self.name is None else self.name

    def series(self) -> CtSeries:
        """Write the headers to a file and read them, so that text is bytes in the source's own encoding."""
        with pydicom.config.disable_value_validation():
            made = small_series(slices=16, **self.attributes)  # type: ignore[arg-type]
            return replace(made, headers=tuple(self._as_received(header) for header in made.headers))

    def _as_received(self, header: Dataset) -> Dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, True
        write_dataset(buffer, header)
        raw = buffer.getvalue().replace(*self.charset) if self.charset else buffer.getvalue()
        return pydicom.dcmread(DicomBytesIO(raw), force=True)


_MISSING = dict.fromkeys(
    ("StudyID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyTime", "StudyDate", "ReferringPhysicianName",
     "SliceThickness", "PatientAge", "Manufacturer", "PatientName", "StudyDescription", "InstanceNumber")
)  # fmt: skip
_GREEK = "Παπαδόπουλος^Κωνσταντίνος Αλέξανδρος"
NASTY: dict[str, Header] = {
    "age without unit": Header({"PatientAge": "45"}),
    "missing type 2": Header(_MISSING, name=""),
    "japanese": Header(
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
    ),
    "korean": Header({"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Hong^Gildong=洪^吉洞=홍^길동"}),
    "chinese": Header({"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"}),
    "greek": Header({"SpecificCharacterSet": "ISO_IR 126", "PatientName": "Διονυσιος"}),
    "greek, over 64 bytes": Header({"SpecificCharacterSet": "ISO_IR 126", "PatientName": _GREEK}, bytes_gap=1),
    "latin-1, declared": Header(
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Buc^Jérôme", "StudyDescription": "Kö"}
    ),
    "latin-1, undeclared": Header(
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Äneas^Rüdiger"}, charset=(b"ISO_IR 100", b"ISO_IR 6  ")
    ),
    "over-long": Header(
        {"StudyDescription": "x" * 90, "StudyID": "x" * 20, "AccessionNumber": "x" * 17, "PatientName": "D^" + "x" * 70,
         "Manufacturer": "x" * 70, "ManufacturerModelName": "x" * 70, "IssuerOfPatientID": "x" * 70},
        name="D^" + "x" * 62,
    ),
    "wrong everywhere": Header(
        {"StudyDate": "2003.01.31", "StudyTime": "10:11:12", "PatientSex": "male", "PatientAge": "old",
         "PatientBirthDate": "00010101", "PatientWeight": "0", "PatientIdentityRemoved": "YES",
         "LongitudinalTemporalInformationModified": "SOME", "PositionReferenceIndicator": "x" * 70}
    ),
    "control characters": Header(
        {"PatientName": "Doe\x01^Jane\n", "StudyDescription": "knee\n\x7f", "AccessionNumber": "A1\r\n"},
        name="Doe^Jane",
    ),
    "several values": Header(
        {"PatientName": "Doe^Jane\\Roe^Rita", "StudyDescription": ["a", "b"], "PatientSex": ["M", "F"],
         "StudyDate": ["20250102", "20250103"], "SliceThickness": ["5", "5"], "InstanceNumber": ["1", "2"],
         "AccessionNumber": ["A1", "A2"]},
        name="Doe^Jane",
    ),
    "empty sequences": Header({"ReferencedStudySequence": [], "ProcedureCodeSequence": [],
                               "RequestAttributesSequence": []}),
    "empty values": Header(dict.fromkeys(("PatientID", "PatientName", "PatientAge", "PatientSex", "StudyDate",
                                          "StudyTime", "StudyID", "Manufacturer", "PatientWeight"), ""), name=""),
}  # fmt: skip

_LONG = "a name that anatomists, physicists and committees have agreed upon after years"
LONG_CARD = replace(
    CARD,
    name="model_" + "x" * 70,
    version="1.0.0+" + "x" * 70,
    manufacturer=_LONG,
    labels=tuple(replace(label, label=f"{label.label}: {_LONG}") for label in CARD.labels),
)

FEW = 4
"""Number of landmarks in cases that other cases cover."""
