"""Make a model of any ONNX file and a card that says what goes in and what comes out.

The file is stored as one self-contained graph, so that its digest covers all values. Only standard operators pass: a
custom operator needs a library that this project does not load.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orthanc_plugin.catalog.anatomy import codes_of, read_mapping
from orthanc_plugin.catalog.card import CardLabel, Engine, ModelCard
from orthanc_plugin.catalog.reader import CARD, SCHEMA, read_card, sha256_of, verify_model
from orthanc_plugin.conversion.convert import check_name, move_in, staging
from orthanc_plugin.errors import ConfigError, ModelError

GRAPH = "model.onnx"
_STANDARD = ("", "ai.onnx")
_OPSETS = range(7, 26)
_DEFAULTS: Mapping[str, Any] = {
    "schema": SCHEMA,
    "version": "1",
    "axes": ["z:S", "y:P", "x:L"],
    "preprocessing": {},
    "manufacturer": "not stated",
    "licence": "not stated; ask the publisher of the weights before you use them",
    "citation": "not stated",
    "intended_use": "Research use only, not for diagnosis.",
    "limits": ["This project has not tested this model; check its labels on your own before you rely on them."],
}


def convert_onnx(
    file: Path,
    card_file: Path,
    name: str,
    out: Path,
    *,
    labels: Path | None = None,
    licence: str | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelCard:
    """Check an ONNX file and its card, and write both into `out/name`.

    Parameters
    ----------
    file : Path
        The ONNX file; values that it keeps in other files of its folder are taken in.
    card_file : Path
        JSON as in card.json. `schema`, `name`, `engine` and `graphs` are filled in, and texts that are missing.
        `labels` may be an object of label number to a name in the table of structures or the mapping.
    name, out, labels, licence, replace, progress
        See `convert.convert_model`.

    Raises
    ------
    ConfigError
        If onnx is missing, or the name is taken or not valid.
    ModelError
        If the graph or the card cannot be used; nothing is left behind.
    """
    check_name(name, out / name, replace)
    raw = _card(card_file, name, labels)
    if licence:
        raw["licence"] = licence
    progress(f"reading {file}")
    with staging(out, name) as folder, _named(folder / CARD, card_file), _named(folder / GRAPH, file):
        _write_graph(file, folder / GRAPH)
        raw["graphs"] = [{"file": GRAPH, "sha256": sha256_of(folder / GRAPH)}]
        (folder / CARD).write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        text = f"Licence of the weights: {raw['licence']}\n{raw['citation']}\n"
        (folder / "LICENSE").write_text(text, encoding="utf-8")
        verify_model(read_card(folder))
        move_in(folder, out / name)
    return read_card(out / name)


@contextmanager
def _named(written: Path, given: Path) -> Iterator[None]:
    """Name in errors the file that was given, not the one written of it, which does not stay."""
    try:
        yield
    except ModelError as error:
        raise ModelError(str(error).replace(str(written), str(given))) from error


def _card(file: Path, name: str, labels: Path | None) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read ({type(error).__name__}); it must be a JSON file") from error
    if not isinstance(raw, dict) or not raw.get("volume"):
        raise ModelError(f"{file} has no section volume; docs/models/volume.md shows cards to begin with")
    if isinstance(raw.get("labels"), dict):
        raw["labels"] = _labels(file, raw["labels"], labels)
    return {**_DEFAULTS, **raw, "name": name, "engine": Engine.VOLUME.value}


def _labels(file: Path, names: Mapping[str, Any], mapping: Path | None) -> list[dict[str, Any]]:
    if not all(number.isdecimal() and isinstance(name, str) for number, name in names.items()):
        raise ModelError(f"{file}: labels: give numbers and names of structures, or a list as in card.json")
    numbers = sorted(map(int, names))
    found = codes_of([names[str(number)] for number in numbers], read_mapping(mapping) if mapping else {})
    return [
        CardLabel(number, a.key, a.label, a.category, a.type, a.modifier, a.colour, (number,), True).to_json()
        for number, a in zip(numbers, found, strict=True)
    ]


def _write_graph(file: Path, target: Path) -> None:
    """Write a graph with all its values, after a check of its operators."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ConfigError("onnx is needed to check the file: pip install 'orthanc-enrichment[build]'") from error
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(file, load_external_data=True)
        onnx.checker.check_model(model, full_check=True)
    except (
        OSError,
        DecodeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{file} is not an ONNX file that can be used: {first:.200}") from error
    foreign = sorted({one.domain for one in model.opset_import} - set(_STANDARD))
    used = sorted({node.op_type for node in model.graph.node if node.domain not in _STANDARD})
    if used or model.functions:
        raise ModelError(f"{file} has operators that ONNX does not define: {', '.join(used or foreign)}")
    opset = next((one.version for one in model.opset_import if one.domain in _STANDARD), 0)
    if opset not in _OPSETS:
        raise ModelError(f"{file} has opset {opset}; supported are {_OPSETS[0]} to {_OPSETS[-1]}")
    held = {tensor.name for tensor in model.graph.initializer}
    free = [end for end in model.graph.input if end.name not in held]  # old exporters list values among the inputs
    del model.graph.input[:]
    model.graph.input.extend(free)
    onnx.save_model(model, target, save_as_external_data=False)
