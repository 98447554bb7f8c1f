"""Measure how well the checks of the input tell a fault: inject each fault into real CT and into phantoms.

Usage: python -m scripts.input_quality_roc [--write] (`--write` puts the table into docs/input-quality.md). The real CT
lies in the folder ENRICH_TEST_DATA.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage, stats

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.domain.input_quality import InputFigure, InputLimits
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms.phantom import affine, make_phantom
from orthanc_plugin.quality import scan
from orthanc_plugin.quality.outline import body_mask
from orthanc_plugin.series.read import read_series

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ENRICH_TEST_DATA", ROOT.parent / "shared" / "data"))
PAGE = ROOT / "docs" / "input-quality.md"
MARKS = ("<!-- roc -->\n", "<!-- end of roc -->")
KBP_PATIENTS = 30
LIDC_SLICES, LIDC_BLOCK = 190, 38
"""Above slice 190 the scanner's field cuts the shoulders of this patient: no clean case."""

Random = np.random.Generator
Fault = Callable[[Volume, Random], Volume]


@dataclass(frozen=True)
class Case:
    """A clean volume. kind: where it comes from; `planning` CT is air outside the body and may hold fillings."""

    kind: str
    volume: Volume


@dataclass(frozen=True)
class Trial:
    """One fault, the check that must tell it, and the clean cases it can be put into."""

    name: str
    fault: Fault
    check: Callable[[Volume], InputFigure]
    kinds: tuple[str, ...]


def volume_of(voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> Volume:
    """Make a volume of bare voxels (z, y, x)."""
    return Volume(voxels, spacing_mm, affine(voxels.shape, spacing_mm))


def cases() -> Iterator[Case]:
    """Give the clean cases."""
    archive = FolderArchive(DATA / "lidc_0314_chest", ROOT / "absent")
    (series,) = archive.series
    lidc = read_series(archive.retrieve(series.study_instance_uid, series.series_instance_uid)).volume
    for first in range(0, LIDC_SLICES, LIDC_BLOCK):
        yield Case("chest", volume_of(lidc.voxels_hu[first : first + LIDC_BLOCK], lidc.spacing_mm))
    image = SimpleITK.ReadImage(str(DATA / "ts_example_ct" / "example_ct.nii.gz"))
    spacing = tuple(float(step) for step in image.GetSpacing()[::-1])
    yield Case("abdomen", volume_of(SimpleITK.GetArrayFromImage(image).astype(np.float32), spacing))  # type: ignore[arg-type]
    for file in sorted((DATA / "open_kbp").glob("*.npz"))[:KBP_PATIENTS]:
        with np.load(file) as held:
            voxels = np.clip(held["v"], 0, 4095).astype(np.float32) - 1024
            yield Case("planning", volume_of(voxels, tuple(map(float, held["sp"]))))  # type: ignore[arg-type]
    for seed in range(4):
        yield Case("phantom", make_phantom((80, 128, 128), seed=seed).volume)


def noisy(volume: Volume, random: Random, sd_hu: float = 80.0) -> Volume:
    """Add noise as correlated as a soft kernel leaves it."""
    noise = random.standard_normal(volume.voxels_hu.shape, np.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0.6, 0.6))
    noise *= sd_hu / noise.std()
    return replace(volume, voxels_hu=np.maximum(volume.voxels_hu + noise, -1024).astype(np.float32))


def side_cut(volume: Volume, random: Random, part: float = 0.15) -> Volume:
    """Cut the image at one side of the body, in all slices."""
    columns = np.flatnonzero(_body(volume).any(axis=(0, 1)))
    cut = int(columns[0] + part * len(columns))
    return volume_of(np.ascontiguousarray(volume.voxels_hu[:, :, cut:]), volume.spacing_mm)


def circle_cut(volume: Volume, random: Random) -> Volume:
    """Blank all outside a circle that is smaller than the body."""
    body = _body(volume).any(axis=0)
    y, x = np.indices(body.shape)
    distance = np.hypot(y - (body.shape[0] - 1) / 2, x - (body.shape[1] - 1) / 2)
    radius = np.quantile(distance[body], 0.9)
    return replace(volume, voxels_hu=np.where(distance > radius, np.float32(-1024), volume.voxels_hu))


