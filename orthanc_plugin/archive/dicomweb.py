"""An archive behind DICOMweb (QIDO-RS, WADO-RS, STOW-RS), with an account of our own.

Instances are retrieved in the transfer syntax in which the archive holds them. Each store request carries one instance,
so that a refusal names it and a retry sends only what failed. Orthanc answers 200 to a second object with the same UID
and keeps the first, so callers read back what they stored.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TypeVar

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from requests.exceptions import HTTPError

from orthanc_plugin.archive.connection import open_session, plain_session, told
from orthanc_plugin.archive.multipart import BrokenOff, TooLong, boundary_of, parts
from orthanc_plugin.archive.part10 import (
    BROKEN,
    LARGEST_FILE_BYTES,
    LARGEST_SERIES_BYTES,
    Damaged,
    NotDicom,
    parse_instance,
)
from orthanc_plugin.archive.protocol import MASKS, CutShort
from orthanc_plugin.archive.stow import AWAY, is_confirmed, remedy, status_of, stow_request
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.uids import check_uids
from orthanc_plugin.errors import InputError, Refusal, StoreError, TransientError

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0
"""Limit between two bytes from the archive. Orthanc starts to send a series of 300 slices within a second."""

_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_CHUNK_BYTES = 1 << 20
_ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_ACCOUNT = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
"""The archive refuses our account: the operator repairs that, so nothing is decided meanwhile."""

_ALWAYS_THERE = ("SOPClassUID", "ImageType", "Rows", "FrameOfReferenceUID")
"""What every CT image has (PS3.3 A.3.3, A.38): a header without it may be cut short."""
_OWN = ("ImagePositionPatient", "SliceLocation", "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier")
_SETTING = 'set DicomWeb.SeriesMetadata of that Orthanc to "Full"'
logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def open_dicomweb(name: str, settings: ArchiveSettings) -> DicomWebArchive:
    """Open the archive of that name in the configuration; raise ConfigError if a file of `settings` cannot be used."""
    return DicomWebArchive(name, settings.url, session=open_session(name, settings))


class _Limits(threading.local):
    """Whether the last answer that this thread got said that there is more (PS3.18 8.3.4.4)."""

    def __init__(self) -> None:
        self.cut = False

    def note(self, answer: requests.Response, **_: object) -> None:
        """Look at the warning of an answer; 299 may be about fuzzy matching, too."""
        said = answer.headers.get("Warning", "").lstrip()
        self.cut = said.startswith("299") and "fuzzy" not in said


class DicomWebArchive:
    """Archive (see `protocol.Archive`) on a DICOMweb server.

    Parameters
    ----------
    name : str
        Key of the archive in the configuration.
    url : str
        Root of the three services, for example `http://127.0.0.1:8042/dicom-web`.
    user, password : str
        For HTTP Basic authentication. An empty `user` means no authentication.
    timeouts_s : (float, float)
        Limits to connect, and between two bytes of an answer.
    session : requests.Session, optional
        With another login, or with TLS settings (`connection.open_session`).
    """

    def __init__(
        self,
        name: str,
        url: str,
        user: str = "",
        password: str = "",
        timeouts_s: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        session: requests.Session | None = None,
    ) -> None:
        self.name = name
        self._warned = False
        self._limits = _Limits()
        self._session = session or plain_session()
        if user:
            self._session.auth = (user, password)
        self._session.hooks["response"] += [self._limits.note, self._refuse_page]
        self._timeouts_s = timeouts_s
        self._client = DICOMwebClient(url.rstrip("/"), session=self._session, timeout=timeouts_s, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)

    def _refuse_page(self, answer: requests.Response, **_: object) -> None:
        """Tell a page of a proxy or a portal from an archive: it says nothing of any object, and may go away."""
        if answer.ok and not answer.is_redirect and answer.headers.get("Content-Type", "").startswith("text/html"):
            answer.close()  # nobody else can: requests has not handed it on yet
            raise TransientError(
                f"archive {self.name} answered a web page: check its Url, and whether a proxy on the way asks to log in"
            )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def same_series_studies(self, series_uid: str) -> tuple[tuple[str, str], ...]:
        """Search for the SeriesInstanceUID by QIDO-RS, over all studies and patients.

        A search without matches is no error in QIDO-RS (PS3.18 10.6.3), so 404 means that the address is wrong.
        """
        check_uids(series_uid)
        found = self._read(
            lambda: self._client.search_for_series(
                search_filters={"SeriesInstanceUID": series_uid}, fields=["StudyInstanceUID", "PatientID"]
            )
        )
        if found is None:
            raise TransientError(f"archive {self.name}: {self._client.base_url}/series answered 404; check its Url")
        answers = (_dataset(item) for item in found)
        return tuple(sorted({(str(ds.StudyInstanceUID), str(ds.get("PatientID") or "")) for ds in answers}))

    def studies(self, query: Mapping[str, str], offset: int) -> tuple[str, ...]:
        """Search for studies by QIDO-RS.

        No limit is asked for: with a key that it computes, such as ModalitiesInStudy, Orthanc 1.10.1 applies the limit
        before the offset, and loses studies. Later ones refuse both with such keys; then the first answer is all.
        """
        try:
            found = self._read(
                lambda: self._client.search_for_studies(
                    offset=offset or None, fields=["StudyInstanceUID"], search_filters=dict(query)
                )
            )
        except InputError as error:
            if offset and error.reason is Refusal.ARCHIVE_REFUSED:
                return ()
            raise
        if found is None:
            raise TransientError(f"archive {self.name}: {self._client.base_url}/studies answered 404; check its Url")
        uids = [str(_dataset(item).get("StudyInstanceUID") or "") for item in found]
        if not all(uids):
            raise InputError(Refusal.UNREADABLE, f"archive {self.name} lists a study without StudyInstanceUID")
        return CutShort(uids) if self._limits.cut else tuple(uids)

    def series_of(self, study_uid: str, modality: str) -> tuple[str, ...]:
        """List the SeriesInstanceUIDs of one modality in a study, sorted."""
        check_uids(study_uid)
        return tuple(self._series_of(study_uid, modality))

    def instances_of(self, study_uid: str, series_uid: str) -> tuple[str, ...]:
        """List the SOPInstanceUIDs of a series, sorted."""
        check_uids(study_uid, series_uid)
        return tuple(sorted(self._listed(study_uid, series_uid, {})))

    def header_of(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Retrieve the metadata of one instance by WADO-RS; None if the archive lacks it."""
        check_uids(study_uid, series_uid)
        return self._header(study_uid, series_uid, sop_uid)

    def ct_series(self, study_uid: str) -> tuple[str, ...]:
        """Search for the CT series of a study by QIDO-RS."""
        uids = self._series_of(study_uid, "CT")
        return CutShort(uids) if self._limits.cut else tuple(uids)

    def mask_series(self, study_uid: str) -> tuple[str, ...]:
        """Search for the series with masks of a study by QIDO-RS."""
        return tuple(uid for modality in MASKS for uid in self._series_of(study_uid, modality))

    def _series_of(self, study_uid: str, modality: str) -> list[str]:
        filters = {"Modality": modality}
        found = self._read(
            lambda: self._client.search_for_series(study_uid, fields=["Modality"], search_filters=filters)
        )
        return sorted(str(_dataset(item).SeriesInstanceUID) for item in found or ())

    def headers(self, study_uid: str, series_uid: str) -> tuple[Dataset, ...]:
        """Retrieve the metadata of the series by WADO-RS."""
        check_uids(study_uid, series_uid)
        found = self._read(lambda: self._client.retrieve_series_metadata(study_uid, series_uid))
        return self._completed(study_uid, series_uid, tuple(_dataset(item) for item in found or ()))

    def retrieve(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """Retrieve the series by WADO-RS as a stream. Memory holds one instance besides those that the caller keeps."""
        check_uids(study_uid, series_uid)
        sent: set[str] = set()
        for ds in self._instances("studies", study_uid, "series", series_uid):
            sent.add(str(ds.get("SOPInstanceUID")))
            yield ds
        if not sent:
            if self.same_series_studies(series_uid):
                raise TransientError(f"archive {self.name} lists the series but does not find it")
            raise InputError(Refusal.GONE, "the archive no longer has the series")
        self._check_unchanged(study_uid, series_uid, sent)

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        """Retrieve one instance by WADO-RS."""
        check_uids(study_uid, series_uid, sop_uid)
        found = list(self._instances("studies", study_uid, "series", series_uid, "instances", sop_uid))
        return found[0] if found else None

    def store(self, ds: Dataset) -> None:
        """Store one instance by STOW-RS. The answer must list it as stored; the HTTP status alone is not enough.

        An answer that says nothing (no body, or another media type than was asked for) is checked by reading back.
        """
        request = stow_request(ds)
        try:
            answer = self._session.post(
                f"{self._client.base_url}/studies",
                data=request.body,
                headers=dict(request.headers),
                timeout=self._timeouts_s,
            )
        except OSError as error:  # requests' errors are of this kind, and it raises it for missing certificates
            raise TransientError(f"archive {self.name}: {told(error)}") from error
        if not is_confirmed(self.name, ds, answer):
            place = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID))
            if not self.holds(*place):
                raise StoreError(f"archive {self.name} answered {_status(answer)} but does not have {place[-1]}")

    def holds(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Ask by WADO-RS, which some archives answer before they list an instance."""
        return self.find(study_uid, series_uid, sop_uid) is not None

    def _completed(self, study_uid: str, series_uid: str, headers: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
        """Complete headers that the archive has cut short by the header of one instance.

        With `DicomWeb.SeriesMetadata` "MainDicomTags" or "Extrapolate", Orthanc leaves out the SOP class and more.

        Raises
        ------
        TransientError
            If the header of the instance is cut short as well: the operator must change a setting.
        """
        if all(keyword in header for header in headers for keyword in _ALWAYS_THERE):
            return headers
        sample = headers[len(headers) // 2]
        whole = self._header(study_uid, series_uid, str(sample.get("SOPInstanceUID", "")))
        if "SOPClassUID" not in sample and (whole is None or "SOPClassUID" not in whole):
            raise TransientError(f"archive {self.name} gives no whole headers; {_SETTING}")
        if whole is None or all(element.tag in sample for element in whole):
            return headers
        if not self._warned:
            logger.warning("archive %s: one instance speaks for the headers of its series; %s", self.name, _SETTING)
            self._warned = True
        return tuple(_filled(header, whole) for header in headers)

    def _header(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        check_uids(sop_uid)
        found = self._read(lambda: self._client.retrieve_instance_metadata(study_uid, series_uid, sop_uid))
        return _dataset(found) if found else None

    def _instances(self, *resource: str) -> Iterator[Dataset]:
        """Retrieve and parse what a resource holds; nothing if the archive lacks it."""
        try:
            with _reading(self.name), self._get(resource) as answer:
                total = 0
                for part in _parts(answer):
                    if (total := total + len(part)) > LARGEST_SERIES_BYTES:
                        raise TooLong
                    yield parse_instance(part)
        except FileNotFoundError:
            return

    def _get(self, resource: tuple[str, ...]) -> requests.Response:
        # Uncompressed transfer: what a compressed one grows to is not known before it is there.
        headers = {"Accept": _AS_STORED, "Accept-Encoding": "identity"}
        url = f"{self._client.base_url}/{'/'.join(resource)}"
        answer = self._session.get(url, headers=headers, stream=True, timeout=self._timeouts_s)
        answer.raise_for_status()
        return answer

    def _check_unchanged(self, study_uid: str, series_uid: str, sent: set[str]) -> None:
        """Compare what was sent with what the archive has now; a retry sees the series as it is then."""
        has = self._listed(study_uid, series_uid, {})
        if missing := len(has - sent):
            raise TransientError(
                f"archive {self.name} did not send {missing} instance(s) that it lists: the series changed meanwhile"
            )
        # An archive may cut a long list short, so one that it left out is asked for by name.
        gone = next(iter(sorted(sent - has)), "")
        if gone and not self._listed(study_uid, series_uid, {"SOPInstanceUID": gone}):
            raise TransientError(f"archive {self.name} removed an instance while it was retrieved: the series changed")

    def _listed(self, study_uid: str, series_uid: str, filters: dict[str, str]) -> set[str]:
        found = self._read(
            lambda: self._client.search_for_instances(
                study_uid, series_uid, search_filters=filters, fields=["SOPInstanceUID"]
            )
        )
        return {str(_dataset(item).get("SOPInstanceUID")) for item in found or ()}

    def _read(self, request: Callable[[], Answer]) -> Answer | None:
        """Run a read request; None if the archive has no such object."""
        try:
            with _reading(self.name):
                return request()
        except FileNotFoundError:
            return None


@contextmanager
def _reading(archive: str) -> Iterator[None]:
    """Translate the errors of a read into our own; FileNotFoundError if the object is missing."""
    try:
        with warnings.catch_warnings():
            # pydicom warns of odd values in old archives and quotes them. The loader checks the values that matter.
            warnings.simplefilter("ignore")
            yield
    except HTTPError as error:
        if (response := error.response) is not None and response.status_code in _ABSENT:
            raise FileNotFoundError(archive) from None
        if response is not None and _is_final(response.status_code):
            raise InputError(Refusal.ARCHIVE_REFUSED, f"archive {archive} answered {_status(response)}") from error
        what_to_do = remedy(response.status_code) if response is not None else ""
        raise TransientError(f"archive {archive} answered {_status(response)}{what_to_do}") from error
    except OSError as error:  # of requests, or a certificate that is missing now
        raise TransientError(f"archive {archive}: {told(error)}") from error
    except BrokenOff as error:
        raise TransientError(f"archive {archive}: the answer broke off before its last part") from error
    except TooLong as error:
        raise InputError(Refusal.TOO_LARGE, f"archive {archive} sends more than any CT series holds") from error
    except (*BROKEN, Damaged, NotDicom) as error:
        # The client and pydicom raise these for parts that are not DICOM. Their text may quote the part.
        raise InputError(Refusal.UNREADABLE, f"an answer of archive {archive} is not valid DICOM") from error


def _is_final(status: int) -> bool:
    """Return whether the archive would answer the same request in the same way whenever it is asked."""
    return 400 <= status < 500 and status not in (*_ACCOUNT, *AWAY)


def _parts(answer: requests.Response) -> Iterator[bytes]:
    """Split an answer; some servers send a single instance without the multipart around it."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError("the answer is encoded though it was asked for as it is")
    chunks = answer.iter_content(_CHUNK_BYTES)
    content_type = answer.headers.get("Content-Type", "")
    if boundary := boundary_of(content_type):
        yield from parts(chunks, boundary, LARGEST_FILE_BYTES)
    elif content_type.startswith("application/dicom"):
        yield _whole(chunks)
    else:
        raise ValueError("the answer is neither multipart nor DICOM")


def _whole(chunks: Iterator[bytes]) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > LARGEST_FILE_BYTES:
            raise TooLong
    return bytes(content)


def _dataset(item: Mapping[str, object]) -> Dataset:
    try:
        return Dataset.from_json(dict(item), bulk_data_uri_handler=lambda *_: None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(Refusal.UNREADABLE, "the archive's metadata is not valid DICOM JSON") from error


def _filled(header: Dataset, whole: Dataset) -> Dataset:
    """Return the header with what it lacks; a position is never that of another instance."""
    filled = Dataset()
    filled.update({element.tag: element for element in whole if element.keyword not in _OWN})
    filled.update(header)
    return filled


def _status(response: requests.Response | None) -> str:
    return status_of(response.status_code) if response is not None else "nothing"
