"""nnU-Net v1 folders: `nnUNet/<configuration>/<task>/<trainer>__<plans>/` with plans.pkl and one checkpoint per fold.

Like v1 itself, this reader takes network, preprocessing and export from the plans inside the first fold's `.model.pkl`.
The path may be any level of that tree. Trainers that change the network without changing the plans are refused by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orthanc_plugin.catalog.anatomy import LABELS_OF_TASKS
from orthanc_plugin.catalog.nnunet import (
    Configuration,
    Framework,
    LargestComponent,
    Normalisation,
    Part,
    Previous,
    Scheme,
)
from orthanc_plugin.conversion.published import (
    ALL_CASES,
    Graph,
    Published,
    Structure,
    Trained,
    chosen,
    graph_names,
    limits_of,
    plans_of,
    read_json,
    the_one,
)
from orthanc_plugin.conversion.supported import (
    axes_of,
    check,
    refuse_other_than_ct,
    resampling,
    spacing_of,
    stages_of,
    whole,
    without_values,
)
from orthanc_plugin.conversion.topology import NetworkClass, Topology
from orthanc_plugin.conversion.unpickle import read_pickle
from orthanc_plugin.errors import ModelError

PLANS = "plans.pkl"
CHECKPOINT = "model_final_checkpoint.model"
LOWRES, FULLRES, CASCADE, PLANAR = "3d_lowres", "3d_fullres", "3d_cascade_fullres", "2d"

_TASK = re.compile(r"Task\d+_\w+")
_NO_MIRRORING = re.compile(r"no_?(mirroring|data_?augmentation|DA$)", re.IGNORECASE)
_OTHER_NETWORK = re.compile(
    r"^nnUNetTrainer(?!V2)"
    r"|_(BN|GN|FRN|MMS|Mish|GeLU|ReLU|lReLU|LReLU|NoNormalization|allConv3x3|3ConvPerStage|ResencUNet)"
    r"|BraTSRegions"
)
"""Trainers of nnunet 1.7.1 with another network, activation or regions, and those before V2 (max pooling)."""

_FEATURE_CAP = {2: 480, 3: 320}
_TILE_STEP = 0.5
_SCHEMES = {"CT": Scheme.CT, "noNorm": Scheme.NONE}
_ORDERS = {"GenericPreprocessor": 3, "PreprocessorFor2D": 3, "GenericPreprocessor_linearResampling": 1}
"""Supported preprocessors, with the spline order of the image."""


@dataclass(frozen=True, slots=True)
class _Fold:
    """A fold's `.model.pkl`: name of its trainer, its positional arguments, and the plans as unpickled."""

    file: Path
    trainer: str
    arguments: tuple[Any, ...]
    plans: Mapping[str, Any]

    @property
    def stage(self) -> int:
        """The stage: position 5 of the arguments, None for the only stage."""
        stage = self.arguments[5]
        return int(next(iter(self.plans["plans_per_stage"])) if stage is None else stage)

    @property
    def values(self) -> Mapping[str, Any]:
        """The plans of its stage."""
        values: Mapping[str, Any] = self.plans["plans_per_stage"][self.stage]
        return values


def find_v1(root: Path) -> tuple[Trained, ...]:
    """Find all trainers' folders at or below a path."""
    folders = [plans.parent for plans in sorted(root.rglob(PLANS))]
    return tuple(_trained(folder) for folder in folders if any(_runs(folder)))


def _runs(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.glob("fold_*") if path.is_dir())
    if (folder / ALL_CASES).is_dir():
        yield folder / ALL_CASES


def _trained(folder: Path) -> Trained:
    folds = tuple((run.name.removeprefix("fold_"), run / CHECKPOINT) for run in _runs(folder))
    finished = tuple((name, checkpoint) for name, checkpoint in folds if checkpoint.is_file())
    task = next((parent.name for parent in folder.parents if _TASK.fullmatch(parent.name)), "task without a name")
    trainer, _, plans = folder.name.partition("__")
    configuration = _configuration_name(folder, finished)
    return Trained(folder, task, configuration, trainer, plans or "plans", finished)


