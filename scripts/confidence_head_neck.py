"""Ask whether the confidence of a model ranks its errors, on patients that training never saw and on spoiled images.

The head-and-neck model runs with mirrored copies (left and right exchanged, the parotids with them), because the model
as shipped has one pass only. Each patient is segmented as it is and spoiled in some ways. Writes `confidence.jsonl`
and `confidence.md`, and with --page the table into docs/models/confidence.md. A run that was stopped goes on; one that
reaches its limit of minutes writes what it has, and a page only of all cases.

Usage: .venv/bin/python scripts/confidence_head_neck.py DATA OUT [--patients N] [--minutes M] [--page]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from head_neck_data import ORGANS, SEED, Patient, held_out, patient_files, read_patient, with_surroundings
from measured_rows import measured
from scipy import ndimage, stats

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.providers import Provider

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models" / "confidence.md"
_MARKS = "<!-- measured -->", "<!-- end of measured -->"
_LEFT_RIGHT_AXIS, _EXCHANGED = 2, (0, 1, 2, 3, 5, 4)
_LOWEST_HU, _HIGHEST_HU = -1024, 3071


@dataclass(frozen=True, slots=True)
class Row:
    """One organ of one patient in one state. dice: with the experts' contour."""

    spoiled: str
    patient: str
    organ: str
    dice: float
    members_dice: float
    border_bits: float


def with_mirrors(card: ModelCard) -> ModelCard:
    """Add copies mirrored from left to right to the network of a card."""
    if card.nnunet is None:
        raise SystemExit(f"{card.name} is no nnU-Net")
    (part,) = card.nnunet.parts
    (only,) = part.configurations
    mirrored = replace(only, mirror_axes=(_LEFT_RIGHT_AXIS,), mirrored_heads=_EXCHANGED)
    return replace(card, nnunet=replace(card.nnunet, parts=(replace(part, configurations=(mirrored,)),)))


def noisy(patient: Patient) -> Patient:
    """Add noise of 150 HU."""
    rng = np.random.default_rng((SEED, len(patient.voxels_hu)))
    return replace(patient, voxels_hu=patient.voxels_hu + rng.normal(0, 150, patient.voxels_hu.shape))


def blurred(patient: Patient) -> Patient:
    """Blur by 6 mm."""
    sigmas = [6.0 / mm for mm in patient.spacing_mm]
    return replace(patient, voxels_hu=ndimage.gaussian_filter(patient.voxels_hu, sigmas))


def cropped(patient: Patient) -> Patient:
    """Keep the slices up to the middle of the parotids, as if the scan ended there."""
    parotids = np.flatnonzero(np.isin(patient.labels, (4, 5)).any(axis=(1, 2)))
    end = int(parotids[len(parotids) // 2]) if parotids.size else len(patient.labels) // 2
    return replace(patient, voxels_hu=patient.voxels_hu[:end], labels=patient.labels[:end])


def shifted(patient: Patient) -> Patient:
    """Add 200 HU, as with a wrong rescale intercept."""
    return replace(patient, voxels_hu=patient.voxels_hu + 200)


SPOILED: Mapping[str, Callable[[Patient], Patient]] = {
    "as it is": lambda patient: patient,
    "noise of 150 HU": noisy,
    "blurred by 6 mm": blurred,
    "ends within the parotids": cropped,
    "200 HU too high": shifted,
}


def rows_of(engine: NnunetEngine, spoiled: str, patient: Patient) -> Iterator[Row]:
    """Segment a patient and score what was found; an organ that either side lacks has no row."""
    z, y, x = patient.spacing_mm
    hu = np.clip(patient.voxels_hu, _LOWEST_HU, _HIGHEST_HU).astype(np.float32)
    found = engine.segment(Volume(np.ascontiguousarray(hu), patient.spacing_mm, np.diag([x, y, z, 1.0])))
    for one in found.confidence:
        ours, experts = found.labels == ORGANS[one.key], patient.labels == ORGANS[one.key]
        if experts.any():
            dice = float(2 * (ours & experts).sum() / (ours.sum() + experts.sum()))
            yield Row(spoiled, patient.name, one.key, dice, one.dice, one.entropy_bits)


def table(rows: list[Row]) -> list[str]:
    """Summarise: means of each state, then the rank correlations."""
    lines = ["| image | organs | Dice, mean | `members`, mean | `border`, mean, bit |", "|---|---|---|---|---|"]
    for spoiled in SPOILED:
        these = [row for row in rows if row.spoiled == spoiled]
        if not these:
            continue
        means = [np.mean([getattr(row, name) for row in these]) for name in ("dice", "members_dice", "border_bits")]
        lines.append(f"| {spoiled} | {len(these)} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    lines += ["", "| Spearman's correlation with Dice | organs | `members` | `border` |", "|---|---|---|---|"]
    whole = [row for row in rows if row.spoiled == "as it is"]
    groups = {"all": rows, "images as they are": whole}
    groups |= {f"{organ}, all images": [row for row in rows if row.organ == organ] for organ in ORGANS}
    for name, these in groups.items():
        ranks = " | ".join(f"{rank:.2f}" for rank in correlations(these))
        lines.append(f"| {name} | {len(these)} | {ranks} |")
    return lines


def correlations(rows: Iterable[Row]) -> tuple[float, float]:
    """Compute Spearman's rank correlation of Dice with both figures; NaN of fewer than three organs."""
    rows = list(rows)
    if len(rows) < 3:
        return float("nan"), float("nan")
    dice, members, border = zip(*((row.dice, row.members_dice, row.border_bits) for row in rows), strict=True)
    return float(stats.spearmanr(dice, members).statistic), float(stats.spearmanr(dice, border).statistic)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the pt_*.npz files of OpenKBP")
    parser.add_argument("out", type=Path, help="folder for the table")
    parser.add_argument("--patients", type=int, default=6, help="the first so many patients of the held-out fold 0")
    parser.add_argument("--minutes", type=float, default=15, help="no image begins after so many minutes")
    parser.add_argument("--page", action="store_true", help="write the page, once all images are measured")
    asked = parser.parse_args()
    card = read_card(ROOT / "models" / "head_neck_oar")
    engine = NnunetEngine(with_mirrors(card), Provider.CPU)
    files = {path.stem: path for path in patient_files(asked.data)}

    def measure(name: str, spoiled: str) -> list[dict[str, object]]:
        patient = with_surroundings(read_patient(files[name]), SEED)
        return [asdict(row) for row in rows_of(engine, spoiled, SPOILED[spoiled](patient))]

    cases = {
        f"{name}, {spoiled}": partial(measure, name, spoiled)
        for name in held_out(list(files), 0)[: asked.patients]
        for spoiled in SPOILED
    }
    found, whole = measured(asked.out / "confidence.jsonl", card.digest, cases, asked.minutes)
    body = "\n".join(table([Row(**row) for row in found]))
    (asked.out / "confidence.md").write_text(body + "\n")
    if asked.page and whole:
        text = PAGE.read_text()
        before, after = text.split(_MARKS[0])[0], text.split(_MARKS[1])[1]
        PAGE.write_text(f"{before}{_MARKS[0]}\n\n{body}\n\n{_MARKS[1]}{after}")


if __name__ == "__main__":
    main()
