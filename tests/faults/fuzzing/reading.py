"""Read one mutated series as `orthanc-enrich run` does, in a process of its own with a cap on memory."""

from __future__ import annotations

import hashlib
import io
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import date
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydicom import dcmread

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.config.rule import DEFAULT_RULE
from orthanc_plugin.domain.input_quality import InputLimits
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EnrichError, InputError
from orthanc_plugin.quality.scan import measure_scan
from orthanc_plugin.results.headers import check_identity
from orthanc_plugin.rules.decide import explain
from orthanc_plugin.rules.tags import series_tags
from orthanc_plugin.series import read as reader
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.read import read_series
from tests.faults.fuzzing.corpus import Files, sources
from tests.faults.fuzzing.mutations import mutate

_MEMORY_DISK = Path("/dev/shm")
MEMORY_MIB = 3072
"""Address space of the worker beyond what its libraries take."""

_DECIDING = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType",
    "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit", "NumberOfFrames",
    "PixelData", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "TemporalPositionIndex", "TriggerTime",
)  # fmt: skip


@dataclass(frozen=True)
class Read:
    """What came of one mutated series.

    outcomes: of each series found: `volume`, `volume changed` (pixels or geometry were touched), a reason, or a fault.
    faults: what must not happen, with its place.
    """

    number: int
    source: str
    mutation: str
    outcomes: tuple[str, ...]
    faults: tuple[str, ...]
    peak_mib: float
    seconds: float = 0.0


def case(number: int, seed: int, real: bool, source: str = "") -> tuple[str, str, Files, Files]:
    """Give source, mutation, original files and mutated files of one case.

    The number decides all of it, unless a source is named: the draw depends on which sources there are.
    """
    chance = random.Random(f"{seed}/{number}")
    held = sources(real)
    drawn = chance.choices(list(held), [weight for weight, _ in held.values()])[0]
    source = source or drawn
    files = held[source][1]
    mutation, mutated = mutate(files, chance)
    return source, mutation, files, mutated


def read_case(number: int, seed: int, real: bool, source: str = "") -> Read:
    """Read one case and judge what came of it."""
    source, mutation, files, mutated = case(number, seed, real, source)
    began = time.monotonic()
    outcomes, faults = read_files(mutated, files)
    seconds = round(time.monotonic() - began, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Read(number, source, mutation, tuple(outcomes), tuple(faults), round(peak), seconds)


def read_files(mutated: Files, original: Files) -> tuple[list[str], list[str]]:
    """Read mutated files; give outcomes and faults."""
    outcomes, faults = [], []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for index, file in enumerate(mutated):
            (source / f"{index:03d}").write_bytes(file)
        try:
            archive = FolderArchive(source, Path(folder) / "out")
            faults += _lost(archive, len(mutated))
            for series in archive.series:
                outcome = _series(archive, series.study_instance_uid, series.series_instance_uid)
                if isinstance(outcome, CtSeries):
                    outcomes.append(_compared(outcome, mutated, original, faults))
                else:
                    outcomes.append(outcome)
        except Exception as error:
            faults.append(_fault(error))
    return outcomes or ["no series"], faults


def _lost(archive: FolderArchive, count: int) -> list[str]:
    """Every file belongs to a series or is named; one that may belong to several counts once."""
    named = {*archive.skipped}
    for series in archive.series:
        named.update(series.files, series.unreadable)
    return [] if len(named) == count else [f"{count - len(named)} file(s) not accounted for"]


def _series(archive: FolderArchive, study_uid: str, series_uid: str) -> CtSeries | str:
    try:
        headers = archive.headers(study_uid, series_uid)
        tags = series_tags(headers, None, archive=archive.name, today=date(2026, 1, 1))
        explain([DEFAULT_RULE], tags)
        identity_of(headers)
        series = read_series(archive.retrieve(study_uid, series_uid))
        check_identity(series)
        measure_scan(series, InputLimits())
    except InputError as error:
        return str(error.reason)
    except EnrichError as error:
        return f"{type(error).__name__}"
    return series


def _compared(series: CtSeries, mutated: Files, original: Files, faults: list[str]) -> str:
    before = _original(original)
    after = _digest(series)
    if after == before:
        return "volume"
    if before is not None and _deciding(mutated) == _decided(original):
        faults.append("silently wrong: another volume, though pixels and geometry are untouched")
    return "volume changed"


_known: dict[Files, str | None] = {}


def _original(files: Files) -> str | None:
    """Digest of the volume that the original files give; None where they are refused."""
    if files not in _known:
        try:
            _known[files] = _digest(read_series([dcmread(io.BytesIO(file)) for file in files]))
        except EnrichError:
            _known[files] = None
    return _known[files]


def _digest(series: CtSeries) -> str:
    volume = series.volume
    content = volume.voxels_hu.tobytes() + volume.affine.tobytes() + repr(volume.spacing_mm).encode()
    return hashlib.sha256(content).hexdigest()


def _deciding(files: Iterable[bytes]) -> Counter[str] | None:
    """What decides the volume, of every file; None where a file cannot be parsed."""
    told: set[str] = set()
    try:
        for file in files:
            ds = dcmread(io.BytesIO(file), force=True)
            values = [str(getattr(ds, "file_meta", {}).get("TransferSyntaxUID"))]
            values += [f"{keyword}={ds.get(keyword)!r}" for keyword in _DECIDING]
            told.add(hashlib.sha256("\n".join(values).encode()).hexdigest())
    except Exception:
        return None
    return Counter(told)


@cache
def _decided(original: Files) -> Counter[str] | None:
    return _deciding(original)


def _fault(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "orthanc_plugin" in frame.filename] or list(frames)
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}"


class _InPlace(Executor):
    """Runs what is submitted at once: on a loaded machine every turn of a thread is waited for."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__()

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def serve(pipe: Connection, seed: int, real: bool) -> None:
    """Read the cases whose numbers come through the pipe, until None comes."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sources(real)
    reader.CarryingPool = _InPlace  # type: ignore[assignment, attr-defined]
    if _MEMORY_DISK.is_dir():
        tempfile.tempdir = str(_MEMORY_DISK)
    used = int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line))
    resource.setrlimit(resource.RLIMIT_AS, ((used << 10) + (MEMORY_MIB << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr = io.StringIO()  # decoders write there what they think of damaged streams
    while (number := pipe.recv()) is not None:
        pipe.send(read_case(number, seed, real))
