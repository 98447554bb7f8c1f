"""Seconds and memory of a whole prediction, this project beside the original framework, in one run on one CT.

`make bench-nnunet`, `make bench-segthor`. Weights are random, of the true size, saved by the framework's own trainer
and converted by `convert_model`; both sides have them loaded before the clock starts. v2's predictor gets its volume in
memory as ours does; v1's only reads and writes NIfTI. Each side has a process (tree) of its own, whose memory is
sampled. Runs unchanged where a GPU is: both take it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from orthanc_plugin.catalog.nnunet import Framework, Precision
from tests.parity.nnunet import cts, peers
from tests.parity.nnunet.fixtures import FULLRES, Model, Net
from tests.support.cases.realct import real_ct

OURS, PEER = "ours", "peer"
STAGES = ("preprocessing", "network", "rest")
_SAMPLE_S = 0.25


class TrueNet(Net):
    """A network with as many features as plans for GPUs give it."""

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(min(self.features * 2**stage, 320) for stage in range(len(self.kernels)))


_POOLS = (*((2, 2, 2),) * 4, (1, 1, 2))
TOTAL_FAST = TrueNet("3d_fullres", (3.0, 3.0, 3.0), (112, 112, 128), _POOLS, ((3, 3, 3),) * 6, features=32)
SEGTHOR = TrueNet(
    "3d_fullres",
    (2.5, 0.97656202, 0.97656202),
    (64, 192, 160),
    ((1, 2, 2), *((2, 2, 2),) * 4),
    ((1, 3, 3), *((3, 3, 3),) * 5),
    features=32,
)
_ORGANS_OF_TOTAL = tuple(f"organ_{number}" for number in range(1, 118))
CASES = {
    # As TotalSegmentator's 3 mm model: one network, 117 structures.
    "total-fast": Model(Framework.V2, (TOTAL_FAST,), mirroring=False, organs=_ORGANS_OF_TOTAL, task="Dataset999_Bench"),
    # As SegTHOR's organs in v2's shape: few classes, anisotropic patches.
    "organs": Model(Framework.V2, (replace(SEGTHOR, spacing_mm=(3.0, 1.5, 1.5)),), mirroring=False),
    "small": Model(Framework.V2, (FULLRES,), mirroring=False),
    "segthor": Model(Framework.V1, (SEGTHOR,), mirroring=False),
}


@dataclass(frozen=True, slots=True)
class Side:
    """What one side needed. seconds by stage, end to end under `all`; peak_mib of its processes; device it ran on."""

    seconds: dict[str, float]
    peak_mib: float
    device: str
    labels: np.ndarray


class Clock:
    """Seconds spent inside wrapped functions."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*STAGES, "all"), 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.measure(stage):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def finished(self) -> dict[str, float]:
        self.seconds["rest"] = self.seconds["all"] - self.seconds["preprocessing"] - self.seconds["network"]
        return self.seconds


def run_ours(case: str, work: Path, ct: Path) -> tuple[dict[str, float], str, np.ndarray]:
    """The engine, warm: volume in memory to label map."""
    from orthanc_plugin.catalog.shelf import find_model
    from orthanc_plugin.inference.engine import open_engine
    from orthanc_plugin.inference.nnunet import engine as module
    from orthanc_plugin.inference.nnunet.network import Network
    from orthanc_plugin.inference.providers import Provider

    clock = Clock()
    engine = open_engine(find_model("bench", work), Provider.AUTO)
    clock.wrap(module, "preprocess", "preprocessing")
    clock.wrap(Network, "run", "network")
    volume = cts.load(ct)
    with clock.measure("all"):
        labels = engine.segment(volume).labels
    return clock.finished(), engine.provider, labels


def run_peer(case: str, work: Path, ct: Path) -> tuple[dict[str, float], str, np.ndarray]:
    """The framework's own predictor."""
    peers._prepare({})
    return (_run_v1 if CASES[case].framework is Framework.V1 else _run_v2)(CASES[case], work, ct)


def _run_v2(model: Model, work: Path, ct: Path) -> tuple[dict[str, float], str, np.ndarray]:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = nnUNetPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    folder = peers.folder_v2(model, model.nets[0], work)
    predictor.initialize_from_trained_model_folder(str(folder), (0,), peers.CHECKPOINT_V2)
    clock = Clock()
    clock.wrap(DefaultPreprocessor, "run_case_npy", "preprocessing")
    clock.wrap(nnUNetPredictor, "_internal_maybe_mirror_and_predict", "network")
    volume = cts.load(ct)
    with clock.measure("all"):
        image, properties = volume.voxels_hu[None], {"spacing": list(volume.spacing_mm)}
        labels = predictor.predict_single_npy_array(image, properties, None, None, False)
    return clock.finished(), str(device), np.asarray(labels)


