"""Measure how long one slice of a chest takes to decode in each lossless transfer syntax, on one thread and on two.

Usage: python -m tests.benchmarks.decoding [--slices 32]. Other programs disturb the ratio of wall seconds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from orthanc_plugin.series.pixels import decode
from tests.support.cases.compressed import LOSSLESS, compressed
from tests.support.cases.realct import real_ct

ROUNDS = 5


def measured(slices: Sequence[Dataset], threads: int) -> tuple[float, float]:
    """Give the least CPU and wall milliseconds of one slice."""
    cpu, wall = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            before, began = time.process_time(), time.perf_counter()
            for _ in pool.map(decode, slices):
                pass
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - before)
    return min(cpu) * 1e3 / len(slices), min(wall) * 1e3 / len(slices)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=32)
    count = parser.parse_args().slices
    files = sorted(real_ct("lidc_0314_chest/dicom").iterdir())[100 : 100 + count]
    print(f"{count} slices, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print("| transfer syntax | CPU ms | wall ms, 1 thread | wall ms, 2 threads | ratio |\n|---|---|---|---|---|")
    for syntax in LOSSLESS:
        slices = [compressed(dcmread(file), syntax) for file in files]
        (cpu, one), (_, two) = measured(slices, 1), measured(slices, 2)
        print(f"| {UID(syntax).name} | {cpu:.1f} | {one:.1f} | {two:.1f} | {one / two:.2f} |", flush=True)


if __name__ == "__main__":
    main()
