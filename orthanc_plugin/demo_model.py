"""The model that the demo shows: found by name, taken from its folder, or converted from published weights."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.reader import CARD, read_card
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.conversion.convert import convert_model


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model to show.

    model: name of a model, its folder, or published weights (folder or zip) that are converted first.
    models_directory: where the operator's models lie.
    allow_test_model: run it on patients though it was trained on phantoms only.
    """

    model: str
    models_directory: Path | None
    allow_test_model: bool


def section_of(shown: ShownModel, directory: Path, messages: Console) -> dict[str, Any]:
    """Settings that run the model on every CT.

    Parameters
    ----------
    shown : ShownModel
    directory : Path
        Of the demo; the model is copied, or made, in its `models`.
    messages : Console
        Told of a conversion, and of what a test model is.

    Raises
    ------
    ConfigError
        If the model has to be converted and torch is missing.
    ModelError
        If there is no such model, or it cannot be used or converted.
    """
    models = directory / "models"
    models.mkdir()
    card = _shown_card(shown, models, messages)
    if card.test_model:
        messages.print(
            f"{card.name} is a test model, trained on phantoms only: what it finds in a patient means nothing."
        )
    rule = {"Name": "demo", "Models": [card.name], "AllowTestModels": shown.allow_test_model}
    return {"ModelsDirectory": str(models), "Rules": [rule]}


def _shown_card(shown: ShownModel, models: Path, messages: Console) -> ModelCard:
    source = Path(shown.model)
    if not source.exists():
        source = find_model(shown.model, shown.models_directory).directory
    if not (source / CARD).is_file():
        name = re.sub(r"[^a-z0-9]+", "_", source.stem.lower()).strip("_")
        return convert_model(source, f"m_{name}" if not name[:1].isalpha() else name, models, progress=messages.print)
    card = read_card(source.resolve())
    shutil.copytree(source, models / card.name)
    return read_card(models / card.name)
