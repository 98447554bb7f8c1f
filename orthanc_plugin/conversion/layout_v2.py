"""nnU-Net v2 folders: `<dataset>/<trainer>__<plans>__<configuration>/` with plans.json, dataset.json and `fold_*`.

The path may be any level from a folder of several datasets down to a trainer's own. Like nnU-Net's own predictor, this
reader takes the trained configuration and the axes of test-time mirroring from the first fold's checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Part, Previous, Resampling, Scheme
from orthanc_plugin.conversion.architecture import topology_of
from orthanc_plugin.conversion.published import (
    ALL_CASES,
    CANONICAL,
    Axes,
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
    whole,
    without_values,
)
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.errors import ModelError

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"

_TILE_STEP = 0.5
_RESAMPLING = "resample_data_or_seg_to_shape"
_SCHEMES = {
    "CTNormalization": Scheme.CT,
    "ZScoreNormalization": Scheme.ZSCORE,
    "NoNormalization": Scheme.NONE,
}
_AS_STORED = (None, "SimpleITKIO", "NibabelIO")
_REORIENTED = ("SimpleITKIOWithReorient", "NibabelIOWithReorient")


class Header(Protocol):
    """What a checkpoint says of its training (`weights.CheckpointHeader`)."""

    @property
    def configuration(self) -> str:
        """Which configuration of the plans was trained."""

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes of the patch that mirroring may reverse."""


ReadHeader = Callable[[Path], Header]


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels of dataset.json: the number and structure of each head, in order. regions: heads are sigmoid masks."""

    numbers: tuple[int, ...]
    structures: tuple[Structure, ...]
    regions: bool


def find_v2(root: Path) -> tuple[Trained, ...]:
    """Find all trainers' folders at or below a path."""
    folders = [plans.parent for plans in sorted(root.resolve().rglob(PLANS))]
    return tuple(_trained(folder) for folder in folders if (folder / DATASET).is_file() and any(folder.glob("fold_*/")))


def _trained(folder: Path) -> Trained:
    runs = sorted(path for path in folder.glob("fold_*") if (path / CHECKPOINT).is_file())
    folds = [(run.name.removeprefix("fold_"), run / CHECKPOINT) for run in runs]
    folds.sort(key=lambda fold: (fold[0] == ALL_CASES, len(fold[0]), fold[0]))
    trainer, _, rest = folder.name.partition("__")
    plans, _, configuration = rest.partition("__")
    return Trained(folder, folder.parent.name, configuration or folder.name, trainer, plans or "plans", tuple(folds))


def read_v2(
    found: Sequence[Trained],
    configurations: Sequence[str],
    folds: Sequence[int] | None,
    read_header: ReadHeader,
    prefix: str = "",
) -> Published:
    """Read one dataset in v2 layout.

    Parameters
    ----------
    found : sequence of Trained
        Folders of this dataset, from `find_v2`.
    configurations : sequence of str
        Which to convert; several are averaged. Empty for the preferred one.
    folds : sequence of int or None
        Which folds, also for a cascade's first stage; None for all trained folds.
    read_header : callable
        Reads a checkpoint's header (`weights.read_header`).
    prefix : str
        Prefix of the graphs' names, for a model of several datasets.

    Raises
    ------
    ModelError
        If something is missing, ambiguous or not supported; the message names the file and a remedy.
    """
    read = [_Reader(found, one, folds, read_header, prefix) for one in chosen(found, configurations)]
    first = read[0]
    for one in read[1:]:
        if one.labels != first.labels or one.axes != first.axes:
            raise ModelError(
                f"{one.trained.folder} has other labels or axes than {first.trained.folder}; convert each alone"
            )
    trained = dict.fromkeys(f"{one.trained.trainer}__{one.trained.plans}" for one in read)
    return Published(
        task=first.trained.task,
        trained="--".join(trained),
        part=Part(tuple(one.configuration for one in read), first.labels.numbers, first.labels.regions),
        structures=first.labels.structures,
        graphs=tuple(dict.fromkeys(graph for one in read for graph in one.graphs)),
        files=tuple(dict.fromkeys(path for one in read for path in one.files)),
        axes=first.axes,
        limits=limits_of([one.trained for one in read], "nnUNetTrainer"),
    )


