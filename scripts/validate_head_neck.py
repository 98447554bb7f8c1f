"""Measure the head-and-neck model on the patients that its training held out, with this project's engine.

Each patient is segmented four times: as published, with drawn air and couch (`head_neck_data`), with the drawn
surroundings removed again by a body mask, and with air and couch in the slices that the model sees in a job. Writes
`validation.md`, `validation.csv`, `validation.jsonl` and overlays in PNG: the experts' outlines over the model's areas.
A run that was stopped, or that reached its limit of minutes, goes on with the same command.

With --page the table and the pictures of two patients go into docs/models/head_neck_oar.md.

Usage: .venv/bin/python scripts/validate_head_neck.py DATA OUT [--model FOLDER] [--fold F] [--patients N] [--pictures N]
       [--only CONDITION ...] [--minutes M] [--page]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from head_neck_data import (
    ORGANS,
    SEED,
    Patient,
    framed,
    held_out,
    patient_files,
    read_patient,
    slices_with_body,
    with_surroundings,
)
from measured_rows import measured
from PIL import Image
from scipy import ndimage

from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.pipeline.field import head_and_neck
from orthanc_plugin.pipeline.organs import segment_part
from orthanc_plugin.validation.distances import compare_masks

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models" / "head_neck_oar.md"
_MARKS, _PAGE_PICTURES = ("<!-- validation -->", "<!-- end of validation -->"), 2
TOLERANCE_MM = 4.0
PUBLISHED, WITH_BODY, COUCH, MASKED = "as published", "as published, slices with a body", "couch", "couch, body mask"
FIELD = "couch, slices of the field"
_AIM = {"mandible": 0.91, "brainstem": 0.85, "parotid_left": 0.84, "parotid_right": 0.84, "spinal_cord": 0.78}
_COLOURS = np.array(
    [(0, 0, 0), (244, 214, 49), (60, 200, 90), (240, 150, 40), (60, 130, 255), (240, 60, 160)], np.uint8
)
_SKIN_HU = -300.0


@dataclass(frozen=True, slots=True)
class Score:
    """One organ of one patient under one condition. hd95_mm is infinite where only one side has the organ."""

    condition: str
    patient: str
    organ: str
    dice: float
    hd95_mm: float
    surface_dice: float
    volume_ml: float
    expert_ml: float

    @property
    def most_dice(self) -> float:
        """Dice of masks with these volumes if the smaller one lay inside the other."""
        return 2 * min(self.volume_ml, self.expert_ml) / (self.volume_ml + self.expert_ml)


def predict(engine: NnunetEngine, patient: Patient) -> np.ndarray:
    """Segment the patient; labels are (z, y, x)."""
    return engine.segment(volume_of(patient)).labels


def volume_of(patient: Patient) -> Volume:
    """Make a volume of a patient."""
    z, y, x = patient.spacing_mm
    return Volume(patient.voxels_hu.astype(np.float32), patient.spacing_mm, np.diag([x, y, z, 1.0]))


def body_mask_first(patient: Patient) -> Patient:
    """Set everything outside the skin to air.

    The body is the largest component above -300 HU after an opening, which parts the couch, with its holes filled.
    """
    dense = ndimage.binary_opening(patient.voxels_hu > _SKIN_HU, np.ones((1, 3, 3)))
    parts, count = ndimage.label(dense)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])) if count else dense
    near = ndimage.binary_dilation(largest, np.ones((1, 3, 3)))
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in near])
    return replace(patient, voxels_hu=np.where(body, patient.voxels_hu, -1024).astype(np.float32))


def scores(condition: str, patient: Patient, found: np.ndarray) -> list[Score]:
    """Compare every organ that the experts or the model have."""
    result = []
    for organ, number in ORGANS.items():
        ours, experts = found == number, patient.labels == number
        agreement = compare_masks(ours, experts, patient.spacing_mm, TOLERANCE_MM)
        if agreement.dice is None:
            continue
        sizes, measured = (agreement.ai_voxels, agreement.expert_voxels), agreement.distances
        hd95 = measured.hd95_mm if measured is not None else float("inf")
        agreeing = measured.surface_dice if measured is not None else 0.0
        ml = float(np.prod(patient.spacing_mm)) / 1000
        result.append(
            Score(condition, patient.name, organ, agreement.dice, hd95, agreeing, sizes[0] * ml, sizes[1] * ml)
        )
    return result


def measure_published(engine: NnunetEngine, path: Path, pictures: Path | None) -> list[Score]:
    """Segment and score one patient as published."""
    patient = framed(read_patient(path), margin=False)
    found = predict(engine, patient)
    if pictures:
        overlay(patient, found).save(pictures / f"{patient.name}.png")
    shown = slices_with_body(patient)
    part = replace(patient, voxels_hu=patient.voxels_hu[shown], labels=patient.labels[shown])
    return scores(PUBLISHED, patient, found) + scores(WITH_BODY, part, found[shown])


def measure_couch(engine: NnunetEngine, path: Path, pictures: Path | None) -> list[Score]:
    """Segment and score one patient in drawn air on a drawn couch."""
    patient = with_surroundings(read_patient(path), SEED)
    found = predict(engine, patient)
    if pictures:
        overlay(patient, found).save(pictures / f"{patient.name}_couch.png")
    return scores(COUCH, patient, found)


def measure_masked(engine: NnunetEngine, path: Path, _: Path | None) -> list[Score]:
    """Segment and score the same after a body mask."""
    patient = with_surroundings(read_patient(path), SEED)
    return scores(MASKED, patient, predict(engine, body_mask_first(patient)))


def measure_field(engine: NnunetEngine, path: Path, _: Path | None) -> list[Score]:
    """Segment and score what the model sees in a job: the slices around the skull; without a skull it does not run."""
    patient = with_surroundings(read_patient(path), SEED)
    whole = volume_of(patient)
    crop = head_and_neck(whole, None)
    found = np.zeros(patient.labels.shape, np.uint8) if crop is None else segment_part(whole, engine, crop).labels
    return scores(FIELD, patient, found)


def overlay(patient: Patient, found: np.ndarray) -> Image.Image:
    """Show three planes through the organs; the patient's left is on the right of axial and coronal planes."""
    volume, experts, ours = patient.voxels_hu, patient.labels, found
    parotids = np.argwhere(experts >= ORGANS["parotid_left"])
    z, y, _ = (parotids if len(parotids) else np.argwhere(experts >= 0)).mean(0).astype(int)
    cord = np.argwhere(experts == ORGANS["spinal_cord"])
    x = int(cord[:, 2].mean()) if len(cord) else experts.shape[2] // 2
    z_mm, y_mm, x_mm = patient.spacing_mm
    views = [
        panel(volume[z], experts[z], ours[z], y_mm, x_mm),
        panel(volume[::-1, :, x], experts[::-1, :, x], ours[::-1, :, x], z_mm, y_mm),
        panel(volume[::-1, y], experts[::-1, y], ours[::-1, y], z_mm, x_mm),
    ]
    height = max(view.shape[0] for view in views)
    padded = [np.pad(view, ((0, height - view.shape[0]), (0, 8), (0, 0))) for view in views]
    return Image.fromarray(np.hstack(padded))


