"""Storage commitment: the archive promises that it keeps an object, and not only that it received it.

Source
------
DICOM PS3.4 Annex J.
"""

from __future__ import annotations

import logging
import queue

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from orthanc_plugin.archive.association import SUCCESS, Node
from orthanc_plugin.archive.listener import listening
from orthanc_plugin.errors import StoreError

_PUSH_MODEL = UID("1.2.840.10008.1.20.1")
_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST = 1
REPORT_TIMEOUT_S = 120.0
logger = logging.getLogger(__name__)


def commit(node: Node, ds: Dataset) -> None:
    """Ask a node to commit to one object, and wait for its report, on this association or on one of its own.

    Raises
    ------
    StoreError
        The node does not commit to the object.
    NotSupportedError
        It knows no storage commitment.
    TransientError
        No report came in time.
    """
    transaction, reports = str(generate_uid(prefix=None)), queue.Queue[Dataset]()

    def on_report(event: Event) -> tuple[int, None]:
        reports.put(event.event_information)
        return SUCCESS, None

    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)]
    ours = build_context(_PUSH_MODEL)
    ours.scu_role = ours.scp_role = True  # the node calls in its role of SCP
    with (
        listening(node, [ours], handlers),
        node.associated([build_context(_PUSH_MODEL)], handlers=handlers) as association,
    ):
        answer, _ = association.send_n_action(_question(ds, transaction), _REQUEST, _PUSH_MODEL, _INSTANCE)
        if (status := node.status(answer)) != SUCCESS:
            raise node.away(f"it refuses storage commitment with status 0x{status:04X}")
        try:
            report = reports.get(timeout=REPORT_TIMEOUT_S)
            while report.get("TransactionUID") != transaction:  # of an earlier question
                report = reports.get(timeout=REPORT_TIMEOUT_S)
        except queue.Empty:
            raise node.away(
                "no report of the storage commitment came; does it know our AE title and ListenPort?"
            ) from None
    _check(node.name, ds, report)


def _question(ds: Dataset, transaction: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    question = Dataset()
    question.TransactionUID, question.ReferencedSOPSequence = transaction, [item]
    return question


def _check(archive: str, ds: Dataset, report: Dataset) -> None:
    kept = {str(item.get("ReferencedSOPInstanceUID")) for item in report.get("ReferencedSOPSequence") or ()}
    if str(ds.SOPInstanceUID) in kept:
        return
    failed = report.get("FailedSOPSequence") or ()
    reasons = ", ".join(f"failure reason 0x{int(item.get('FailureReason') or 0):04X}" for item in failed)
    raise StoreError(f"archive {archive} does not commit to {ds.SOPInstanceUID}: {reasons or 'no reason given'}")
