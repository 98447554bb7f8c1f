"""A slice that is overwritten under its UIDs in a real Orthanc, while or after a job reads the series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.archive.orthanc import OrthancFeed
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.jobs.source import Source
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series
from tests.support.cases.hostile_folders import encoded
from tests.support.fakes.hand_job import job
from tests.support.servers.orthanc_server import OrthancServer, wait_until

Site = tuple[OrthancServer, DicomWebArchive, OrthancFeed]
OVERWRITTEN = 5
LAG = timedelta(seconds=0.2)


@pytest.fixture(scope="module")
def site(orthanc_installed: None) -> Iterator[Site]:
    """An Orthanc that takes what comes again in the place of what it has."""
    with OrthancServer(settings={"OverwriteInstances": True}) as server:
        account = server.user, server.password
        with (
            closing(DicomWebArchive("local", server.dicomweb_url, *account)) as archive,
            closing(OrthancFeed("local", server.url, *account)) as feed,
        ):
            yield server, archive, feed


@pytest.fixture
def slices(site: Site, request: pytest.FixtureRequest) -> list[Dataset]:
    """A phantom series of each test, in that Orthanc."""
    made = list(encode_phantom(make_phantom((20, 24, 24), (5, 14, 14)), uid_seed=request.node.name))
    for ds in made:
        send(site[0], ds)
    return made


def send(server: OrthancServer, ds: Dataset) -> None:
    server.client.post("/instances", content=encoded(ds)).raise_for_status()


def overwrite(site: Site, ds: Dataset, *, header: bool) -> None:
    """Send a slice again with other pixels, in a second of its own: Orthanc's clock shows seconds, and may lag."""
    server, _, feed = site
    found = feed.series(feed.lookup(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)))
    assert found is not None
    wait_until(
        lambda: f"{datetime.now(UTC) - LAG:%Y%m%dT%H%M%S}" > found.received, what="the next second of LastUpdate"
    )
    pixels = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns)
    ds.PixelData = pixels[::-1].tobytes()
    if header:
        ds.ImageComments = "sent again"
    send(server, ds)


def job_of(ds: Dataset) -> EnrichJob:
    made = job(None, Output.LANDMARKS)
    return EnrichJob("local", str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), made.fingerprint, 0, made.plan)


def loading(during: Callable[[], None]) -> Callable[[Archive, EnrichJob], CtSeries]:
    """Read the series, and let something happen once the first half was retrieved."""

    def retrieved(archive: Archive, wanted: EnrichJob) -> Iterator[Dataset]:
        for number, ds in enumerate(archive.retrieve(wanted.study_instance_uid, wanted.series_instance_uid)):
            if number == 10:
                during()
            yield ds

    return lambda archive, wanted: read_series(retrieved(archive, wanted))


KINDS = pytest.mark.parametrize(("indexed", "header"), [(True, False), (True, True), (False, True)])
"""Told by Orthanc's index, or by DICOMweb alone, which sees what the headers say."""


@KINDS
def test_a_slice_overwritten_while_the_series_is_read_ends_as_gone(
    site: Site, slices: list[Dataset], indexed: bool, header: bool
) -> None:
    load = loading(lambda: overwrite(site, slices[OVERWRITTEN], header=header))
    source = Source(job_of(slices[0]), site[1], site[2] if indexed else None, load)
    with pytest.raises(InputError, match="changed while it was read") as refusal:
        source.read()
    assert refusal.value.reason is Refusal.GONE


@KINDS
def test_a_slice_overwritten_after_the_series_was_read_is_seen_before_a_result_is_stored(
    site: Site, slices: list[Dataset], indexed: bool, header: bool
) -> None:
    source = Source(job_of(slices[0]), site[1], site[2] if indexed else None, loading(lambda: None))
    assert source.read().volume.voxels_hu.shape == (20, 24, 24)
    assert source.is_there()
    overwrite(site, slices[OVERWRITTEN], header=header)
    assert not source.is_there()


def test_a_new_reading_gives_the_new_content(site: Site, slices: list[Dataset]) -> None:
    before = Source(job_of(slices[0]), site[1], site[2], loading(lambda: None)).read()
    overwrite(site, slices[OVERWRITTEN], header=False)
    after = Source(job_of(slices[0]), site[1], site[2], loading(lambda: None)).read()
    assert not np.array_equal(before.volume.voxels_hu, after.volume.voxels_hu)