def _configuration_name(folder: Path, folds: Sequence[tuple[str, Path]]) -> str:
    """Take the name from the folder two levels up or, if that is missing, from what was trained."""
    if folder.parent.parent.name in (PLANAR, LOWRES, FULLRES, CASCADE) or not folds:
        return folder.parent.parent.name
    first = _read_fold(folds[0][1])
    with plans_of(first.file):
        stages = list(first.plans["plans_per_stage"])
        if len(first.values["patch_size"]) == 2:
            return PLANAR
        if "Cascade" in first.trainer:
            return CASCADE
        return LOWRES if len(stages) > 1 and first.stage == stages[0] else FULLRES


def read_v1(root: Path, configurations: Sequence[str], folds: Sequence[int] | None) -> Published:
    """Read one task in v1 layout.

    Parameters
    ----------
    root : Path
        Any folder from the one that holds `nnUNet` down to a trainer's own folder.
    configurations : sequence of str
        Which to convert; several are averaged. Empty for the preferred one.
    folds : sequence of int or None
        Which folds, also for a cascade's first stage; None for all trained folds.

    Raises
    ------
    ModelError
        If something is missing, ambiguous or not supported; the message names the file and a remedy.
    """
    root = root.resolve()
    found = find_v1(root)
    tasks = sorted({one.task for one in found})
    if len(tasks) != 1:
        raise ModelError(
            f"{root} holds {' and '.join(tasks) or 'no trained nnU-Net v1 model'}; name the folder of one task"
        )
    read = [_Reader(found, one, folds) for one in chosen(found, configurations)]
    first = read[0]
    if any(one.heads != first.heads for one in read):
        raise ModelError(f"{root}: {', '.join(one.trained.configuration for one in read)} have different labels")
    postprocessing, file = _postprocessing(_postprocessing_file(root, [one.trained for one in read]), first.heads)
    names, names_file = _names(root, first.trained, first.heads)
    files = [*(path for one in read for path in one.files), file, names_file]
    return Published(
        task=tasks[0],
        trained="--".join(dict.fromkeys(f"{one.trained.trainer}__{one.trained.plans}" for one in read)),
        part=Part(tuple(one.configuration for one in read), tuple(range(first.heads)), postprocessing=postprocessing),
        structures=tuple(Structure(number, name, (number,)) for number, name in enumerate(names, start=1)),
        graphs=tuple(dict.fromkeys(graph for one in read for graph in one.graphs)),
        files=tuple(dict.fromkeys(path for path in files if path is not None)),
        limits=limits_of([one.trained for one in read], "nnUNetTrainerV2"),
    )


class _Reader:
    """Reads one configuration: `configuration`, `graphs` to export and `files` that were read."""

    def __init__(self, found: Sequence[Trained], trained: Trained, folds: Sequence[int] | None) -> None:
        chosen = trained.chosen_folds(folds)
        read = [_read_fold(checkpoint) for _, checkpoint in chosen]
        self.trained = trained
        self.files = [trained.folder / PLANS, *(fold.file for fold in read)]
        names = graph_names("", trained.configuration, [name for name, _ in chosen])
        cascade = trained.configuration == CASCADE
        self.configuration, topology = _of_fold(read[0], trained.configuration, names)
        for fold in read[1:]:
            if _of_fold(fold, trained.configuration, names) != (self.configuration, topology):
                raise ModelError(f"{fold.file} has other plans than {read[0].file}; they are folds of different models")
        patch = self.configuration.patch_size
        self.graphs = [
            Graph(name, checkpoint, Framework.V1, topology, patch)
            for name, (_, checkpoint) in zip(names, chosen, strict=True)
        ]
        self.heads = topology.heads
        if cascade:
            self._add_previous(_Reader(found, _first_stage(found, trained, read[0]), folds))

    def _add_previous(self, first: _Reader) -> None:
        if first.heads != self.heads:
            raise ModelError(f"{first.trained.folder} has other labels than the cascade in {self.trained.folder}")
        postprocessing, file = _postprocessing(first.trained.folder / "postprocessing.json", first.heads)
        part = Part((first.configuration,), tuple(range(first.heads)), postprocessing=postprocessing)
        self.configuration = replace(self.configuration, previous=Previous(part, order=1))
        self.graphs = [*first.graphs, *self.graphs]
        self.files += [*first.files, *([file] if file else [])]


