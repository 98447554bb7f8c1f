"""Check and measure the GPU path: `scripts/gpu-check`, under ten minutes on a computer with an NVIDIA GPU.

1. Labels of the work around the network: GPU against CPU. 2. Values of one patch: GPU against CPU, in fp32 and fp16.
3. Seconds: opening, first run, a patch, resampling, whole series by the GPU path and by the host path, folds and
mirrors. Weights are random, of SegTHOR's size; speed does not depend on them, and for parity they are the worst case.
The exit status is 1 if a result differs more than it may. `--device cpu --size tiny` tries the program itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Part, Resampling, Scheme
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import EnrichError, ModelError
from orthanc_plugin.inference.nnunet import engine
from orthanc_plugin.inference.nnunet.device import Device
from orthanc_plugin.inference.nnunet.device_check import agreements
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.resample import resample_image
from orthanc_plugin.inference.providers import Provider
from tests.benchmarks import unet
from tests.benchmarks.record import about_machine
from tests.support.cases import nnunet_case

Field = NDArray[np.float32]
LIMITS = {"fp32": (1e-3, 1e-4), "fp16": (0.05, 5e-3)}
"""Largest difference of a value, and part of voxels with another label, on one patch: those of the conversion."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Size:
    """What is measured: the network, and the shape and spacing (z, y, x) of the CT."""

    network: unet.Shape
    ct: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    target_mm: tuple[float, float, float]