def _run_v1(model: Model, work: Path, ct: Path) -> tuple[dict[str, float], str, np.ndarray]:
    import torch
    from nnunet.inference import predict
    from nnunet.network_architecture.neural_network import SegmentationNetwork

    image = cts.to_nifti(ct, work / "in" / "case_0000.nii.gz")
    clock = Clock()
    clock.wrap(SegmentationNetwork, "_internal_maybe_mirror_and_pred_3D", "network")
    load = predict.load_model_and_checkpoint_files

    def loaded(*args: Any, **kwargs: Any) -> Any:
        trainer, parameters = load(*args, **kwargs)
        clock.seconds["all"] = -time.perf_counter()  # weights are there: the clock starts
        return trainer, parameters

    predict.load_model_and_checkpoint_files = loaded
    # v1 preprocesses in a process of its own; the wait for it is what the prediction spends on it.
    clock.wrap(predict, "preprocess_multithreaded", "preprocessing")
    run = predict.predict_from_folder
    folder = peers.folder_v1(model, model.nets[0], work)
    run(
        str(folder), str(image.parent), str(work / "out"), [0], save_npz=False, num_threads_preprocessing=1,
        num_threads_nifti_save=1, lowres_segmentations=None, part_id=0, num_parts=1, tta=False,
    )  # fmt: skip
    clock.seconds["all"] += time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return clock.finished(), device, cts.voxels_of(work / "out" / "case.nii.gz")


def _child(side: str, case: str, work: Path, ct: Path) -> None:
    seconds, device, labels = (run_ours if side == OURS else run_peer)(case, work, ct)
    np.save(work / f"{side}.npy", labels.astype(np.uint8))
    (work / f"{side}.json").write_text(json.dumps({"seconds": seconds, "device": device}))


def measure_side(side: str, case: str, work: Path, ct: Path) -> Side:
    """Run one side in a process of its own and watch its memory."""
    names = ("RESULTS_FOLDER", "nnUNet_raw_data_base", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    environment = os.environ | dict.fromkeys(names, str(work)) | {"nnUNet_compile": "f"}
    command = [sys.executable, "-m", __spec__.name, case, "--child", side, "--work", str(work), "--ct", str(ct)]
    with (work / f"{side}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        peak = _watched(process)
    if process.returncode:
        raise SystemExit(f"{side} failed:\n{(work / f'{side}.log').read_text()[-4000:]}")
    told = json.loads((work / f"{side}.json").read_text())
    return Side(told["seconds"], peak, told["device"], np.load(work / f"{side}.npy"))


def _watched(process: subprocess.Popen[bytes]) -> float:
    """Highest proportional memory of a process and its children, MiB."""
    peak, done = 0.0, threading.Event()
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for member in (root, *_children(root)):
            try:
                total += member.memory_full_info().pss
            except psutil.Error:
                continue
        peak = max(peak, total / 2**20)
        done.wait(_SAMPLE_S)
    return peak


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def _build(case: str, work: Path) -> None:
    from orthanc_plugin.conversion.convert import convert_model

    model = CASES[case]
    source = peers.write_model(model, work)
    mapping = work / "mapping.json"
    mapping.write_text(json.dumps({organ: _concept(organ) for organ in model.organs}))
    convert_model(
        source, "bench", work, labels=mapping if case == "total-fast" else None, precision=Precision.FP32,
        progress=lambda text: print(text, file=sys.stderr),
    )  # fmt: skip


def _concept(organ: str) -> dict[str, Any]:
    return {"label": organ, "type": {"scheme": "99BENCH", "value": organ, "meaning": organ}}


def main() -> None:
    """Print the table; `--json` gives the figures for machines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--ct", type=Path, help="folder of a CT series (default: lidc_0314_chest of the test data)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=(OURS, PEER), help=argparse.SUPPRESS)
    options = parser.parse_args()
    ct = options.ct or real_ct("lidc_0314_chest") / "dicom"
    if options.child:
        _child(options.child, options.case, options.work, ct)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = dict.fromkeys(("RESULTS_FOLDER", "nnUNet_results", "nnUNet_preprocessed", "nnUNet_raw"), folder)
        peers._prepare(environment)
        _build(options.case, work)
        ours, peer = (measure_side(side, options.case, work, ct) for side in (OURS, PEER))
    _tell(options.case, ours, peer, options.json)


def _tell(case: str, ours: Side, peer: Side, as_json: bool) -> None:
    differing = float((ours.labels != peer.labels).mean())
    if as_json:
        sides = {OURS: {**ours.seconds, "peak_mib": ours.peak_mib}, PEER: {**peer.seconds, "peak_mib": peer.peak_mib}}
        print(json.dumps({"case": case, **sides, "voxels differing": differing}, indent=2))
        return
    print(
        f"{case}: {ours.labels.shape}, ours on {ours.device}, peer on {peer.device}; {differing:.3%} of voxels differ"
    )
    print(f"{'':14} {'ours':>9} {'peer':>9} {'ratio':>6}")
    for stage in (*STAGES, "all"):
        one, other = ours.seconds[stage], peer.seconds[stage]
        print(f"{stage:14} {one:7.1f} s {other:7.1f} s {other / max(one, 1e-9):6.2f}")
    print(f"{'peak':14} {ours.peak_mib:5.0f} MiB {peer.peak_mib:5.0f} MiB {peer.peak_mib / ours.peak_mib:6.2f}")


if __name__ == "__main__":
    main()