def panel(hu: np.ndarray, experts: np.ndarray, ours: np.ndarray, row_mm: float, column_mm: float) -> np.ndarray:
    """Draw one plane at two pixels a mm: the model's area tinted, the experts' outline on top."""
    rows, columns = (max(1, round(2 * n * mm)) for n, mm in zip(hu.shape, (row_mm, column_mm), strict=True))
    nearest = np.ix_(np.arange(rows) * hu.shape[0] // rows, np.arange(columns) * hu.shape[1] // columns)
    grey = np.clip((hu[nearest] + 300) / 1000 * 255, 0, 255)
    picture = np.repeat(grey[..., None], 3, axis=2)
    area, outlined = ours[nearest], experts[nearest]
    picture[area > 0] = 0.55 * picture[area > 0] + 0.45 * _COLOURS[area[area > 0]]
    inner = np.stack([ndimage.binary_erosion(outlined == number, iterations=2) for number in ORGANS.values()]).any(0)
    line = (outlined > 0) & ~inner
    picture[line] = _COLOURS[outlined[line]]
    return picture.astype(np.uint8)


def table(rows: Iterable[Score]) -> list[str]:
    """Summarise over patients as a Markdown table."""
    rows = list(rows)
    lines = [
        "| condition | organ | patients | Dice, mean (lowest) | aim | most that volumes allow, mean | HD95 mm, median |"
        " surface Dice at 4 mm, mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for condition in dict.fromkeys(row.condition for row in rows):
        for organ in ORGANS:
            these = [row for row in rows if (row.condition, row.organ) == (condition, organ)]
            dice = [row.dice for row in these]
            lines.append(
                f"| {condition} | {organ} | {len(these)} | {np.mean(dice):.3f} ({min(dice):.3f}) | {_AIM[organ]} | "
                f"{np.mean([row.most_dice for row in these]):.3f} | "
                f"{np.median([row.hd95_mm for row in these]):.1f} | "
                f"{np.mean([row.surface_dice for row in these]):.3f} |"
            )
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path, help="folder with the pt_*.npz files of OpenKBP")
    parser.add_argument("out", type=Path, help="folder for the page, the table and the pictures")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "head_neck_oar")
    parser.add_argument("--fold", type=int, default=0, help="the fold that training held out")
    parser.add_argument("--patients", type=int, help="only the first so many patients of the fold")
    parser.add_argument("--pictures", type=int, default=4, help="of how many patients")
    parser.add_argument("--only", nargs="+", choices=("published", "couch", "masked", "field"), help="some conditions")
    parser.add_argument("--minutes", type=float, help="no patient begins after so many minutes")
    parser.add_argument("--page", action="store_true", help="write the page of the model")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    engine = NnunetEngine(read_card(asked.model.resolve()), Provider.CPU)
    files = {path.stem: path for path in patient_files(asked.data)}
    names = held_out(list(files), asked.fold)[: asked.patients]
    measures = {
        "published": measure_published,
        "couch": measure_couch,
        "masked": measure_masked,
        "field": measure_field,
    }

    def measure(kind: str, number: int) -> list[dict[str, object]]:
        pictures = asked.out if number < asked.pictures else None
        return [asdict(row) for row in measures[kind](engine, files[names[number]], pictures)]

    cases = {
        f"{kind}, {name}": partial(measure, kind, number)
        for kind in asked.only or measures
        for number, name in enumerate(names)
    }
    found, whole = measured(asked.out / "validation.jsonl", engine.card.digest, cases, asked.minutes)
    rows = [Score(**row) for row in found]
    write(rows, asked.out)
    if not whole:
        return
    if asked.page and asked.only:
        add_to_page(rows)
    elif asked.page:
        write_page(rows, [asked.out / f"{name}_couch.png" for name in names[:_PAGE_PICTURES]])


