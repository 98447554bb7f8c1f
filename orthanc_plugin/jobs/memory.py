"""Memory admission: a job that does not fit into the memory of its worker waits; one that never fits ends.

The estimate is the larger of what the stages around the models need, and what the largest model needs beside the CT.
docs/decisions/0055-what-limits-a-job.md compares it with measured peaks.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.inference.nnunet.footprint import Extent, network_bytes
from orthanc_plugin.inference.probabilities import MOST_BYTES

BASE_BYTES = 700 << 20
"""Of a worker with the libraries and a small model."""
BYTES_A_VOXEL = 13
"""Of the series as stored, in HU, and of the masks, over all stages without a large model."""
_BESIDE_A_MODEL = 6
"""Bytes a voxel beside a model that runs: the CT in HU, and two label maps."""
UNKNOWN_EXTENT = (1000.0, 500.0, 500.0)
"""Size in millimetres that is assumed of a CT whose headers do not tell it: a whole body in a usual field of view."""
LOOK_S = 5.0
LONGEST_WAIT_S = 900.0
"""After that the job goes back to the queue, so that it does not hold the worker while others wait."""
_SHORT_SLEEP_S = 0.5
_UNLIMITED = 1 << 60
"""What cgroups of version 1 say where there is no limit is larger."""


class NoRoomError(BaseException):
    """A job waited long enough for memory; it goes back to the queue.

    The engine records every `Exception` as the end of the workflow, and this is not its end.
    """


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes that this process may use: in all, and now (its own is counted as free)."""

    total: int
    free: int


def needed_bytes(
    voxels: int, cards: Iterable[ModelCard], extent_mm: Extent | None = None, *, probabilities: bool = False
) -> int:
    """Estimate the peak of a job; 0 if the number of voxels is not known.

    Parameters
    ----------
    voxels : int
        Pixels of all instances.
    cards : iterable of ModelCard
        The models of the job.
    extent_mm : tuple of float, optional
        Size of the CT along (z, y, x).
    probabilities : bool
        Whether the probabilities of the structures are kept.
    """
    if not voxels:
        return 0
    known = tuple(cards)
    models = (network_bytes(card, extent_mm or UNKNOWN_EXTENT) for card in known)
    if probabilities:
        models = (needed + _shares(card, voxels) for needed, card in zip(models, known, strict=True))
    stages = max(BYTES_A_VOXEL * voxels, _BESIDE_A_MODEL * voxels + max(models, default=0))
    return BASE_BYTES + stages + sum(map(_weights, known))


def _weights(card: ModelCard) -> int:
    return sum((card.directory / graph.file).stat().st_size for graph in card.graphs)


def _shares(card: ModelCard, voxels: int) -> int:
    """Return the bytes of the probabilities of a model, which are copied once; 0 if they are too many to be kept."""
    needed = (len(card.labels) + 1) * voxels
    return 2 * needed if needed <= MOST_BYTES else 0


def memory_here(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup"), *, on_host: int = 0, in_cgroup: int = 0
) -> Memory:
    """Ask Linux what memory this process may use: that of the computer, or less where a cgroup limits it.

    `on_host` bytes of the computer and `in_cgroup` bytes of the cgroup are promised to others and not used yet.
    """
    known = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines() if ":" in line)
    total, free = (int(known[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    free -= on_host
    for limit, used in _limits(proc, cgroups):
        total, free = min(total, limit), min(free, limit - used - in_cgroup)
    resident = int((proc / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Memory(total, min(total, free + resident))


def _limits(proc: Path, cgroups: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of each cgroup above this process; pages of files that can be dropped are not counted."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (root / inside, *(root / parent for parent in inside.parents)):
            if found := _limit(folder, *names):
                yield found


def _limit(folder: Path, limit: str, used: str, droppable: str) -> tuple[int, int] | None:
    try:
        most, now = (folder / limit).read_text().strip(), int((folder / used).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such cgroup, or not ours to see
        return None
    if most == "max" or int(most) >= _UNLIMITED:
        return None
    return int(most), now - int(stat.get(droppable, 0))


def wait_for_room(
    needed: int,
    tell: Callable[[str], None],
    memory: Callable[[], Memory] = memory_here,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until a job fits into memory.

    Parameters
    ----------
    needed : int
        Estimate of its peak in bytes.
    tell : callable
        Is told what the job waits for, and an empty text at the end of the wait.
    memory : callable
        What this process may use.
    sleep : callable
        Waits some seconds; short, so that a cancelled job can be interrupted.

    Raises
    ------
    ConfigError
        If it can never fit: the operator must act.
    NoRoomError
        If it did not fit for `LONGEST_WAIT_S`.
    """
    told, waited_s = "", 0.0
    while needed > (here := memory()).free:
        if needed > here.total:
            raise ConfigError(
                f"the job needs about {_gib(needed)} of memory, and this worker may use {_gib(here.total)} in all: give"
                " it more and retry the job, or set WaitForMemory to false to let it try"
            )
        if (text := f"memory: about {_gib(needed)} needed, {_gib(here.free)} of {_gib(here.total)} free") != told:
            tell(text)
            told = text
        if waited_s >= LONGEST_WAIT_S:
            raise NoRoomError(text)
        for _ in range(round(LOOK_S / _SHORT_SLEEP_S)):
            sleep(_SHORT_SLEEP_S)
        waited_s += LOOK_S
    if told:
        tell("")


def give_back() -> None:
    """Return to Linux what this process has freed: the C library keeps it, and a neighbour would not have it."""
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
