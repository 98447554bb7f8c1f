"""Read a MONAI bundle of a simple sliding-window network: its ONNX file, and a card made of its two JSON files.

A bundle is a small program: `inference.json` names Python classes and holds expressions. Nothing of it is run. Parts
whose meaning is known are translated, parts that change nothing here are passed over, and the first part that is not
known ends the conversion with its name.
"""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.graph import ends_of
from orthanc_plugin.conversion.onnx_file import convert_onnx
from orthanc_plugin.conversion.unpack import unpacked
from orthanc_plugin.errors import ModelError

METADATA, INFERENCE = Path("configs", "metadata.json"), Path("configs", "inference.json")
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

Json = Mapping[str, Any]


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
            raise ModelError(f"{source} has no {METADATA} beside {INFERENCE}; it is not a MONAI bundle")
        graph = _graph(root)
        card = Path(made, "card.json")
        card.write_text(json.dumps(card_of(_read(root / METADATA), _read(root / INFERENCE), *_ends(graph))))
        return convert_onnx(graph, card, name, out, labels=labels, licence=licence, replace=replace, progress=progress)


def card_of(metadata: Json, inference: Json, start: str, end: str) -> dict[str, Any]:
    """Translate the two files of a bundle into a card of the engine `volume`.

    Parameters
    ----------
    metadata, inference : mapping
        Content of metadata.json and inference.json.
    start, end : str
        Input and output of the graph.

    Raises
    ------
    ModelError
        Naming the part that is not known.
    """
    parts = _Parts(inference)
    before = _before(parts)
    names = _channels(metadata)
    values, after = _after(parts, len(names))
    numbers = [0 if name == "background" and not values.startswith("sigmoid") else n for n, name in names.items()]
    if values.startswith("sigmoid"):
        numbers = [number + 1 for number in numbers]
    axes = before.pop("axes")
    section = {"input": start, "output": end, "layout": "3d", "values": values, "numbers": numbers}
    return {
        "axes": axes,
        "labels": {str(number): name for number, name in zip(numbers, names.values(), strict=True) if number},
        **{key: str(metadata[key]) for key in ("version", "intended_use") if metadata.get(key)},
        **({"manufacturer": str(metadata["authors"])} if metadata.get("authors") else {}),
        **({"citation": "; ".join(map(str, metadata["references"]))} if metadata.get("references") else {}),
        "limits": [
            "Converted from a MONAI bundle: patches are averaged with Gaussian weights, and edges are continued where "
            "MONAI pads with zeros.",
            "This project has not tested this model; check its labels on your own before you rely on them.",
        ],
        "volume": section | before | _inferer(parts) | after,
    }


class _Parts:
    """The content of inference.json; references to other keys are followed, expressions are refused."""

    def __init__(self, content: Json) -> None:
        self._content = content

    def get(self, value: Any, where: str, depth: int = 0) -> Any:
        """Give a value without references."""
        if isinstance(value, str) and value.startswith("$"):
            raise ModelError(f"inference.json: {where} is an expression ({value:.60}); write its value instead")
        if isinstance(value, str) and value.startswith("@"):
            found: Any = self._content
            for key in re.split(r"::|#", value[1:]):
                found = found.get(key) if isinstance(found, Mapping) else None
            if found is None or depth > len(self._content):
                raise ModelError(f"inference.json: {where} refers to {value:.60}, which is not there")
            return self.get(found, where, depth + 1)
        return value

    def transforms(self, key: str) -> Iterator[tuple[str, Json]]:
        """Yield short names and settings of the transforms of a Compose that say something."""
        composed = self.get(self._content.get(key), key)
        if not isinstance(composed, Mapping) or _short(composed) != "Compose":
            raise ModelError(f"inference.json: {key} is not a Compose of transforms")
        for index, one in enumerate(self.get(composed.get("transforms"), f"{key}.transforms") or ()):
            step = self.get(one, f"{key}.transforms.{index}")
            if not isinstance(step, Mapping) or "_target_" not in step:
                raise ModelError(f"inference.json: {key}.transforms.{index} names no transform")
            if step.get("_disabled_") is True or (name := _short(step).removesuffix("d")) in _IDLE:
                continue
            yield name, step

    def setting(self, step: Json, key: str, default: Any = None) -> Any:
        """Give one setting of a transform; one that is missing and has no default is an error."""
        value = self.get(step.get(key, default), f"{_short(step)}.{key}")
        if isinstance(value, list):
            value = [self.get(one, f"{_short(step)}.{key}") for one in value]
        return value

    def inferer(self) -> Json:
        """Give the section of the inferer."""
        found = self.get(self._content.get("inferer"), "inferer")
        if not isinstance(found, Mapping) or "_target_" not in found:
            raise ModelError("inference.json has no inferer")
        return found


