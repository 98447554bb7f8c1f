"""The tables of `catalog.totalsegmentator` say what the installed TotalSegmentator says."""

from __future__ import annotations

import importlib

import pytest

from orthanc_plugin.catalog.totalsegmentator import CONFIGURATION, LICENCE_KEY, REFUSED, TASKS, Task

maps = importlib.import_module("totalsegmentator.map_to_binary")
config = importlib.import_module("totalsegmentator.map_tasks_config")

MODES = {"total": ("total", "default"), "total_fast": ("total", "fast"), "total_fastest": ("total", "fastest")}


def settings(task: Task) -> dict[str, object]:
    """The peer's settings of one task: defaults, task, mode."""
    name, mode = MODES.get(task.name, (task.name, ""))
    own = config.TASK_CONFIGS[name]
    return {**config.DEFAULT_CONFIG, **(own["sub_modes"][mode] if mode else own)}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_settings_of_a_task(task: Task) -> None:
    theirs = settings(task)
    assert theirs["resample"] in (task.spacing_mm, [task.spacing_mm] * 3)
    assert (theirs["model"], theirs["folds"], theirs["crop"]) == (CONFIGURATION, [0], None)
    numbers = theirs["task_id"] if isinstance(theirs["task_id"], list) else [theirs["task_id"]]
    for number, dataset in zip(numbers, task.datasets, strict=True):
        weights = config.TASK_ID_WEIGHTS_CONFIGS[number]
        assert (weights["foldername"], weights["version"]) == (dataset.folder, dataset.release)
        assert dataset.trainer == theirs["trainer"]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_class_map_of_a_task(task: Task) -> None:
    name, _ = MODES.get(task.name, (task.name, ""))
    assert dict(enumerate(task.classes, start=1)) == maps.class_map[name]


def test_class_maps_of_the_five_parts() -> None:
    for dataset in TASKS["total"].datasets:
        part = maps.map_taskid_to_partname_ct[int(dataset.folder.removeprefix("Dataset")[:3])]
        assert dict(enumerate(dataset.classes, start=1)) == maps.class_map_5_parts[part]


def test_every_task_is_offered_or_refused() -> None:
    ours = {MODES.get(name, (name, ""))[0] for name in TASKS} | REFUSED.keys()
    assert ours == config.TASK_CONFIGS.keys()
    locked = {name for name, task in config.TASK_CONFIGS.items() if task.get("commercial")}
    assert {name for name, why in REFUSED.items() if why == LICENCE_KEY} == locked