def _first_stage(found: Sequence[Trained], cascade: Trained, fold: _Fold) -> Trained:
    """Find the 3d_lowres model whose labels the cascade was trained with."""
    trainer = fold.arguments[8] if len(fold.arguments) > 8 else "nnUNetTrainerV2"
    named = [one for one in found if (one.trainer, one.plans) == (trainer, cascade.plans)]
    if not any(one.configuration == LOWRES for one in named):
        raise ModelError(
            f"{cascade.folder} is the second stage of a cascade; its {LOWRES} model ({trainer}__{cascade.plans}) is "
            f"missing. Name the folder or zip that holds both"
        )
    return the_one(named, LOWRES, [])


def _read_fold(checkpoint: Path) -> _Fold:
    file = checkpoint.with_name(f"{checkpoint.name}.pkl")
    content = read_pickle(file)
    with plans_of(file):
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__} instead of a dict")
        trainer, arguments, plans = str(content["name"]), tuple(content["init"]), content["plans"]
        if not isinstance(plans, dict) or len(arguments) < 6:
            raise TypeError("plans or init")
    if _OTHER_NETWORK.search(trainer):
        raise ModelError(
            f"{file} was trained by {trainer}, whose network or labels differ from the plans: not supported"
        )
    return _Fold(file, trainer, arguments, plans)


def _of_fold(fold: _Fold, name: str, graphs: tuple[str, ...]) -> tuple[Configuration, Topology]:
    with plans_of(fold.file):
        topology = _topology(fold, cascade=name == CASCADE)
        configuration = _configuration(fold, name, graphs, topology.heads)
    check(configuration, topology, fold.file)
    return configuration, topology


def _configuration(fold: _Fold, name: str, graphs: tuple[str, ...], heads: int) -> Configuration:
    plans, patch_size = fold.plans, whole(fold.values["patch_size"])
    transposed = plans.get("transpose_forward") is not None and plans.get("transpose_backward") is not None
    export = plans.get("segmentation_export_params") or {
        "interpolation_order": 1,
        "interpolation_order_z": 0,
        "force_separate_z": None,
    }
    output = (export["interpolation_order"], export["interpolation_order_z"], export["force_separate_z"])
    planar = len(patch_size) == 2
    return Configuration(
        name=name,
        framework=Framework.V1,
        graphs=graphs,
        transpose_forward=axes_of(plans["transpose_forward"]) if transposed else (0, 1, 2),
        transpose_backward=axes_of(plans["transpose_backward"]) if transposed else (0, 1, 2),
        spacing_mm=spacing_of(fold.values["current_spacing"], planar),
        patch_size=patch_size,
        normalisation=_normalisation(fold),
        data_resampling=resampling(fold.file, "images are resampled", _image_order(fold, planar), 0, None, 3),
        output_resampling=resampling(fold.file, "softmax is resampled", *output, 1),
        mirror_axes=() if _NO_MIRRORING.search(fold.trainer) else tuple(range(len(patch_size))),
        tile_step=_TILE_STEP,
        heads=heads,
    )


def _image_order(fold: _Fold, planar: bool) -> int:
    default = "PreprocessorFor2D" if planar else "GenericPreprocessor"
    name = fold.plans.get("preprocessor_name") or default
    if name not in _ORDERS or (name == "PreprocessorFor2D") != planar:
        raise ModelError(f"{fold.file}: preprocessor {name} is not supported; {', '.join(_ORDERS)} are")
    return _ORDERS[name]


def _normalisation(fold: _Fold) -> Normalisation:
    plans = fold.plans
    if int(plans["num_modalities"]) != 1:
        raise ModelError(
            f"{fold.file}: the model needs {plans['num_modalities']} images; only models for a single CT are supported"
        )
    refuse_other_than_ct(str(plans["modalities"][0]), fold.file)
    name, use_mask = plans["normalization_schemes"][0], bool(plans["use_mask_for_norm"][0])
    if name == "CT2":
        raise ModelError(f"{fold.file}: normalisation CT2 is not supported; CT, noNorm and z-score are")
    scheme = _SCHEMES.get(name, Scheme.ZSCORE)
    if scheme is not Scheme.CT:
        return without_values(scheme, use_mask)
    of_training = plans["dataset_properties"]["intensityproperties"][0]
    keys = ("percentile_00_5", "percentile_99_5", "mean", "sd")
    low, high, mean, sd = (float(of_training[key]) for key in keys)
    return Normalisation(scheme, low, high, mean, sd, use_mask)


