"""Find models: in the operator's `ModelsDirectory` first, then among the built-in ones.

A model is a folder with the model's name; it holds card.json (schema in docs/models.md), ONNX graphs and a LICENSE.
"""

from __future__ import annotations

import re
from pathlib import Path

from orthanc_plugin.catalog.build import build_model
from orthanc_plugin.catalog.card import NAME, ModelCard
from orthanc_plugin.catalog.reader import CARD, read_card, verify_model
from orthanc_plugin.errors import ModelError

__all__ = ["build_model", "find_model", "list_models", "verify_model"]

_PACKAGED = Path(__file__).resolve().parent / "builtin"
_CHECKOUT = Path(__file__).resolve().parents[2] / "models"


def find_model(name: str, models_directory: Path | None) -> ModelCard:
    """Read the card of a model.

    Parameters
    ----------
    name : str
        Name of the model and of its folder.
    models_directory : Path or None
        Where the operator keeps models. They hide built-in models of the same name.

    Raises
    ------
    ModelError
        If there is no such model, or its card cannot be used.
    """
    for directory in _shelves(models_directory):
        if re.fullmatch(NAME, name) and _is_model(directory / name):
            return read_card(directory / name)
    known = ", ".join(card.name for card in list_models(models_directory))
    raise ModelError(
        f"there is no model {name!r}; known are: {known}. Install it, or copy its folder into ModelsDirectory"
    )


def list_models(models_directory: Path | None) -> tuple[ModelCard, ...]:
    """Read the cards of all models, by name; models in `models_directory` hide built-in ones of the same name.

    Raises
    ------
    ModelError
        If the directory is missing or a card cannot be used.
    """
    found: dict[str, Path] = {}
    for directory in _shelves(models_directory):
        for folder in directory.iterdir():
            if _is_model(folder):
                found.setdefault(folder.name, folder)
    return tuple(read_card(found[name]) for name in sorted(found))


def _shelves(models_directory: Path | None) -> tuple[Path, ...]:
    if models_directory is not None and not models_directory.is_dir():
        raise ModelError(f"ModelsDirectory {models_directory} is not a folder; create it or remove the setting")
    builtin = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return tuple(directory for directory in (models_directory, builtin) if directory is not None)


def _is_model(folder: Path) -> bool:
    """Check that a folder holds a model; hidden folders hold installations in progress."""
    return not folder.name.startswith(".") and (folder / CARD).is_file()
