"""Which jobs wait for memory, for how much, and which can never have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from dbos import DBOS

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Configuration, Frame, Part, Previous
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import EnrichJob, JobState
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs import sessions as sessions_module
from orthanc_plugin.jobs.memory import LONGEST_WAIT_S, Memory, NoRoomError, memory_here, needed_bytes, wait_for_room
from orthanc_plugin.jobs.sessions import warm_sessions
from tests.support.cases import nnunet_case
from tests.support.cases.location_case import CHEST
from tests.support.cases.nnunet_case import CONFIGURATION
from tests.support.cases.results_place import Place
from tests.support.fakes.hand_job import HandProcess, job, run
from tests.support.servers.orthanc_server import ROOT, wait_until

GIB = 2**30
PEAKS = ROOT / "tests/benchmarks/memory_peaks.json"
"""What `tests.benchmarks.nnunet_stub` measured."""
WORKER_GIB = 0.5
"""What a worker has loaded and the measured process has not: the engine of jobs, DICOM, radiomics."""
OWN = 1000 * os.sysconf("SC_PAGE_SIZE")
"""Resident memory of the made-up process."""


def linux(directory: Path, total: int, available: int, cgroup: str) -> tuple[Path, Path]:
    """Make a /proc with a process of 1,000 pages, and an empty place for cgroups."""
    own = directory / "proc" / "self"
    own.mkdir(parents=True)
    (own.parent / "meminfo").write_text(
        f"MemTotal: {total // 1024} kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\nHugePages_Total: 0\n"
    )
    (own / "statm").write_text("5000 1000 10 1 0 1 0\n")
    (own / "cgroup").write_text(cgroup)
    return own.parent, directory / "cgroup"


def limited(folder: Path, names: tuple[str, str, str], limit: str, used: int, droppable: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {droppable}\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_without_cgroups_it_is_the_computer(tmp_path: Path) -> None:
    assert memory_here(*linux(tmp_path, 16 * GIB, 4 * GIB, "0::/\n")) == Memory(16 * GIB, 4 * GIB + OWN)


def test_a_cgroup_above_limits_what_is_there_and_files_can_be_dropped(tmp_path: Path) -> None:
    proc, cgroups = linux(tmp_path, 16 * GIB, 12 * GIB, "0::/pod/worker\n")
    limited(cgroups / "pod", V2, str(6 * GIB), 5 * GIB, 2 * GIB)
    limited(cgroups / "pod/worker", V2, "max", GIB, 0)
    assert memory_here(proc, cgroups) == Memory(6 * GIB, 3 * GIB + OWN)


def test_what_is_promised_to_others_is_not_free(tmp_path: Path) -> None:
    proc, cgroups = linux(tmp_path, 16 * GIB, 8 * GIB, "0::/orthanc\n")
    assert memory_here(proc, cgroups, on_host=3 * GIB) == Memory(16 * GIB, 5 * GIB + OWN)
    limited(cgroups / "orthanc", V2, str(6 * GIB), GIB, 0)
    assert memory_here(proc, cgroups, on_host=GIB, in_cgroup=GIB) == Memory(6 * GIB, 4 * GIB + OWN)


def test_cgroups_of_version_1_and_their_word_for_no_limit(tmp_path: Path) -> None:
    proc, cgroups = linux(tmp_path, 16 * GIB, 12 * GIB, "5:cpu,memory:/box\n3:pids:/box\n0::/\n")
    limited(cgroups / "memory/box", V1, str(2 * GIB), GIB, 0)
    limited(cgroups / "memory", V1, "9223372036854771712", 9 * GIB, 0)
    assert memory_here(proc, cgroups) == Memory(2 * GIB, GIB + OWN)


def test_this_computer_has_some() -> None:
    here = memory_here()
    assert 0 < here.free <= here.total


def test_the_estimate_covers_what_was_measured() -> None:
    built_in = find_model("chest_structures", None)
    assert 1.3 * GIB < needed_bytes(275 * 512 * 512, [built_in]) < 1.5 * 1.3 * GIB
    assert needed_bytes(112 * 192 * 192, [built_in]) + 0.1 * GIB >= 0.8 * GIB
    assert needed_bytes(0, [built_in]) == 0


def many_classes(directory: Path, heads: int, patch: tuple[int, int, int] = (128, 128, 128)) -> ModelCard:
    """A card like that of `tests.benchmarks.nnunet_stub`."""
    (directory / "fold_0.onnx").write_bytes(b"")
    configuration = replace(CONFIGURATION, heads=heads, patch_size=patch, spacing_mm=(1.5, 1.5, 1.5))
    return nnunet_case.card(directory, Part((configuration,), tuple(range(heads))))


@pytest.mark.parametrize("row", json.loads(PEAKS.read_text()), ids=lambda row: f"{row['classes']}x{row['slices']}")
def test_the_estimate_of_an_nnunet_lies_above_its_measured_peak_and_not_far(
    row: dict[str, float], tmp_path: Path
) -> None:
    slices = int(row["slices"])
    card = many_classes(tmp_path, int(row["classes"]))
    needed = needed_bytes(slices * 512 * 512, [card], (slices * 1.0, 512 * 0.8, 512 * 0.8)) / GIB
    assert row["peak_gib"] <= needed <= 1.5 * row["peak_gib"] + WORKER_GIB


def test_the_estimate_grows_with_classes_patch_extent_weights_and_probabilities(tmp_path: Path) -> None:
    voxels, extent = 300 * 512 * 512, (300.0, 400.0, 400.0)
    card = many_classes(tmp_path, 25)
    usual = needed_bytes(voxels, [card], extent)
    assert needed_bytes(voxels, [many_classes(tmp_path, 118)], extent) > usual
    assert needed_bytes(voxels, [many_classes(tmp_path, 25, (192, 192, 192))], extent) > usual
    assert needed_bytes(voxels, [card], (300.0, 500.0, 500.0)) > usual
    assert needed_bytes(voxels, [card]) > usual
    assert needed_bytes(voxels, [card, card], extent) == usual
    assert needed_bytes(voxels, [card], extent, probabilities=True) == usual + 2 * 25 * voxels
    (tmp_path / "fold_0.onnx").write_bytes(bytes(31 << 20))
    assert needed_bytes(voxels, [card], extent) > usual + 128**3 * 350 + (31 << 20)


def test_the_estimate_counts_folds_cascades_slices_and_frames(tmp_path: Path) -> None:
    voxels, extent = 100 * 512 * 512, (300.0, 400.0, 400.0)
    one = many_classes(tmp_path, 25)
    (part,) = one.nnunet.parts if one.nnunet else ()
    (whole,) = part.configurations

    def needed(*configurations: Configuration, frame: Frame | None = None) -> int:
        card = nnunet_case.card(tmp_path, Part(configurations, tuple(range(25))), frame=frame)
        return needed_bytes(voxels, [card], extent)

    folds = replace(whole, graphs=("fold_0.onnx", "fold_0.onnx"))
    assert needed(folds) == needed(whole) + 2 * 25 * 128**3 * 4
    assert needed(whole, nnunet_case.planar(whole)) > needed(whole)
    assert needed(nnunet_case.planar(whole)) < needed(whole)
    assert needed(whole, frame=Frame(1.5)) > needed(whole)
    flat, turned = (replace(whole, patch_size=(64, 64, 64), transpose_forward=axes) for axes in ((0, 1, 2), (1, 0, 2)))
    assert needed(turned) < needed(flat)  # its slabs span z and x, which is shorter
    small = replace(whole, heads=3, patch_size=(8, 16, 16))
    cascade = replace(small, previous=Previous(part))
    assert needed(small) < needed(cascade)
    assert needed(whole) <= needed(cascade)


def test_a_job_waits_until_there_is_room_and_says_for_what() -> None:
    free = iter([1.04, 1.01, 1.5, 4.0])
    told: list[str] = []
    slept: list[float] = []
    wait_for_room(3 * GIB, told.append, lambda: Memory(8 * GIB, round(next(free) * GIB)), slept.append)
    assert told == [
        "memory: about 3.0 GiB needed, 1.0 GiB of 8.0 GiB free",
        "memory: about 3.0 GiB needed, 1.5 GiB of 8.0 GiB free",
        "",
    ]
    assert max(slept) < 1.0


def test_a_job_that_finds_no_room_for_long_gives_its_worker_up() -> None:
    slept: list[float] = []
    with pytest.raises(NoRoomError, match=r"about 5\.0 GiB needed, 4\.0 GiB of 8\.0 GiB free"):
        wait_for_room(5 * GIB, lambda text: None, lambda: Memory(8 * GIB, 4 * GIB), slept.append)
    assert sum(slept) == LONGEST_WAIT_S


def test_a_job_without_room_goes_back_to_the_queue_and_others_run(tmp_path: Path) -> None:
    place, asked = Place(f"sqlite:///{tmp_path}/jobs.db"), list[str]()

    def room(wanted: EnrichJob) -> None:
        asked.append(wanted.fingerprint[-2:])
        if asked.count("j1") == 1 and asked[-1] == "j1":
            raise NoRoomError("memory: full")

    place.process.sessions = replace(place.process.sessions, room=room)

    def state(job_id: str) -> JobState:
        return place.queue.show(job_id).state

    with closing(place.queue):
        try:
            place.work()
            place.decide("j1")
            place.queue.settle()
            wait_until(lambda: asked == ["j1"] and state("j1") is JobState.QUEUED, 20, "the return to the queue")
            wait_until(lambda: "j1" in place.queue.cancelled(frozenset({"j1"})), 20, "the end in the engine")
            made = replace(job(None), fingerprint="fingerprint of j2", series_instance_uid="2.25.201")
            row = place.queue.ledger.of_job("j1")
            assert row is not None
            other = replace(row, job_id="j2", fingerprint=made.fingerprint, argument=made.to_json())
            place.queue.enqueue(replace(other, series_instance_uid=made.series_instance_uid), made)
            wait_until(lambda: state("j2") is JobState.DONE, 30, "the other job")
            place.queue.settle()
            wait_until(lambda: state("j1") is JobState.DONE, 30, "the job that waited")
            assert asked == ["j1", "j2", "j1"]
        finally:
            DBOS.destroy(destroy_registry=True)


def test_a_job_that_fits_says_nothing() -> None:
    told: list[str] = []
    wait_for_room(GIB, told.append, lambda: Memory(8 * GIB, 2 * GIB))
    wait_for_room(0, told.append, lambda: Memory(8 * GIB, 0))
    assert told == []


def test_a_job_that_can_never_fit_ends_with_figures_and_a_remedy() -> None:
    process = HandProcess(CHEST)

    def room(told: EnrichJob) -> None:
        wait_for_room(9 * GIB, lambda text: None, lambda: Memory(8 * GIB, 7 * GIB))

    process.sessions = replace(process.sessions, room=room)
    outcome = run(process, job(None))["retrieve"]
    assert (outcome.state, outcome.reason) == ("failed", "failed")
    assert "needs about 9.0 GiB of memory, and this worker may use 8.0 GiB in all" in outcome.detail
    assert "WaitForMemory" in outcome.detail


def test_a_worker_asks_before_it_reads_the_series(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def full(needed: int, tell: object) -> None:
        asked.append(needed)
        raise ConfigError("full")

    monkeypatch.setattr(sessions_module, "wait_for_room", full)
    model = find_model("chest_structures", None)
    plain = job(None)
    planned = replace(plain.plan.models[0], name=model.name, digest=model.digest)
    wanted = replace(plain, plan=replace(plain.plan, models=(planned,)), voxels=10**7)
    for setting, expected in ((True, [needed_bytes(10**7, [model])]), (False, [])):
        asked.clear()
        process = HandProcess(CHEST)
        sessions = warm_sessions(parse_section({"WaitForMemory": setting}, {}), {"local": process.archive})
        with closing(sessions.open(wanted)) as session, pytest.raises(Exception, match="full" if setting else None):
            session.retrieve()
        assert asked == expected


def test_what_a_job_freed_goes_back_to_linux() -> None:
    done = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before - 100 * 2**20


# In a process of its own: in one where other tests ran, part of what is freed lies in holes that Linux had back before.
_FREED = """
import os
import subprocess
import sys
from pathlib import Path
from orthanc_plugin.jobs.sessions import warm_sessions
from orthanc_plugin.config.read import parse_section

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

sessions = warm_sessions(parse_section({}, {}), {})
blocks = [bytes(100_000) for _ in range(2000)]
kept = blocks[::50]  # the heap does not shrink by itself while its end is in use
del blocks
print(resident())
sessions.leave()
print(resident())
"""
