"""Measure the CPU time of one slice of a chest in each lossless transfer syntax, by our decoder and by the others.

Usage: python -m tests.benchmarks.decoding [--slices 32]. CPU times hold better on a busy machine than wall times do.
Ours include the checks of `series.pixels.decode`; the others are the plugins that pydicom finds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from orthanc_plugin.series.pixels import decode
from tests.support.cases.compressed import LOSSLESS, compressed
from tests.support.cases.realct import real_ct

ROUNDS = 5


def cpu_ms(decoded: Callable[[Dataset], object], slices: Sequence[Dataset]) -> float:
    """Give the least CPU milliseconds of one slice."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for ds in slices:
            decoded(ds)
        seconds.append(time.process_time() - began)
    return min(seconds) * 1e3 / len(slices)


def others(slices: Sequence[Dataset], syntax: str) -> Iterator[tuple[float, str]]:
    """Measure every plugin that pydicom finds."""
    decoder = get_decoder(UID(syntax))
    for plugin in decoder.available_plugins:
        yield cpu_ms(partial(decoder.as_array, decoding_plugin=plugin), slices), plugin


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=32)
    count = parser.parse_args().slices
    files = sorted(real_ct("lidc_0314_chest/dicom").iterdir())[100 : 100 + count]
    print(f"{count} slices, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print("| transfer syntax | CPU ms | the others, CPU ms |\n|---|---|---|")
    for syntax in LOSSLESS:
        slices = [compressed(dcmread(file), syntax) for file in files]
        told = ", ".join(f"{plugin} {ms:.1f}" for ms, plugin in sorted(others(slices, syntax)))
        print(f"| {UID(syntax).name} | {cpu_ms(decode, slices):.1f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