def add_to_page(rows: list[Score]) -> None:
    """Replace the rows of some conditions in the table of the model's page, or add them."""
    text = PAGE.read_text()
    before, rest = text.split(_MARKS[0])
    body, after = rest.split(_MARKS[1])
    new = table(rows)[2:]
    measured = {row.condition for row in rows}
    lines = [line for line in body.splitlines() if not any(line.startswith(f"| {name} |") for name in measured)]
    last = max(index for index, line in enumerate(lines) if line.startswith("| "))
    body = "\n".join([*lines[: last + 1], *new, *lines[last + 1 :]])
    PAGE.write_text(f"{before}{_MARKS[0]}{body}\n{_MARKS[1]}{after}")


def write_page(rows: list[Score], pictures: list[Path]) -> None:
    """Put the table and the pictures between the marks of the model's page."""
    images = PAGE.parents[1] / "images"
    for picture in pictures:
        (images / f"head_neck_{picture.name}").write_bytes(picture.read_bytes())
    shown = [
        f"![{picture.stem}: the model's areas tinted, the experts' outlines](../images/head_neck_{picture.name})"
        for picture in pictures
    ]
    body = "\n".join((*table(rows), "", *shown))
    before, after = PAGE.read_text().split(_MARKS[0])[0], PAGE.read_text().split(_MARKS[1])[1]
    PAGE.write_text(f"{before}{_MARKS[0]}\n\n{body}\n\n{_MARKS[1]}{after}")


def write(rows: list[Score], out: Path) -> None:
    """Write the table of what is measured so far, and every number."""
    with (out / "validation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (out / "validation.md").write_text("\n".join(table(rows)) + "\n")


if __name__ == "__main__":
    main()
