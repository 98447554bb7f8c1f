"""Read a MONAI bundle of a simple sliding-window network: its ONNX file, and a card made of its two JSON files.

A bundle is a small program: `inference.json` names Python classes and holds expressions. Nothing of it is run. Parts
whose meaning is known are translated, parts that change nothing here are passed over, and the first part that is not
known ends the conversion with its name.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.graph import ends_of
from orthanc_plugin.conversion.monai_config import Config, Json, read_config, short_name
from orthanc_plugin.conversion.onnx_file import convert_onnx
from orthanc_plugin.conversion.unpack import unpacked
from orthanc_plugin.errors import ModelError

METADATA = Path("configs", "metadata.json")
INFERENCE = tuple(Path("configs", f"inference.{ending}") for ending in ("json", "yaml", "yml"))
_IDLE = frozenset(
    {
        *("LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "SelectItems"),
        *("EnsureType", "CastToType", "ToTensor", "ToDevice"),
        *("Invert", "SaveImage"),
    }
)
"""Transforms that read, write or retype, or undo what this engine undoes itself."""
_AXES = {"R": "x:R", "L": "x:L", "A": "y:A", "P": "y:P", "S": "z:S", "I": "z:I"}
_SIDES = 3
_BLENDING = {"constant": "uniform", "gaussian": "gaussian"}
_PADDING = {"constant": "zero", "replicate": "edge"}
_NEIGHBOURS = {1: 6, 2: 18, 3: 26}
_ALL_HU = {"low_hu": -32768.0, "high_hu": 32767.0}
"""What stored values can be: MONAI does not clip here."""


def is_bundle(path: Path) -> bool:
    """Tell whether a folder, or a zip of one, has the files of a bundle."""
    if path.is_dir():
        return _root(path) is not None
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(METADATA.as_posix()) for name in archive.namelist())


def convert_bundle(
    source: Path,
    name: str,
    out: Path,
    *,
    labels: Path | None = None,
    licence: str | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelCard:
    """Make a model of a MONAI bundle with an ONNX file; parameters as in `onnx_file.convert_onnx`.

    Raises
    ------
    ModelError
        Naming the part of the bundle that is missing, or whose meaning is not known.
    ConfigError
        As for `convert_onnx`.

    Source
    ------
    MONAI's bundle specification; transforms and inferers as MONAI 1.3 documents them.
    """
    with unpacked(source) as folder, tempfile.TemporaryDirectory(prefix="enrich-bundle-") as made:
        root = _root(folder)
        if root is None:
            raise ModelError(f"{source} has no {METADATA}; it is not a MONAI bundle")
        graph = _graph(root)
        card = Path(made, "card.json")
        card.write_text(json.dumps(card_of(read_config(root / METADATA), _inference(root), *_ends(graph))))
        try:
            return convert_onnx(
                graph, card, name, out, labels=labels, licence=licence, replace=replace, progress=progress
            )
        except ModelError as error:
            raise ModelError(str(error).replace(str(card), f"card of {source}")) from error


def card_of(metadata: Json, parts: Config, start: str, end: str) -> dict[str, Any]:
    """Translate the two files of a bundle into a card of the engine `volume`.

    Parameters
    ----------
    metadata : mapping
        Content of metadata.json.
    parts : Config
        Content of inference.json.
    start, end : str
        Input and output of the graph.

    Raises
    ------
    ModelError
        Naming the part that is not known.
    """
    before = _before(parts)
    names = _channels(metadata)
    values, after = _after(parts, len(names))
    first = 1 if values.startswith("sigmoid") else 0
    numbers = [0 if name.lower() == "background" else number + first for number, name in names.items()]
    for rule in after.get("cleaning", ()):
        if not 0 <= rule["number"] < len(numbers) or not numbers[rule["number"]]:
            raise parts.error(f"KeepLargestConnectedComponentd.applied_labels has {rule['number']}, which is no label")
        rule["number"] = numbers[rule["number"]]
    axes = before.pop("axes")
    section = {"input": start, "output": end, "layout": "3d", "values": values, "numbers": numbers}
    return {
        "axes": axes,
        "labels": {str(number): name for number, name in zip(numbers, names.values(), strict=True) if number},
        **{key: str(metadata[key]) for key in ("version", "intended_use") if metadata.get(key)},
        **({"manufacturer": str(metadata["authors"])} if metadata.get("authors") else {}),
        **({"citation": "; ".join(map(str, metadata["references"]))} if metadata.get("references") else {}),
        "limits": [
            "Converted from a MONAI bundle: outputs come to the CT's grid before softmax, decision and cleaning.",
            "This project has not tested this model; check its labels on your own before you rely on them.",
        ],
        "volume": section | before | _inferer(parts) | after,
    }


def _before(parts: Config) -> dict[str, Any]:
    """Translate preprocessing: orientation, then spacing and intensity."""
    made: dict[str, Any] = {}
    for name, step in parts.transforms("preprocessing", _IDLE):
        key, value = _preprocessing(parts, name, step)
        if key == "intensity" and key in made:
            value = _one_intensity(parts, made[key], value, step)
        elif key in made:
            raise parts.error(f"preprocessing has a second step for {key}: {short_name(step)}")
        if key == "spacing_mm" and "axes" not in made:
            raise parts.error("preprocessing has Spacingd before Orientationd; its axes are not known")
        if key == "spacing_mm" and "intensity" in made:
            raise parts.error("preprocessing has Spacingd after the step for intensity; that order is not known")
        made[key] = value
    for key, transform in (("axes", "Orientationd"), ("intensity", "ScaleIntensityRanged or NormalizeIntensityd")):
        if key not in made:
            raise parts.error(f"preprocessing has no {transform}; {key} is not known")
    return made


def _preprocessing(parts: Config, name: str, step: Json) -> tuple[str, Any]:
    match name:
        case "Orientation":
            return "axes", _orientation(parts, parts.setting(step, "axcodes"))
        case "Spacing":
            mode = parts.setting(step, "mode", "bilinear")
            if mode not in ("bilinear", ["bilinear"], 1):
                raise parts.error(f"Spacingd.mode is {mode!s:.60}; only bilinear is known")
            return "spacing_mm", [mm if mm > 0 else None for mm in parts.numbers(step, "pixdim", _SIDES)]
        case "ScaleIntensityRange":
            if parts.setting(step, "clip", False) is not True:
                raise parts.error("ScaleIntensityRanged.clip is not true; only clipping is known")
            low_hu, high_hu, low, high = (parts.number(step, key) for key in ("a_min", "a_max", "b_min", "b_max"))
            return "intensity", {"scheme": "window", "low_hu": low_hu, "high_hu": high_hu, "low": low, "high": high}
        case "NormalizeIntensity":
            return "intensity", {"scheme": "zscore"} | _normalised(parts, step) | _ALL_HU
        case "ScaleIntensity":
            if parts.setting(step, "factor") is not None:
                raise parts.error("ScaleIntensityd.factor is given, which is not known")
            low, high = parts.number(step, "minv", 0.0), parts.number(step, "maxv", 1.0)
            return "intensity", {"scheme": "range", "low": low, "high": high} | _ALL_HU
        case _:
            raise parts.error(f"preprocessing has {short_name(step)}, which is not known")


def _normalised(parts: Config, step: Json) -> dict[str, Any]:
    """Translate mean, sd and the rule for zeros; the CT is one channel, so `channel_wise` changes nothing."""
    made = {"nonzero": True} if parts.setting(step, "nonzero", False) else {}
    given = {"mean": "subtrahend", "sd": "divisor"}
    if all(parts.setting(step, key) is None for key in given.values()):
        return made
    return made | {key: parts.numbers(step, name, 1)[0] for key, name in given.items()}


def _one_intensity(parts: Config, first: Json, second: Json, step: Json) -> Json:
    """Join two steps: normalisation is linear, so what scales the image's range after it needs only its zeros."""
    if (first["scheme"], second["scheme"]) != ("zscore", "range"):
        raise parts.error(f"preprocessing has a second step for intensity: {short_name(step)}")
    if first.get("nonzero") and "mean" in first:
        raise parts.error("NormalizeIntensityd has nonzero and subtrahend before ScaleIntensityd, which is not known")
    return {**second, **({"nonzero": True} if first.get("nonzero") else {})}