class _Reader:
    """Reads one configuration: `configuration`, `graphs` to export, `labels`, `axes` and `files` that were read."""

    def __init__(
        self,
        found: Sequence[Trained],
        trained: Trained,
        folds: Sequence[int] | None,
        read_header: ReadHeader,
        prefix: str,
    ) -> None:
        chosen = trained.chosen_folds(folds)
        header = read_header(chosen[0][1])
        self.trained = trained
        self.files = [trained.folder / PLANS, trained.folder / DATASET]
        plans, dataset = (_Plans(read_json(file), file) for file in self.files)
        values = _inherited(plans, header.configuration)
        self.labels = _labels(dataset)
        self.axes = _axes(plans)
        with plans_of(plans.file):
            previous = values.get("previous_stage")
            if previous and self.labels.regions:
                raise ModelError(f"{plans.file}: a cascade of overlapping regions is not supported")
            channels = _channels(dataset) + (len(self.labels.structures) if previous else 0)
            topology = topology_of(values, channels, len(self.labels.numbers), plans.file)
            names = graph_names(prefix, trained.configuration, [name for name, _ in chosen])
            self.configuration = _configuration(plans, values, names, header, topology)
        check(self.configuration, topology, plans.file)
        patch = self.configuration.patch_size
        self.graphs = [
            Graph(name, checkpoint, Framework.V2, topology, patch)
            for name, (_, checkpoint) in zip(names, chosen, strict=True)
        ]
        if previous:
            order = _previous_order(values, plans.file)
            first = _Reader(found, _first_stage(found, trained, str(previous)), folds, read_header, prefix)
            self._add_previous(first, order)

    def _add_previous(self, first: _Reader, order: int) -> None:
        if first.labels != self.labels:
            raise ModelError(f"{first.trained.folder} has other labels than the cascade in {self.trained.folder}")
        part = Part((first.configuration,), first.labels.numbers)
        self.configuration = replace(self.configuration, previous=Previous(part, order))
        self.graphs = [*first.graphs, *self.graphs]
        self.files += first.files


@dataclass(frozen=True, slots=True)
class _Plans:
    """A JSON object and the file that holds it."""

    values: Mapping[str, Any]
    file: Path


def _inherited(plans: _Plans, name: str) -> Mapping[str, Any]:
    """Merge the values of a configuration with those of the configurations it inherits from."""
    with plans_of(plans.file):
        chain_of_names, values = [name], dict(plans.values["configurations"][name])
        while (parent := values.pop("inherits_from", None)) is not None:
            if parent in chain_of_names:
                raise ValueError(f"{parent} inherits from itself")
            chain_of_names.append(parent)
            values = dict(plans.values["configurations"][parent]) | values
        return values


def _first_stage(found: Sequence[Trained], cascade: Trained, previous: str) -> Trained:
    matching = [one for one in found if one.configuration == previous and one.plans == cascade.plans]
    same = [one for one in matching if one.trainer == cascade.trainer] or matching
    if not same:
        raise ModelError(
            f"{cascade.folder} is the second stage of a cascade; its {previous} model is missing. Name the folder or "
            f"zip that holds both"
        )
    return the_one(same, previous, [])


def _labels(dataset: _Plans) -> _Labels:
    with plans_of(dataset.file):
        sets = {
            str(name): frozenset(whole(value if isinstance(value, list) else [value]))
            for name, value in dataset.values["labels"].items()
            if name != "ignore"
        }
        named = {name: numbers for name, numbers in sets.items() if numbers != {0}}
        if len(named) != len(sets) - 1:
            raise ValueError("labels without a background")
        if any(len(numbers) > 1 for numbers in named.values()):
            return _regions(named, whole(dataset.values["regions_class_order"]))
        numbers = sorted(chain.from_iterable(sets.values()))
        if numbers != list(range(len(numbers))):
            raise ValueError(f"labels {numbers} are not consecutive")
        in_order = sorted(named, key=lambda name: min(named[name]))
        structures = tuple(Structure(number, name, (number,)) for number, name in enumerate(in_order, start=1))
        return _Labels(tuple(numbers), structures, regions=False)


def _regions(named: Mapping[str, frozenset[int]], order: tuple[int, ...]) -> _Labels:
    """Read overlapping regions: they are painted one over the other, and an inner one belongs to the outer one."""
    if len(order) != len(named) or len(set(order)) != len(order) or min(order) < 1:
        raise ValueError(f"regions_class_order {order}")
    painted = dict(zip(named, order, strict=True))
    structures = [
        Structure(painted[name], name, tuple(sorted(painted[other] for other in named if named[other] <= numbers)))
        for name, numbers in named.items()
    ]
    return _Labels(order, tuple(sorted(structures, key=lambda structure: structure.number)), regions=True)


