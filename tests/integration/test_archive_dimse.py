"""The DIMSE archive against real nodes: Orthanc, dcmtk's dcmqrscp and storescp."""

from __future__ import annotations

import gc
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from orthanc_plugin.archive.dimse import DimseArchive
from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.probe import find_problem
from orthanc_plugin.archive.refusal import LABEL_MAP_SEGMENTATION
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import InputError, NotSupportedError, Refusal, StoreError, TransientError
from tests.support.fakes.memory_archive import ct_series, ct_slice
from tests.support.servers.dicom_nodes import AET, query_retrieve_node, receiver
from tests.support.servers.orthanc_server import OrthancServer, free_port
from tests.support.servers.tls import Authority

US = "ENRICHMENT"


def settings(port: int, aet: str = "ORTHANC", *, tls: dict[str, Path] | None = None, **more: object) -> ArchiveSettings:
    dimse = {"Host": "127.0.0.1", "Port": port, "AET": aet, "CallingAET": US, "Tls": tls is not None} | more
    return ArchiveSettings.model_validate({"Dimse": dimse, **{key: str(path) for key, path in (tls or {}).items()}})


def opened(port: int, aet: str = "ORTHANC", **more: object) -> DimseArchive:
    archive = open_archive("pacs", settings(port, aet, **more))  # type: ignore[arg-type]
    assert isinstance(archive, DimseArchive)
    return archive


@pytest.fixture(scope="module")
def listen_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def pacs(orthanc_installed: None, listen_port: int) -> Iterator[OrthancServer]:
    us = {"AET": US, "Host": "127.0.0.1", "Port": listen_port, "AllowStorageCommitment": True}
    # Orthanc must not recode what it sends, or the transfer syntax would prove nothing.
    more = {"DicomModalities": {"us": us}, "TranscodeDicomProtocol": False}
    with OrthancServer(dicom=True, settings=more) as server:
        yield server


def ways(listen_port: int) -> dict[str, dict[str, object]]:
    return {"C-GET": {}, "C-MOVE": {"Retrieve": "C-MOVE", "ListenPort": listen_port}}


@pytest.fixture(params=["orthanc C-GET", "orthanc C-MOVE", "dcmqrscp C-GET", "dcmqrscp C-MOVE"])
def archive(
    request: pytest.FixtureRequest, pacs: OrthancServer, listen_port: int, tmp_path: Path
) -> Iterator[DimseArchive]:
    """Each real node by each way to retrieve."""
    node, way = request.param.split()
    more = ways(listen_port)[way]
    if node == "orthanc":
        yield opened(pacs.dicom_port, **more)
    else:
        with query_retrieve_node(tmp_path, US, listen_port) as other:
            yield opened(other.port, AET, **more)


def new_series(slices: int = 3, patient: str = "P1", study: str = "") -> list[Dataset]:
    return ct_series(slices, series=str(generate_uid())[:56], study=study or str(generate_uid()), patient=patient)


def place(ds: Dataset) -> tuple[str, str]:
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)


def test_a_series_that_is_stored_is_listed_and_comes_back_whole(archive: DimseArchive) -> None:
    series = new_series(5)
    for ds in series:
        archive.store(ds)
    uids = {ds.SOPInstanceUID for ds in series}
    came = {ds.SOPInstanceUID: ds for ds in archive.retrieve(*place(series[0]))}
    assert set(came) == uids
    assert all(came[ds.SOPInstanceUID].PixelData == ds.PixelData for ds in series)
    headers = archive.headers(*place(series[0]))
    assert {header.SOPInstanceUID for header in headers} == uids
    assert all(header.ImagePositionPatient and "PixelData" not in header for header in headers)
    assert archive.ct_series(series[0].StudyInstanceUID) == (series[0].SeriesInstanceUID,)
    assert archive.holds(*place(series[0]), series[0].SOPInstanceUID)