def _topology(fold: _Fold, cascade: bool) -> Topology:
    """Describe Generic_UNet, with the arguments of nnUNetTrainerV2."""
    plans, dimensions = fold.plans, len(fold.values["patch_size"])
    pools = _pools(fold.values)
    steps = stages_of(len(pools) + 1) - 1
    kernels = _kernels(fold.values, steps, dimensions)
    convs, base, labels = (
        int(plans.get("conv_per_stage", 2)),
        int(plans["base_num_features"]),
        int(plans["num_classes"]),
    )
    if convs < 2:
        raise ValueError(f"conv_per_stage {convs}")
    if any(size not in (1, 3) for kernel in kernels for size in kernel):
        raise ValueError(f"conv_kernel_sizes {kernels}: v1 pads 1 and 3 only")
    return Topology(
        network=NetworkClass.PLAIN,
        dimensions=dimensions,
        input_channels=1 + (labels if cascade else 0),
        heads=labels + 1,
        features=(base, *(min(base * 2**step, _FEATURE_CAP[dimensions]) for step in range(1, steps + 1))),
        kernels=kernels,
        strides=((1,) * dimensions, *pools),
        encoder_blocks=(convs,) * (steps + 1),
        decoder_convs=(convs,) * steps,
        decoder_kernels=kernels[:0:-1],
        upsampling_bias=False,
        head_bias=False,
    )


def _pools(values: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Read strides below full resolution; old plans say only how often an axis is halved: in the last steps."""
    if "pool_op_kernel_sizes" in values:
        return tuple(whole(sizes) for sizes in values["pool_op_kernel_sizes"])
    times = whole(values["num_pool_per_axis"])
    stages_of(max(times) + 1)
    return tuple(tuple(2 if max(times) - n <= step else 1 for n in times) for step in range(max(times)))


def _kernels(values: Mapping[str, Any], steps: int, dimensions: int) -> tuple[tuple[int, ...], ...]:
    if "conv_kernel_sizes" in values:
        return tuple(whole(sizes) for sizes in values["conv_kernel_sizes"])
    return ((3,) * dimensions,) * (steps + 1)


def _postprocessing_file(root: Path, trained: Sequence[Trained]) -> Path:
    """Find the file of the one configuration, or of the ensemble of exactly these configurations."""
    if len(trained) == 1:
        return trained[0].folder / "postprocessing.json"
    members = {f"{one.configuration}__{one.trainer}__{one.plans}" for one in trained}
    for file in sorted(root.rglob("ensemble_*/postprocessing.json")):
        if set(file.parent.name.removeprefix("ensemble_").split("--")) == members:
            return file
    return root / "postprocessing.json"


def _postprocessing(file: Path, heads: int) -> tuple[tuple[LargestComponent, ...], Path | None]:
    """Read postprocessing.json; return its rules and the file, or no rules and None if it is missing."""
    if not file.is_file():
        return (), None
    content = read_json(file)
    with plans_of(file):
        groups = content["for_which_classes"]
        sizes = ast.literal_eval(str(content.get("min_valid_object_sizes", "None")))
        groups = range(1, heads) if groups is None else groups
        return tuple(_largest(group, sizes, heads) for group in groups), file


def _largest(group: object, sizes: Any, heads: int) -> LargestComponent:
    numbers = whole(group) if isinstance(group, list | tuple) else whole([group])  # type: ignore[list-item]
    if not numbers or not all(0 < number < heads for number in numbers):
        raise ValueError(f"labels {numbers}")
    key = numbers if isinstance(group, list | tuple) else numbers[0]
    return LargestComponent(numbers, None if sizes is None else float(sizes[key]))


def _names(root: Path, trained: Trained, heads: int) -> tuple[tuple[str, ...], Path | None]:
    """Find names of labels 1, 2, ...: of a known task, of a dataset.json nearby, or `label_1` for the user to map."""
    if (known := LABELS_OF_TASKS.get(trained.task)) is not None and len(known) == heads - 1:
        return known, None
    for folder in (trained.folder, *trained.folder.parents):
        if not folder.is_relative_to(root):
            break
        file = folder / "dataset.json"
        if file.is_file():
            content = read_json(file)
            with plans_of(file):
                return tuple(str(content["labels"][str(number)]) for number in range(1, heads)), file
    return tuple(f"label_{number}" for number in range(1, heads)), None
