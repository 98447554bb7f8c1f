"""What a folder holds: v1, v2, a TotalSegmentator task, or several models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orthanc_plugin.catalog.nnunet import Frame
from orthanc_plugin.catalog.totalsegmentator import TASKS, Dataset
from orthanc_plugin.conversion.model import Model, read_model
from orthanc_plugin.conversion.published import AS_STORED, CANONICAL
from orthanc_plugin.errors import ModelError
from tests.support.cases.published_folders import (
    FULLRES_STAGE,
    configuration_v2,
    dataset_v2,
    header_of_folder,
    plans_v1,
    plans_v2,
    write_v1,
    write_v2,
)

TOTAL = TASKS["total"]


def write_dataset(root: Path, dataset: Dataset, classes: tuple[str, ...] | None = None) -> Path:
    labels = {"background": 0} | {name: n for n, name in enumerate(classes or dataset.classes, start=1)}
    plans = plans_v2({"3d_fullres": configuration_v2(spacing=[1.5, 1.5, 1.5])})
    folds = ("fold_0", "fold_1")
    return write_v2(root, plans, dataset_v2(labels), trainer=dataset.trainer, name=dataset.folder, folds=folds)


def read(root: Path, folds: list[int] | None = None) -> Model:
    return read_model(root, (), folds, header_of_folder)


def test_five_data_sets_become_five_parts_with_the_class_map(tmp_path: Path) -> None:
    for dataset in reversed(TOTAL.datasets):
        write_dataset(tmp_path, dataset)
    model = read(tmp_path)
    assert (model.task, model.axes, model.frame, model.limits) == ("total", CANONICAL, Frame(1.5, 1), ())
    assert [part.configurations[0].graphs for part in model.parts] == [
        (f"Dataset{number}_3d_fullres_fold_0.onnx",) for number in range(291, 296)
    ]
    assert {part.configurations[0].tile_step for part in model.parts} == {0.8}
    assert {part.configurations[0].mirror_axes for part in model.parts} == {()}
    assert model.parts[0].numbers == tuple(range(25))
    assert model.parts[1].numbers == (0, *range(25, 51))
    assert [structure.number for structure in model.structures] == list(range(1, 118))
    assert model.structures[50].name == "heart"
    assert len({graph.file for graph in model.graphs}) == 5
    assert read(tmp_path, [1]).parts[4].configurations[0].graphs == ("Dataset295_3d_fullres_fold_1.onnx",)


def test_one_data_set_of_a_task_says_that_others_are_missing(tmp_path: Path) -> None:
    write_dataset(tmp_path, TOTAL.datasets[2])
    model = read(tmp_path / TOTAL.datasets[2].folder)
    assert (model.structures[0].number, model.structures[0].name, len(model.structures)) == (51, "heart", 18)
    assert model.parts[0].numbers == (0, *range(51, 69))
    assert model.limits == ("Holds 1 of the 5 data sets of TotalSegmentator's task total.",)


def test_a_data_set_of_another_release_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, TOTAL.datasets[0], TOTAL.datasets[0].classes[:-1])
    with pytest.raises(ModelError, match="has 23 labels, TotalSegmentator's class map 24"):
        read(tmp_path)
    (folder,) = (tmp_path / TOTAL.datasets[0].folder).iterdir()
    folder.rename(folder.with_name("nnUNetTrainer__nnUNetPlans__3d_fullres"))
    with pytest.raises(ModelError, match="has no nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"):
        read(tmp_path)


def test_other_models_are_taken_as_stored(tmp_path: Path) -> None:
    write_v1(tmp_path / "v1", "3d_fullres", plans_v1(FULLRES_STAGE))
    write_v2(tmp_path / "v2", plans_v2({"3d_fullres": configuration_v2()}), dataset_v2())
    for name, task in (("v1", "Task055_SegTHOR"), ("v2", "Dataset100_Organs")):
        model = read(tmp_path / name)
        assert (model.task, model.axes, model.frame, len(model.parts)) == (task, AS_STORED, None, 1)
    with pytest.raises(ModelError, match="nnU-Net v1 and of v2"):
        read(tmp_path)
    shutil.rmtree(tmp_path / "v1")
    write_v2(tmp_path / "v2", plans_v2({"3d_fullres": configuration_v2()}), dataset_v2(), name="Dataset101_Other")
    with pytest.raises(ModelError, match="Dataset100_Organs and Dataset101_Other"):
        read(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no trained nnU-Net"):
        read(tmp_path)