def test_what_is_not_there_is_none_empty_or_gone(archive: DimseArchive) -> None:
    assert archive.headers("1.2.3", "1.2.3") == ()
    assert archive.ct_series("1.2.3") == ()
    assert archive.find("1.2.3", "1.2.3", "1.2.3") is None
    assert not archive.holds("1.2.3", "1.2.3", "1.2.3")
    assert archive.same_series_studies("1.2.3") == ()
    with pytest.raises(InputError) as refusal:
        list(archive.retrieve("1.2.3", "1.2.3"))
    assert refusal.value.reason is Refusal.GONE


def test_one_result_is_found_again(archive: DimseArchive) -> None:
    (ds,) = new_series(1)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    ds.Modality = "SEG"
    archive.store(ds)
    found = archive.find(*place(ds), ds.SOPInstanceUID)
    assert found is not None
    assert (found.SOPClassUID, found.PixelData) == (SegmentationStorage, ds.PixelData)
    (header,) = archive.headers(*place(ds))  # enough to see that it is no CT
    assert header.Modality == "SEG"


def test_headers_follow_the_series(pacs: OrthancServer) -> None:
    archive, series = opened(pacs.dicom_port), new_series(3)
    for ds in series[:2]:
        archive.store(ds)
    before = archive.headers(*place(series[0]))
    assert archive.headers(*place(series[0])) is before  # not retrieved again
    archive.store(series[2])
    assert len(archive.headers(*place(series[0]))) == 3


def test_studies_are_found_by_a_query(archive: DimseArchive) -> None:
    one, other = new_series(1)[0], new_series(1)[0]
    one.StudyDate, other.StudyDate = "20200105", "20210105"
    one.PatientID = other.PatientID = "BACKFILL"
    archive.store(one)
    archive.store(other)
    query = {"StudyDate": "20200101-20201231", "PatientID": "BACKFILL"}
    assert one.StudyInstanceUID in archive.studies(query, 0)
    assert other.StudyInstanceUID not in archive.studies(query, 0)
    assert archive.studies(query, 1) == archive.studies(query, 0)
    assert archive.studies({"PatientID": "NOBODY"}, 0) == ()
    assert one.StudyInstanceUID in archive.studies(query | {"ModalitiesInStudy": "CT"}, 0)


def test_a_series_under_two_patients_is_seen_by_a_relational_query(pacs: OrthancServer) -> None:
    archive = opened(pacs.dicom_port)
    one = new_series(1, patient="P1")[0]
    other = ct_slice(2, series=one.SeriesInstanceUID, study=str(generate_uid()), patient="P2")
    archive.store(one)
    archive.store(other)
    places = {(one.StudyInstanceUID, "P1"), (other.StudyInstanceUID, "P2")}
    assert set(archive.same_series_studies(one.SeriesInstanceUID)) == places


def test_series_with_masks_are_listed(pacs: OrthancServer) -> None:
    archive, study = opened(pacs.dicom_port), str(generate_uid())
    uids = {modality: str(generate_uid())[:40] for modality in ("SEG", "RTSTRUCT", "CT")}
    for modality, uid in uids.items():
        for ds in ct_series(1, series=uid, study=study, modality=modality):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            archive.store(ds)
    assert archive.mask_series(study) == tuple(sorted((uids["SEG"], uids["RTSTRUCT"])))


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("way", ["C-GET", "C-MOVE"])
def test_an_object_travels_in_its_own_transfer_syntax(
    pacs: OrthancServer, listen_port: int, syntax: str, way: str
) -> None:
    archive, (ds,) = opened(pacs.dicom_port, **ways(listen_port)[way]), new_series(1)
    ds.PixelData = bytes(range(128))
    plain = ds.PixelData
    if syntax != DeflatedExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    archive.store(ds)
    (found,) = archive.retrieve(*place(ds))
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.pixel_array.astype("<u2").tobytes() == plain


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian])
def test_a_node_that_takes_no_compression_gets_the_object_uncompressed(tmp_path: Path, syntax: str) -> None:
    (ds,) = new_series(1)
    plain = ds.PixelData = bytes(range(128))
    if syntax != DeflatedExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    with receiver(tmp_path, ["+xe"]) as node:
        opened(node.port, AET).store(ds)
        (file,) = node.storage.iterdir()
        stored = dcmread(file)
    assert stored.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert stored.PixelData == plain
    assert ds.file_meta.TransferSyntaxUID == syntax  # the object itself is as it was


