"""De-identify one object by the Basic Application Level Confidentiality Profile (DICOM PS3.15 Annex E).

What the profile asks of each attribute comes from dicom-anonymizer (its table of the edition 2026c): removed, emptied,
or a dummy in its place. Sequences that are not removed are cleaned item by item. Beyond the profile, texts,
codes and bytes that no list keeps are removed (see `kept`), and so is everything that holds a word which names the
patient elsewhere in the object. Options: Clean Structured Content, Clean Descriptors, and, if dates are moved, Retain
Longitudinal Temporal Information With Modified Dates.

UIDs are replaced wherever they stand, by the same key in all objects. Pixels are not looked at.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from dicomanonymizer.simpledicomanonymizer import delete, empty, initialize_actions
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes

from orthanc_plugin import identity
from orthanc_plugin.codes import Code
from orthanc_plugin.results.provenance import MANUFACTURER
from orthanc_plugin.results.rt.tg263 import PRIMARY_NAMES
from orthanc_plugin.sharing.identifiers import identifiers, names_somebody
from orthanc_plugin.sharing.kept import BYTE_VRS, TEXT_VRS, is_kept
from orthanc_plugin.sharing.pseudonyms import Pseudonyms

EDITION = "dicomfields_2026c"
METHOD = "DICOM PS3.15 Basic Profile"
REMOVED = "Removed"
_TEXT_CONCEPTS = {"112039", "111001", "111003", "111002", "111000", "121012", "121013", "121014", "121015", "121016"}
"""DCM codes of texts of our own reports that name algorithms and structures, and no person."""
_STRUCTURES = {name.casefold() for name in PRIMARY_NAMES.values()}
_KEPT_UIDS = ("SOPClassUID", "TransferSyntaxUID", "CodingSchemeUID", "ContextUID", "MappingResourceUID")
_CLEANED = {0x0040A730: "ContentSequence", 0x30060026: "ROIName"}
_DATES, _TIMES = ("DA", "DT"), ("DA", "DT", "TM")
_DUMMIES = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"), "ANONYMIZED"),
    "AS": "000Y", "DA": "19000101", "DT": "19000101000000", "PN": "Anonymized", "TM": "000000", "UR": "http://removed.invalid",
}  # fmt: skip
"""What stands where a value must be; it is valid in its VR, which the dummies of the library are not all."""


class Dates(StrEnum):
    """What becomes of dates: `remove`, or `shift` by one number of days for each patient."""

    REMOVE = "remove"
    SHIFT = "shift"


@dataclass(frozen=True, slots=True)
class Deidentifier:
    """Replaces, empties and removes; see the module."""

    pseudonyms: Pseudonyms
    dates: Dates = Dates.REMOVE

    def clean(self, source: Dataset) -> Dataset:
        """Return a de-identified copy of an object, with its pixels."""
        ds = _copy(source)
        work = _Work(self, str(ds.get("PatientID") or ""), identifiers(ds), _is_ours(ds))
        ds.remove_private_tags()
        work.clean(ds)
        patient = self.pseudonyms.patient(work.patient_id)
        ds.PatientID = ds.PatientName = patient
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = METHOD
        ds.DeidentificationMethodCodeSequence = [_item(code) for code in self.options]
        ds.LongitudinalTemporalInformationModified = "MODIFIED" if self.dates is Dates.SHIFT else "REMOVED"
        ds.file_meta = _meta(source, ds)
        ds.preamble = b"\0" * 128
        return ds

    @property
    def options(self) -> tuple[Code, ...]:
        """The profile and its options, as codes of CID 7050."""
        named = [
            codes.DCM.BasicApplicationConfidentialityProfile,
            codes.DCM.CleanStructuredContentOption,
            codes.DCM.CleanDescriptorsOption,
        ]
        if self.dates is Dates.SHIFT:
            named.append(codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption)
        return tuple(Code(one.value, one.scheme_designator, one.meaning[:64]) for one in named)


@dataclass(frozen=True, slots=True)
class _Work:
    """De-identification of one object. words: what names the patient; is_ours: its texts are those of our software."""

    by: Deidentifier
    patient_id: str
    words: frozenset[str]
    is_ours: bool

    def clean(self, ds: Dataset) -> None:
        """Clean a dataset and every item below it."""
        before = {"type": _value_type(ds), "concept": _concept(ds), "number": str(ds.get("ROINumber") or "")}
        for element in list(ds):
            self._apply(ds, element)
        if before["type"] == "TEXT" and not (self.is_ours and before["concept"] in _TEXT_CONCEPTS):
            ds.TextValue = REMOVED
        if "ROIName" in ds and str(ds.ROIName).casefold() not in _STRUCTURES:
            ds.ROIName = f"ROI {before['number']}".strip()
        if not self.is_ours:
            _relabel(ds)

    def _apply(self, ds: Dataset, element: DataElement) -> None:
        action = None if int(element.tag) in _CLEANED else _actions().get(int(element.tag)) or _repeating(element)
        is_lost = element.VR != "SQ" and action is None and not is_kept(element.keyword, element.VR)
        is_lost = is_lost or element.keyword.startswith("IssuerOf")  # words only, and not valid without them
        if is_lost or action is delete or (element.VR in BYTE_VRS and not is_kept(element.keyword, element.VR)):
            del ds[element.tag]
        elif element.VR == "UI":
            self._replace_uids(ds, element)
        elif element.VR in _DATES and self.by.dates is Dates.SHIFT and element.value:
            self._move(ds, element)
        elif element.VR in _TIMES and action is None and self.by.dates is Dates.REMOVE:
            del ds[element.tag]
        elif action is empty and element.VR != "SQ":
            ds[element.tag] = DataElement(element.tag, element.VR, None)
        elif (
            action is not None and element.VR in _DUMMIES and not (element.VR == "TM" and self.by.dates is Dates.SHIFT)
        ):
            ds[element.tag] = DataElement(element.tag, element.VR, _DUMMIES[element.VR])
        if element.tag in ds:
            self._sweep(ds, ds[element.tag])

    def _replace_uids(self, ds: Dataset, element: DataElement) -> None:
        if element.keyword.endswith(_KEPT_UIDS):
            if any(not _is_uid(text) for text in _texts(element)):
                del ds[element.tag]
            return
        mapped = [self.by.pseudonyms.uid(text) for text in _texts(element)]
        element.value = mapped if len(mapped) != 1 else mapped[0]

    def _move(self, ds: Dataset, element: DataElement) -> None:
        moved = [self.by.pseudonyms.moved(text, self.patient_id) for text in _texts(element)]
        if element.keyword == "PatientBirthDate" or not all(moved):
            element.value = ""
        else:
            element.value = moved if len(moved) != 1 else moved[0]

    def _sweep(self, ds: Dataset, element: DataElement) -> None:
        """Remove what names the patient; go into sequences."""
        if element.VR == "SQ":
            for item in element.value:
                self.clean(item)
        elif (element.VR in TEXT_VRS or element.VR == "CS") and names_somebody(str(element.value), self.words):
            if element.VR == "CS":
                del ds[element.tag]
            else:
                ds[element.tag] = DataElement(element.tag, element.VR, REMOVED)


def _relabel(ds: Dataset) -> None:
    """Name segments of other makers by their codes: their labels are free text."""
    if "SegmentNumber" in ds and "SegmentLabel" in ds:
        kinds = ds.get("SegmentedPropertyTypeCodeSequence")
        ds.SegmentLabel = str(kinds[0].get("CodeMeaning") if kinds else f"Segment {ds.SegmentNumber}")[:64]
        if "TrackingID" in ds:
            ds.TrackingID = f"Segment {ds.SegmentNumber}"


@cache
def _actions() -> dict[int, Callable[[Dataset, tuple[int, int]], None]]:
    """Return the action of the profile for each attribute."""
    return {(tag[0] << 16) + tag[1]: act for tag, act in initialize_actions(EDITION).items() if len(tag) == 2}


def _repeating(element: DataElement) -> object:
    """Return the action for an attribute of a repeating group, such as overlays."""
    for tag, act in _group_actions():
        if element.tag.group & tag[2] == tag[0] & tag[2] and element.tag.element & tag[3] == tag[1] & tag[3]:
            return act
    return None


@cache
def _group_actions() -> tuple[tuple[tuple[int, ...], object], ...]:
    """Return the actions for repeating groups."""
    return tuple((tag, act) for tag, act in initialize_actions(EDITION).items() if len(tag) > 2)


def _copy(source: Dataset) -> Dataset:
    """Copy an object, and have every value read, so that nothing is written as it came."""
    stream = io.BytesIO()
    source.save_as(stream, enforce_file_format=True)
    return dcmread(io.BytesIO(stream.getvalue()))


def _meta(source: Dataset, ds: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    return meta


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def _texts(element: DataElement) -> list[str]:
    value = element.value
    return [str(one) for one in value] if isinstance(value, (list, tuple)) or element.VM > 1 else [str(value or "")]


def _is_uid(text: str) -> bool:
    from orthanc_plugin.domain.uids import is_uid

    return not text or is_uid(text)


def _is_ours(ds: Dataset) -> bool:
    """Tell whether our software wrote an object as it is: an edit that kept our name has other UIDs."""
    made = identity.series_uid(str(ds.get("SOPInstanceUID") or ""))
    return bool(ds.get("Manufacturer") == MANUFACTURER and ds.get("SeriesInstanceUID") == made)


def _value_type(ds: Dataset) -> str:
    return str(ds.get("ValueType") or "")


def _concept(ds: Dataset) -> str:
    return next((str(item.get("CodeValue")) for item in ds.get("ConceptNameCodeSequence") or ()), "")
