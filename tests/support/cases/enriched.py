"""A real Orthanc with the real plugin, service and worker, as a hospital runs it, and questions to ask of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from tests.support.servers.orthanc_server import PLUGIN_SCRIPT, OrthancServer, free_port, wait_until

FINAL = ("done", "skipped", "failed")


class EnrichedOrthanc(OrthancServer):
    """OrthancServer with plugin, service and worker; `api` talks to the service."""

    def __init__(self, *, stable_age_s: int = 1, section: Mapping[str, object] | None = None) -> None:
        super().__init__(plugin=PLUGIN_SCRIPT, stable_age_s=stable_age_s, dicom=True)
        self.service_port = free_port()
        self.state_directory = self.directory / "state"
        self.enrichment = {
            "Service": {"Python": sys.executable, "Port": self.service_port},
            "StateDirectory": str(self.state_directory),
            "StableAge": stable_age_s,
            "ReconcileSeconds": 1,
            "Archives": {
                "local": {
                    "Url": self.dicomweb_url,
                    "OrthancUrl": self.url,
                    "User": self.user,
                    "Password": self.password,
                }
            },
            **(section or {}),
        }
        self.service_url = f"http://127.0.0.1:{self.service_port}"

    def api(self, path: str) -> Any:
        """Answer of the service's API."""
        answer = httpx.get(
            f"{self.service_url}/enrichment/api/v1/{path}",
            auth=(self.user, self.password), timeout=30, trust_env=False,
        )  # fmt: skip
        answer.raise_for_status()
        return answer.json()

    def await_service(self) -> None:
        """Wait until the service answers."""
        wait_until(self.service_answers, 60, "an answer of the service")

    def service_answers(self) -> bool:
        """Whether the service's API answers now."""
        try:
            return bool(self.api("health"))
        except httpx.HTTPError:
            return False

    def rows(self, series_uid: str) -> list[dict[str, Any]]:
        """All ledger rows of one series, newest first; empty while the service is away."""
        try:
            rows = self.api("series?limit=500")["series"]
        except httpx.HTTPError:
            return []
        return [row for row in rows if row["series_instance_uid"] == series_uid]

    def send(self, *instances: Dataset) -> None:
        """Store instances by Orthanc's own REST."""
        for ds in instances:
            buffer = BytesIO()
            ds.save_as(buffer, enforce_file_format=True)
            self.client.post("/instances", content=buffer.getvalue()).raise_for_status()

    def await_final(self, series_uid: str, within_s: float = 120, rows: int = 1) -> dict[str, Any]:
        """The newest row of a series, once it has that many rows and the newest is final."""

        def final() -> dict[str, Any] | None:
            found = self.rows(series_uid)
            return found[0] if len(found) >= rows and found[0]["state"] in FINAL else None

        try:
            row = wait_until(final, within_s, f"a final state of {series_uid}")
        except AssertionError as error:
            raise AssertionError(f"{error}; rows {self.rows(series_uid)}\n{self.service_log()}") from None
        assert row is not None
        return row

    def service_log(self) -> str:
        """The end of the logs of service and workers."""
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in sorted(self.state_directory.glob("*.log")))

    def results(self, study_uid: str) -> list[Dataset]:
        """SEG and SR of a study, as stored, ordered by UID."""
        return results_of(self, study_uid)

    def children(self) -> list[psutil.Process]:
        """Service and worker processes that use this server's state directory or were started for it."""
        return psutil.Process(self.pid).children(recursive=True)


def results_of(server: OrthancServer, study_uid: str) -> list[Dataset]:
    """SEG and SR of a study in any Orthanc, as stored, ordered by UID."""
    found = server.rest("/tools/find", "POST", {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}})
    assert isinstance(found, list)
    files = (server.client.get(f"/instances/{orthanc_id}/file").content for orthanc_id in found)
    datasets = (dcmread(BytesIO(content)) for content in files)
    return sorted((ds for ds in datasets if ds.Modality in ("SEG", "SR")), key=lambda ds: str(ds.SOPInstanceUID))


def files_of(folder: Path) -> list[Path]:
    """DICOM files of a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def small_chest() -> Phantom:
    """A chest of 17 x 20 x 20 cm: the model's grid is in millimetres, so a small patient is what makes a job short."""
    return make_phantom(shape=(56, 64, 64), spacing_mm=(3.0, 3.2, 3.2))