SIZES = {
    "segthor": Size(unet.SEGTHOR, (300, 512, 512), (1.25, 0.7, 0.7), (2.5, 0.97656202, 0.97656202)),
    "tiny": Size(unet.TINY, (30, 72, 72), (1.25, 0.7, 0.7), (2.5, 0.97656202, 0.97656202)),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. good: False where a result differs more than it may; None where nothing is compared."""

    what: str
    provider: str
    precision: str
    figure: str
    good: bool | None = None


class Check:
    """Rows as they come; rows that would begin too late are only named."""

    def __init__(self, minutes: float) -> None:
        self.rows: list[Row] = []
        self._end = time.monotonic() + 60 * minutes

    def add(self, what: str, provider: str, precision: str, measure: Callable[[], tuple[str, bool | None]]) -> None:
        """Measure a row; an error is a row too."""
        if time.monotonic() > self._end:
            figure, good = "not measured: the time is over", None
        else:
            try:
                figure, good = measure()
            except EnrichError as error:
                figure, good = f"{type(error).__name__}: {error}", False
        self.rows.append(Row(what, provider, precision, figure, good))
        print(f"{what} | {provider} | {precision} | {figure}", file=sys.stderr, flush=True)


def configuration(size: Size, graphs: tuple[str, ...], *, mirrors: bool) -> Configuration:
    """SegTHOR's rules, by v2's order of work."""
    return Configuration(
        name="3d_fullres",
        framework=Framework.V2,
        graphs=graphs,
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        spacing_mm=size.target_mm,
        patch_size=size.network.patch,
        normalisation=Normalisation(Scheme.CT, -986.0, 271.0, 20.8, 180.5),
        data_resampling=Resampling(3),
        output_resampling=Resampling(1),
        mirror_axes=(0, 1, 2) if mirrors else (),
        tile_step=0.5,
        heads=size.network.heads,
    )


def ct(size: Size) -> Volume:
    """Waves over the whole range of HU."""
    z, y, x = (np.arange(side, dtype=np.float32) for side in size.ct)
    waves = 900 * np.sin(y / 31)[:, None] * np.cos(x / 23) * np.sin(z / 41)[:, None, None] + 1
    dz, dy, dx = size.spacing_mm
    return Volume(waves.astype(np.float32), size.spacing_mm, np.diag([dx, dy, dz, 1.0]))


def ensure_runs_on(found: str, wanted: Provider) -> None:
    """Raise ModelError where another provider took the place of the wanted one."""
    if found != wanted:
        raise ModelError(f"{wanted} does not run here; {found} took its place")


def patch_agrees(size: Size, folder: Path, provider: Provider, precision: str) -> tuple[str, bool]:
    """Compare one patch with ONNX Runtime's CPU in fp32."""
    made = configuration(size, ("x",), mirrors=False)
    image = np.random.default_rng(1).normal(size=(1, 1, *size.network.patch)).astype(np.float32)
    expected = Network(folder / "fp32_0.onnx", made, 1, Provider.CPU).run(image)
    network = Network(folder / f"{precision}_0.onnx", made, 1, provider)
    ensure_runs_on(network.provider, provider)
    found = network.run(image)
    most, part = float(abs(found - expected).max()), float((found.argmax(1) != expected.argmax(1)).mean())
    limits = LIMITS[precision]
    return f"largest difference {most:.2g}, other labels {part:.2g}", most <= limits[0] and part <= limits[1]


def patch_seconds(size: Size, folder: Path, provider: Provider, precision: str, device: Device) -> tuple[str, None]:
    """Time the opening, the first run and later runs of one patch whose data stay on the device."""
    started = time.perf_counter()
    made = configuration(size, ("x",), mirrors=False)
    network = Network(folder / f"{precision}_0.onnx", made, 1, provider, replayed=True)
    opened = time.perf_counter() - started
    ensure_runs_on(network.provider, provider)
    taken = []
    for _ in range(8):
        started = time.perf_counter()
        network.run_on_device(device.kind, 1)
        taken.append(time.perf_counter() - started)
    later = statistics.median(taken[3:])
    return f"opened in {opened:.1f} s, first run {taken[0]:.2f} s, then {1000 * later:.1f} ms a patch", None


def series_seconds(
    card: Any, provider: Provider, volume: Volume, device: Device | None, answers: dict[str, Any], key: str
) -> tuple[str, bool | None]:
    """Time a whole series, from HU in memory to labels, warm; compare the labels with an earlier way's."""
    ask, engine.open_device = engine.open_device, lambda wanted: device
    try:
        model = NnunetEngine(card, provider)
    finally:
        engine.open_device = ask
    ensure_runs_on(model.provider, provider)
    taken, labels = [], None
    for _ in range(2):
        started = time.perf_counter()
        labels = model.segment(volume).labels
        taken.append(time.perf_counter() - started)
    told = f"{taken[-1]:.2f} s (first {taken[0]:.2f} s), {3600 / taken[-1]:.0f} series an hour"
    earlier = answers.setdefault(key, labels)
    if earlier is labels:
        return told, None
    differ = float((earlier != labels).mean())
    return f"{told}; {differ:.2g} of labels differ from the other way", differ <= 1e-3


def resampling(size: Size, device: Device) -> tuple[str, bool]:
    """Time the resampling of a CT on the device and on the CPU."""
    image = ct(size).voxels_hu
    shape = tuple(round(n * old / new) for n, old, new in zip(size.ct, size.spacing_mm, size.target_mm, strict=True))
    taken, found = [], []
    for resample in (device.resample, device.resample, resample_image):
        started = time.perf_counter()
        found.append(resample(image, shape, order=3))
        taken.append(time.perf_counter() - started)
    most = float(abs(found[1] - found[2]).max())
    return f"{taken[1]:.2f} s, on the CPU {taken[2]:.2f} s; largest difference {most:.2g} HU", most <= 0.02


def write_models(size: Size, folder: Path) -> None:
    """Write all folds in both precisions. Folds share their weights: speed does not depend on them."""
    for precision in LIMITS:
        for fold in range(FOLDS):
            unet.write(size.network, folder / f"{precision}_{fold}.onnx", half=precision == "fp16")


def run(size: Size, kind: str, minutes: float, folder: Path) -> list[Row]:
    """Make all rows."""
    write_models(size, folder)
    check, device, volume, answers = Check(minutes), Device(kind), ct(size), dict[str, Any]()
    numbers = tuple(range(size.network.heads))
    providers = (Provider.CPU,) if kind == "cpu" else (Provider.CUDA, Provider.TENSORRT)

    def graphs(precision: str, count: int) -> tuple[str, ...]:
        return tuple(f"{precision}_{fold}.onnx" for fold in range(count))

    def card(precision: str, count: int, *, mirrors: bool) -> Any:
        part = Part((configuration(size, graphs(precision, count), mirrors=mirrors),), numbers)
        return nnunet_case.card(folder, part)

    def proof() -> tuple[str, bool]:
        v1, v2 = agreements(device, providers[0])
        return f"{100 * v1:.2f} % and {100 * v2:.2f} % of labels agree (rules of v1, v2)", min(v1, v2) >= 0.999

    check.add("the work around networks", providers[0], "", proof)
    check.add("order-3 resampling", providers[0], "", lambda: resampling(size, device))
    for provider in providers:
        for precision in LIMITS:
            at = (provider, precision)
            check.add("values of a patch", *at, lambda at=at: patch_agrees(size, folder, *at))
            check.add("one patch", *at, lambda at=at: patch_seconds(size, folder, *at, device))
            for way, where in (("GPU path", device), ("host path", None)):
                single = card(precision, 1, mirrors=False)
                check.add(
                    f"1 fold, no mirrors, {way}",
                    *at,
                    lambda at=at, where=where, single=single: series_seconds(
                        single, at[0], volume, where, answers, "".join(at)
                    ),
                )
    for provider in providers:
        whole = card("fp16", FOLDS, mirrors=True)
        check.add(
            f"{FOLDS} folds, 8 mirrors, GPU path",
            provider,
            "fp16",
            lambda provider=provider, whole=whole: series_seconds(
                whole, provider, volume, device, answers, f"{provider} all"
            ),
        )
    return check.rows


def gpu_name() -> str:
    """Name the GPU and its driver."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"


def table(rows: list[Row]) -> str:
    """Write the rows as Markdown."""
    verdict = {True: "within limits", False: "DIFFERS", None: ""}
    cells = [(row.what, row.provider, row.precision, row.figure, verdict[row.good]) for row in rows]
    lines = [("what", "provider", "precision", "result", "parity"), ("---",) * 5, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print the table; `--json` also writes the rows into a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=SIZES, default="segthor")
    parser.add_argument("--minutes", type=float, default=9, help="no row begins later")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows = run(SIZES[options.size], options.device, options.minutes, Path(folder))
    print(f"{gpu_name()}\n\n{table(rows)}")
    if options.json:
        told = {"gpu": gpu_name(), **about_machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(told, indent=1))
    sys.exit(any(row.good is False for row in rows))


if __name__ == "__main__":
    main()
