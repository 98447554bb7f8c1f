"""Measure the two checks of the input that need models: put the wrong word into the header, or other blood into the CT.

Usage: python -m scripts.input_quality_models_roc [--write] (`--write` puts the table into docs/input-quality.md). Cases
with even numbers chose the threshold, those with odd numbers are counted at the threshold that ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.input_quality import InputFigure
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.identity import SeriesIdentity
from orthanc_plugin.inference.engine import open_locator
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.thorax import ORGANS, make_thorax_phantom
from orthanc_plugin.quality.scan_models import CONTRAST_HU, LEAST_COVERAGE, body_part, contrast
from scripts.input_quality_roc import DATA, ROOT, auc, chosen_limit, print_or_write, volume_of
from tests.support.phantoms.body import make_body_phantom

MARKS = ("<!-- roc of models -->\n", "<!-- end of roc of models -->")
NATIVE_HU, ENHANCED_HU = (25.0, 65.0), (80.0, 400.0)
"""Blood without contrast, by haematocrit; with contrast, from a late phase to an angiography."""

REAL, AORTA = ("example_ct_sm.nii.gz", "example_seg.nii.gz"), 52
"""A real abdomen, and the number of the aorta in the labels that a network gave it."""

THORAXES, BODIES, REAL_DRAWS = 24, 10, 8
SECTIONS: dict[str, tuple[tuple[float, float], tuple[Region, ...]]] = {
    "CHEST": ((-110.0, 130.0), (Region.CHEST,)),
    "ABDOMEN": ((-330.0, -110.0), (Region.ABDOMEN,)),
    "PELVIS": ((-560.0, -340.0), (Region.PELVIS,)),
}
_FAR = {"CHEST": ("PELVIS", "HEAD", "KNEE"), "ABDOMEN": ("HEAD", "NECK"), "PELVIS": ("CHEST", "HEAD", "NECK")}
"""Words that are wrong for a section: regions that do not touch it."""

Random = np.random.Generator


@dataclass(frozen=True)
class Judged:
    """A figure of one case. wrong: a fault was put in. suspicion: rises as the check trusts the header less."""

    number: int
    wrong: bool
    figure: InputFigure
    suspicion: float


def series_of(volume: Volume, **header: str) -> CtSeries:
    """Make a series of a volume whose slices share one header."""
    ds = Dataset()
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    return CtSeries(SeriesIdentity("", "1.2", "1.3", (), ()), volume, (ds,) * len(volume.voxels_hu), "1.4")


def bled(volume: Volume, blood: NDArray[np.bool_], blood_hu: float) -> Volume:
    """Give the blood another mean; its noise and texture stay."""
    voxels = volume.voxels_hu.copy()
    voxels[blood] += np.float32(blood_hu - np.median(voxels[blood]))
    return replace(volume, voxels_hu=voxels)


def found(blood: NDArray[np.bool_], random: Random) -> Segmentation:
    """Give an aorta as a model would find it: the true one, a voxel beside its place."""
    moved = np.roll(blood, tuple(random.integers(-1, 2, 3)), (0, 1, 2))
    code = Code("15825003", "SCT", "Aorta")
    return Segmentation(moved.astype(np.uint8), (Segment(1, "aorta", "Aorta", code, code, None, (0, 0, 0), (1,)),))


def vessels() -> Iterator[tuple[str, Volume, NDArray[np.bool_]]]:
    """Give volumes with the true place of their aorta."""
    for seed in range(THORAXES):
        phantom = make_thorax_phantom((48, 96, 96), seed=seed)
        yield "phantom", phantom.volume, phantom.labels == ORGANS["aorta"]
    folder = DATA / "ts_example_ct"
    image, labels = (SimpleITK.ReadImage(str(folder / name)) for name in REAL)
    voxels = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    spacing = tuple(float(step) for step in image.GetSpacing()[::-1])
    for _ in range(REAL_DRAWS):
        yield "abdomen", volume_of(voxels, spacing), SimpleITK.GetArrayFromImage(labels) == AORTA  # type: ignore[arg-type]


def contrasts(stated: bool, random: Random) -> list[Judged]:
    """Judge each vessel with and without contrast, under a header that states an agent, or states none."""
    judged = []
    for number, (_, volume, blood) in enumerate(vessels()):
        for enhanced in (False, True):
            low, high = ENHANCED_HU if enhanced else NATIVE_HU
            series = series_of(
                bled(volume, blood, float(random.uniform(low, high))),
                **({"ContrastBolusAgent": "AGENT"} if stated else {}),
            )
            figure = contrast(series, [found(blood, random)])
            if figure.value is not None:
                judged.append(Judged(number, enhanced is not stated, figure, figure.value * (-1 if stated else 1)))
    return judged


def parts() -> list[Judged]:
    """Judge sections of bodies under their own name and under that of a part far away."""
    locator = open_locator(find_model("bpr_standin", ROOT / "models"), Provider.CPU)
    judged = []
    for seed in range(BODIES):
        for name, (heights, _) in SECTIONS.items():
            volume = make_body_phantom(1000 + seed, heights, (8.0, 4.0, 4.0)).phantom.volume
            location = locator.locate(volume)
            for word in (name, *_FAR[name]):
                figure = body_part(series_of(volume, BodyPartExamined=word), location)
                if figure.value is not None:
                    judged.append(Judged(seed, word != name, figure, -figure.value))
    return judged


def row(name: str, check: str, cases: str, judged: Sequence[Judged], shipped: str, sign: int) -> str:
    """Give a row: threshold chosen on the even half; area, hits and alarms on the odd half."""
    even = [j for j in judged if j.number % 2 == 0]
    chosen = chosen_limit(*([j.suspicion for j in even if j.wrong is wanted] for wanted in (False, True)))
    held = [j for j in judged if j.number % 2]
    wrong, right = ([j for j in held if j.wrong is wanted] for wanted in (True, False))
    area = auc([j.suspicion for j in right], [j.suspicion for j in wrong])
    caught, alarms = (sum(j.figure.passed is False for j in half) for half in (wrong, right))
    return (
        f"| {name} | `{check}` | {cases} | {shipped} | {sign * chosen:.3g} | {area:.3f} | {caught}/{len(wrong)} |"
        f" {alarms}/{len(right)} |"
    )


def table() -> str:
    """Run all trials; give the table as Markdown."""
    random = np.random.default_rng(12)
    shipped, cases = f"{CONTRAST_HU:g} HU", f"{THORAXES} phantoms, 1 abdomen {REAL_DRAWS} times"
    rows = [
        row("an agent is stated, the blood has none", "contrast", cases, contrasts(True, random), shipped, -1),
        row("no agent is stated, the blood has contrast", "contrast", cases, contrasts(False, random), shipped, 1),
        row("the header names a part far away", "body-part", f"{BODIES} phantoms, 3 sections each", parts(),
            f"{LEAST_COVERAGE:g}", -1),
    ]  # fmt: skip
    heads = ("fault", "check", "cases", "limit", "limit that the even cases choose", "AUC", "caught", "false alarms")
    return f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print_or_write(table, MARKS, __doc__)
