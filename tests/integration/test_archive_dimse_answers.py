"""What a DICOM node may answer: scripted by pynetdicom, because no real node answers so on request."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, SecondaryCaptureImageStorage, SegmentationStorage
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from orthanc_plugin.archive.dimse import DimseArchive
from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import (
    IncompleteError,
    InputError,
    NothingSentError,
    NotSupportedError,
    Refusal,
    StoreError,
    TransientError,
    UnclearRefusalError,
)
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.support.servers.orthanc_server import free_port

FIND, MOVE, GET, COMMIT = (
    "1.2.840.10008.5.1.4.1.2.2.1",
    "1.2.840.10008.5.1.4.1.2.2.2",
    "1.2.840.10008.5.1.4.1.2.2.3",
    "1.2.840.10008.1.20.1",
)
PLACE = ("1.2", "1.2.3")


@dataclass
class Script:
    """What the node holds, and how it answers.

    sends: what C-GET sends. stored: status of C-STORE. ends: last answer of C-GET, None for that of the sub-operations.
    found: status with each match. modality: what it says of the series.
    report: what becomes of a commitment; None for no report.
    moves_to: address to which C-MOVE sends; None if it does not know the destination.
    """

    sends: list[Dataset] = field(default_factory=lambda: ct_series(3))
    listed: list[str] = field(default_factory=lambda: [str(ds.SOPInstanceUID) for ds in ct_series(3)])
    stored: int = 0
    found: int = 0xFF00
    modality: str = "CT"
    ends: tuple[int, Dataset] | None = None
    aborts: bool = False
    report: Callable[[Dataset], tuple[int, Dataset]] | None = None
    moves_to: tuple[str, int] | None = None

    def on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        level = event.identifier.QueryRetrieveLevel
        for uid in self.listed if level == "IMAGE" else ["one"]:
            match = Dataset()
            match.QueryRetrieveLevel, match.StudyInstanceUID = level, PLACE[0]
            match.PatientID, match.Modality, match.SeriesInstanceUID = "P1", self.modality, PLACE[1]
            if level == "IMAGE":
                match.SOPInstanceUID = uid
            yield self.found, match
        yield 0x0000, None

    def on_get(self, event: Event) -> Iterator[object]:
        yield len(self.sends) + (self.ends is not None)
        for ds in self.sends:
            if self.aborts:
                event.assoc.abort()
                return
            yield 0xFF00, ds
        if self.ends is not None:
            yield self.ends

    def on_move(self, event: Event) -> Iterator[object]:
        contexts = {"contexts": [build_context(CTImageStorage)]}
        yield (*self.moves_to, contexts) if self.moves_to else (None, None)
        yield len(self.sends)
        yield from ((0xFF00, ds) for ds in self.sends)

    def on_store(self, event: Event) -> int:
        return self.stored

    def on_action(self, event: Event) -> tuple[int, None]:
        if self.report is not None:
            threading.Thread(target=self.tell, args=(event.assoc, *self.report(event.action_information))).start()
        return 0x0000, None

    def tell(self, association: object, kind: int, report: Dataset) -> None:
        association.send_n_event_report(report, kind, COMMIT, f"{COMMIT}.1")  # type: ignore[attr-defined]


@contextmanager
def node(script: Script, offers: tuple[str, ...] = (FIND, GET, COMMIT), **more: object) -> Iterator[DimseArchive]:
    ae, port = AE(ae_title="NODE"), free_port()
    classes = [CTImageStorage, SegmentationStorage, EncapsulatedPDFStorage, SecondaryCaptureImageStorage]
    contexts = [build_context(uid) for uid in (*offers, *classes)]
    for context in contexts:
        context.scu_role = context.scp_role = True
    handlers = [
        (evt.EVT_C_FIND, script.on_find),
        (evt.EVT_C_GET, script.on_get),
        (evt.EVT_C_MOVE, script.on_move),
        (evt.EVT_C_STORE, script.on_store),
        (evt.EVT_N_ACTION, script.on_action),
    ]
    server = ae.start_server(("127.0.0.1", port), block=False, contexts=contexts, evt_handlers=handlers)  # type: ignore[arg-type]
    dimse = {"Host": "127.0.0.1", "Port": port, "AET": "NODE"} | more
    try:
        archive = open_archive("pacs", ArchiveSettings.model_validate({"Dimse": dimse}))
        assert isinstance(archive, DimseArchive)
        yield archive
    finally:
        assert server is not None
        server.shutdown()
        ae.shutdown()


def uids(sent: list[Dataset]) -> list[str]:
    return [str(ds.SOPInstanceUID) for ds in sent]


def test_the_script_works() -> None:
    with node(Script()) as archive:
        assert len(list(archive.retrieve(*PLACE))) == 3
        archive.store(ct_slice(1))


def test_a_series_whose_modality_the_node_does_not_tell_is_retrieved() -> None:
    with node(Script(modality="")) as archive:
        assert archive.ct_series(PLACE[0]) == (PLACE[1],)
        assert {str(header.get("Modality")) for header in archive.headers(*PLACE)} == {"CT"}
    with node(Script(modality="MR")) as archive:
        assert archive.ct_series(PLACE[0]) == ()
        assert {str(header.get("Modality")) for header in archive.headers(*PLACE)} == {"MR"}


def ending(status: int) -> tuple[int, Dataset]:
    failed = Dataset()
    failed.FailedSOPInstanceUIDList = ["1.2.3.9"]
    return status, failed


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Script(sends=ct_series(2)), r"did not send 1 instance"),
        (Script(ends=ending(0xB000)), r"status 0xB000"),
        (Script(ends=ending(0xA702)), r"status 0xA702"),
        (Script(ends=ending(0xC001)), r"status 0xC001"),
        (Script(aborts=True), r"did not answer in time, or broke off"),
        # Another series' instance, which is refused, and a kind of object that is not awaited.
        (Script(sends=[*ct_series(2), ct_slice(3, series="1.2.9")]), r"sub-operations failed|did not send"),
    ],
)
def test_a_retrieval_is_whole_or_an_error(script: Script, said: str) -> None:
    with node(script) as archive, pytest.raises(TransientError, match=said):
        list(archive.retrieve(*PLACE))


@pytest.mark.parametrize(
    "script",
    [Script(sends=[]), Script(sends=[], ends=ending(0xA702)), Script(aborts=True), Script(sends=[ct_slice(9)])],
)
def test_a_series_of_which_nothing_comes_is_told_from_one_that_is_incomplete(script: Script) -> None:
    with node(script) as archive, pytest.raises(NothingSentError):
        list(archive.retrieve(*PLACE))
    with node(Script(sends=ct_series(2))) as archive, pytest.raises(IncompleteError) as partial:
        list(archive.retrieve(*PLACE))
    assert type(partial.value) is IncompleteError


def test_a_c_move_that_sends_nothing_to_us_says_what_to_register() -> None:
    move = {"Retrieve": "C-MOVE", "MoveAET": "US", "ListenPort": free_port()}
    remedy = rf"register US, port {move['ListenPort']}, there"
    with node(Script(), (FIND, MOVE), **move) as archive, pytest.raises(NothingSentError, match=remedy):
        list(archive.retrieve(*PLACE))
    other, elsewhere = AE(ae_title="US"), free_port()
    other.supported_contexts = [build_context(CTImageStorage)]
    server = other.start_server(("127.0.0.1", elsewhere), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
    try:
        script = Script(moves_to=("127.0.0.1", elsewhere))
        with node(script, (FIND, MOVE), **move) as archive, pytest.raises(NothingSentError, match="elsewhere"):
            list(archive.retrieve(*PLACE))
    finally:
        assert server is not None
        server.shutdown()


def test_a_port_that_another_process_has_is_awaited_and_is_no_silence_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orthanc_plugin.archive.dimse.ANSWER_TIMEOUT_S", 1.0)
    port = free_port()
    move = {"Retrieve": "C-MOVE", "MoveAET": "US", "ListenPort": port}
    with (
        node(Script(moves_to=("127.0.0.1", port)), (FIND, MOVE), **move) as archive,
        ThreadPoolExecutor() as reader,
    ):
        with socket.create_server(("127.0.0.1", port)):
            retrieved = reader.submit(lambda: len(list(archive.retrieve(*PLACE))))
            assert not wait([retrieved], timeout=3.0).done
        assert retrieved.result(30) == 3


def test_a_node_without_c_get_is_told_with_its_remedy() -> None:
    with node(Script(), offers=(FIND,)) as archive, pytest.raises(InputError, match=r'set Dimse\.Retrieve to "C-MOVE"'):
        list(archive.retrieve(*PLACE))


def test_a_node_that_falls_silent_in_the_middle_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_plugin.archive.dimse.ANSWER_TIMEOUT_S", 1.0)
    script, go_on = Script(), threading.Event()

    def on_get(event: Event) -> Iterator[object]:
        yield 3
        yield 0xFF00, script.sends[0]
        go_on.wait(30)

    script.on_get = on_get  # type: ignore[method-assign]
    with node(script) as archive:
        with pytest.raises(TransientError, match="nothing came for too long"):
            list(archive.retrieve(*PLACE))
        assert not [thread for thread in threading.enumerate() if thread.name == "retrieval"]
        go_on.set()


# The node may send its next object while the connection that we left closes; pynetdicom then raises in its thread.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_node_that_sends_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_plugin.archive.dimse.LARGEST_SERIES_BYTES", 2000)
    with node(Script()) as archive:
        with pytest.raises(InputError) as refusal:
            list(archive.retrieve(*PLACE))
        assert refusal.value.reason is Refusal.TOO_LARGE
    gc.collect()  # else the node's socket warns in another test


def test_a_kind_of_object_that_is_not_awaited_is_an_error() -> None:
    document = ct_slice(3)
    document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    script, said = Script(sends=[*ct_series(2), document]), "1 sub-operations failed"
    with node(script) as archive, pytest.raises(TransientError, match=said):
        list(archive.retrieve(*PLACE))


def test_an_instance_that_is_removed_meanwhile_is_noticed() -> None:
    script = Script()

    def on_get(event: Event) -> Iterator[object]:
        yield len(script.sends)
        yield from ((0xFF00, ds) for ds in script.sends)
        script.listed.pop()

    script.on_get = on_get  # type: ignore[method-assign]
    with node(script) as archive, pytest.raises(TransientError, match="the series changed"):
        list(archive.retrieve(*PLACE))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xB000, None),
        (0xB007, None),
        (0x0122, NotSupportedError),
        (0xA900, NotSupportedError),
        (0x0110, UnclearRefusalError),
        (0xA700, StoreError),
        (0xC000, StoreError),
    ],
)
def test_the_status_of_a_store_says_what_it_means(
    status: int, error: type[Exception] | None, caplog: pytest.LogCaptureFixture
) -> None:
    ds = ct_slice(1)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    with node(Script(stored=status)) as archive:
        if error is None:
            archive.store(ds)
            assert f"with warning 0x{status:04X}" in caplog.text
            return
        with pytest.raises(error, match=f"status 0x{status:04X}") as refusal:
            archive.store(ds)
        assert type(refusal.value) is error


def test_a_query_with_a_key_that_the_node_ignores_is_refused() -> None:
    with node(Script(found=0xFF01)) as archive:
        with pytest.raises(InputError, match="does not support all keys of the query") as refusal:
            archive.studies({"StudyDescription": "CHEST*"}, 0)
        assert refusal.value.reason is Refusal.ARCHIVE_REFUSED
        assert archive.ct_series(PLACE[0]) == (PLACE[1],)  # what comes back is compared here


def committed(question: Dataset) -> tuple[int, Dataset]:
    return 1, question


def refused(question: Dataset) -> tuple[int, Dataset]:
    failed = Dataset()
    failed.ReferencedSOPClassUID = question.ReferencedSOPSequence[0].ReferencedSOPClassUID
    failed.ReferencedSOPInstanceUID = question.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    failed.FailureReason = 0x0112
    report = Dataset()
    report.TransactionUID, report.FailedSOPSequence = question.TransactionUID, [failed]
    return 2, report


def test_a_commitment_is_reported_on_the_same_association() -> None:
    with node(Script(report=committed), Commitment=True, ListenPort=free_port()) as archive:
        archive.store(ct_slice(1))


def test_a_node_that_does_not_keep_an_object_has_not_stored_it() -> None:
    asked, said = {"Commitment": True, "ListenPort": free_port()}, r"not commit to 1\.2\.3\.1: failure reason 0x0112"
    with node(Script(report=refused), **asked) as archive, pytest.raises(StoreError, match=said):
        archive.store(ct_slice(1))


def test_a_commitment_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_plugin.archive.commitment.REPORT_TIMEOUT_S", 0.5)
    asked, said = {"Commitment": True, "ListenPort": free_port()}, "no report of the storage commitment came"
    with node(Script(), **asked) as archive, pytest.raises(TransientError, match=said):
        archive.store(ct_slice(1))


def test_a_node_without_storage_commitment_is_told_and_supports_the_object_all_the_same() -> None:
    asked, said = {"Commitment": True, "ListenPort": free_port()}, r"set Dimse\.Commitment to false"
    with node(Script(), offers=(FIND, GET), **asked) as archive:
        with pytest.raises(StoreError, match=said) as refusal:
            archive.store(ct_slice(1))
        assert type(refusal.value) is StoreError  # otherwise a delivery sends a substitute, too


def test_an_object_without_commitment_does_not_count_as_held_when_it_is_tried_again() -> None:
    script = Script(report=refused)
    with node(script, Commitment=True, ListenPort=free_port()) as archive:
        with pytest.raises(StoreError):
            archive.store(ct_slice(1))
        assert not archive.holds(*PLACE, "1.2.3.1")
        assert archive.find(*PLACE, "1.2.3.1") is None
        script.report = committed
        archive.store(ct_slice(1))
        assert archive.holds(*PLACE, "1.2.3.1")


def test_screens_of_a_ct_are_retrieved_like_its_images() -> None:
    screens = ct_series(3)
    for ds in screens:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    with node(Script(sends=screens)) as archive:
        assert uids(list(archive.headers(*PLACE))) == uids(screens)