def _inferer(parts: Config) -> dict[str, Any]:
    step = parts.inferer()
    match short_name(step):
        case "SlidingWindowInferer":
            return {
                "patch_size": [int(side) for side in parts.numbers(step, "roi_size", _SIDES)],
                "overlap": _overlap(parts, step),
                "blending": _known(parts, step, "mode", _BLENDING),
                "padding": _known(parts, step, "padding_mode", _PADDING),
                "placing": "fixed",
            }
        case "SimpleInferer":
            return {"patch_size": None}
        case other:
            raise parts.error(f"inferer is {other}, which is not known")


def _overlap(parts: Config, step: Json) -> float:
    overlap = parts.numbers(step, "overlap", _SIDES) if "overlap" in step else [0.25]
    if len(set(overlap)) > 1:
        raise parts.error("SlidingWindowInferer.overlap differs between axes, which is not known")
    return overlap[0]


def _known(parts: Config, step: Json, key: str, known: Mapping[str, str]) -> str:
    """Translate a setting of the inferer; MONAI's default is `constant`."""
    value = str(parts.setting(step, key, "constant"))
    if value not in known or parts.setting(step, "cval", 0) != 0:
        raise parts.error(f"SlidingWindowInferer.{key} is {value:.60}; known are {', '.join(known)}, and cval 0")
    return known[value]


