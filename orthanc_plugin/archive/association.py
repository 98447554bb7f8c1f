"""Associations with one DICOM node: who we are there, what may be asked, and in plain words why it does not answer."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context

from orthanc_plugin.archive.tls import client_context, tls_problem
from orthanc_plugin.config.archives import ArchiveSettings, DimseSettings
from orthanc_plugin.errors import EnrichError, InputError, NotSupportedError, Refusal, TransientError

VERIFICATION = UID("1.2.840.10008.1.1")
FIND, MOVE, GET = (UID(f"1.2.840.10008.5.1.4.1.2.2.{number}") for number in (1, 2, 3))
"""Study Root Query/Retrieve Information Models."""

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 120.0
"""Limit between a request and its answer, and between two instances."""
LONGEST_S = 3600.0
"""Limit of one retrieval."""
MOST_MATCHES = 100_000

SUCCESS, PENDING = 0x0000, (0xFF00, 0xFF01)
_KEY_NOT_SUPPORTED = 0xFF01
"""A match, but not by all keys (PS3.4 C.4.1.1.4)."""
_REASONS = {
    "Called AE title not recognised": "it has another AE title: check Dimse.AET",
    "Calling AE title not recognised": "it does not know us: register Dimse.CallingAET there",
}
_ALERT_WAIT_S = 1.0

# Identifiers hold patient data, and nothing of them belongs into a log.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Node:
    """A DICOM node by its name in the configuration."""

    name: str
    settings: ArchiveSettings
    dimse: DimseSettings

    @contextmanager
    def associated(
        self,
        contexts: Sequence[PresentationContext],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[EventHandlerType] = (),
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Iterator[Association]:
        """Open an association, and release it at the end.

        Raises
        ------
        NotSupportedError
            The node accepts none of the contexts.
        TransientError
            It does not answer, or refuses us; the message holds the remedy.
        ConfigError
            If a file for TLS cannot be used.
        """
        ae = AE(ae_title=self.dimse.calling_aet)
        ae.connection_timeout, ae.acse_timeout = CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S
        ae.dimse_timeout = ae.network_timeout = timeout_s
        more: dict[str, Any] = {"tls_args": self._tls()} if self.dimse.tls else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # pynetdicom never closes a socket that failed to connect
            association = ae.associate(
                self.dimse.host,
                self.dimse.port,
                contexts=list(contexts),
                ae_title=self.dimse.aet,
                ext_neg=list(roles),
                evt_handlers=list(handlers),
                **more,
            )
        if not association.is_established:
            raise self._refused(association)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def find(self, level: str, keys: Mapping[str, str], *, strict: bool = False) -> tuple[Dataset, ...]:
        """Search by C-FIND in the Study Root model.

        Parameters
        ----------
        level : str
            `STUDY`, `SERIES` or `IMAGE`.
        keys : mapping
            Values by keyword; an empty value asks for the attribute.
        strict : bool
            Whether a node is refused that does not support all keys: it would list what does not match.

        Raises
        ------
        InputError
            ARCHIVE_REFUSED: the node does not support this query.
        NotSupportedError
            It answers no queries at all.
        TransientError
            It does not answer.

        Source
        ------
        DICOM PS3.4 C.4.1.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        with self.associated([build_context(FIND)]) as association, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # texts may quote values
            return tuple(self._matches(association.send_c_find(identifier, FIND), strict))

    def echo(self) -> None:
        """Ask by C-ECHO whether the node answers; raise as `associated`, or TransientError."""
        with self.associated([build_context(VERIFICATION)]) as association:
            if self.status(association.send_c_echo()) != SUCCESS:
                raise self.away("it refuses C-ECHO")

    def status(self, answer: Dataset) -> int:
        """Return the status of an answer; raise TransientError if none came."""
        if "Status" not in answer:
            raise self.away("it did not answer in time, or broke off")
        return int(answer.Status)

    def away(self, why: str) -> TransientError:
        """Return the error that says why the node cannot be used now."""
        return TransientError(f"archive {self.name}: {why}")

    def _matches(self, answers: Iterator[tuple[Dataset, Dataset | None]], strict: bool) -> Iterator[Dataset]:
        count = 0
        for answer, match in answers:
            status = self.status(answer)
            if strict and status == _KEY_NOT_SUPPORTED:
                message = f"archive {self.name} does not support all keys of the query: leave one out"
                raise InputError(Refusal.ARCHIVE_REFUSED, message)
            if status in PENDING:
                count += 1
                if match is None or count > MOST_MATCHES:
                    raise self.away("its answer to C-FIND cannot be read, or is far too long")
                yield match
            elif status & 0xFF00 == 0xA900:
                raise InputError(Refusal.ARCHIVE_REFUSED, f"archive {self.name} does not support this C-FIND")
            elif status != SUCCESS:
                raise self.away(f"C-FIND ended with status 0x{status:04X}")

    def _tls(self) -> tuple[Any, str]:
        return client_context(self.name, self.settings), self.dimse.host

    def _refused(self, association: Association) -> EnrichError:
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            said = str(answer.reason_str)
            return self.away(f"it refuses the association: {_REASONS.get(said, said)}")
        if association.rejected_contexts:
            names = sorted({UID(str(context.abstract_syntax)).name for context in association.rejected_contexts})
            return NotSupportedError(f"archive {self.name} does not support {', '.join(names[:3])}")
        return self.away(self._why_not_reached())

    def _why_not_reached(self) -> str:
        """Connect once more without DICOM, because pynetdicom does not tell why it could not."""
        address = (self.dimse.host, self.dimse.port)
        try:
            with socket.create_connection(address, CONNECT_TIMEOUT_S) as plain:
                if not self.dimse.tls:
                    return "it accepts connections, but no association (does it ask for TLS?)"
                context, host = self._tls()
                with context.wrap_socket(plain, server_hostname=host) as connection:
                    # In TLS 1.3 the node judges our certificate after the handshake.
                    connection.settimeout(_ALERT_WAIT_S)
                    connection.recv(1)
        except TimeoutError:
            return f"{self.dimse.host}:{self.dimse.port} does not answer"
        except OSError as error:
            return (
                tls_problem(error) or f"{self.dimse.host}:{self.dimse.port}: {error.strerror or type(error).__name__}"
            )
        return "it broke off the connection"


def last(answers: Iterator[tuple[Dataset, Dataset | None]], seen: Callable[[Dataset], None]) -> Dataset:
    """Return the last answer of a retrieval; `seen` gets every answer as it comes."""
    answer = Dataset()
    for answer, _ in answers:
        seen(answer)
    return answer


def break_off(association: Association) -> None:
    """End an association from another thread, and wake the one that waits for its next message."""
    association.abort()
    association.dimse.msg_queue.put((None, None))
