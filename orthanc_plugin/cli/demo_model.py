"""The models of the demo: one to show, by name, folder or published weights, and one that locates the CT."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.reader import CARD, read_card
from orthanc_plugin.catalog.shelf import find_model, list_models
from orthanc_plugin.config.rule import DEFAULT_LOCATOR
from orthanc_plugin.conversion.convert import convert_model

STANDIN_LOCATOR = "bpr_standin"


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model to show.

    model: name of a model, its folder, or published weights (folder or zip) that are converted first.
    models_directory: folder of the operator's models.
    allow_test_model: run it on patients even if it was trained on phantoms only.
    """

    model: str
    models_directory: Path | None
    allow_test_model: bool


def section_of(shown: ShownModel, directory: Path, messages: Console) -> dict[str, Any]:
    """Make the settings that run the model on every CT.

    Parameters
    ----------
    shown : ShownModel
    directory : Path
        Of the demo; the model is copied into its `models`, or converted there.
    messages : Console
        Gets a message about a conversion, and about a test model.

    Raises
    ------
    ConfigError
        If the model has to be converted and torch is missing.
    ModelError
        If there is no such model, or it cannot be used or converted.
    """
    models = directory / "models"
    models.mkdir(exist_ok=True)
    card = _shown_card(shown, models, messages)
    if card.test_model:
        messages.print(
            f"{card.name} is a test model, trained on phantoms only: what it finds in a patient means nothing."
        )
    rule = {"Name": "demo", "Models": [card.name], "AllowTestModels": shown.allow_test_model}
    return {"ModelsDirectory": str(models), "Rules": [rule]}


def with_locator(
    section: Mapping[str, Any], directory: Path, models_directory: Path | None, *, phantom: bool
) -> dict[str, Any]:
    """Add the model that finds where in the body the CT lies, if it is installed.

    Parameters
    ----------
    section : mapping
        Of `section_of`; empty: the default rule.
    directory : Path
        Of the demo; the model is copied into its `models`.
    models_directory : Path or None
        Folder of the operator's models.
    phantom : bool
        Whether the CT is a phantom, which the stand-in locates.

    Raises
    ------
    ModelError
        If a model cannot be used.
    """
    locator = STANDIN_LOCATOR if phantom else DEFAULT_LOCATOR
    if locator not in {card.name for card in list_models(models_directory)}:
        return dict(section)
    models = directory / "models"
    shutil.copytree(find_model(locator, models_directory).directory, models / locator, dirs_exist_ok=True)
    rules = section.get("Rules", [{"Name": "demo"}])
    return {**section, "ModelsDirectory": str(models), "Rules": [{**rule, "Locate": locator} for rule in rules]}


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
