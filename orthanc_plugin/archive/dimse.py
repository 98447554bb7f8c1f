"""An archive behind DIMSE: C-FIND, C-GET or C-MOVE to our own port, C-STORE, and storage commitment.

C-FIND returns few attributes, and which ones differs from archive to archive. Headers are therefore taken from the
instances, without their pixels, and kept while C-FIND lists the same instances. A retrieval is whole or an error:
failed sub-operations count, and what arrived is compared with what is listed.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from orthanc_plugin.archive.association import ANSWER_TIMEOUT_S, GET, LONGEST_S, MOVE, SUCCESS, Node, break_off, last
from orthanc_plugin.archive.commitment import commit
from orthanc_plugin.archive.inbox import Inbox, Silence
from orthanc_plugin.archive.listener import listening
from orthanc_plugin.archive.part10 import LARGEST_SERIES_BYTES, Damaged, NotDicom, parse_instance
from orthanc_plugin.archive.protocol import MASKS
from orthanc_plugin.archive.refusal import refusal
from orthanc_plugin.archive.syntaxes import (
    PLAIN,
    RESULT_CLASSES,
    SERIES_CLASSES,
    any_syntax,
    as_receiver,
    as_stored,
    recoded,
    to_send,
)
from orthanc_plugin.config.archives import ArchiveSettings, DimseSettings, Retrieve
from orthanc_plugin.domain.uids import check_uids
from orthanc_plugin.errors import (
    EnrichError,
    IncompleteError,
    InputError,
    NothingSentError,
    NotSupportedError,
    Refusal,
    StoreError,
)

_MAY_BE_CT = ("CT", "")
"""Modalities of series that are retrieved: a node that tells none leaves it to the instances."""
_KEPT_SERIES = 4
_NOT_WANTED, _NO_ROOM = 0x0110, 0xA700
_UNKNOWN_DESTINATION = 0xA801
_STORED_WITH_WARNING = (0xB000, 0xB006, 0xB007)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Headers of a series, and the instances and patients that C-FIND listed with them."""

    listed: frozenset[str]
    patients: tuple[str, ...]
    headers: tuple[Dataset, ...]


@dataclass
class _Transfer:
    """One retrieval: what arrives, and how it ended.

    error: why it could not be begun; broke_off: how it ended early; `answer`: the last response of the archive.
    """

    inbox: Inbox = field(default_factory=lambda: Inbox(ANSWER_TIMEOUT_S, LONGEST_S))
    answer: Dataset = field(default_factory=Dataset)
    error: EnrichError | None = None
    broke_off: str = ""
    association: Association | None = None


