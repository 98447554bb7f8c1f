"""Seconds, memory and bytes of writing a SEG, ours against highdicom's.

    python -m tests.benchmarks.bench_seg                    4 and 104 structures in 300 x 512 x 512
    python -m tests.benchmarks.bench_seg --dicom FOLDER     bytes of a CT series' SEG in each encoding

Each case runs in a process of its own, which encodes and saves a file twice: the first time highdicom loads its tables.
CPU seconds, since other work on the machine changes them less. Linux only: memory is the growth of the process's peak.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Labels, Segmentation
from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.results import seg
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import result_headers
from orthanc_plugin.series.read import read_series
from tests.support.cases.results_case import BONE, CARD, SEG_UID, provenance_of, segment, small_series

SHAPE = (300, 512, 512)
ENCODINGS = (SegEncoding.BINARY, SegEncoding.LABELMAP_RLE)


def main() -> None:
    arguments = _arguments()
    if arguments.dicom:
        _storage(arguments.dicom)
    elif arguments.one:
        writer, structures, encoding = arguments.one
        _measure(writer, int(structures), SegEncoding(encoding))
    else:
        _table()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dicom", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("WRITER", "STRUCTURES", "ENCODING"))
    return parser.parse_args()


def _table() -> None:
    print("| SEG, structures | frames | writer | CPU s, first time | again | elapsed s, again | peak MiB | MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for structures in (4, 104):
        for encoding in ENCODINGS:
            for writer in ("ours", "highdicom"):
                module = "tests.benchmarks.bench_seg"
                subprocess.run([sys.executable, "-m", module, "--one", writer, str(structures), encoding], check=True)


def _measure(writer: str, structures: int, encoding: SegEncoding) -> None:
    series, found, card = _case(structures)
    write = {"ours": _ours, "highdicom": _highdicoms}[writer]
    input_mib = _peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "seg.dcm")
        runs = [_timed(lambda: _save(write(series, found, card, encoding), file)) for _ in range(2)]
        frames, size = int(dcmread(file, specific_tags=["NumberOfFrames"]).NumberOfFrames), file.stat().st_size
    (first, _), (again, elapsed) = runs
    kind = encoding.name.replace("_", " ")
    print(
        f"| {kind}, {structures} | {frames} | {writer} | {first:.1f} | {again:.1f} | {elapsed:.1f} |"
        f" {_peak_mib() - input_mib:.0f} | {size / 1e6:.1f} |",
        flush=True,
    )


def _timed(task: Callable[[], None]) -> tuple[float, float]:
    cpu_s, elapsed_s = time.process_time(), time.perf_counter()
    task()
    return time.process_time() - cpu_s, time.perf_counter() - elapsed_s


def _save(ds: Dataset, file: Path) -> None:
    ds.save_as(file, enforce_file_format=True)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _case(structures: int) -> tuple[CtSeries, Segmentation, ModelCard]:
    """Ellipsoids that do not touch: 4 large ones, or 104 of 60 slices each."""
    labels = np.zeros(SHAPE, np.uint8)
    depth, radius, places = (184, 90, 2) if structures == 4 else (60, 30, 6)
    for number in range(1, structures + 1):
        row, column = divmod((number - 1) % places**2, places)
        first = (number * 37) % (SHAPE[0] // 3 - depth) if structures > 4 else number * 20
        first += (number - 1) // places**2 * (SHAPE[0] // 3)
        centre = [int((place + 0.5) * 512 / places) for place in (row, column)]
        _ellipsoid(labels, first, depth, centre, radius, number)
    card = replace(
        CARD,
        labels=tuple(
            replace(BONE, number=n, key=f"s{n}", label=f"Structure {n}", covers=(n,)) for n in range(1, structures + 1)
        ),
    )
    return small_series(512, 512, 300), Segmentation(labels, tuple(map(segment, card.labels))), card


def _ellipsoid(labels: Labels, first: int, depth: int, centre: list[int], radius: int, number: int) -> None:
    y, x = np.ogrid[:512, :512]
    squared = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    for index in range(depth):
        part = 1 - (2 * (index + 0.5) / depth - 1) ** 2
        labels[(first + index) % SHAPE[0]][squared <= part * radius**2] = number


def _ours(series: CtSeries, found: Segmentation, card: ModelCard, encoding: SegEncoding) -> Dataset:
    return seg.encode_seg(provenance_of(series, SEG_UID, card), found, SegSettings(encoding))


def _highdicoms(series: CtSeries, found: Segmentation, card: ModelCard, encoding: SegEncoding) -> Dataset:
    binary = encoding is SegEncoding.BINARY
    return highdicom.seg.Segmentation(
        result_headers(series), found.labels, "BINARY" if binary else "LABELMAP",
        [SegmentDescription(s.number, s.label, concept(s.category), concept(s.type), "MANUAL") for s in found.segments],
        series_instance_uid="2.25.1", series_number=1, sop_instance_uid=SEG_UID, instance_number=1,
        manufacturer="m", manufacturer_model_name="m", software_versions="1", device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian if binary else RLELossless,
    )  # fmt: skip


def _storage(folder: Path) -> None:
    series = read_series(dcmread(path) for path in sorted(folder.iterdir()))
    card = find_model("chest_structures", None)
    found = open_engine(card, Provider.CPU).segment(series.volume)
    source = series.volume.voxels_hu.size * int(series.headers[0].get("BitsAllocated", 16)) // 8
    print(f"{series.volume.voxels_hu.shape}, {len(found.segments)} structures, source pixels {source / 1e6:.1f} MB")
    print("| encoding | SEG | frames | MB | part of the source's pixels |\n|---|---|---|---|---|")
    for encoding in SegEncoding:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "seg.dcm")
            try:
                ds = _ours(series, found, card, encoding)
            except EncodingError as error:
                print(f"| `{encoding}` | {error} | | | |")
                continue
            _save(ds, file)
            size = file.stat().st_size
        kind = f"{ds.SegmentationType}, {ds.file_meta.TransferSyntaxUID.name}"
        print(f"| `{encoding}` | {kind} | {ds.NumberOfFrames} | {size / 1e6:.2f} | {size / source:.1%} |")


if __name__ == "__main__":
    main()
