"""Read a published folder (nnU-Net v1 or v2, or a task of TotalSegmentator) into what its card will say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orthanc_plugin.catalog.nnunet import Configuration, Frame, Part
from orthanc_plugin.catalog.totalsegmentator import FOLDS, IMAGE_ORDER, Dataset, Task, task_of
from orthanc_plugin.conversion.layout_v1 import find_v1, read_v1
from orthanc_plugin.conversion.layout_v2 import ReadHeader, find_v2, read_v2
from orthanc_plugin.conversion.published import AS_STORED, CANONICAL, Axes, Graph, Published, Structure, Trained
from orthanc_plugin.errors import ModelError


@dataclass(frozen=True, slots=True)
class Model:
    """A model to export: what its card will say, the graphs to make, and the files that were read."""

    task: str
    trained: str
    parts: tuple[Part, ...]
    frame: Frame | None
    structures: tuple[Structure, ...]
    graphs: tuple[Graph, ...]
    files: tuple[Path, ...]
    axes: Axes
    limits: tuple[str, ...] = ()


def read_model(
    root: Path, configurations: Sequence[str], folds: Sequence[int] | None, read_header: ReadHeader
) -> Model:
    """Detect the layout of a folder and read it.

    Parameters
    ----------
    root : Path
        Any folder of one of the three layouts.
    configurations, folds
        See `layout_v1.read_v1`.
    read_header : callable
        Reads the header of a v2 checkpoint (`weights.read_header`).

    Raises
    ------
    ModelError
        If the folder holds no model that can be converted, or more than one.
    """
    trained = find_v2(root)
    if not trained and not find_v1(root):
        raise ModelError(
            f"{root} holds no trained nnU-Net: v1 has plans.pkl beside its folds, v2 has plans.json and dataset.json;"
            " name the folder that holds them"
        )
    if not trained:
        return _single(read_v1(root, configurations, folds))
    if find_v1(root):
        raise ModelError(f"{root} holds models of nnU-Net v1 and of v2; name the folder of one of them")
    datasets = {one.task for one in trained}
    if known := task_of(datasets):
        return _task(*known, trained, folds, read_header)
    if len(datasets) > 1:
        raise ModelError(f"{root} holds {' and '.join(sorted(datasets))}; name the folder of one of them")
    return _single(read_v2(trained, configurations, folds, read_header))


def _single(published: Published) -> Model:
    return Model(
        task=published.task,
        trained=published.trained,
        parts=(published.part,),
        frame=None,
        structures=published.structures,
        graphs=published.graphs,
        files=published.files,
        axes=published.axes or AS_STORED,
        limits=published.limits,
    )


def _task(
    task: Task,
    datasets: Sequence[Dataset],
    trained: Sequence[Trained],
    folds: Sequence[int] | None,
    read_header: ReadHeader,
) -> Model:
    """Make each data set a part, with the task's numbers for its heads."""
    read = [_dataset(dataset, trained, folds, read_header) for dataset in datasets]
    numbers = [task.numbers(dataset) for dataset in datasets]
    names = {number: task.classes[number - 1] for of_part in numbers for number in of_part if number}
    return Model(
        task=task.name,
        trained="--".join(dict.fromkeys(one.trained for one in read)),
        parts=tuple(_part(one.part, of_part, task) for one, of_part in zip(read, numbers, strict=True)),
        frame=Frame(task.spacing_mm, IMAGE_ORDER),
        structures=tuple(Structure(number, names[number], (number,)) for number in sorted(names)),
        graphs=tuple(graph for one in read for graph in one.graphs),
        files=tuple(file for one in read for file in one.files),
        axes=CANONICAL,
        limits=_left_out(task, datasets),
    )


def _dataset(
    dataset: Dataset, trained: Sequence[Trained], folds: Sequence[int] | None, read_header: ReadHeader
) -> Published:
    here = [one for one in trained if one.task == dataset.folder and one.folder.name == dataset.model_folder]
    if not here:
        raise ModelError(f"{dataset.folder} has no {dataset.model_folder}; download it again")
    prefix = f"{dataset.folder.partition('_')[0]}_"
    published = read_v2(here, (), FOLDS if folds is None else folds, read_header, prefix)
    if len(published.structures) != len(dataset.classes) or published.part.regions:
        there, known = len(published.structures), len(dataset.classes)
        raise ModelError(
            f"{dataset.folder} has {there} labels, TotalSegmentator's class map {known}: another release, not supported"
        )
    return published


def _part(part: Part, numbers: tuple[int, ...], task: Task) -> Part:
    return replace(part, numbers=numbers, configurations=tuple(_of_task(one, task) for one in part.configurations))


def _of_task(configuration: Configuration, task: Task) -> Configuration:
    """Apply TotalSegmentator's settings: no mirroring, whatever the training allowed, and its own window step."""
    return replace(configuration, mirror_axes=(), tile_step=task.tile_step)


def _left_out(task: Task, datasets: Sequence[Dataset]) -> tuple[str, ...]:
    if len(datasets) == len(task.datasets):
        return ()
    return (f"Holds {len(datasets)} of the {len(task.datasets)} data sets of TotalSegmentator's task {task.name}.",)