def _short(step: Json) -> str:
    return str(step.get("_target_", "")).rpartition(".")[2]


def _before(parts: _Parts) -> dict[str, Any]:
    """Translate preprocessing: orientation, then spacing and intensity."""
    made: dict[str, Any] = {}
    for name, step in parts.transforms("preprocessing"):
        key, value = _preprocessing(parts, name, step)
        if key in made:
            raise ModelError(f"inference.json: preprocessing has a second step for {key}: {_short(step)}")
        if key == "spacing_mm" and "axes" not in made:
            raise ModelError("inference.json: preprocessing has Spacingd before Orientationd; its axes are not known")
        made[key] = value
    for key, transform in (("axes", "Orientationd"), ("intensity", "ScaleIntensityRanged or NormalizeIntensityd")):
        if key not in made:
            raise ModelError(f"inference.json: preprocessing has no {transform}; {key} is not known")
    return made


def _preprocessing(parts: _Parts, name: str, step: Json) -> tuple[str, Any]:
    match name:
        case "Orientation":
            return "axes", _orientation(parts.setting(step, "axcodes"))
        case "Spacing":
            mode = parts.setting(step, "mode", "bilinear")
            if mode not in ("bilinear", ["bilinear"], 1):
                raise ModelError(f"inference.json: Spacingd.mode is {mode}; only bilinear is known")
            return "spacing_mm", [mm if mm > 0 else None for mm in _numbers(parts.setting(step, "pixdim"), step, 3)]
        case "ScaleIntensityRange":
            if parts.setting(step, "clip", False) is not True:
                raise ModelError("inference.json: ScaleIntensityRanged.clip is not true; only clipping is known")
            low_hu, high_hu, low, high = (
                _number(parts.setting(step, key), step, key) for key in ("a_min", "a_max", "b_min", "b_max")
            )
            return "intensity", {"scheme": "window", "low_hu": low_hu, "high_hu": high_hu, "low": low, "high": high}
        case "NormalizeIntensity":
            if parts.setting(step, "nonzero", False):
                raise ModelError("inference.json: NormalizeIntensityd.nonzero is true, which is not known")
            mean, sd = (parts.setting(step, key) for key in ("subtrahend", "divisor"))
            if mean is None and sd is None:
                return "intensity", {"scheme": "zscore"}
            return "intensity", {
                "scheme": "zscore",
                "mean": _number(mean, step, "subtrahend"),
                "sd": _number(sd, step, "divisor"),
            }
        case _:
            raise ModelError(f"inference.json: preprocessing has {_short(step)}, which is not known")


def _inferer(parts: _Parts) -> dict[str, Any]:
    step = parts.inferer()
    match _short(step):
        case "SlidingWindowInferer":
            size = [int(side) for side in _numbers(parts.setting(step, "roi_size"), step, _SIDES)]
            return {"patch_size": size, "overlap": _number(parts.setting(step, "overlap", 0.25), step, "overlap")}
        case "SimpleInferer":
            return {"patch_size": None}
        case other:
            raise ModelError(f"inference.json: inferer is {other}, which is not known")


