"""Convert published weights into a model of this project: card.json and ONNX graphs, complete or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orthanc_plugin.catalog.anatomy import Anatomy, codes_of, read_mapping
from orthanc_plugin.catalog.card import NAME, CardLabel, Engine, ModelCard
from orthanc_plugin.catalog.nnunet import NnunetModel, Precision, SourceFile
from orthanc_plugin.catalog.reader import CARD, SCHEMA, read_card, sha256_of
from orthanc_plugin.conversion import bpr
from orthanc_plugin.conversion.model import Model, read_model
from orthanc_plugin.conversion.provenance import provenance_of, provenance_of_bpr
from orthanc_plugin.conversion.published import Axes, Graph, Structure
from orthanc_plugin.conversion.unpack import unpacked
from orthanc_plugin.errors import ConfigError, ModelError

_AXIS = re.compile(r"z:[SI]|y:[AP]|x:[LR]")
_MOST_TEXT = 64
"""Version and manufacturer are written into DICOM elements of VR LO."""
_TEST_USE = "Test model: shows on phantoms that the way from weights to results works. Not for patients."
_TEST_LIMITS = ("Trained on phantoms of a program only; what it finds in a patient means nothing.",)

_EXTRA = ("torch", "onnx", "onnxruntime")
_EXAMPLE = (
    '{"label of the model": "name in our table", '
    '"another": {"type": {"scheme": "SCT", "value": "80891009", "meaning": "Heart"}}}'
)
_INTENDED_USE = "Research: labels of structures on CT, made by a published nnU-Net. Not for diagnosis."
_LIMITS = ("Trained on images that this project has not seen; check its labels on your own before you rely on them.",)


def convert_model(
    source: Path,
    name: str,
    out: Path,
    *,
    configurations: Sequence[str] = (),
    folds: Sequence[int] | None = None,
    precision: Precision = Precision.FP32,
    labels: Path | None = None,
    axes: Axes | None = None,
    licence: str | None = None,
    test_model: bool = False,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelCard:
    """Convert a published nnU-Net or body part regression into `out/name`.

    Parameters
    ----------
    source : Path
        Folder or zip: nnU-Net v1 or v2 layout, data sets of one TotalSegmentator task, or BodyPartRegression's layout.
    name : str
        Name of the new model.
    out : Path
        The models directory; created if it is missing.
    configurations : sequence of str
        `2d`, `3d_lowres`, `3d_fullres`, `3d_cascade_fullres` or another name from v2 plans; several are averaged. Empty
        for the preferred one. TotalSegmentator has only one; this is ignored.
    folds : sequence of int or None
        None for all trained folds (for TotalSegmentator: fold 0, which it uses).
    precision : Precision
        Number format of the graphs.
    labels : Path or None
        The user's mapping of label names to codes (`catalog.anatomy.read_mapping`).
    axes : three of `z:S`, `y:P`, `x:L` and their opposites, or None
        Order and direction of the images the network was trained on. None for those of the plans or the task, else
        slices upward, rows toward posterior, columns toward left.
    licence : str or None
        Licence of the weights. None for that of the known public record, else "not stated".
    test_model : bool
        Marks the model so that it is refused on patients; models known to be trained on phantoms are always marked.
    replace : bool
        Whether a model of this name may be replaced.
    progress : callable
        Receives what happens next.

    Raises
    ------
    ConfigError
        If torch is missing, the name is taken or not valid, the axes are not valid, or the source is a body part
        regression and options of nnU-Net are given.
    ModelError
        If the source cannot be converted; nothing is left behind.
    """
    check_name(name, out / name, replace)
    _check_axes(axes)
    export_graph, read_header = _tools()
    mapping = read_mapping(labels) if labels else {}
    with unpacked(source) as folder:
        progress(f"reading {source}")
        if regression := bpr.find_bpr(folder):
            _refuse_options_of_nnunet(configurations, folds, precision, labels, axes)
            with staging(out, name) as staged:
                card, terms = _of_regression(regression, source, folder, staged, licence, test_model)
                _finish(staged, card, terms, folder, out / name)
            return read_card(out / name)
        model = read_model(folder, configurations, folds, read_header)
        # Before the long export: labels without a code are the most common reason to stop.
        anatomy = _anatomy(model, mapping)
        with staging(out, name) as staged:
            for number, graph in enumerate(model.graphs, start=1):
                progress(f"graph {number} of {len(model.graphs)}: {graph.file}")
                target = staged / graph.file
                with _named(graph):
                    export_graph(graph.checkpoint, graph.framework, graph.topology, graph.patch_size, precision, target)
            progress("writing the card")
            files = [*model.files, *(graph.checkpoint for graph in model.graphs)]
            nnunet = NnunetModel(model.parts, precision, _sources(source, folder, files), model.frame)
            card = _card(name, model, nnunet, anatomy, staged, axes or model.axes, licence)
            if test_model or card["test_model"]:
                card |= {"test_model": True, "intended_use": _TEST_USE, "limits": [*_TEST_LIMITS, *model.limits]}
            _finish(staged, card, "" if licence else provenance_of(model.task).terms, folder, out / name)
    return read_card(out / name)


def _refuse_options_of_nnunet(
    configurations: Sequence[str],
    folds: Sequence[int] | None,
    precision: Precision,
    labels: Path | None,
    axes: Axes | None,
) -> None:
    if configurations or folds is not None or precision is not Precision.FP32 or labels or axes:
        raise ConfigError(
            "this is a body part regression; --config, --folds, --precision, --labels and --axes are options for "
            "nnU-Net: leave them out"
        )


def _of_regression(
    regression: Path, source: Path, folder: Path, staged: Path, licence: str | None, test_model: bool
) -> tuple[dict[str, Any], str]:
    """Write the graph of a body part regression; return its card and the terms of its weights."""
    sources = _sources(source, folder, [regression / name for name in (bpr.WEIGHTS, bpr.CONFIG, bpr.SETTINGS)])
    model = bpr.read_bpr(regression, sources)
    graph = staged / bpr.GRAPH
    try:
        background = _export_bpr(regression / bpr.WEIGHTS, model.size, graph)
    except ModelError as error:
        raise ModelError(f"{regression}: {error}") from error
    known = provenance_of_bpr(regression.name, published=bool(background))
    card = {"schema": SCHEMA, "name": staged.name, "graphs": [{"file": graph.name, "sha256": sha256_of(graph)}]}
    card |= bpr.card_of(changed(model, background_scores=background), known, licence)
    if test_model or known.test_model:
        card |= {"test_model": True, "intended_use": _TEST_USE, "limits": [*_TEST_LIMITS, *bpr.LIMITS]}
    return card, "" if licence else known.terms


def _finish(staged: Path, card: Mapping[str, Any], terms: str, folder: Path, target: Path) -> None:
    _write(staged, card, terms, folder)
    read_card(staged)
    move_in(staged, target)


def check_name(name: str, target: Path, replace: bool) -> None:
    """Refuse a name that is not valid, or is taken by a model that is not to be replaced."""
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"{name!r} is not a valid model name: use a small letter, then up to 63 of a-z, 0-9, _ and -")
    if target.exists() and not replace:
        raise ConfigError(f"{target} already exists; choose another name, or remove it first (models remove {name})")


def _check_axes(axes: Axes | None) -> None:
    if axes and (len(axes) != 3 or {axis[:1] for axis in axes} != set("zyx") or not all(map(_AXIS.fullmatch, axes))):
        raise ConfigError(f"axes {' '.join(axes)}: give each of z:S, y:P and x:L (or z:I, y:A, x:R) once, in any order")


def _export_bpr(checkpoint: Path, size: int, out: Path) -> tuple[float, ...]:
    """Call `bpr_network.export_bpr`; it needs torch, which `_tools` has found."""
    from orthanc_plugin.conversion.bpr_network import export_bpr

    return export_bpr(checkpoint, size, out)


def _tools() -> tuple[Callable[..., None], Callable[[Path], Any]]:
    """Import the functions that need torch."""
    try:
        from orthanc_plugin.conversion.export import export_graph
        from orthanc_plugin.conversion.weights import read_header
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        remedy = "pip install 'orthanc-enrichment[convert]' (docs/install.md says how to get torch's CPU build)"
        raise ConfigError(f"converting a model needs {error.name}, which is not installed: {remedy}") from error
    return export_graph, read_header


def _anatomy(model: Model, mapping: Mapping[str, Anatomy]) -> tuple[Anatomy, ...]:
    try:
        return codes_of([structure.name for structure in model.structures], mapping)
    except ModelError as error:
        raise ModelError(f"{error}. Its entries look like this: {_EXAMPLE}") from error


@contextmanager
def _named(graph: Graph) -> Iterator[None]:
    """Add the folder to errors of the export, which give only the file name that all folds share."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{graph.checkpoint.parent}: {error}") from error