def _channels(dataset: _Plans) -> int:
    names = dataset.values.get("channel_names") or dataset.values["modality"]
    if len(names) != 1:
        raise ModelError(
            f"{dataset.file}: the model needs {len(names)} images; only models for a single CT are supported"
        )
    refuse_other_than_ct(str(next(iter(names.values()))), dataset.file)
    return 1


def _axes(plans: _Plans) -> Axes | None:
    """Find the axes to which the reader turned the training images; None if it left them as stored."""
    reader = plans.values.get("image_reader_writer")
    if reader in _AS_STORED:
        return None
    if reader in _REORIENTED:
        return CANONICAL
    raise ModelError(f"{plans.file}: images were read by {reader}, which does not read CT; not supported")


def _configuration(
    plans: _Plans, values: Mapping[str, Any], graphs: tuple[str, ...], header: Header, topology: Topology
) -> Configuration:
    for key, only in (("label_manager", "LabelManager"), ("preprocessor_name", "DefaultPreprocessor")):
        if (name := values.get(key, plans.values.get(key, only))) != only:
            raise ModelError(f"{plans.file}: {key} {name} is not supported; only {only} is")
    patch_size = whole(values["patch_size"])
    return Configuration(
        name=header.configuration,
        framework=Framework.V2,
        graphs=graphs,
        transpose_forward=axes_of(plans.values["transpose_forward"]),
        transpose_backward=axes_of(plans.values["transpose_backward"]),
        spacing_mm=spacing_of(values["spacing"], len(patch_size) == 2),
        patch_size=patch_size,
        normalisation=_normalisation(plans, values),
        data_resampling=_resampling(plans.file, values, "data", 3),
        output_resampling=_resampling(plans.file, values, "probabilities", 1),
        mirror_axes=tuple(sorted(header.mirror_axes)),
        tile_step=_TILE_STEP,
        heads=topology.heads,
    )


def _normalisation(plans: _Plans, values: Mapping[str, Any]) -> Normalisation:
    (name,), (use_mask,) = values["normalization_schemes"], values["use_mask_for_norm"]
    if name not in _SCHEMES:
        raise ModelError(f"{plans.file}: normalisation {name} is not supported; {', '.join(_SCHEMES)} are")
    scheme = _SCHEMES[name]
    if scheme is not Scheme.CT:
        return without_values(scheme, bool(use_mask))
    of_training = plans.values.get("foreground_intensity_properties_per_channel")
    of_training = of_training or plans.values["foreground_intensity_properties_by_modality"]
    keys = ("percentile_00_5", "percentile_99_5", "mean", "std")
    low, high, mean, sd = (float(of_training["0"][key]) for key in keys)
    return Normalisation(scheme, low, high, mean, sd, bool(use_mask))


def _resampling(file: Path, values: Mapping[str, Any], what: str, highest: int) -> Resampling:
    arguments = _arguments(file, values, what, is_seg=False)
    order, order_z = arguments.get("order", 3), arguments.get("order_z", 0)
    # The function's own default is False, unlike what the planner writes.
    return resampling(file, what, order, order_z, arguments.get("force_separate_z", False), highest)


def _previous_order(values: Mapping[str, Any], file: Path) -> int:
    """Read the spline order of a cascade's first-stage labels."""
    arguments = _arguments(file, values, "seg", is_seg=True)
    order, order_z = arguments.get("order", 3), arguments.get("order_z", 0)
    rules = resampling(file, "labels of the first stage", order, order_z, arguments.get("force_separate_z", False), 1)
    if rules.force_separate_z is not None:
        raise ModelError(f"{file}: force_separate_z {rules.force_separate_z} of a cascade's labels is not supported")
    return rules.order


def _arguments(file: Path, values: Mapping[str, Any], what: str, is_seg: bool) -> Mapping[str, Any]:
    """Read the arguments of one of the three resampling functions, which must be nnU-Net's default one."""
    name, arguments = values[f"resampling_fn_{what}"], values[f"resampling_fn_{what}_kwargs"]
    known = {"order", "order_z", "force_separate_z", "is_seg"}
    if name != _RESAMPLING or arguments.get("is_seg", False) != is_seg or set(arguments) - known:
        raise ModelError(f"{file}: {what} resampled by {name}({', '.join(arguments)}): only {_RESAMPLING} is supported")
    return dict(arguments)