def with_metal(volume: Volume, random: Random, diameter_mm: float = 5.0, slices: int = 0) -> Volume:
    """Put a rod of metal into the body, over 5 % of the slices and at least three."""
    voxels = volume.voxels_hu.copy()
    depth = slices or max(3, round(0.05 * len(voxels)))
    first = int(random.integers(0, len(voxels) - depth))
    points = np.argwhere(_body(volume)[0])
    row, column = points[random.integers(len(points))]
    y, x = np.indices(voxels.shape[1:])
    rod = np.hypot((y - row) * volume.spacing_mm[1], (x - column) * volume.spacing_mm[2]) <= diameter_mm / 2
    rod[row, column] = True
    voxels[first : first + depth, rod] = 3071
    return replace(volume, voxels_hu=voxels)


def repeating(volume: Volume, random: Random) -> Volume:
    """Put the pixels of one slice into the next one."""
    voxels = volume.voxels_hu.copy()
    index = int(random.integers(len(voxels) // 4, 3 * len(voxels) // 4))
    voxels[index + 1] = voxels[index]
    return replace(volume, voxels_hu=voxels)


def moved(distance_mm: float) -> Fault:
    """Move all slices above a level sideways: the patient moved between two parts of the scan."""

    def fault(volume: Volume, random: Random) -> Volume:
        voxels = volume.voxels_hu.copy()
        level = int(random.integers(len(voxels) // 4, 3 * len(voxels) // 4))
        pixels = max(1, round(distance_mm / volume.spacing_mm[2]))
        voxels[level:] = np.roll(voxels[level:], pixels, axis=2)
        return replace(volume, voxels_hu=voxels)

    return fault


def strange(volume: Volume, random: Random) -> Volume:
    """Put a slice from another place of the body between two slices."""
    voxels = volume.voxels_hu.copy()
    third = len(voxels) // 3
    voxels[third] = voxels[min(len(voxels) - 1, third + max(8, third))]
    return replace(volume, voxels_hu=voxels)


def trials() -> tuple[Trial, ...]:
    """Give every fault with its check at the default limits."""
    limits = InputLimits()

    def noise(volume: Volume) -> InputFigure:
        return scan.noise(volume, limits.max_noise_hu)[0]

    def truncation(volume: Volume) -> InputFigure:
        return scan.truncation(volume, limits.max_truncated)

    def metal(volume: Volume) -> InputFigure:
        return scan.metal(volume, limits.max_metal)

    everywhere = ("chest", "abdomen", "planning", "phantom")
    bare = ("chest", "phantom")  # planning CT is cut out at the skin; the abdomen is cropped and holds metal
    return (
        Trial("noise of 80 HU added", noisy, noise, everywhere),
        Trial("15 % of the body cut at one side", side_cut, truncation, bare),
        Trial("field smaller than the body (circle)", circle_cut, truncation, bare),
        Trial("metal rod of 5 mm in 5 % of the slices", with_metal, metal, bare),
        Trial("one slice repeated", repeating, scan.repeated, everywhere),
        Trial("patient moved by 5 mm", moved(5.0), scan.jumps, everywhere),
        Trial("patient moved by 10 mm", moved(10.0), scan.jumps, everywhere),
        Trial("patient moved by 20 mm", moved(20.0), scan.jumps, everywhere),
        Trial("one slice from another place", strange, scan.jumps, everywhere),
    )


def measured(trial: Trial, clean: list[Case], random: Random) -> str:
    """Give the row of one fault: cases, area under the curve, hits and false alarms at the default limits.

    Then hits and false alarms of every second case at the limit that the others choose.
    """
    taken = [case for case in clean if case.kind in trial.kinds]
    before = [trial.check(case.volume) for case in taken]
    after = [trial.check(trial.fault(case.volume, random)) for case in taken]
    caught, alarms = (sum(figure.passed is False for figure in figures) for figures in (after, before))
    area = auc([f.value for f in before if f.value is not None], [f.value for f in after if f.value is not None])
    count, check = len(taken), before[0].check
    unknown = sum(figure.passed is None for figure in before)
    return (
        f"| {trial.name} | `{check}` | {count} ({', '.join(trial.kinds)}) | {area:.3f} | {caught}/{count} |"
        f" {alarms}/{count} | {unknown} | {held_out(before, after)} |"
    )


def held_out(before: list[InputFigure], after: list[InputFigure]) -> str:
    """Choose the limit on the even cases, and count the odd ones at it."""
    even, odd = (
        [[f.value for f in figures[start::2] if f.value is not None] for figures in (before, after)] for start in (0, 1)
    )
    limit = chosen_limit(*even)
    clean, faulty = odd
    hits, alarms = (sum(value > limit for value in values) for values in (faulty, clean))
    return f"{limit:.3g} | {hits}/{len(faulty)} | {alarms}/{len(clean)}"


def chosen_limit(negative: list[float], positive: list[float]) -> float:
    """Choose the limit with the largest difference of hits and false alarms, in the middle of its gap."""
    values = sorted({*negative, *positive})
    middles = [(low + high) / 2 for low, high in pairwise(values)]
    clean, faulty = np.array(negative), np.array(positive)
    return max(middles, key=lambda at: float((faulty > at).mean() - (clean > at).mean()))


def auc(negative: list[float], positive: list[float]) -> float:
    """Area under the ROC curve by the rank sum."""
    ranks = stats.rankdata([*negative, *positive])[len(negative) :]
    n, p = len(negative), len(positive)
    return float((ranks.sum() - p * (p + 1) / 2) / (n * p))


def noise_error(clean: list[Case], random: Random) -> str:
    """Say how far measured noise lies from noise that was added to what was measured before."""
    errors = []
    for case in clean:
        before = scan.noise(case.volume, 0.0)[0].value
        for added in (10.0, 20.0, 40.0):
            after = scan.noise(noisy(case.volume, random, added), 0.0)[0].value
            if before is not None and after is not None:
                errors.append(after / np.hypot(before, added) - 1)
    low, middle, high = np.quantile(errors, (0.1, 0.5, 0.9))
    return (
        f"Noise of 10, 20 and 40 HU added to {len(errors) // 3} clean cases is measured {middle:+.0%} off in the"
        f" median (10th to 90th percentile {low:+.0%} to {high:+.0%})."
    )


def table() -> str:
    """Run all trials; give the table as Markdown."""
    clean = [*cases()]
    random = np.random.default_rng(12)
    rows = [measured(trial, clean, random) for trial in trials()]
    heads = (
        "fault", "check", "cases", "AUC", "caught", "false alarms", "not measurable",
        "limit of the even cases", "caught of the odd", "false alarms of the odd",
    )  # fmt: skip
    head = f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n"
    return head + "\n".join(rows) + "\n\n" + noise_error(clean, random) + "\n"


def _body(volume: Volume) -> NDArray[np.bool_]:
    """Find the body in the middle slice, as (1, y, x)."""
    middle = volume.voxels_hu[len(volume.voxels_hu) // 2]
    return body_mask(middle, volume.spacing_mm[1:])[None]


def print_or_write(table: Callable[[], str], marks: tuple[str, str], about: str | None) -> None:
    """Print a table, or put it between its marks in the page if the command says so."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--write", action="store_true", help="put the table into docs/input-quality.md")
    asked, text = parser.parse_args(), table()
    if asked.write:
        start, end = map(re.escape, marks)
        replaced = f"{marks[0]}{text}{marks[1]}"
        PAGE.write_text(re.sub(f"{start}.*?{end}", lambda _: replaced, PAGE.read_text(), flags=re.DOTALL))
    else:
        os.write(1, text.encode())


if __name__ == "__main__":
    print_or_write(table, MARKS, __doc__)
