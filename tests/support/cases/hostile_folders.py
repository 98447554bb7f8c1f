"""Folders of small files that claim to be large, and the memory that `inspect` takes for them.

Usage: python -m tests.support.cases.hostile_folders FOLDER ...; inspects each folder in this process, under a cap on
its address space, and prints exit codes, refusals and peaks as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from orthanc_plugin.cli import main as cli
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.compressed import compressed

CAP_MIB = 1536
"""Address space beyond what the libraries take: more is a MemoryError, which no refusal names."""

LARGE_SIDE = 60_000
_ZEROS_MIB = 320  # a little more than is inflated
_PIXELS = b"\xe0\x7f\x10\x00"
Files = list[bytes]


@dataclass(frozen=True)
class Inspected:
    """What came of one folder: refusals of its series, and the peak of the process so far."""

    code: int
    reasons: tuple[str, ...]
    peak_mib: float


def encoded(ds: Dataset) -> bytes:
    """Give the dataset as a file."""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _slices() -> list[Dataset]:
    return list(encode_phantom(make_phantom((24, 24, 24), (5, 14, 14))))


def _all(change: Callable[[Dataset], Dataset]) -> Callable[[], Files]:
    return lambda: [encoded(change(ds)) for ds in _slices()]


def _set(**values: object) -> Callable[[Dataset], Dataset]:
    def change(ds: Dataset) -> Dataset:
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return ds

    return change


def zeros(mib: int) -> bytes:
    """End a deflated part with so many MiB of zeros; a block that was flushed can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * mib + packer.flush()


def _deflated(begin: Callable[[bytes], bytes], zeros_mib: int) -> Callable[[], Files]:
    """Let one file unfold to so many zeros behind its beginning."""

    def files() -> Files:
        made = _slices()
        plain = encoded(made[0])
        made[0].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        file = encoded(made[0])
        end = 132 + 12 + int.from_bytes(file[140:144], "little")
        head = 132 + 12 + int.from_bytes(plain[140:144], "little")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = packer.compress(begin(plain[head:])) + packer.flush(zlib.Z_FULL_FLUSH)
        return [file[:end] + first + zeros(zeros_mib), *map(encoded, made[1:])]

    return files


def _large_j2k(ds: Dataset) -> Dataset:
    ds = compressed(ds, JPEG2000Lossless)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    side = LARGE_SIDE.to_bytes(4)
    ds.PixelData = encapsulate([frame[:8] + 2 * side + frame[16:24] + 2 * side + frame[32:]])
    ds.Rows = ds.Columns = LARGE_SIDE
    return ds


def _large_compressed(syntax: str) -> Callable[[Dataset], Dataset]:
    def change(ds: Dataset) -> Dataset:
        ds = compressed(ds, syntax)
        ds.Rows = ds.Columns = LARGE_SIDE
        return ds

    return change


def _put_before_pixels(put: bytes) -> Callable[[], Files]:
    def files() -> Files:
        plain = list(map(encoded, _slices()))
        at = plain[0].index(_PIXELS)
        return [plain[0][:at] + put + plain[0][at:], *plain[1:]]

    return files


_OPEN = bytes.fromhex("4000750253510000fffffffffeff00e0ffffffff")
_CLOSE = bytes.fromhex("feff0de000000000feffdde000000000")
_LONG = bytes.fromhex("01701010554e0000f0ffffff")

HOSTILE: dict[str, tuple[Callable[[], Files], frozenset[str]]] = {
    "deflated bomb": (_deflated(lambda head: b"", _ZEROS_MIB), frozenset({"unreadable"})),
    "deflated bomb in the pixels": (
        _deflated(lambda head: head[: head.index(_PIXELS) + 8] + b"\xf0\xff\xff\xff", _ZEROS_MIB),
        frozenset({"unreadable"}),
    ),
    "Rows and Columns of 60000": (_all(_set(Rows=LARGE_SIDE, Columns=LARGE_SIDE)), frozenset({"too-large"})),
    "Rows and Columns of 4000": (
        _all(_set(Rows=4000, Columns=4000, PixelSpacing=[0.1, 0.1])),
        frozenset({"unreadable"}),
    ),
    "JPEG 2000 of 60000 x 60000": (_all(_large_j2k), frozenset({"too-large", "unreadable"})),
    "RLE of 60000 x 60000": (_all(_large_compressed(RLELossless)), frozenset({"too-large", "unreadable"})),
    "JPEG of 60000 x 60000": (_all(_large_compressed(JPEGLosslessSV1)), frozenset({"too-large", "unreadable"})),
    "a billion frames": (_all(_set(NumberOfFrames=10**9)), frozenset({"multi-frame"})),
    "a billion frames, Enhanced CT": (
        _all(_set(NumberOfFrames=10**9, SOPClassUID=EnhancedCTImageStorage)),
        frozenset({"too-large", "unreadable"}),
    ),
    "sequences 5000 deep": (_put_before_pixels(_OPEN * 5000 + _CLOSE * 5000), frozenset({"unreadable"})),
    "sequences 5000 deep without end": (_put_before_pixels(_OPEN * 5000), frozenset({"unreadable"})),
    "an element of 4 GiB": (_put_before_pixels(_LONG), frozenset({"unreadable"})),
    "pixels of 50 mm": (_all(_set(PixelSpacing=[50, 50])), frozenset({"too-large"})),
    "pixels of 5000 km": (_all(_set(PixelSpacing=[5e9, 5e9])), frozenset({"too-large"})),
}
"""Each with the refusals that are right."""


def written(name: str, folder: Path) -> Path:
    """Write the files of a case."""
    folder.mkdir(parents=True)
    for number, content in enumerate(HOSTILE[name][0]()):
        (folder / f"{number:03}.dcm").write_bytes(content)
    return folder


def inspected(folders: Sequence[Path]) -> tuple[Inspected, ...]:
    """Inspect folders one after the other in a process of its own."""
    command = [sys.executable, "-m", __name__, *map(str, folders)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(Inspected(code, tuple(reasons), peak) for code, reasons, peak in json.loads(done.stdout))


def _inspect(folder: str) -> tuple[int, list[str], float]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(["inspect", folder, "--json"])
    return code, [one["reason"] for one in json.loads(out.getvalue())], _peak_mib()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _used_bytes(status: Iterator[str]) -> int:
    return next(int(line.split()[1]) for line in status if line.startswith("VmSize")) << 10


def main() -> None:
    """Inspect the folders; the first one shows what libraries take, and the cap is set after it."""
    found = []
    for number, folder in enumerate(sys.argv[1:]):
        found.append(_inspect(folder))
        if number == 0:
            used = _used_bytes(iter(Path("/proc/self/status").read_text().splitlines()))
            resource.setrlimit(resource.RLIMIT_AS, (used + (CAP_MIB << 20),) * 2)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
