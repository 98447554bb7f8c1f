"""Who a patient is: only where a person asks, and each look is recorded with the user who asked.

Pages and addresses hold UIDs. A search by accession number or PatientID goes to the archive, and gives study UIDs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.service.auditing import note
from orthanc_plugin.service.callers import caller_of
from orthanc_plugin.service.routes import answer, archive_errors, body_of, guarded, parsed
from orthanc_plugin.service.schema_pages import FindBody, FoundStudies, Patient, PatientBody
from orthanc_plugin.service.searching import MOST_STUDIES

AUDIT = "orthanc_plugin.audit"
_BODY_BYTES = 4096
_audit = logging.getLogger(AUDIT)
_KEYS = {"accession_number": "AccessionNumber", "patient_id": "PatientID"}


class People:
    """Handlers that look patients up.

    Parameters
    ----------
    archives : mapping
        Settings of the archives, by name.
    opened : callable
        Opens an archive, given its name and settings.
    """

    def __init__(
        self,
        archives: Mapping[str, ArchiveSettings],
        opened: Callable[[str, ArchiveSettings], Archive] = open_archive,
    ) -> None:
        self._archives, self._opened = archives, opened

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{root}/patients", guarded(self.patient), methods=["POST"]),
            Route(f"{root}/find", guarded(self.find), methods=["POST"]),
            Route("/enrichment/find", guarded(self.find_and_show), methods=["POST"]),
        ]

    async def patient(self, request: Request) -> Response:
        """Return who the patient of a series is, as its archive says. The log records who asked."""
        wanted = parsed(PatientBody, await body_of(request, _BODY_BYTES))
        who = caller_of(request).name
        uids = (wanted.series_instance_uid,)
        note(
            request,
            *uids,
            study=wanted.study_instance_uid,
            archive=self._known(wanted.archive),
            detail="looked a patient up",
        )
        patient = await run_in_threadpool(self.patient_of, wanted)
        _audit.info("user %s looked up the patient of series %s", who, wanted.series_instance_uid)
        return answer(patient)

    async def find(self, request: Request) -> Response:
        """Return the studies with an accession number or a PatientID. The log records who asked."""
        wanted = parsed(FindBody, await body_of(request, _BODY_BYTES))
        return answer(FoundStudies(studies=await self._found(request, wanted)))

    async def find_and_show(self, request: Request) -> Response:
        """Redirect to the list of the studies that match: the address there names studies and no patient."""
        fields = parse_qs((await body_of(request, _BODY_BYTES)).decode("utf-8", "replace"))
        if any(len(values) > 1 for values in fields.values()):
            raise HTTPException(400, "a field is given twice")
        wanted = parsed(FindBody, json.dumps({name: values[0] for name, values in fields.items()}).encode())
        studies = await self._found(request, wanted)
        if not studies:
            raise HTTPException(404, "the archive has no study with this accession number or PatientID")
        return RedirectResponse(f"/enrichment/?{urlencode({'study': ','.join(studies)})}", 303)

    async def _found(self, request: Request, wanted: FindBody) -> tuple[str, ...]:
        who, studies = caller_of(request).name, await run_in_threadpool(self.studies, wanted)
        by = " and ".join(keyword for name, keyword in _KEYS.items() if getattr(wanted, name))
        note(request, archive=self._known(wanted.archive), detail=f"searched by {by}", count=len(studies))
        _audit.info("user %s looked studies up by %s: %d found", who, by, len(studies))
        return studies

    def patient_of(self, wanted: PatientBody) -> Patient:
        """Return who the patient of a series is; raise HTTPException 400, 404 or 503."""
        uids = wanted.study_instance_uid, wanted.series_instance_uid
        if not all(map(is_uid, uids)):
            raise HTTPException(400, "study_instance_uid and series_instance_uid must be UIDs (DICOM PS3.5 9.1)")
        with archive_errors(), closing(self._open(wanted.archive)) as archive:
            headers = archive.headers(*uids)
        if not headers:
            raise HTTPException(404, "the archive has no such series")
        values = {
            field: str(headers[0].get(keyword) or "")
            for field, keyword in (
                ("patient_name", "PatientName"),
                ("patient_id", "PatientID"),
                ("birth_date", "PatientBirthDate"),
                ("sex", "PatientSex"),
                ("accession_number", "AccessionNumber"),
            )
        }
        return Patient(**values)

    def studies(self, wanted: FindBody) -> tuple[str, ...]:
        """Return the studies that match; raise HTTPException 400, 404 or 503."""
        query = {keyword: value for name, keyword in _KEYS.items() if (value := getattr(wanted, name).strip())}
        if not query:
            raise HTTPException(400, "accession_number or patient_id must be given")
        with archive_errors(), closing(self._open(wanted.archive)) as archive:
            return archive.studies(query, 0)[:MOST_STUDIES]

    def _known(self, name: str) -> str:
        return name if name in self._archives else ""

    def _open(self, name: str) -> Archive:
        if name not in self._archives:
            raise HTTPException(404, "there is no such archive in the configuration")
        return self._opened(name, self._archives[name])