@contextmanager
def staging(out: Path, name: str) -> Iterator[Path]:
    """Make a temporary folder of the model's name beside its destination, and remove it at the end."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=out) as folder:
            staged = Path(folder, name)
            staged.mkdir()
            yield staged
    except OSError as error:
        why = error.strerror or error
        raise ModelError(f"{out / name} cannot be written ({why}); nothing is installed") from error


def move_in(staged: Path, target: Path) -> None:
    """Move the model to its place in one step; a replaced model is removed with the staging folder."""
    old = staged.with_name("replaced")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(staged, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise


def _sources(source: Path, folder: Path, files: Sequence[Path]) -> tuple[SourceFile, ...]:
    """List every file that was read, and the zip if the source is one."""
    root = folder.resolve()
    whole = [] if source.is_dir() else [SourceFile(source.name, sha256_of(source))]
    read = (SourceFile(file.relative_to(root).as_posix(), sha256_of(file)) for file in dict.fromkeys(files))
    return (*whole, *read)


def _card(
    name: str,
    model: Model,
    nnunet: NnunetModel,
    anatomy: Sequence[Anatomy],
    staged: Path,
    axes: Axes,
    licence: str | None,
) -> dict[str, Any]:
    known = provenance_of(model.task)
    return {
        "schema": SCHEMA,
        "name": name,
        "version": model.trained[:_MOST_TEXT],
        "engine": Engine.NNUNET.value,
        "graphs": [{"file": graph.file, "sha256": sha256_of(staged / graph.file)} for graph in model.graphs],
        "axes": list(axes),
        "preprocessing": {},
        "labels": [_label(*pair) for pair in zip(model.structures, anatomy, strict=True)],
        "manufacturer": known.manufacturer[:_MOST_TEXT],
        "licence": licence or known.licence,
        "citation": known.citation,
        "intended_use": _INTENDED_USE,
        "limits": [*_LIMITS, *model.limits],
        "nnunet": TypeAdapter(NnunetModel).dump_python(nnunet, mode="json"),
        "test_model": known.test_model,
    }


def _label(structure: Structure, anatomy: Anatomy) -> dict[str, Any]:
    codes = (anatomy.category, anatomy.type, anatomy.modifier)
    label = CardLabel(structure.number, anatomy.key, anatomy.label, *codes, anatomy.colour, structure.covers, True)
    return label.to_json()


def _write(staged: Path, card: Mapping[str, Any], terms: str, folder: Path) -> None:
    (staged / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    published = next((path for path in sorted(folder.glob("LICENSE*")) if path.is_file()), None)
    if published:
        shutil.copyfile(published, staged / "LICENSE")
    else:
        lines = (f"Licence of the weights: {card['licence']}", terms, card["citation"])
        (staged / "LICENSE").write_text("\n".join(filter(None, lines)) + "\n", encoding="utf-8")
