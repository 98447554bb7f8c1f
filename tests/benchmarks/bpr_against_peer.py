"""Volume in memory to landmarks: this project's engine against bpreg's own inference, same CT, same weights, one run.

    python -m tests.benchmarks.bpr_against_peer                     LIDC-IDRI-0314, 275 slices at 1 mm
    python -m tests.benchmarks.bpr_against_peer --slices 60         the middle 60 slices of it
    python -m tests.benchmarks.bpr_against_peer --thin 5            every 5th slice

Runs in the environment of the parity tests, on the CPU; both sides take turns, and the fastest turn of each counts. The
weights are random but for the last layer, which is fitted to every 7th slice so that scores rise through the scan.
`peer mode` scores every slice as bpreg does; `default` scores every slice that lies 4 mm from the last, and its error
is what that changes. CPU seconds count all threads, and tell more than the clock where other programs run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.bpr.engine import BprEngine, Mode
from orthanc_plugin.inference.bpr.slices import slice_batches
from orthanc_plugin.inference.providers import Provider
from tests.parity.bpr import bpreg_stages
from tests.parity.bpr.peers import Peer
from tests.parity.bpr.public_folder import END_RAW, START_RAW, fit_head, random_weights, write_public_folder
from tests.parity.nnunet.cts import load
from tests.support.cases import bpr_case
from tests.support.cases.realct import real_ct

_MODEL = bpr_case.bpr_model(START_RAW, END_RAW, size=128, pixel_mm=3.5)


def main() -> None:
    arguments = _arguments()
    volume = _part(load(real_ct("lidc_0314_chest/dicom")), arguments.slices, arguments.thin)
    with tempfile.TemporaryDirectory() as folder:
        _run(volume, Path(folder), arguments.turns)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=275)
    parser.add_argument("--thin", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


def _part(volume: Volume, slices: int, thin: int) -> Volume:
    first = max(0, (len(volume.voxels_hu) - slices) // 2)
    z, y, x = volume.spacing_mm
    affine = volume.affine.copy()
    affine[:3, 2] *= thin
    return Volume(np.ascontiguousarray(volume.voxels_hu[first : first + slices : thin]), (z * thin, y, x), affine)


def _run(volume: Volume, root: Path, turns: int) -> None:
    card = _models(volume, root)
    np.save(root / "voxels.npy", volume.voxels_hu)
    ours = {mode: BprEngine(card, Provider.CPU, mode) for mode in Mode}
    peer = Peer(threads=len(os.sched_getaffinity(0)))
    theirs, stages, found = [], [], {}
    whole: dict[Mode, list[tuple[float, float]]] = {mode: [] for mode in Mode}
    for _ in range(turns):
        theirs.append(peer.call(bpreg_stages.timed, root / "model", root / "voxels.npy", volume.spacing_mm))
        stages.append(_stages(volume, ours[Mode.PEER]))
        for mode, engine in ours.items():
            start, cpu = time.perf_counter(), time.process_time()
            found[mode] = engine.locate(volume)
            whole[mode].append((time.perf_counter() - start, time.process_time() - cpu))
    peer.close()
    _report(volume, theirs, stages, whole, found)


def _models(volume: Volume, root: Path) -> ModelCard:
    """The same weights for both: bpreg's folder `model`, and the card of what it is converted to."""
    state = random_weights(20)
    z, y, x = volume.spacing_mm
    chosen = range(min(3, len(volume.voxels_hu) - 1), len(volume.voxels_hu), 7)
    slices = np.concatenate(list(slice_batches(volume.voxels_hu, (y, x), chosen, _MODEL, 16)))
    scores = 38 + 0.118 * z * np.array(chosen)
    state = fit_head(state, slices, START_RAW + scores / 100 * (END_RAW - START_RAW))
    return convert_model(write_public_folder(root / "model", state), "bpr", root)


def _stages(volume: Volume, engine: BprEngine) -> dict[str, float]:
    """Seconds for the slices and the network, every slice."""
    _, y, x = volume.spacing_mm
    start = time.perf_counter()
    batches = list(slice_batches(volume.voxels_hu, (y, x), range(len(volume.voxels_hu)), _MODEL, 16))
    seconds = {"slices": time.perf_counter() - start}
    for batch in batches:
        engine._network.run(batch)
    return seconds | {"network": time.perf_counter() - start - seconds["slices"]}


def _report(
    volume: Volume,
    theirs: list[tuple[dict[str, float], np.ndarray]],
    stages: list[dict[str, float]],
    whole: dict[Mode, list[tuple[float, float]]],
    found: dict[Mode, BodyLocation],
) -> None:
    print(f"{'x'.join(map(str, volume.voxels_hu.shape))}, {' x '.join(f'{s:.3f}' for s in volume.spacing_mm)} mm")
    print(f"{len(os.sched_getaffinity(0))} CPUs, torch against ONNX Runtime {onnxruntime.__version__}")
    print(f"{'':10} {'slices s':>9} {'network s':>9} {'whole s':>8} {'faster':>7} {'CPU s':>7} {'faster':>7}")
    bpreg = {stage: min(turn[stage] for turn, _ in theirs) for stage in theirs[0][0]}
    ours = {stage: min(turn[stage] for turn in stages) for stage in stages[0]}
    best = {mode: tuple(map(min, zip(*turns, strict=True))) for mode, turns in whole.items()}
    print(
        f"{'bpreg':10} {bpreg['slices']:9.2f} {bpreg['network']:9.2f} {bpreg['whole']:8.2f} {'':7} {bpreg['cpu']:7.2f}"
    )
    for mode, (seconds, cpu) in best.items():
        parts = f"{ours['slices']:9.2f} {ours['network']:9.2f}" if mode is Mode.PEER else f"{'':19}"
        print(f"{mode:10} {parts} {seconds:8.2f} {bpreg['whole'] / seconds:7.1f} {cpu:7.2f} {bpreg['cpu'] / cpu:7.1f}")
    raw = (theirs[0][1] - START_RAW) * 100 / (END_RAW - START_RAW)
    for mode, location in found.items():
        difference = np.abs(np.array(location.raw_scores, float) - raw).max()
        print(f"{mode}: raw scores differ from bpreg's by at most {difference:.2g}; {location.tag}; {location.reason}")
    print(f"landmarks in both modes, default against peer mode, slices: {_moved(found)}")


def _moved(found: dict[Mode, BodyLocation]) -> str:
    ours, theirs = ({mark.key: mark.slice_index for mark in found[mode].landmarks} for mode in Mode)
    return ", ".join(f"{key} {ours[key] - theirs[key]:+d}" for key in ours if key in theirs)


if __name__ == "__main__":
    main()