def test_a_node_that_only_receives_is_asked_nothing_else(tmp_path: Path) -> None:
    with receiver(tmp_path) as node:
        archive, (ds,) = opened(node.port, AET), new_series(1)
        assert not archive.holds(*place(ds), ds.SOPInstanceUID)
        archive.store(ds)
        archive.store(ds)
        assert find_problem("pacs", settings(node.port, AET)) == ""
        assert archive.same_series_studies(ds.SeriesInstanceUID) == ()
        with pytest.raises(InputError, match=r"does not support .*: no series can be read from it") as refusal:
            archive.headers(*place(ds))
        assert refusal.value.reason is Refusal.ARCHIVE_REFUSED


def test_a_sop_class_that_a_node_does_not_know_is_not_supported(tmp_path: Path) -> None:
    with query_retrieve_node(tmp_path, US, free_port()) as node:
        (ds,) = new_series(1)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = LABEL_MAP_SEGMENTATION
        with pytest.raises(NotSupportedError, match="archive pacs does not support"):
            opened(node.port, AET).store(ds)


@pytest.mark.parametrize("accepted", [True, False])
def test_orthanc_takes_a_label_map_only_if_it_accepts_unknown_classes(
    new_orthanc: Callable[..., OrthancServer], accepted: bool
) -> None:
    more = {"UnknownSopClassAccepted": accepted, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
    server = new_orthanc(dicom=True, settings=more).start()
    (ds,) = new_series(1)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = LABEL_MAP_SEGMENTATION
    archive = opened(server.dicom_port)
    if accepted:
        archive.store(ds)
        assert archive.holds(*place(ds), ds.SOPInstanceUID)
    else:
        with pytest.raises(NotSupportedError):
            archive.store(ds)


def test_an_instance_that_cannot_be_sent_is_an_error_and_never_a_slice_less(tmp_path: Path) -> None:
    with query_retrieve_node(tmp_path, US, free_port()) as node:
        archive, series = opened(node.port, AET), new_series(4)
        for ds in series:
            archive.store(ds)
        next(file for file in sorted(node.storage.iterdir()) if file.name.startswith("CT")).unlink()
        with pytest.raises(TransientError, match=r"sub-operations failed|did not send|status 0x"):
            list(archive.retrieve(*place(series[0])))


def test_storage_commitment_is_awaited(pacs: OrthancServer, listen_port: int) -> None:
    archive, (ds,) = opened(pacs.dicom_port, Commitment=True, ListenPort=listen_port), new_series(1)
    archive.store(ds)
    assert archive.holds(*place(ds), ds.SOPInstanceUID)


def test_a_node_without_storage_commitment_says_so(tmp_path: Path) -> None:
    with (
        receiver(tmp_path) as node,
        pytest.raises(StoreError, match=r"Storage Commitment.*set Dimse\.Commitment"),
    ):
        opened(node.port, AET, Commitment=True, ListenPort=free_port()).store(new_series(1)[0])


def test_the_port_is_shared_in_turns(pacs: OrthancServer, listen_port: int) -> None:
    series = new_series(3)
    one, other = (opened(pacs.dicom_port, **ways(listen_port)["C-MOVE"]) for _ in range(2))
    for ds in series:
        one.store(ds)
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda a=a: counts.append(len(list(a.retrieve(*place(series[0]))))))
        for a in (one, other, one, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [3, 3, 3, 3]


def test_a_reader_that_leaves_ends_the_retrieval(pacs: OrthancServer, listen_port: int) -> None:
    series = new_series(12)
    for more in ways(listen_port).values():
        archive = opened(pacs.dicom_port, **more)
        for ds in series:
            archive.store(ds)
        instances = archive.retrieve(*place(series[0]))
        next(instances)
        instances.close()
        assert len(list(archive.retrieve(*place(series[0])))) == 12
    assert not [thread for thread in threading.enumerate() if thread.name == "retrieval"]


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"AET": "WRONG"}, "another AE title: check Dimse.AET"),
        ({"Port": 9}, "127.0.0.1:9: Connection refused"),
        ({"Retrieve": "C-MOVE", "MoveAET": "NOBODY"}, "NOBODY"),
    ],
)
def test_a_node_that_does_not_answer_is_told_with_its_remedy(
    new_orthanc: Callable[..., OrthancServer], changed: dict[str, object], remedy: str
) -> None:
    server = new_orthanc(dicom=True, settings={"DicomCheckCalledAet": True, "DicomAlwaysAllowFind": True})
    server.start()
    (ds,) = new_series(1)
    server.rest("/instances", "GET")
    opened(server.dicom_port).store(ds)
    archive = opened(**({"port": server.dicom_port, "ListenPort": free_port()} | _renamed(changed)))  # type: ignore[arg-type]
    with pytest.raises(TransientError, match=remedy):
        list(archive.retrieve(*place(ds)))


