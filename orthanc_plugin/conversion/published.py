"""What a published folder holds, in one form for v1 and v2: a part of a card, and the graphs to export for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthanc_plugin.catalog.nnunet import Framework, Part
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.errors import ModelError

PREFERRED = ("3d_fullres", "3d_cascade_fullres", "3d_lowres", "2d")
"""Configurations by preference: if the user names none, the first available one is converted."""

Axes = tuple[str, str, str]

AS_STORED: Axes = ("z:S", "y:P", "x:L")
"""Axes of images that were never turned: what common DICOM converters write, slices upward."""

CANONICAL: Axes = ("z:S", "y:A", "x:R")
"""Axes of images that their reader turned to RAS, as TotalSegmentator's and some of nnU-Net v2's readers do."""

ALL_CASES = "all"
"""nnU-Net's word for a training on all cases; like both frameworks, use it only if there are no folds."""

MOST_JSON_BYTES = 64 * 2**20
"""Plans take a few kB; a dataset.json that lists thousands of cases takes a few MB."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A label of a model: its number in the label map, its published name, and the numbers that belong to it."""

    number: int
    name: str
    covers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """One file to export: a fold of one configuration."""

    file: str
    checkpoint: Path
    framework: Framework
    topology: Topology
    patch_size: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The chosen configurations of one task (v1) or dataset (v2).

    trained: trainer and plans, as the folder names them.
    part: its numbers are the network's own.
    graphs: those of all its configurations, including a cascade's first stage.
    files: what was read beside the checkpoints.
    axes: those to which the plans' image reader turns every image; None if images are used as stored.
    limits: what a user of the model should know.
    """

    task: str
    trained: str
    part: Part
    structures: tuple[Structure, ...]
    graphs: tuple[Graph, ...]
    files: tuple[Path, ...]
    axes: Axes | None = None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """A trainer's folder: one configuration of one task. folds: name and checkpoint of each finished fold."""

    folder: Path
    task: str
    configuration: str
    trainer: str
    plans: str
    folds: tuple[tuple[str, Path], ...]

    def chosen_folds(self, folds: Sequence[int] | None) -> tuple[tuple[str, Path], ...]:
        """Return the folds asked for; by default all numbered ones, or the training on all cases if there are none."""
        there = dict(self.folds)
        if folds is None:
            numbered = tuple(name for name in there if name != ALL_CASES)
            wanted = numbered or tuple(there)
        else:
            wanted = tuple(str(fold) for fold in sorted(set(folds)))
        missing = [name for name in wanted if name not in there]
        if missing or not wanted:
            has = f"finished are {', '.join(there)}" if there else f"it has no finished fold{_unfinished(self.folder)}"
            raise ModelError(f"{self.folder}: no fold {', '.join(missing) or 'to convert'}; {has}")
        return tuple((name, there[name]) for name in wanted)


def _unfinished(folder: Path) -> str:
    best = next((path for path in folder.glob("*/*best*") if path.suffix in (".pth", ".model")), None)
    return f" (only {best.name}: train to the end, or copy it under the final checkpoint's name)" if best else ""


def chosen(found: Sequence[Trained], configurations: Sequence[str]) -> tuple[Trained, ...]:
    """Return the trained configurations asked for, or the preferred one; all must be of one task.

    Raises
    ------
    ModelError
        If one is missing, or was trained more than once.
    """
    there = sorted({one.configuration for one in found})
    wanted = tuple(dict.fromkeys(configurations)) or (_preferred(there),)
    return tuple(the_one(found, name, there) for name in wanted)


def _preferred(there: Sequence[str]) -> str:
    return next((name for name in PREFERRED if name in there), there[0])


def the_one(found: Sequence[Trained], configuration: str, there: Sequence[str]) -> Trained:
    """Return the only trained folder of a configuration."""
    matching = [one for one in found if one.configuration == configuration]
    if not matching:
        raise ModelError(f"there is no configuration {configuration} here, only: {', '.join(there)}")
    if len(matching) > 1:
        folders = ", ".join(str(one.folder) for one in matching)
        raise ModelError(f"{configuration} was trained more than once: {folders}; name the folder of one of them")
    return matching[0]


def limits_of(trained: Sequence[Trained], prefix: str) -> tuple[str, ...]:
    """Warn of foreign trainers, which may have changed something that the plans do not state."""
    foreign = sorted({one.trainer for one in trained if not one.trainer.startswith(prefix)})
    return tuple(f"Trained by {name}, not one of nnU-Net's: its network is taken as its plans say." for name in foreign)


def graph_names(prefix: str, configuration: str, folds: Sequence[str]) -> tuple[str, ...]:
    """Name the ONNX files of one configuration."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", f"{prefix}{configuration}")
    return tuple(f"{stem}_fold_{fold}.onnx" for fold in folds)


_DAMAGE = (TypeError, ValueError, IndexError, AttributeError, ArithmeticError, SyntaxError, RecursionError, MemoryError)


@contextmanager
def plans_of(file: Path) -> Iterator[None]:
    """Turn any error in reading values of plans into one error that names the file."""
    try:
        yield
    except KeyError as error:
        raise ModelError(f"{file} has no {error}; it is incomplete, get it again") from error
    except _DAMAGE as error:
        raise ModelError(f"{file} has a value that nnU-Net never writes ({error}); get it again") from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ModelError
        If the file is missing, too large or not a JSON object.
    """
    try:
        if file.stat().st_size > MOST_JSON_BYTES:
            raise ModelError(
                f"{file} is larger than {MOST_JSON_BYTES // 2**20} MiB, which plans never are; get it again"
            )
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read ({type(error).__name__}); the model folder is incomplete") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} does not hold a JSON object; get it again")
    return content
