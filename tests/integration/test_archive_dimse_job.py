"""The whole job where the archive is a DICOM node or a folder: decided on, enriched, stored back and delivered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.refusal import LABEL_MAP_SEGMENTATION
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.admissions import open_admission
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.record import DeliveryView, JobView
from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.support.cases.enriched import small_chest
from tests.support.servers.dicom_nodes import AET, query_retrieve_node
from tests.support.servers.orthanc_server import free_port, wait_until

WITHIN_S = 240.0
WORKER = Path(__file__).parents[1] / "faults" / "killing_worker.py"
ENDS = (JobState.DONE, JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED)
SECRET = "s3cr3t-of-the-far-archive"


@pytest.fixture(scope="module")
def phantom() -> Sequence[Dataset]:
    return encode_phantom(small_chest(), uid_seed="dimse-job")


@contextmanager
def running_worker(section: Mapping[str, object], directory: Path) -> Iterator[None]:
    file = directory / "section.json"
    file.write_text(json.dumps(section))
    command = [sys.executable, str(WORKER), str(file), "-", str(directory / "died")]
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def enriched(
    section: Mapping[str, object], phantom: Sequence[Dataset], directory: Path
) -> tuple[JobView, Mapping[str, DeliveryView]]:
    """Hint the series of archive `home`, run its job and its deliveries to their ends."""
    configuration = parse_section(dict(section), {})
    with ExitStack() as stack:
        queue = stack.enter_context(closing(JobQueue(configuration.database)))
        with closing(open_admission(configuration, queue)) as admission:
            place = (str(phantom[0].StudyInstanceUID), str(phantom[0].SeriesInstanceUID))
            admission.hint(Hint("home", *place, stable=True))
            admission.tick(0.0)
        (view,) = queue.list()
        stack.enter_context(running_worker(section, directory))

        def over() -> bool:
            shown = queue.show(view.id)
            return shown.state in ENDS and all(d.state in ENDS for d in queue.deliveries.of_job(view.id))

        try:
            wait_until(over, WITHIN_S, "the end of job and deliveries")
        except AssertionError:
            print((directory / "worker.log").read_text()[-4000:])
            raise
        return queue.show(view.id), {d.destination: d for d in queue.deliveries.of_job(view.id)}


def section(directory: Path, archives: Mapping[str, object], **rule: object) -> dict[str, object]:
    only_home = {"Match": {"Archive": ["home"]}}
    return {
        "StateDirectory": str(directory / "state"),
        "StableAge": 0,
        "Provider": "cpu",
        "Archives": archives,
        "Rules": [{"Name": "all", "Destinations": [name for name in archives if name != "home"], **only_home, **rule}],
    }


def test_a_series_of_a_dicom_node_is_enriched_there_and_delivered(tmp_path: Path, phantom: Sequence[Dataset]) -> None:
    port = free_port()
    with (
        query_retrieve_node(tmp_path / "home", "ENRICHMENT", port) as home,
        query_retrieve_node(tmp_path / "old", "ENRICHMENT", free_port()) as old,
    ):
        node = {"Host": "127.0.0.1", "Port": home.port, "AET": AET, "Retrieve": "C-MOVE", "ListenPort": port}
        archives = {
            "home": {"Dimse": node},
            "old": {"Dimse": {"Host": "127.0.0.1", "Port": old.port, "AET": AET}},
            "nas": {"Folder": str(tmp_path / "nas")},
        }
        (tmp_path / "nas").mkdir()
        settings = section(tmp_path, archives, SegEncoding="binary")  # dcmtk 3.6.7 knows no label maps
        with closing(open_archive("home", parse_section(settings, {}).archives["home"])) as archive:
            for ds in phantom:
                archive.store(ds)
        view, deliveries = enriched(settings, phantom, tmp_path)
        assert (view.state, view.error) == (JobState.DONE, "")
        kinds = sorted(item.kind for item in view.objects)
        assert len(kinds) >= 3
        assert {name: (d.state, d.error) for name, d in deliveries.items()} == {
            "old": (JobState.DONE, ""),
            "nas": (JobState.DONE, ""),
        }
        with closing(open_archive("home", parse_section(settings, {}).archives["home"])) as archive:
            for item in view.objects:
                found = archive.find(item.study_instance_uid, item.series_instance_uid, item.sop_instance_uid)
                assert found is not None
                assert found.SOPClassUID == item.sop_class_uid
        for item in view.objects:
            place = (item.study_instance_uid, item.series_instance_uid, f"{item.sop_instance_uid}.dcm")
            assert dcmread(tmp_path.joinpath("nas", *place)).SOPInstanceUID == item.sop_instance_uid


def test_a_label_map_of_a_folder_reaches_a_node_that_knows_none_as_binary(
    tmp_path: Path, phantom: Sequence[Dataset]
) -> None:
    source = tmp_path / "nas"
    source.mkdir()
    for number, ds in enumerate(phantom):
        ds.save_as(source / f"IM{number}", enforce_file_format=True)
    with query_retrieve_node(tmp_path / "old", "ENRICHMENT", free_port()) as old:
        far = {"Host": "127.0.0.1", "Port": old.port, "AET": AET}
        archives = {
            "home": {"Folder": str(source)},
            "old": {"Dimse": far, "Fallback": ["binary-seg"]},
            "strict": {"Dimse": far | {"CallingAET": "OTHER"}},
            "web": {"Url": "http://127.0.0.1:9/dicom-web", "User": "ai", "Password": SECRET},
        }
        settings = section(tmp_path, archives, SegEncoding="labelmap")
        view, deliveries = enriched(settings, phantom, tmp_path)
        assert (view.state, view.error) == (JobState.DONE, "")
        assert LABEL_MAP_SEGMENTATION in {item.sop_class_uid for item in view.objects}
        done = deliveries["old"]
        assert done.state is JobState.DONE
        assert any("sent instead as binary-seg" in note for note in done.notes)
        received = [
            dcmread(file, stop_before_pixels=True) for file in old.storage.iterdir() if file.name != "index.dat"
        ]
        classes = {ds.SOPClassUID for ds in received}
        assert SegmentationStorage in classes
        assert LABEL_MAP_SEGMENTATION not in classes
        assert Comprehensive3DSRStorage in classes
        refused = deliveries["strict"]
        assert refused.state is JobState.FAILED
        assert "not supported by destination" in refused.error
        assert deliveries["web"].state is JobState.FAILED
        everything = (tmp_path / "worker.log").read_text() + repr((view, deliveries))
        everything += "".join(
            file.read_text(errors="replace") for file in (tmp_path / "state").iterdir() if file.is_file()
        )
        assert SECRET not in everything