def _renamed(changed: dict[str, object]) -> dict[str, object]:
    return {{"AET": "aet", "Port": "port"}.get(key, key): value for key, value in changed.items()}


def test_health_asks_by_c_echo(pacs: OrthancServer) -> None:
    assert find_problem("pacs", settings(pacs.dicom_port)) == ""
    assert "Connection refused" in find_problem("pacs", settings(9))


def test_a_node_that_is_silent_does_not_hold_us_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_plugin.archive.association.CONNECT_TIMEOUT_S", 1.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, pytest.raises(TransientError, match="archive pacs"):
        opened(silent.getsockname()[1]).headers("1.2.3", "1.2.3")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("keys"))


# pynetdicom leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <(ssl.SSLSocket|socket.socket)")
@pytest.mark.parametrize("way", ["C-GET", "C-MOVE"])
def test_a_node_by_tls_with_certificates_on_both_sides(
    new_orthanc: Callable[..., OrthancServer], authority: Authority, way: str
) -> None:
    port, shown, own = free_port(), authority.sign(), authority.sign()
    server = new_orthanc(
        dicom=True,
        settings={
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(shown.certificate),
            "DicomTlsPrivateKey": str(shown.key),
            "DicomTlsTrustedCertificates": str(authority.file),
            "DicomModalities": {"us": {"AET": US, "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}},
        },
    ).start()
    keys = {"CaFile": authority.file, "ClientCertificate": own.certificate, "ClientKey": own.key}
    archive, series = opened(server.dicom_port, tls=keys, **ways(port)[way]), new_series(3)
    for ds in series:
        archive.store(ds)
    assert len(list(archive.retrieve(*place(series[0])))) == 3
    assert find_problem("pacs", settings(server.dicom_port, tls=keys)) == ""
    assert "TLS" in find_problem("pacs", settings(server.dicom_port))
    foreign = Authority(authority.file.parent, "foreign" + way)
    wrong = settings(server.dicom_port, tls=keys | {"CaFile": foreign.file})
    assert "unknown CA: set CaFile" in find_problem("pacs", wrong)
    stranger = settings(server.dicom_port, tls={"CaFile": authority.file})
    assert "client certificate" in find_problem("pacs", stranger)
    gc.collect()  # here, where the warning of such a socket is expected


def test_nothing_of_a_patient_is_logged(pacs: OrthancServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    archive, (ds,) = opened(pacs.dicom_port), new_series(1, patient="SECRETPATIENT")
    archive.store(ds)
    archive.headers(*place(ds))
    archive.same_series_studies(str(ds.SeriesInstanceUID))
    assert "SECRETPATIENT" not in caplog.text