def _after(parts: _Parts, outputs: int) -> tuple[str, dict[str, Any]]:
    """Translate postprocessing: what the outputs are, threshold and cleaning."""
    activation, decision, made = "", "", dict[str, Any]()
    for name, step in parts.transforms("postprocessing"):
        match name:
            case "Activations":
                activation = _one_of(parts, step, "softmax", "sigmoid")
            case "AsDiscrete" if parts.setting(step, "argmax", False):
                decision = "argmax"
            case "AsDiscrete":
                decision = "threshold"
                made["threshold"] = _number(parts.setting(step, "threshold"), step, "threshold")
            case "KeepLargestConnectedComponent":
                chosen = parts.setting(step, "applied_labels")
                numbers = range(1, outputs) if chosen is None else chosen if isinstance(chosen, list) else [chosen]
                made["cleaning"] = [{"number": int(number), "largest": True} for number in numbers]
            case _:
                raise ModelError(f"inference.json: postprocessing has {_short(step)}, which is not known")
    match activation, decision:
        case ("softmax" | "", "argmax"):
            return "logits", made
        case "sigmoid", "threshold":
            return "sigmoid-logits", made
    raise ModelError(
        f"inference.json: postprocessing has activation {activation or 'none'} and decision {decision or 'none'}; known"
        " are softmax or none with argmax, and sigmoid with a threshold"
    )


def _one_of(parts: _Parts, step: Json, *keys: str) -> str:
    chosen = [key for key in keys if parts.setting(step, key, False)]
    if len(chosen) != 1:
        raise ModelError(f"inference.json: {_short(step)} must have one of {', '.join(keys)}")
    return chosen[0]


def _orientation(axcodes: Any) -> list[str]:
    axes = [_AXES.get(code, "") for code in axcodes] if isinstance(axcodes, str | list) else []
    if len(axes) != _SIDES or len({axis[:1] for axis in axes} - {""}) != _SIDES:
        raise ModelError(f"inference.json: Orientationd.axcodes is {axcodes}; it must be three letters such as RAS")
    return axes


def _channels(metadata: Json) -> dict[int, str]:
    """Read the names of the outputs; the input must be one CT."""
    form = metadata.get("network_data_format")
    inputs, outputs = (form.get(key) if isinstance(form, Mapping) else None for key in ("inputs", "outputs"))
    if not (isinstance(inputs, Mapping) and isinstance(outputs, Mapping) and len(inputs) == len(outputs) == 1):
        raise ModelError("metadata.json: network_data_format must have one input and one output")
    (image,), (found,) = inputs.values(), outputs.values()
    if image.get("num_channels") != 1 or str(image.get("modality", "CT")).upper() not in ("CT", "N/A"):
        raise ModelError("metadata.json: the input is not one channel of CT")
    named = found.get("channel_def")
    if not isinstance(named, Mapping) or sorted(map(str, range(len(named)))) != sorted(named) or not named:
        raise ModelError("metadata.json: channel_def of the output must name channels 0, 1, ...")
    return {
        number: re.sub(r"[^a-z0-9]+", "_", str(named[str(number)]).lower()).strip("_") for number in range(len(named))
    }


def _number(value: Any, step: Json, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"inference.json: {_short(step)}.{key} is {value}; it must be a number")
    return float(value)


def _numbers(value: Any, step: Json, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ModelError(f"inference.json: {_short(step)} must have {count} numbers, not {value!s:.60}")
    return [_number(one, step, "size") for one in value]


def _root(folder: Path) -> Path | None:
    """Find the folder of the bundle: the one named, or the only one in it."""
    return next((at for at in (folder, *sorted(folder.glob("*/"))) if (at / METADATA).is_file()), None)


def _read(file: Path) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file.name} cannot be read ({type(error).__name__}); it must be a JSON file") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file.name} must hold an object")
    return content


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
