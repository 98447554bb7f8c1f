"""Series that another archive pushes are enriched like those of a scanner, and the results go back to it by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.support.cases.enriched import EnrichedOrthanc, results_of, small_chest
from tests.support.servers.orthanc_server import OrthancServer, wait_until

ORIGIN_AET = "ORIGIN"
BACK = {"Destinations": ["origin"], "Radiomics": False, "Locate": ""}
RULES = [
    {"Name": "by-dicom", "Match": {"Archive": ["local"], "RemoteAET": [ORIGIN_AET]}, **BACK},
    {"Name": "by-peer", "Match": {"Archive": ["local"], "Origin": ["RestApi"], "RemoteIP": ["127.0.0.0/8"]}, **BACK},
    {"Name": "by-stow", "Match": {"Archive": ["local"], "Origin": ["Plugins"]}, **BACK},
]
"""As docs/jobs.md gives them. They also show what Orthanc knows of each way: a rule above must not take the series."""


class Sites:
    """An archive that pushes, and an Orthanc with plugin, service and worker that it knows as "ai"."""

    def __init__(self, origin: OrthancServer, enriched: EnrichedOrthanc) -> None:
        self.origin, self.enriched = origin, enriched
        account = {"Username": enriched.user, "Password": enriched.password}
        origin.rest("/dicom-web/servers/ai", "PUT", {"Url": f"{enriched.dicomweb_url}/", **account})
        origin.rest("/peers/ai", "PUT", {"Url": f"{enriched.url}/", **account})
        origin.rest("/modalities/ai", "PUT", {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": enriched.dicom_port})

    def by_stow(self, instances: Sequence[Dataset]) -> None:
        body = {"Resources": [self._kept(instances)], "Synchronous": True}
        self.origin.rest("/dicom-web/servers/ai/stow", "POST", body)

    def by_peer(self, instances: Sequence[Dataset]) -> None:
        self.origin.rest("/peers/ai/store", "POST", self._kept(instances))

    def by_client(self, instances: Sequence[Dataset]) -> None:
        with requests.Session() as session:
            session.auth, session.trust_env = (self.enriched.user, self.enriched.password), False
            DICOMwebClient(self.enriched.dicomweb_url, session=session).store_instances(list(instances))

    def by_dicom(self, instances: Sequence[Dataset]) -> None:
        self.origin.rest("/modalities/ai/store", "POST", self._kept(instances))

    def _kept(self, instances: Sequence[Dataset]) -> object:
        """Orthanc's id of the series in the archive that pushes."""
        query = {"SeriesInstanceUID": str(instances[0].SeriesInstanceUID)}
        (found,) = self.origin.rest("/tools/find", "POST", {"Level": "Series", "Query": query})  # type: ignore[misc]
        return found


WAYS: Mapping[str, tuple[Callable[[Sites, Sequence[Dataset]], None], str]] = {
    "a DICOMweb server of Orthanc": (Sites.by_stow, "by-stow"),
    "an Orthanc peer": (Sites.by_peer, "by-peer"),
    "a DICOMweb client": (Sites.by_client, "by-stow"),
    "C-STORE": (Sites.by_dicom, "by-dicom"),
}


@pytest.fixture(scope="module")
def sites(orthanc_installed: None) -> Iterator[Sites]:
    with OrthancServer(dicom=True, settings={"DicomAet": ORIGIN_AET}) as origin:
        enriched = EnrichedOrthanc(section={"Rules": RULES})
        assert enriched.enrichment is not None
        back = {"Url": origin.dicomweb_url, "User": origin.user, "Password": origin.password}
        enriched.enrichment["Archives"] |= {"origin": back}
        with enriched:
            enriched.await_service()
            yield Sites(origin, enriched)


@pytest.fixture(scope="module")
def pushed(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Dataset]:
    """The first slice of the series that went each way; all are sent before the first is waited for."""
    sent = {}
    for way, (push, _) in WAYS.items():
        instances = encode_phantom(small_chest(), uid_seed=way)
        sites.origin.stow(_files(tmp_path_factory.mktemp("ct"), instances))
        push(sites, instances)
        sent[way] = instances[0]
    return sent


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
def test_a_pushed_series_is_enriched_and_its_results_go_back_once(
    way: str, sites: Sites, pushed: Mapping[str, Dataset]
) -> None:
    study, series = str(pushed[way].StudyInstanceUID), str(pushed[way].SeriesInstanceUID)
    row = sites.enriched.await_final(series)
    assert (row["state"], row["rule"]) == ("done", WAYS[way][1])
    made = {str(ds.SOPInstanceUID): ds for ds in sites.enriched.results(study)}
    assert sorted(ds.Modality for ds in made.values()) == ["SEG", "SR", "SR"]  # SEG, landmarks, checks
    wait_until(lambda: _delivered(sites.enriched, row["job_id"]), 60, "the delivery")
    back = {str(ds.SOPInstanceUID): ds for ds in results_of(sites.origin, study)}
    assert back == made
    assert len(sites.enriched.rows(series)) == 1


def _delivered(enriched: EnrichedOrthanc, job_id: str) -> bool:
    deliveries = enriched.api(f"jobs/{job_id}")["deliveries"]
    return [(d["destination"], d["state"]) for d in deliveries] == [("origin", "done")]


def _files(folder: Path, instances: Sequence[Dataset]) -> list[Path]:
    files = [folder / f"{number}.dcm" for number in range(len(instances))]
    for file, ds in zip(files, instances, strict=True):
        ds.save_as(file, enforce_file_format=True)
    return files
