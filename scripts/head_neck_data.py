"""The OpenKBP head-and-neck patients: read them, frame them, put air and a couch around them.

OpenKBP blanks everything outside the patient. A CT from a scanner shows air, a couch, a head rest and a mask there, so
training and validation also see each patient with such surroundings, drawn from a seed. In some patients the published
image below the neck holds nothing but strips around contoured organs. No scanner makes such slices, and the drawn
variant leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

ORGANS = {"spinal_cord": 1, "brainstem": 2, "mandible": 3, "parotid_left": 4, "parotid_right": 5}
"""Keys of the structures, with their numbers in the published label maps."""

SEED, FOLDS = 18, 5

_OUTSIDE_HU = -1024
_STORED_MAXIMUM = 4095
"""The authors of OpenKBP advise this limit: some files hold larger values that are no CT numbers."""

_SLICE_WITH_BODY_MM2 = 4000.0
"""Strips around contoured organs cover less, a neck covers more."""

_FRONT_MM, _BACK_MM, _SIDE_MM = 25.0, 90.0, 40.0
"""Space around the body in the frame."""


@dataclass(frozen=True, slots=True)
class Patient:
    """One CT with its contours.

    voxels_hu: (z, y, x) float32, z to the head, y to the back, x to the patient's left.
    labels: (z, y, x) uint8, numbers of `ORGANS`.
    spacing_mm: (z, y, x).
    """

    name: str
    voxels_hu: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]


def patient_files(folder: Path) -> list[Path]:
    """List the files of all patients in the order of their numbers."""
    return sorted(folder.glob("pt_*.npz"), key=lambda path: int(path.stem.removeprefix("pt_")))


def read_patient(path: Path) -> Patient:
    """Read one patient as published."""
    with np.load(path) as stored:
        hu = np.clip(stored["v"], 0, _STORED_MAXIMUM).astype(np.float32) + _OUTSIDE_HU
        z, y, x = (float(mm) for mm in stored["sp"])
        return Patient(path.stem, hu, stored["m"], (z, y, x))


def held_out(names: list[str], fold: int) -> list[str]:
    """Name the patients of one fold; the others are trained on."""
    shuffled = [names[i] for i in np.random.default_rng(SEED).permutation(len(names))]
    return sorted(shuffled[fold::FOLDS])


def slices_with_body(patient: Patient) -> slice:
    """Find the longest run of slices that show the body and not only strips around organs."""
    area = (patient.voxels_hu > _OUTSIDE_HU).sum((1, 2)) * patient.spacing_mm[1] * patient.spacing_mm[2]
    runs, count = ndimage.label(area > _SLICE_WITH_BODY_MM2)
    if not count:
        return slice(0, len(area))
    longest = 1 + int(np.argmax(np.bincount(runs)[1:]))
    inside = np.flatnonzero(runs == longest)
    return slice(int(inside[0]), int(inside[-1]) + 1)


def framed(patient: Patient, margin: bool = True) -> Patient:
    """Cut to what is not blank, with space around it."""
    filled = np.argwhere(patient.voxels_hu > _OUTSIDE_HU)
    window = tuple(slice(low, high + 1) for low, high in zip(filled.min(0), filled.max(0), strict=True))
    _, y_mm, x_mm = patient.spacing_mm
    front, back, side = (round(_FRONT_MM / y_mm), round(_BACK_MM / y_mm), round(_SIDE_MM / x_mm))
    space = ((0, 0), (front, back), (side, side)) if margin else ((0, 0),) * 3
    hu = np.pad(patient.voxels_hu[window], space, constant_values=_OUTSIDE_HU)
    return replace(patient, voxels_hu=hu, labels=np.pad(patient.labels[window], space))


def with_surroundings(patient: Patient, seed: int) -> Patient:
    """Put the patient on a couch and into air, mostly with a head rest and a thermoplastic mask.

    Shapes, places and HU come from the seed. Slices without a body are left out.
    """
    shown = slices_with_body(patient)
    cut = framed(replace(patient, voxels_hu=patient.voxels_hu[shown], labels=patient.labels[shown]))
    rng = np.random.default_rng((seed, int(patient.name.removeprefix("pt_"))))
    body = body_of(cut.voxels_hu)
    around = np.full(body.shape, -1000.0, np.float32)
    couch_top = _draw_couch(around, body, cut.spacing_mm, rng)
    if rng.random() < 0.8:
        _draw_head_rest(around, body, couch_top, cut.spacing_mm, rng)
    if rng.random() < 0.6:
        _draw_mask(around, body, rng)
    for _ in range(rng.integers(0, 4)):
        _draw_tube(around, rng)
    around = ndimage.gaussian_filter(around, 0.5) + rng.normal(0, rng.uniform(5, 25), body.shape)
    hu = np.where(body, cut.voxels_hu, around).clip(_OUTSIDE_HU, _STORED_MAXIMUM + _OUTSIDE_HU)
    return replace(cut, voxels_hu=hu.astype(np.float32))


def body_of(voxels_hu: np.ndarray) -> np.ndarray:
    """Find the body in a published image, with its air: all that is not blank, holes filled slice by slice."""
    filled = ndimage.binary_closing(voxels_hu > _OUTSIDE_HU, np.ones((1, 3, 3)))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in filled]) | (voxels_hu > _OUTSIDE_HU)


def _draw_couch(
    around: np.ndarray, body: np.ndarray, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> int:
    """Draw a flat or hollow couch of foam in a shell below the body; return the row of its top."""
    _, y_mm, x_mm = spacing_mm
    top = int(np.flatnonzero(body.any((0, 2)))[-1]) + 1 + int(rng.integers(0, 3))
    half = rng.uniform(190, 270)
    offset = (np.arange(body.shape[2]) - body.shape[2] / 2) * x_mm
    rise = rng.choice([0.0, rng.uniform(10, 60)]) * (offset / half) ** 2
    surface = top - rise / y_mm
    thick = rng.uniform(15, 70) / y_mm
    below = np.arange(body.shape[1])[:, None] - surface[None]
    within = (below >= 0) & (below < thick) & (np.abs(offset) < half)[None]
    shell = within & ((below < 1) | (below >= thick - 1))
    around[:, within] = rng.uniform(-990, -850)
    around[:, shell] = rng.uniform(-500, 300)
    return top


def _draw_head_rest(
    around: np.ndarray,
    body: np.ndarray,
    couch_top: int,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Fill the space between head or neck and the couch with foam or plastic."""
    rows = np.arange(body.shape[1])[None, :, None]
    back = np.where(body.any(1), body.shape[1] - 1 - np.argmax(body[:, ::-1], axis=1), couch_top)
    across = np.abs(np.arange(body.shape[2]) - body.shape[2] / 2) * spacing_mm[2] < rng.uniform(60, 140)
    rest = (rows > back[:, None]) & (rows < couch_top) & across[None, None]
    rest[: round(rng.uniform(0.3, 0.6) * len(rest))] = False
    around[rest] = rng.choice([rng.uniform(-980, -850), rng.uniform(-850, 50)])


def _draw_mask(around: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a perforated sheet on or just above the front of head and neck."""
    gap = int(rng.integers(0, 2))
    near = ndimage.binary_dilation(body, iterations=gap) if gap else body
    sheet = ndimage.binary_dilation(near) & ~near
    middle = np.flatnonzero(body.any((0, 2))).mean()
    sheet[:, round(middle + rng.uniform(0, 10)) :] = False
    sheet[: round(rng.uniform(0.0, 0.5) * len(sheet))] = False
    sheet &= ndimage.gaussian_filter(rng.normal(size=body.shape), 1) > rng.uniform(-0.2, 0.05)
    around[sheet] = rng.uniform(-700, 150)


def _draw_tube(around: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a line or wire beside the body, along it and aslant."""
    z = np.arange(len(around))
    _, height, width = around.shape
    lean = np.outer(rng.uniform(-0.3, 0.3, 2), z - z.mean())
    y = np.clip(rng.uniform(0, height) + lean[0], 0, height - 1).astype(int)
    x = np.clip(rng.uniform(0, width) + lean[1], 0, width - 1).astype(int)
    around[z, y, x] = rng.uniform(-200, 2500)