class DimseArchive:
    """Archive (see `protocol.Archive`) on a DICOM node.

    Parameters
    ----------
    name : str
        Key of the archive in the configuration.
    settings : ArchiveSettings
        With files for TLS.
    dimse : DimseSettings
        Address and AE titles.
    """

    def __init__(self, name: str, settings: ArchiveSettings, dimse: DimseSettings) -> None:
        self.name = name
        self._dimse = dimse
        self._node = Node(name, settings, dimse)
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._uncommitted: set[str] = set()

    def close(self) -> None:
        """Do nothing: every question has an association of its own."""

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """Search for the series over all studies, which is a relational query (PS3.4 C.4.1.2.2.1).

        An archive that supports hierarchical queries only knows nothing here: the answer is empty.
        """
        check_uids(series_uid)
        try:
            found = self._search("SERIES", {"SeriesInstanceUID": series_uid, "StudyInstanceUID": ""})
        except InputError:
            return ()
        studies = {
            _text(match, "StudyInstanceUID") for match in found if _text(match, "SeriesInstanceUID") == series_uid
        }
        return tuple(sorted((study, patient) for study in studies - {""} for patient in self._patients(study)))

    def studies(self, query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        """Search for studies by C-FIND, which knows neither pages nor an order: each answer has all of them."""
        found = self._search("STUDY", {**query, "StudyInstanceUID": query.get("StudyInstanceUID", "")}, strict=True)
        return tuple(dict.fromkeys(_text(match, "StudyInstanceUID") for match in found))

    def ct_series(self, study_uid: str) -> tuple[str, ...]:
        """Search for the series of the study, and keep those whose modality is CT, or not told."""
        check_uids(study_uid)
        found = self._search("SERIES", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": "CT"})
        return tuple(
            sorted({_text(m, "SeriesInstanceUID") for m in found if _text(m, "Modality") in _MAY_BE_CT} - {""})
        )

    def series_of(self, study_uid: str, modality: str) -> tuple[str, ...]:
        """Search for the series of one modality in the study."""
        check_uids(study_uid)
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": modality}
        found = self._search("SERIES", keys)
        return tuple(sorted({_text(m, "SeriesInstanceUID") for m in found if _text(m, "Modality") == modality} - {""}))

    def mask_series(self, study_uid: str) -> tuple[str, ...]:
        """Search for the series of the study whose modality is one of masks."""
        return tuple(sorted({uid for modality in MASKS for uid in self.series_of(study_uid, modality)}))

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Retrieve the series and drop the pixels; what C-FIND says of a series that is no CT is enough to skip it."""
        check_uids(study_uid, series_uid)
        listed = self._listed(study_uid, series_uid)
        if not listed:
            return ()
        if (modality := self._modality(study_uid, series_uid)) not in _MAY_BE_CT:
            return tuple(_skippable(study_uid, series_uid, uid, modality) for uid in sorted(listed))
        patients = self._patients(study_uid)
        with self._lock:
            kept = self._kept.get((study_uid, series_uid))
        if kept is None or (kept.listed, kept.patients) != (listed, patients):
            with closing(self.retrieve(study_uid, series_uid)) as instances:
                kept = _Kept(listed, patients, tuple(_without_pixels(ds) for ds in instances))
            self._keep(study_uid, series_uid, kept)
        return kept.headers

    def retrieve(self, study_uid: str, series_uid: str) -> Generator[Dataset]:
        """Retrieve the series by C-GET or C-MOVE. Memory holds a few instances besides those that the caller keeps."""
        check_uids(study_uid, series_uid)
        listed = self._listed(study_uid, series_uid)
        if not listed:
            raise InputError(Refusal.GONE, "the archive no longer has the series")
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        sent: set[str] = set()
        with closing(self._instances("SERIES", keys, SERIES_CLASSES, listed)) as instances:
            for ds in instances:
                sent.add(_text(ds, "SOPInstanceUID"))
                yield ds
        has = self._listed(study_uid, series_uid)
        if missing := len(has - sent):
            said = f"it did not send {missing} instance(s) that it lists"
            elsewhere = not sent and self._dimse.retrieve is Retrieve.MOVE
            raise self._incomplete(
                f"{said}; does it send them elsewhere? {self._us}" if elsewhere else said, bool(sent)
            )
        if sent - has:
            raise self._incomplete("an instance was removed while it was retrieved: the series changed", True)

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Retrieve one instance, if C-FIND lists it."""
        if not self.holds(study_uid, series_uid, sop_uid):
            return None
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": sop_uid}
        with closing(self._instances("IMAGE", keys, RESULT_CLASSES, frozenset({sop_uid}))) as instances:
            found = list(instances)
        if not found:
            raise self._node.away(f"it lists {sop_uid} but does not send it")
        return found[0]

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Ask by C-FIND. A node that only stores answers no such query: then it may get the same object again."""
        check_uids(study_uid, series_uid, sop_uid)
        if sop_uid in self._uncommitted:
            return False  # it lies there, but the node has not promised to keep it
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": sop_uid}
        try:
            found = self._search("IMAGE", keys)
        except InputError:
            return False
        return any(_text(match, "SOPInstanceUID") == sop_uid for match in found)

    def store(self, ds: Dataset) -> None:
        """Send one instance by C-STORE in its own transfer syntax, or uncompressed if the node takes no other."""
        if not self._dimse.commitment:
            self._send(ds)
            return
        self._uncommitted.add(str(ds.SOPInstanceUID))
        self._send(ds)
        try:
            commit(self._node, ds)
        except NotSupportedError as error:  # it supports the object, so nothing may be sent in its place
            raise StoreError(f"{error}: set Dimse.Commitment to false") from None
        self._uncommitted.discard(str(ds.SOPInstanceUID))

    def _send(self, ds: Dataset) -> None:
        own = ds.file_meta.TransferSyntaxUID
        with self._node.associated(to_send(ds)) as association:
            accepted = {context.transfer_syntax[0] for context in association.accepted_contexts}
            # What is not compressed is converted while it is sent.
            sent = ds if own in accepted or own in PLAIN else recoded(ds)
            try:
                status = self._node.status(association.send_c_store(sent))
            except RuntimeError:
                raise self._node.away("it broke off the association") from None
            except (ValueError, AttributeError) as error:
                raise StoreError(f"{ds.SOPInstanceUID} cannot be encoded ({type(error).__name__})") from None
        if status in _STORED_WITH_WARNING:
            logger.warning("archive %s stored %s with warning 0x%04X", self.name, ds.SOPInstanceUID, status)
        elif status != SUCCESS:
            said = f"refused {ds.SOPInstanceUID} with status 0x{status:04X}"
            raise refusal(self.name, str(ds.SOPClassUID), status, said)

    def _search(self, level: str, keys: Mapping[str, str], *, strict: bool = False) -> tuple[Dataset, ...]:
        """Search by C-FIND; a node that cannot be searched at all refuses every series."""
        try:
            return self._node.find(level, keys, strict=strict)
        except NotSupportedError as error:
            raise InputError(Refusal.ARCHIVE_REFUSED, f"{error}: no series can be read from it") from None

    def _listed(self, study_uid: str, series_uid: str) -> frozenset[str]:
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": ""}
        return frozenset(_text(match, "SOPInstanceUID") for match in self._search("IMAGE", keys)) - {""}

    def _patients(self, study_uid: str) -> tuple[str, ...]:
        found = self._search("STUDY", {"StudyInstanceUID": study_uid, "PatientID": ""})
        return tuple(sorted({_text(match, "PatientID") for match in found}))

    def _modality(self, study_uid: str, series_uid: str) -> str:
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "Modality": ""}
        return next((_text(match, "Modality") for match in self._search("SERIES", keys)), "")

    def _keep(self, study_uid: str, series_uid: str, kept: _Kept) -> None:
        with self._lock:
            self._kept[study_uid, series_uid] = kept
            self._kept.move_to_end((study_uid, series_uid))
            while len(self._kept) > _KEPT_SERIES:
                self._kept.popitem(last=False)

    def _instances(
        self, level: str, keys: dict[str, str], classes: Sequence[str], wanted: frozenset[str]
    ) -> Generator[Dataset]:
        """Retrieve what the keys name, in a thread of its own, and check at the end that nothing failed."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        transfer = _Transfer()
        retrieve = self._get if self._dimse.retrieve is Retrieve.GET else self._move
        work = partial(_run, retrieve, transfer, identifier, classes, wanted)
        thread = threading.Thread(target=copy_context().run, args=(work,), name="retrieval", daemon=True)
        thread.start()
        total = 0
        try:
            for content in transfer.inbox.contents():
                if (total := total + len(content)) > LARGEST_SERIES_BYTES:
                    raise InputError(Refusal.TOO_LARGE, f"archive {self.name} sends more than any CT series holds")
                yield _parsed(self.name, content)
        except Silence:
            raise self._incomplete("nothing came for too long during a retrieval", total > 0) from None
        finally:
            transfer.inbox.leave()
            if transfer.association is not None and thread.is_alive():
                break_off(transfer.association)
            thread.join(ANSWER_TIMEOUT_S)
        self._check(transfer, total > 0)

    def _get(self, transfer: _Transfer, identifier: Dataset, classes: Sequence[str], wanted: frozenset[str]) -> None:
        handlers = [(evt.EVT_C_STORE, partial(_received, transfer.inbox, wanted))]
        contexts = [build_context(GET), *as_stored(classes)]
        with self._node.associated(contexts, as_receiver(classes), handlers, LONGEST_S) as association:
            transfer.association = association
            if not any(context.abstract_syntax == GET for context in association.accepted_contexts):
                message = f'archive {self.name} does not support C-GET: set Dimse.Retrieve to "C-MOVE"'
                raise InputError(Refusal.ARCHIVE_REFUSED, message)
            transfer.answer = last(association.send_c_get(identifier, GET), lambda _: transfer.inbox.heard())

    def _move(self, transfer: _Transfer, identifier: Dataset, classes: Sequence[str], wanted: frozenset[str]) -> None:
        handlers = [(evt.EVT_C_STORE, partial(_received, transfer.inbox, wanted))]
        with ExitStack() as stack:
            # Until our turn on the port comes, the node is not silent.
            stack.enter_context(listening(self._node, any_syntax(classes), handlers, awaited=transfer.inbox.awaited))
            association = stack.enter_context(self._node.associated([build_context(MOVE)], timeout_s=LONGEST_S))
            transfer.association = association
            answers = association.send_c_move(identifier, self._dimse.destination_aet, MOVE)
            transfer.answer = last(answers, lambda _: transfer.inbox.heard())

    def _check(self, transfer: _Transfer, some: bool) -> None:
        """Raise an error unless every sub-operation succeeded (PS3.4 C.4.2.1, C.4.3.1); `some` instances came."""
        if transfer.error is not None:
            raise transfer.error
        is_move = self._dimse.retrieve is Retrieve.MOVE
        if transfer.broke_off or "Status" not in transfer.answer:
            cause = transfer.broke_off or "it did not answer in time, or broke off"
            raise self._incomplete(f"it broke off the C-MOVE; does it know us? {self._us}" if is_move else cause, some)
        status = self._node.status(transfer.answer)
        if status == _UNKNOWN_DESTINATION:
            raise self._incomplete(f"it does not know the destination of the C-MOVE: {self._us}", some)
        failed = int(transfer.answer.get("NumberOfFailedSuboperations") or 0)
        warned = int(transfer.answer.get("NumberOfWarningSuboperations") or 0)
        if status != SUCCESS or failed or warned:
            counts = f"{failed} sub-operations failed, {warned} with warnings"
            raise self._incomplete(f"the retrieval ended with status 0x{status:04X}: {counts}", some)

    @property
    def _us(self) -> str:
        return f"register {self._dimse.destination_aet}, port {self._dimse.listen_port}, there"

    def _incomplete(self, why: str, some: bool) -> IncompleteError:
        """Return the error for a series of which some instances came; if none came, the node itself may be at fault."""
        said = str(self._node.away(why))
        return IncompleteError(said) if some else NothingSentError(said)


def open_dimse(name: str, settings: ArchiveSettings, dimse: DimseSettings) -> DimseArchive:
    """Open the archive of that name in the configuration."""
    return DimseArchive(name, settings, dimse)


def _run(
    retrieve: Callable[[_Transfer, Dataset, Sequence[str], frozenset[str]], None],
    transfer: _Transfer,
    identifier: Dataset,
    classes: Sequence[str],
    wanted: frozenset[str],
) -> None:
    try:
        retrieve(transfer, identifier, classes, wanted)
    except EnrichError as error:
        transfer.error = error
    except (RuntimeError, ValueError, OSError) as error:  # pynetdicom, when the association breaks off
        transfer.broke_off = f"the retrieval broke off ({type(error).__name__})"
    finally:
        transfer.inbox.end()


def _received(inbox: Inbox, wanted: frozenset[str], event: Event) -> int:
    """Take one instance that the archive sends; others than those of the series are refused."""
    if str(getattr(event.request, "AffectedSOPInstanceUID", "")) not in wanted:
        return _NOT_WANTED
    return SUCCESS if inbox.put(event.encoded_dataset()) else _NO_ROOM


def _parsed(archive: str, content: bytes) -> Dataset:
    try:
        return parse_instance(content)
    except (Damaged, NotDicom):
        raise InputError(Refusal.UNREADABLE, f"an instance of archive {archive} is not valid DICOM") from None


def _without_pixels(ds: Dataset) -> Dataset:
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in ds:
            del ds[keyword]
    return ds


def _skippable(study_uid: str, series_uid: str, sop_uid: str, modality: str) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID = study_uid, series_uid, sop_uid
    header.Modality = modality
    return header


def _text(match: Dataset, keyword: str) -> str:
    return str(match.get(keyword) or "").strip()
