"""Copies to a destination: only what it lacks, another form of what it does not support, and the rest all the same."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, SegmentationStorage

from orthanc_plugin.archive.refusal import LABEL_MAP_SEGMENTATION, refusal
from orthanc_plugin.config.archives import Fallback
from orthanc_plugin.domain.plan import Output, SegEncoding, SegSettings, StoredObject
from orthanc_plugin.errors import (
    ConfigError,
    EnrichError,
    NotSupportedError,
    StoreError,
    TransientError,
    UnclearRefusalError,
)
from orthanc_plugin.jobs.delivery import Delivery, copy_objects
from orthanc_plugin.results import seg
from tests.support.cases.results_case import (
    SEG_UID,
    ellipsoids,
    landmarks_report,
    provenance_of,
    radiomics_report,
    small_series,
)
from tests.support.fakes.memory_archive import MemoryArchive, ct_slice

SERIES = small_series()


class Choosy(MemoryArchive):
    """An archive that does not support some SOP classes, and refuses some objects once.

    unclear: SOP classes that it refuses without saying why.
    """

    def __init__(self, *refused: str) -> None:
        super().__init__("far")
        self.refused, self.once, self.unclear = set(refused), set[str](), set[str]()
        self.tried: list[str] = []

    def store(self, ds: Dataset) -> None:
        self.tried.append(str(ds.SOPInstanceUID))
        if ds.SOPClassUID in self.refused:
            raise NotSupportedError(f"archive far does not support {ds.SOPClassUID}")
        if ds.SOPClassUID in self.unclear:
            raise UnclearRefusalError("archive far refused it with status 0x0110")
        if ds.SOPInstanceUID in self.once:
            self.once.remove(ds.SOPInstanceUID)
            raise StoreError(f"archive far refused {ds.SOPInstanceUID}")
        super().store(ds)

    def held(self) -> dict[str, Dataset]:
        return {str(ds.SOPClassUID): ds for ds in self.instances.values()}


@pytest.fixture(scope="module")
def results() -> list[Dataset]:
    settings = SegSettings(encoding=SegEncoding.LABELMAP)
    made = seg.encode_seg(provenance_of(SERIES, SEG_UID), ellipsoids(SERIES), settings)
    return [made, radiomics_report(SERIES, made), landmarks_report(SERIES, made)]


KINDS = (Output.SEG, Output.RADIOMICS, Output.LANDMARKS)


def objects(results: list[Dataset]) -> tuple[StoredObject, ...]:
    return tuple(stored(kind, ds) for kind, ds in zip(KINDS, results, strict=True))


def stored(kind: Output, ds: Dataset) -> StoredObject:
    place = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID))
    return StoredObject(kind, str(ds.SOPClassUID), *place, False)


def copy(
    results: list[Dataset],
    far: Choosy,
    *fallbacks: Fallback,
    more: tuple[StoredObject, ...] = (),
    believes: bool = True,
) -> tuple[str, ...]:
    home = MemoryArchive("home")
    home.put(*results)
    delivery = Delivery("home", "far", (*objects(results), *more))
    return copy_objects({"home": home, "far": far}, delivery, fallbacks, believes=believes).notes


def test_everything_is_copied_as_it_is(results: list[Dataset]) -> None:
    far = Choosy()
    assert copy(results, far, *Fallback) == ("3 objects copied",)
    assert copy(results, far, *Fallback) == ("0 objects copied",)
    assert far.tried == [ds.SOPInstanceUID for ds in results]


def test_one_refused_object_holds_back_no_other_and_is_sent_again_alone(results: list[Dataset]) -> None:
    far = Choosy()
    far.once = {results[1].SOPInstanceUID}
    with pytest.raises(StoreError, match=f"archive far refused {results[1].SOPInstanceUID}"):
        copy(results, far)
    assert copy(results, far) == ("1 objects copied",)
    assert far.tried == [*(ds.SOPInstanceUID for ds in results), results[1].SOPInstanceUID]


def test_what_is_not_supported_is_named_after_the_rest_was_copied(results: list[Dataset]) -> None:
    far = Choosy(LABEL_MAP_SEGMENTATION)
    with pytest.raises(NotSupportedError, match=f"^not supported by destination; seg {SEG_UID} ") as error:
        copy(results, far)
    assert not isinstance(error.value, (StoreError, TransientError))  # which would be tried again
    assert set(far.held()) == {Comprehensive3DSRStorage}
    assert len(far.instances) == 2


def test_a_label_map_is_sent_as_binary_and_reports_follow_it(results: list[Dataset]) -> None:
    far = Choosy(LABEL_MAP_SEGMENTATION)
    count, *notes = copy(results, far, Fallback.BINARY_SEG)
    assert count == "3 objects copied"
    sent = far.held()[SegmentationStorage]
    assert notes[0] == f"seg {SEG_UID}: sent instead as binary-seg {sent.SOPInstanceUID}"
    assert all("sent with changed references" in note for note in notes[1:])
    reports = [ds for ds in far.instances.values() if ds.SOPClassUID == Comprehensive3DSRStorage]
    assert len(reports) == 2
    for report in reports:
        assert str(sent.SOPInstanceUID) in str(report)
    assert {ds.SOPInstanceUID for ds in results}.isdisjoint(str(ds.SOPInstanceUID) for ds in far.instances.values())


def test_a_retry_sends_no_substitute_twice(results: list[Dataset]) -> None:
    far = Choosy(LABEL_MAP_SEGMENTATION)
    copy(results, far, Fallback.BINARY_SEG)
    held = set(far.instances)
    count, *notes = copy(results, far, Fallback.BINARY_SEG)
    assert (count, len(notes), set(far.instances)) == ("0 objects copied", 3, held)


@pytest.mark.parametrize("unclear", [True, False])
def test_nothing_refers_to_a_segmentation_that_may_still_be_replaced(results: list[Dataset], unclear: bool) -> None:
    far = Choosy()
    far.unclear, far.once = ({LABEL_MAP_SEGMENTATION}, set()) if unclear else (set(), {SEG_UID})
    waits = rf"{results[1].SOPInstanceUID} waits for {SEG_UID}, to which it refers"
    with pytest.raises(StoreError, match=waits) as error:
        copy(results, far, Fallback.BINARY_SEG, believes=False)
    assert not isinstance(error.value, NotSupportedError)
    assert far.instances == {}
    far.refused, far.unclear = {LABEL_MAP_SEGMENTATION}, set()
    assert copy(results, far, Fallback.BINARY_SEG)[0] == "3 objects copied"
    assert len(far.instances) == 3


def test_a_refusal_that_passes_brings_the_original(results: list[Dataset]) -> None:
    far = Choosy()
    far.unclear = {LABEL_MAP_SEGMENTATION}
    with pytest.raises(StoreError):
        copy(results, far, Fallback.BINARY_SEG, believes=False)
    far.unclear = set()
    assert copy(results, far, Fallback.BINARY_SEG) == ("3 objects copied",)
    assert {str(ds.SOPInstanceUID) for ds in far.instances.values()} == {str(ds.SOPInstanceUID) for ds in results}


def test_an_unclear_refusal_that_stays_is_believed(results: list[Dataset]) -> None:
    far = Choosy()
    far.unclear = {LABEL_MAP_SEGMENTATION}
    assert copy(results, far, Fallback.BINARY_SEG)[0] == "3 objects copied"
    with pytest.raises(NotSupportedError, match=f"not supported by destination; seg {SEG_UID}"):
        copy(results, far)


def test_fallbacks_are_tried_in_their_order(results: list[Dataset]) -> None:
    far = Choosy(Comprehensive3DSRStorage)
    copy(results, far, Fallback.COMPREHENSIVE_SR, Fallback.ENHANCED_SR)
    assert set(far.held()) == {LABEL_MAP_SEGMENTATION, ComprehensiveSRStorage}
    older = Choosy(Comprehensive3DSRStorage, ComprehensiveSRStorage)
    copy(results, older, Fallback.COMPREHENSIVE_SR, Fallback.ENHANCED_SR)
    assert set(older.held()) == {LABEL_MAP_SEGMENTATION, EnhancedSRStorage}
    with pytest.raises(NotSupportedError, match="not supported by destination"):
        copy(results, Choosy(Comprehensive3DSRStorage, ComprehensiveSRStorage), Fallback.COMPREHENSIVE_SR)


def outline(of: str | None) -> Dataset:
    """Make what a delivery reads of an RTSTRUCT: the segmentation that its structure was made of."""
    made, structure, source = ct_slice(1), Dataset(), Dataset()
    if of is not None:
        source.ReferencedSOPInstanceUID = of
        structure.DefinitionSourceSequence = [source]
    made.StructureSetROISequence = [structure]
    return made


def test_an_rtstruct_stands_for_a_segmentation_only_where_the_job_made_one(results: list[Dataset]) -> None:
    far = Choosy(LABEL_MAP_SEGMENTATION)
    with pytest.raises(NotSupportedError):
        copy(results, far, Fallback.RTSTRUCT)
    made = outline(SEG_UID)
    rtstruct = stored(Output.RTSTRUCT, made)
    home = MemoryArchive("home")
    home.put(*results, made)
    delivery = Delivery("home", "far", (*objects(results), rtstruct))
    notes = copy_objects({"home": home, "far": far}, delivery, (Fallback.RTSTRUCT,)).notes
    assert f"seg {SEG_UID}: not sent; the RTSTRUCT stands for it" in notes


@pytest.mark.parametrize("of", ["1.2.3.4", None])
def test_an_rtstruct_of_another_segmentation_stands_for_none(results: list[Dataset], of: str | None) -> None:
    made = outline(of)
    home, far = MemoryArchive("home"), Choosy(LABEL_MAP_SEGMENTATION)
    home.put(*results, made)
    delivery = Delivery("home", "far", (*objects(results), stored(Output.RTSTRUCT, made)))
    with pytest.raises(NotSupportedError, match=f"seg {SEG_UID}"):
        copy_objects({"home": home, "far": far}, delivery, (Fallback.RTSTRUCT,))


def picture(of: str) -> Dataset:
    """Make what a delivery reads of a secondary capture: what it was made of."""
    made, source = ct_slice(1), Dataset()
    source.ReferencedSOPInstanceUID = of
    made.SourceImageSequence = [source]
    return made


@pytest.mark.parametrize("refused", [LABEL_MAP_SEGMENTATION, SegmentationStorage])
def test_pictures_stand_for_a_segmentation_where_the_job_made_them(results: list[Dataset], refused: str) -> None:
    """BINARY or LABELMAP: an archive that shows neither gets the pictures, which the delivery holds."""
    binary = seg.encode_seg(provenance_of(SERIES, SEG_UID), ellipsoids(SERIES), SegSettings(SegEncoding.BINARY))
    stored_seg = results[0] if refused == LABEL_MAP_SEGMENTATION else binary
    made, far, home = picture(SEG_UID), Choosy(refused), MemoryArchive("home")
    home.put(stored_seg, made)
    both = (stored(Output.SEG, stored_seg), stored(Output.SECONDARY_CAPTURE, made))
    archives = {"home": home, "far": far}
    notes = copy_objects(archives, Delivery("home", "far", both), (Fallback.SECONDARY_CAPTURE,)).notes
    assert notes == ("1 objects copied", f"seg {SEG_UID}: not sent; the secondary capture stands for it")
    assert [ds.SOPInstanceUID for ds in far.instances.values()] == [made.SOPInstanceUID]
    for alone in (both[:1], (both[0], stored(Output.RTSTRUCT, made))):
        with pytest.raises(NotSupportedError, match=f"seg {SEG_UID}"):
            copy_objects(archives, Delivery("home", "far", alone), (Fallback.SECONDARY_CAPTURE,))


def test_pictures_of_another_segmentation_stand_for_none(results: list[Dataset]) -> None:
    made, far, home = picture("1.2.3"), Choosy(LABEL_MAP_SEGMENTATION), MemoryArchive("home")
    home.put(results[0], made)
    both = (stored(Output.SEG, results[0]), stored(Output.SECONDARY_CAPTURE, made))
    with pytest.raises(NotSupportedError):
        copy_objects({"home": home, "far": far}, Delivery("home", "far", both), (Fallback.SECONDARY_CAPTURE,))


def test_an_archive_that_is_away_ends_the_try(results: list[Dataset]) -> None:
    far = Choosy()
    far.away = True
    with pytest.raises(TransientError):
        copy(results, far)


def test_what_is_gone_or_unknown_is_told(results: list[Dataset]) -> None:
    gone = StoredObject(Output.CHECKS, "1.2", "1.2.3", "1.2.3.4", "1.2.3.4.5", False)
    far = Choosy()
    with pytest.raises(StoreError, match=r"1\.2\.3\.4\.5 is gone from archive home"):
        copy(results, far, more=(gone,))
    assert len(far.instances) == 3
    with pytest.raises(ConfigError, match="no archive 'far'"):
        copy_objects({"home": far}, Delivery("home", "far", ()))


@pytest.mark.parametrize(
    ("status", "sop_class", "error"),
    [
        (0x0122, ComprehensiveSRStorage, NotSupportedError),
        (0xA900, ComprehensiveSRStorage, NotSupportedError),
        (0xA9FF, SegmentationStorage, NotSupportedError),
        (0x0110, SegmentationStorage, UnclearRefusalError),
        (0x0110, LABEL_MAP_SEGMENTATION, UnclearRefusalError),
        (0x0110, Comprehensive3DSRStorage, UnclearRefusalError),
        (0x0110, ComprehensiveSRStorage, StoreError),
        (0xA700, SegmentationStorage, StoreError),
        (0xC000, SegmentationStorage, StoreError),
    ],
)
def test_a_status_says_whether_a_kind_is_not_supported(status: int, sop_class: str, error: type[EnrichError]) -> None:
    assert type(refusal("far", sop_class, status, "refused it")) is error


def test_a_substitute_names_only_predecessors_that_are_stored_somewhere(results: list[Dataset]) -> None:
    far = Choosy(LABEL_MAP_SEGMENTATION, Comprehensive3DSRStorage)
    assert copy(results, far, Fallback.BINARY_SEG, Fallback.COMPREHENSIVE_SR)[0] == "3 objects copied"
    reports = [ds for ds in far.instances.values() if ds.SOPClassUID == ComprehensiveSRStorage]
    named = [study.ReferencedSeriesSequence[0] for ds in reports for study in ds.PredecessorDocumentsSequence]
    named_uids = {series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for series in named}
    assert (len(named), named_uids) == (2, {ds.SOPInstanceUID for ds in results[1:]})
