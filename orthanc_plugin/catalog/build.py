"""Build the models whose graphs this project writes itself; every machine gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from orthanc_plugin.catalog.card import CardLabel, Engine, ModelCard
from orthanc_plugin.catalog.chest_graph import chest_graph
from orthanc_plugin.catalog.reader import CARD, SCHEMA, read_card
from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LEFT, LUNG, MORPHOLOGICAL_OPERATIONS, RIGHT, TISSUE, Code
from orthanc_plugin.errors import ModelError

CHEST = "chest_structures"


def build_model(name: str, out: Path) -> ModelCard:
    """Write a model into the folder `out / name`.

    Parameters
    ----------
    name : str
        `chest_structures`.
    out : Path
        Existing folder of models.

    Returns
    -------
    ModelCard
        Read back from the folder.

    Raises
    ------
    ModelError
        If this project has no recipe for the model, or onnx is not installed.
    """
    if name not in _BUILDERS:
        raise ModelError(f"there is no recipe for {name!r}; this project builds: {', '.join(_BUILDERS)}")
    directory = out / name
    directory.mkdir(exist_ok=True)
    _BUILDERS[name](directory)
    return read_card(directory)


def _build_chest(directory: Path) -> None:
    graph = chest_graph().SerializeToString(deterministic=True)
    (directory / f"{CHEST}.onnx").write_bytes(graph)
    card = _chest_card(hashlib.sha256(graph).hexdigest())
    (directory / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (directory / "LICENSE").write_text(_LICENCE, encoding="utf-8")


def _label(
    number: int,
    key: str,
    label: str,
    kind: Code,
    colour: tuple[int, int, int],
    *,
    category: Code = ANATOMICAL_STRUCTURE,
    modifier: Code | None = None,
    covers: tuple[int, ...] = (),
    shape_features: bool = False,
) -> dict[str, object]:
    made = CardLabel(number, key, label, category, kind, modifier, colour, covers or (number,), shape_features)
    return made.to_json()


def _chest_card(graph_sha256: str) -> dict[str, object]:
    body, bone = Code("38266002", "SCT", "Entire body"), Code("3138006", "SCT", "Bone")
    airway = Code("110726009", "SCT", "Trachea and bronchus")
    return {
        "schema": SCHEMA,
        "name": CHEST,
        "version": "1.1.0",
        "engine": Engine.CLASSICAL_CHEST.value,
        "graphs": [{"file": f"{CHEST}.onnx", "sha256": graph_sha256}],
        "axes": ["z:S", "y:P", "x:L"],
        "preprocessing": {"grid_mm": 3.0, "airway_grid_mm": 1.5},
        "labels": [
            _label(1, "body", "Body", body, (177, 122, 101), covers=(1, 2, 3, 4, 5)),
            _label(2, "lung_left", "Left lung", LUNG, (65, 170, 220), modifier=LEFT, shape_features=True),
            _label(3, "lung_right", "Right lung", LUNG, (60, 110, 200), modifier=RIGHT, shape_features=True),
            _label(4, "airway", "Trachea and main bronchi", airway, (120, 225, 160), shape_features=True),
            _label(5, "bone", "Bone", bone, (241, 214, 145), category=TISSUE),
        ],
        "manufacturer": "orthanc-enrichment",
        "licence": "AGPL-3.0-or-later",
        "citation": "orthanc-enrichment, chest_structures: classical morphology without training data",
        "intended_use": "Research use only, not for diagnosis. CT of the adult chest.",
        "algorithm_family": asdict(MORPHOLOGICAL_OPERATIONS),
        "limits": [
            "Lung filled with fluid, tumour or consolidation is not part of the lung masks; a pneumothorax may be.",
            "Lungs cut by the edge of the image, or below 100 mL a side, are not segmented.",
            "Airways end behind the main bronchi; with voxels above 2.5 mm the bronchi may be missing.",
            "Bone is what exceeds 200 HU: dense contrast medium, metal and calcifications may be part of it.",
        ],
    }


_LICENCE = """chest_structures: a segmentation model made of constants only, without training data.
Copyright (C) 2026 the orthanc-enrichment authors

This model is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General Public
License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later
version. It is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the implied
warranty of MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE. The full text is at https://www.gnu.org/licenses/.
"""

_BUILDERS: dict[str, Callable[[Path], None]] = {CHEST: _build_chest}