def _after(parts: Config, outputs: int) -> tuple[str, dict[str, Any]]:
    """Translate postprocessing: what the outputs are, threshold and cleaning."""
    activation, decision, made = "", "", dict[str, Any]()
    for name, step in parts.transforms("postprocessing", _IDLE):
        match name:
            case "Activations":
                activation = _one_of(parts, step, "softmax", "sigmoid")
            case "AsDiscrete" if parts.setting(step, "argmax", False):
                decision = "argmax"
            case "AsDiscrete":
                decision = "threshold"
                made["threshold"] = parts.number(step, "threshold")
            case "KeepLargestConnectedComponent":
                made["cleaning"] = _largest(parts, step, outputs)
            case _:
                raise parts.error(f"postprocessing has {short_name(step)}, which is not known")
    match activation, decision:
        case ("softmax" | "", "argmax"):
            return "logits", made
        case "sigmoid", "threshold":
            return "sigmoid-logits", made
    raise parts.error(
        f"postprocessing has activation {activation or 'none'} and decision {decision or 'none'}; known are softmax or"
        " none with argmax, and sigmoid with a threshold"
    )


def _largest(parts: Config, step: Json, outputs: int) -> list[dict[str, Any]]:
    """Translate largest components; MONAI's `connectivity` counts orthogonal steps, by default as many as axes."""
    chosen = parts.setting(step, "applied_labels")
    numbers = range(1, outputs) if chosen is None else chosen if isinstance(chosen, list) else [chosen]
    steps = int(parts.number(step, "connectivity", _SIDES))
    if parts.setting(step, "independent", True) is not True or parts.setting(step, "num_components", 1) != 1:
        raise parts.error("KeepLargestConnectedComponentd keeps more than one component a label, which is not known")
    if steps not in _NEIGHBOURS or not all(isinstance(number, int) for number in numbers):
        raise parts.error("KeepLargestConnectedComponentd must have whole applied_labels, and connectivity 1 to 3")
    return [{"number": number, "largest": True, "neighbours": _NEIGHBOURS[steps]} for number in numbers]


def _one_of(parts: Config, step: Json, *keys: str) -> str:
    chosen = [key for key in keys if parts.setting(step, key, False)]
    if len(chosen) != 1:
        raise parts.error(f"{short_name(step)} must have one of {', '.join(keys)}")
    return chosen[0]


def _orientation(parts: Config, axcodes: Any) -> list[str]:
    axes = [_AXES.get(code, "") for code in axcodes] if isinstance(axcodes, str | list) else []
    if len(axes) != _SIDES or len({axis[:1] for axis in axes} - {""}) != _SIDES:
        raise parts.error(f"Orientationd.axcodes is {axcodes!s:.60}; it must be three letters such as RAS")
    return axes


def _channels(metadata: Json) -> dict[int, str]:
    """Read the names of the outputs; the input must be one CT."""
    form = metadata.get("network_data_format")
    inputs, outputs = (form.get(key) if isinstance(form, Mapping) else None for key in ("inputs", "outputs"))
    if not (isinstance(inputs, Mapping) and isinstance(outputs, Mapping) and len(inputs) == len(outputs) == 1):
        raise ModelError("metadata.json: network_data_format must have one input and one output")
    (image,), (found,) = inputs.values(), outputs.values()
    if not (isinstance(image, Mapping) and isinstance(found, Mapping)):
        raise ModelError("metadata.json: input and output of network_data_format must be objects")
    if image.get("num_channels") != 1 or str(image.get("modality", "CT")).upper() not in ("CT", "N/A"):
        raise ModelError("metadata.json: the input is not one channel of CT")
    if found.get("type", "image") not in ("image", "probabilities") or found.get("format") in ("dict", "classes"):
        kind = f"{found.get('type')} in format {found.get('format')}"
        raise ModelError(f"metadata.json: the output is {kind:.80}, which is not known; known are images")
    named = found.get("channel_def")
    if not isinstance(named, Mapping) or sorted(map(str, range(len(named)))) != sorted(named) or not named:
        raise ModelError("metadata.json: channel_def of the output must name channels 0, 1, ...")
    return {number: str(named[str(number)]).strip() for number in range(len(named))}


def _root(folder: Path) -> Path | None:
    """Find the folder of the bundle: the one named, or the only one in it."""
    return next((at for at in (folder, *sorted(folder.glob("*/"))) if (at / METADATA).is_file()), None)


def _inference(root: Path) -> Config:
    """Read inference.json, or the YAML file that stands in its place."""
    found = next((at for name in INFERENCE if (at := root / name).is_file()), None)
    if found is None:
        raise ModelError(f"the bundle has none of {', '.join(str(name) for name in INFERENCE)}; one is needed")
    return Config(read_config(found), found.name)


def _graph(root: Path) -> Path:
    found: Sequence[Path] = sorted(root.glob("models/*.onnx"))
    if len(found) != 1:
        raise ModelError(
            f"the bundle has {len(found)} ONNX files in models/, one is needed; `python -m monai.bundle onnx_export` "
            "makes one of its weights"
        )
    return found[0]


def _ends(graph: Path) -> tuple[str, str]:
    """Name input and output of a graph; onnx reads it again when it is converted."""
    ends = ends_of(graph)
    if len(ends.inputs) != 1 or len(ends.outputs) != 1:
        count = f"{len(ends.inputs)} inputs and {len(ends.outputs)} outputs"
        raise ModelError(f"{graph.name} has {count}; one each is known")
    return ends.inputs[0][0], ends.outputs[0][0]
