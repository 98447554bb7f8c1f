"""Seconds and memory of a whole prediction, this project beside the original framework, in one run on one CT.

`make bench-nnunet`, `make bench-segthor`. Weights are random, of the true size, saved by the framework's own trainer
and converted by `convert_model`; both sides have them loaded before the clock starts. v2's predictor gets its volume in
memory as ours does; v1's only reads and writes NIfTI. Each side has a process (tree) of its own, whose memory is
sampled. A side that takes more time or memory than it may is a row of the table that says so. Runs unchanged where a
GPU is: both take it. `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from orthanc_plugin.catalog.nnunet import Framework, Precision
from tests.benchmarks.scaling_page import PERFORMANCE, markdown, write_part
from tests.parity.nnunet import cts, peers
from tests.parity.nnunet.fixtures import FULLRES, Model, Net
from tests.support.cases.realct import real_ct

OURS, RUNTIME, PEER = "ours", "ours-cpu", "peer"
"""This project with the provider `auto` (here OpenVINO), with ONNX Runtime's CPU provider, and the framework itself."""

SIDES = (OURS, RUNTIME, PEER)
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
    """What one side needed. seconds by stage, end to end under `all`, CPU under `cpu`; peak_mib of its processes."""

    seconds: dict[str, float]
    peak_mib: float
    device: str = ""
    labels: np.ndarray | None = None
    broken_off: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one side may take; the machine must survive a peer that wants more."""

    seconds: float
    gib: float


class Clock:
    """Seconds spent inside wrapped functions."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*STAGES, "all", "cpu"), 0.0)
        self.cpu_before = time.process_time()

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
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self.seconds["cpu"] = sum(each.ru_utime + each.ru_stime for each in used) - self.cpu_before
        self.seconds["rest"] = self.seconds["all"] - self.seconds["preprocessing"] - self.seconds["network"]
        return self.seconds


def run_ours(side: str, work: Path, ct: Path) -> tuple[dict[str, float], str, np.ndarray]:
    """The engine, warm: volume in memory to label map."""
    from orthanc_plugin.catalog.shelf import find_model
    from orthanc_plugin.inference.engine import open_engine
    from orthanc_plugin.inference.nnunet import engine as module
    from orthanc_plugin.inference.nnunet.network import Network
    from orthanc_plugin.inference.providers import Provider

    engine = open_engine(find_model("bench", work), Provider.CPU if side == RUNTIME else Provider.AUTO)
    volume = cts.load(ct)
    clock = Clock()
    clock.wrap(module, "preprocess", "preprocessing")
    clock.wrap(Network, "run", "network")
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
    volume = cts.load(ct)
    clock = Clock()
    clock.wrap(DefaultPreprocessor, "run_case_npy", "preprocessing")
    clock.wrap(nnUNetPredictor, "_internal_maybe_mirror_and_predict", "network")
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
    seconds, device, labels = run_peer(case, work, ct) if side == PEER else run_ours(side, work, ct)
    np.save(work / f"{side}.npy", labels.astype(np.uint8))
    (work / f"{side}.json").write_text(json.dumps({"seconds": seconds, "device": device}))


def measure_side(side: str, case: str, work: Path, ct: Path, limits: Limits) -> Side:
    """Run one side in a process of its own and watch its memory and its time."""
    names = ("RESULTS_FOLDER", "nnUNet_raw_data_base", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    environment = os.environ | dict.fromkeys(names, str(work)) | {"nnUNet_compile": "f"}
    command = [sys.executable, "-m", __spec__.name, case, "--child", side, "--work", str(work), "--ct", str(ct)]
    with (work / f"{side}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        peak, broken_off = _watched(process, limits)
    if broken_off:
        return Side({}, peak, broken_off=broken_off)
    if process.returncode == -signal.SIGKILL:
        return Side({}, peak, broken_off="killed by the system: out of memory")
    if process.returncode:
        raise SystemExit(f"{side} failed:\n{(work / f'{side}.log').read_text()[-4000:]}")
    told = json.loads((work / f"{side}.json").read_text())
    return Side(told["seconds"], peak, told["device"], np.load(work / f"{side}.npy"))


def _watched(process: subprocess.Popen[bytes], limits: Limits) -> tuple[float, str]:
    """Highest proportional memory of a process and its children in MiB, and why they were ended, if they were."""
    peak, done, began = 0.0, threading.Event(), time.monotonic()
    root = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, _pss_mib(root))
        took = time.monotonic() - began
        why = f"over {limits.gib:.0f} GiB after {took:.0f} s" if peak > limits.gib * 1024 else ""
        why = why or (f"not ended after {limits.seconds:.0f} s" if took > limits.seconds else "")
        if why:
            for member in (*_children(root), root):
                member.kill()
            process.wait()
            return peak, why
        done.wait(_SAMPLE_S)
    return peak, ""


def _pss_mib(root: psutil.Process) -> float:
    total = 0
    for member in (root, *_children(root)):
        with suppress(psutil.Error):
            total += member.memory_full_info().pss
    return total / 2**20


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
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--limit-s", type=float, default=1500, help="seconds that one side may take")
    parser.add_argument("--limit-gib", type=float, default=0.75 * psutil.virtual_memory().total / 2**30)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
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
        limits = Limits(options.limit_s, options.limit_gib)
        sides = {side: measure_side(side, options.case, work, ct, limits) for side in SIDES}
    if options.json:
        print(json.dumps({"case": options.case, **{name: _figures(side) for name, side in sides.items()}}, indent=2))
    table = _table(options.case, sides)
    print(table, file=sys.stderr if options.json else sys.stdout)
    if options.write:
        write_part(options.case, table, page=PERFORMANCE)


def _figures(side: Side) -> dict[str, object]:
    return {**side.seconds, "peak_mib": side.peak_mib, "device": side.device, "broken_off": side.broken_off}


def _table(case: str, sides: dict[str, Side]) -> str:
    """The table as Markdown; ratios are how many times the peer's figure is ours."""
    ours, runtime, peer = (sides[name] for name in SIDES)
    about = [f"`{case}`, {ours.labels.shape if ours.labels is not None else ''} voxels; ours on {ours.device}."]
    for name, side in sides.items():
        if side.broken_off:
            about.append(f"{name}: {side.broken_off}, at {side.peak_mib / 1024:.1f} GiB.")
        elif side is not ours and ours.labels is not None and side.labels is not None:
            about.append(f"{float((ours.labels != side.labels).mean()):.4%} of voxels differ from {name}.")
    rows = [
        (stage, *(_cell(side, stage) for side in (ours, runtime, peer)), _ratio(ours, peer, stage))
        for stage in (*STAGES, "all", "cpu")
    ]
    peaks = (f"{side.peak_mib:.0f} MiB" for side in (ours, runtime, peer))
    ratio = "" if peer.broken_off else f"{peer.peak_mib / ours.peak_mib:.2f}"
    heads = ("", "ours", "ours, ONNX Runtime", str(CASES[case].framework), "ratio")
    return " ".join(about) + "\n\n" + markdown(heads, [*rows, ("peak", *peaks, ratio)])


def _cell(side: Side, stage: str) -> str:
    return f"{side.seconds[stage]:.1f} s" if stage in side.seconds else side.broken_off


def _ratio(ours: Side, peer: Side, stage: str) -> str:
    both = stage in ours.seconds and stage in peer.seconds
    return f"{peer.seconds[stage] / max(ours.seconds[stage], 1e-9):.2f}" if both else ""


if __name__ == "__main__":
    main()
