"""Find BodyPartRegression's public folder, read its settings and make a card of them.

The folder holds `model.pt`, `config.json`, `inference-settings.json` and `reference.xlsx`; the last is not needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orthanc_plugin.catalog.bpr import END, LANDMARKS, START, BprModel, LandmarkScore
from orthanc_plugin.catalog.bpr_checks import problems
from orthanc_plugin.catalog.card import Engine
from orthanc_plugin.catalog.nnunet import SourceFile
from orthanc_plugin.conversion.provenance import Provenance
from orthanc_plugin.conversion.published import AS_STORED
from orthanc_plugin.errors import ModelError

WEIGHTS, CONFIG, SETTINGS = "model.pt", "config.json", "inference-settings.json"
GRAPH = "model.onnx"
VERSION = "BodyPartRegression, VGG16"
INTENDED_USE = "Research: where in the body the slices of a CT lie. Not for diagnosis."
LIMITS = (
    "Trained on CT that this project has not seen; check its landmarks on your own before you rely on them.",
    "Axial slices only. A landmark is a level along the body, not a point in it.",
    "How children, implants and pathology shift its scores has not been measured here.",
)

_NETWORK = "vgg"
_MOST_BYTES = 2**20
"""The published settings take a few kB."""


def find_bpr(root: Path) -> Path | None:
    """Find the folder of a body part regression at or below `root`; None if there is none.

    Raises
    ------
    ModelError
        If there are several, or the folder is incomplete.
    """
    folders = sorted({file.parent for file in root.resolve().rglob(SETTINGS) if "__MACOSX" not in file.parts})
    if len(folders) > 1:
        raise ModelError(f"{root} holds {len(folders)} body part regressions; name the folder of one of them")
    for folder in folders:
        for name in (WEIGHTS, CONFIG):
            if not (folder / name).is_file():
                raise ModelError(f"{folder / name} is missing; get the complete folder from its publisher")
        return folder
    return None


def read_bpr(folder: Path, source: tuple[SourceFile, ...]) -> BprModel:
    """Read config.json and inference-settings.json.

    Parameters
    ----------
    folder : Path
        The folder from `find_bpr`.
    source : tuple of SourceFile
        The files that are read, for the card.

    Returns
    -------
    BprModel
        Without background scores, which only the network knows.

    Raises
    ------
    ModelError
        Naming the file and the value that is missing, of a wrong type, not finite, or in conflict with others.

    Source
    ------
    bpreg 1.1.0, bpreg/inference/inference_model.py (which members are used) and inference_settings.py (how they are
    made).
    """
    _refuse_other_network(folder / CONFIG)
    file = folder / SETTINGS
    settings = _object(file)
    tables = _member(file, settings, "lookuptable_train_val")
    chosen = _member(file, settings, "settings")
    for key, landmark in (("start-landmark", START), ("end-landmark", END)):
        if chosen.get(key) != landmark:
            raise ModelError(f"{file}: settings.{key} is {chosen.get(key)!r:.40}; only {landmark} is supported")
    original = _table(file, tables, "original")
    model = BprModel(
        start_raw=_ends(file, original, START),
        end_raw=_ends(file, original, END),
        look_up=tuple(sorted(_table(file, tables, "transformed").values(), key=lambda row: row.mean)),
        slope_mean=_number(file, settings, "slope_mean"),
        tangential_min=_number(file, settings, "lower_quantile_tangential_slope"),
        tangential_max=_number(file, settings, "upper_quantile_tangential_slope"),
        background_scores=(),
        source=source,
    )
    for why in problems(model, [GRAPH]):
        raise ModelError(f"{file}: {why}; get it again from its publisher")
    return model


def card_of(model: BprModel, known: Provenance, licence: str | None) -> dict[str, Any]:
    """Make the card of a body part regression, without its name and its graph.

    Parameters
    ----------
    model : BprModel
        The `bpr` section.
    known : Provenance
        Maker and licence of the weights.
    licence : str or None
        The licence that the user states, if any.
    """
    return {
        "version": VERSION,
        "engine": Engine.BODY_PART_REGRESSION.value,
        "axes": list(AS_STORED),  # the engine transposes each slice, as the network saw them in training
        "preprocessing": {},
        "labels": [],
        "manufacturer": known.manufacturer,
        "licence": licence or known.licence,
        "citation": known.citation,
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
        "bpr": TypeAdapter(BprModel).dump_python(model, mode="json"),
        "test_model": False,
    }


def _refuse_other_network(file: Path) -> None:
    named = _object(file).get("base_model", _NETWORK)
    if named != _NETWORK:
        raise ModelError(f"{file}: base_model is {named!r:.40}; only {_NETWORK} can be converted")


def _object(file: Path) -> dict[str, Any]:
    """Read a JSON object; refuse repeated names, and NaN and infinities, which Python writes but JSON does not have."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ModelError(
                f"{file} is larger than {_MOST_BYTES // 2**20} MiB, which settings never are; get it again"
            )
        text = file.read_text(encoding="utf-8")
        content = json.loads(text, parse_int=float, parse_constant=_refuse, object_pairs_hook=_once)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); get it again from its publisher") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not valid JSON ({error!s:.80}); get it again from its publisher") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} does not hold a JSON object; get it again from its publisher")
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same name twice")
    return found


def _member(file: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise ModelError(f"{file} has no object {key!r}; it is incomplete, get it again from its publisher")
    return value


def _number(file: Path, content: Mapping[str, Any], key: str) -> float:
    value = content.get(key)
    if not isinstance(value, float) or not math.isfinite(value):
        raise ModelError(f"{file}: {key} is {value!r:.40}, not a number; get it again from its publisher")
    return value


def _table(file: Path, tables: Mapping[str, Any], name: str) -> dict[str, LandmarkScore]:
    rows = _member(file, tables, name)
    if unknown := sorted(rows.keys() - set(LANDMARKS)):
        raise ModelError(f"{file}: landmark {unknown[0]!r:.40} is not known; known are {', '.join(LANDMARKS)}")
    found = {}
    for key in rows:
        row = _member(file, rows, key)
        found[key] = LandmarkScore(key, _number(file, row, "mean"), _number(file, row, "std"))
    return found


def _ends(file: Path, original: Mapping[str, LandmarkScore], key: str) -> float:
    if key not in original:
        raise ModelError(f"{file}: lookuptable_train_val.original has no {key}; get it again from its publisher")
    return original[key].mean
