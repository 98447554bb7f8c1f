"""Results are removed from a real Orthanc, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive.removal import OrthancRemoval
from orthanc_plugin.errors import StoreError, TransientError
from orthanc_plugin.results.provenance import MANUFACTURER
from tests.support.fakes.memory_archive import ct_slice
from tests.support.servers.orthanc_server import OrthancServer, free_port


def held(orthanc: OrthancServer, ds: Dataset) -> list[str]:
    """Orthanc's ids of the object."""
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": str(ds.SOPInstanceUID)}}
    return [str(item) for item in orthanc.rest("/tools/find", "POST", query)]  # type: ignore[attr-defined]


@pytest.fixture
def stored(orthanc: OrthancServer, tmp_path: Path) -> Iterator[Dataset]:
    """An object of ours in Orthanc."""
    ds = ct_slice(1, series="1.2.77.1", study="1.2.77")
    ds.Manufacturer = MANUFACTURER
    ds.save_as(tmp_path / "ours.dcm", enforce_file_format=True)
    orthanc.stow([tmp_path / "ours.dcm"])
    yield ds
    for item in held(orthanc, ds):
        orthanc.rest(f"/instances/{item}", "DELETE")


@pytest.fixture
def removal(orthanc: OrthancServer) -> Iterator[OrthancRemoval]:
    with closing(OrthancRemoval("local", orthanc.url, orthanc.user, orthanc.password)) as opened:
        yield opened


def uids(ds: Dataset) -> tuple[str, str, str]:
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)


def test_our_object_is_removed_once(removal: OrthancRemoval, stored: Dataset, orthanc: OrthancServer) -> None:
    assert removal.remove(*uids(stored), MANUFACTURER)
    assert not removal.remove(*uids(stored), MANUFACTURER)
    assert held(orthanc, stored) == []


def test_an_object_of_somebody_else_stays(removal: OrthancRemoval, stored: Dataset, orthanc: OrthancServer) -> None:
    study, series, sop = uids(stored)
    for wrong in (
        (study, series, sop, "another maker"),
        (study, "1.2.9", sop, MANUFACTURER),
        ("1.2.8", series, sop, MANUFACTURER),
    ):
        with pytest.raises(StoreError, match="another object"):
            removal.remove(*wrong)
    assert len(held(orthanc, stored)) == 1


def test_an_archive_that_is_away_or_refuses(orthanc: OrthancServer, stored: Dataset) -> None:
    with closing(OrthancRemoval("away", f"http://127.0.0.1:{free_port()}")) as away, pytest.raises(TransientError):
        away.remove(*uids(stored), MANUFACTURER)
    stranger = OrthancRemoval("local", orthanc.url, "nobody", "wrong")
    with closing(stranger), pytest.raises(StoreError, match="401"):
        stranger.remove(*uids(stored), MANUFACTURER)
