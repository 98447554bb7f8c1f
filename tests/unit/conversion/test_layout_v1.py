"""nnU-Net v1 folders, made by hand: what their plans mean, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthanc_plugin.catalog.nnunet import (
    Configuration,
    Framework,
    LargestComponent,
    Normalisation,
    Resampling,
    Scheme,
)
from orthanc_plugin.conversion.layout_v1 import read_v1
from orthanc_plugin.conversion.published import Published
from orthanc_plugin.conversion.topology import NetworkClass, Topology
from orthanc_plugin.errors import ModelError
from tests.support.cases.published_folders import (
    CASCADE_V1,
    FULLRES_STAGE,
    LOWRES_STAGE,
    PLANAR_STAGE,
    TRAINER_V1,
    plans_v1,
    stage_v1,
    write_v1,
)

POOLS = ((1, 2, 2), *((2, 2, 2),) * 4)
SEGTHOR_TOPOLOGY = Topology(
    network=NetworkClass.PLAIN,
    dimensions=3,
    input_channels=1,
    heads=5,
    features=(32, 64, 128, 256, 320, 320),
    kernels=((1, 3, 3), *((3, 3, 3),) * 5),
    strides=((1, 1, 1), *POOLS),
    encoder_blocks=(2,) * 6,
    decoder_convs=(2,) * 5,
    decoder_kernels=((3, 3, 3),) * 5,
    upsampling_bias=False,
    head_bias=False,
)
SEGTHOR = Configuration(
    name="3d_fullres",
    framework=Framework.V1,
    graphs=("3d_fullres_fold_0.onnx",),
    transpose_forward=(0, 1, 2),
    transpose_backward=(0, 1, 2),
    spacing_mm=(2.5, 0.97656202, 0.97656202),
    patch_size=(64, 192, 160),
    normalisation=Normalisation(Scheme.CT, -996.0, 213.5, -102.5, 230.25),
    data_resampling=Resampling(3),
    output_resampling=Resampling(1),
    mirror_axes=(0, 1, 2),
    tile_step=0.5,
    heads=5,
)


def fullres(root: Path, stage: dict[str, Any] = FULLRES_STAGE, **changes: Any) -> Published:
    """A model with one configuration, its plans changed."""
    write_v1(root, "3d_fullres", plans_v1(stage, **changes))
    return read_v1(root, (), None)


def only(published: Published) -> Configuration:
    (configuration,) = published.part.configurations
    return configuration


def test_the_plans_of_segthor_are_read_as_published(tmp_path: Path) -> None:
    published = fullres(tmp_path)
    assert only(published) == SEGTHOR
    assert published.graphs[0].topology == SEGTHOR_TOPOLOGY
    assert published.graphs[0].patch_size == (64, 192, 160)
    assert published.graphs[0].checkpoint.name == "model_final_checkpoint.model"
    assert [(one.number, one.name, one.covers) for one in published.structures] == [
        (1, "esophagus", (1,)),
        (2, "heart", (2,)),
        (3, "trachea", (3,)),
        (4, "aorta", (4,)),
    ]
    assert (published.task, published.trained, published.axes) == ("Task055_SegTHOR", TRAINER_V1, None)
    assert published.part.numbers == (0, 1, 2, 3, 4)
    assert published.part.postprocessing == ()


@pytest.mark.parametrize("depth", range(5))
def test_the_path_may_be_any_level(depth: int, tmp_path: Path) -> None:
    folder = write_v1(tmp_path, "2d", plans_v1(PLANAR_STAGE))
    root = (folder, *folder.parents)[depth]
    assert read_v1(root, (), None).task == "Task055_SegTHOR"
    assert only(read_v1(root, ["2d"], None)).name == "2d"


def test_a_folder_without_its_parents_is_known_by_what_was_trained(tmp_path: Path) -> None:
    folder = write_v1(tmp_path / "a", "3d_lowres", plans_v1(LOWRES_STAGE, FULLRES_STAGE), stage=0)
    folder.rename(tmp_path / TRAINER_V1)
    published = read_v1(tmp_path / TRAINER_V1, (), None)
    assert (only(published).name, published.task) == ("3d_lowres", "task without a name")
    assert [one.name for one in published.structures] == ["label_1", "label_2", "label_3", "label_4"]


def test_a_2d_plan_keeps_slices_and_has_wider_features(tmp_path: Path) -> None:
    write_v1(tmp_path, "2d", plans_v1(PLANAR_STAGE))
    published = read_v1(tmp_path, (), None)
    found, topology = only(published), published.graphs[0].topology
    assert (found.spacing_mm, found.patch_size) == ((None, 0.97656202, 0.97656202), (512, 448))
    assert (found.mirror_axes, found.planar) == ((0, 1), True)
    assert topology.features == (32, 64, 128, 256, 480, 480, 480)
    assert (topology.dimensions, topology.strides[1], topology.strides[0]) == (2, (2, 2), (1, 1))


def test_the_last_decoder_step_has_the_kernel_of_the_second_stage(tmp_path: Path) -> None:
    kernels = [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 1, 3], [3, 3, 1], [3, 3, 3]]
    stage = stage_v1((64, 192, 160), (2.5, 1, 1), conv_kernel_sizes=kernels)
    topology = fullres(tmp_path, stage).graphs[0].topology
    assert topology.decoder_kernels == ((3, 3, 3), (3, 3, 1), (3, 1, 3), (3, 3, 3), (1, 3, 3))


def test_old_plans_without_kernels_strides_and_transposes(tmp_path: Path) -> None:
    stage = stage_v1((64, 192, 160), (2.5, 1, 1), pool_op_kernel_sizes=None, conv_kernel_sizes=None)
    published = fullres(
        tmp_path, stage, conv_per_stage=None, transpose_forward=None, transpose_backward=None, preprocessor_name=None
    )
    assert published.graphs[0].topology.strides == ((1, 1, 1), *POOLS)
    assert published.graphs[0].topology.kernels == ((3, 3, 3),) * 6
    assert published.graphs[0].topology.encoder_blocks == (2,) * 6
    assert only(published).transpose_forward == (0, 1, 2)


def test_unusual_plans_are_read(tmp_path: Path) -> None:
    published = fullres(
        tmp_path,
        conv_per_stage=3,
        base_num_features=24,
        transpose_forward=[2, 0, 1],
        transpose_backward=[1, 2, 0],
        preprocessor_name="GenericPreprocessor_linearResampling",
        segmentation_export_params={
            "force_separate_z": False,
            "interpolation_order": 0,
            "interpolation_order_z": 0,
        },
        normalization_schemes={0: "nonCT"},
        use_mask_for_norm={0: True},
        dataset_properties={"intensityproperties": None},
    )
    found, topology = only(published), published.graphs[0].topology
    assert (topology.features, topology.encoder_blocks) == ((24, 48, 96, 192, 320, 320), (3,) * 6)
    assert (found.transpose_forward, found.transpose_backward) == ((2, 0, 1), (1, 2, 0))
    assert (found.data_resampling, found.output_resampling) == (Resampling(1), Resampling(0, 0, False))
    assert found.normalisation == Normalisation(Scheme.ZSCORE, 0, 0, 0, 1, use_mask=True)


def test_plans_come_from_the_first_fold_and_all_folds_must_share_them(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), folds=("fold_0", "fold_3", "fold_1"))
    (folder / "plans.pkl").write_bytes(pickle.dumps(plans_v1(FULLRES_STAGE, num_classes=9)))
    graphs = ("3d_fullres_fold_0.onnx", "3d_fullres_fold_1.onnx", "3d_fullres_fold_3.onnx")
    assert only(read_v1(tmp_path, (), None)) == replace(SEGTHOR, graphs=graphs)
    assert only(read_v1(tmp_path, (), [3, 1])).graphs == graphs[1:]
    with pytest.raises(ModelError, match="no fold 2, 4; finished are 0, 1, 3"):
        read_v1(tmp_path, (), [0, 2, 4])
    other = write_v1(tmp_path / "other", "3d_fullres", plans_v1(FULLRES_STAGE, base_num_features=16))
    (other / "fold_0").rename(folder / "fold_4")
    with pytest.raises(ModelError, match=r"fold_4.*other plans than .*fold_0"):
        read_v1(tmp_path / "nnUNet", (), None)


def test_a_training_on_all_cases_is_used_only_without_folds(tmp_path: Path) -> None:
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), folds=("all",))
    assert only(read_v1(tmp_path, (), None)).graphs == ("3d_fullres_fold_all.onnx",)
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), folds=("fold_2",))
    assert only(read_v1(tmp_path, (), None)).graphs == ("3d_fullres_fold_2.onnx",)


def test_a_cascade_takes_labels_of_its_first_stage_as_channels(tmp_path: Path) -> None:
    plans = plans_v1(LOWRES_STAGE, FULLRES_STAGE)
    write_v1(tmp_path, "3d_cascade_fullres", plans, stage=1, trainer=CASCADE_V1)
    with pytest.raises(ModelError, match=r"its 3d_lowres model \(nnUNetTrainerV2__nnUNetPlansv2\.1\) is missing"):
        read_v1(tmp_path, (), None)
    lowres = write_v1(tmp_path, "3d_lowres", plans, stage=0)
    (lowres / "postprocessing.json").write_text('{"for_which_classes": [1, [2, 4]]}')
    published = read_v1(tmp_path, (), None)
    cascade = only(published)
    assert (cascade.name, published.trained) == ("3d_cascade_fullres", CASCADE_V1)
    assert cascade.previous is not None
    assert cascade.previous.order == 1
    (first,) = cascade.previous.part.configurations
    assert (first.name, first.patch_size, first.spacing_mm) == ("3d_lowres", (80, 192, 160), (3.577, 1.792, 1.792))
    assert cascade.previous.part.postprocessing == (LargestComponent((1,)), LargestComponent((2, 4)))
    assert published.part.postprocessing == ()
    assert {graph.file: graph.topology.input_channels for graph in published.graphs} == {
        "3d_lowres_fold_0.onnx": 1,
        "3d_cascade_fullres_fold_0.onnx": 5,
    }
    assert only(read_v1(tmp_path, ["3d_lowres"], None)) == first


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"for_which_classes": [1, [2, 3]], "min_valid_object_sizes": "None"}', [((1,), None), ((2, 3), None)]),
        (
            '{"for_which_classes": [[1, 2], 4], "min_valid_object_sizes": "{(1, 2): 500.5, 4: 80}"}',
            [((1, 2), 500.5), ((4,), 80.0)],
        ),
        ('{"for_which_classes": []}', []),
        ('{"for_which_classes": null}', [((1,), None), ((2,), None), ((3,), None), ((4,), None)]),
    ],
)
def test_postprocessing_is_read(content: str, found: list[Any], tmp_path: Path) -> None:
    folder = write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE))
    (folder / "postprocessing.json").write_text(content)
    published = read_v1(tmp_path, (), None)
    assert published.part.postprocessing == tuple(LargestComponent(*rule) for rule in found)
    assert folder / "postprocessing.json" in published.files


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"min_valid_object_sizes": "None"}', "has no 'for_which_classes'"),
        ('{"for_which_classes": [5]}', "never writes"),
        ('{"for_which_classes": [0]}', "never writes"),
        ('{"for_which_classes": [1], "min_valid_object_sizes": "{2: 4}"}', "has no 1"),
        ('{"for_which_classes": [1], "min_valid_object_sizes": "__import__(\'os\')"}', "never writes"),
        ('{"for_which_classes": ["a"]}', "never writes"),
        ('{"for_which_classes": [1], "min_valid_object_sizes": "{"}', "never writes"),
        ("[1]", "does not hold a JSON object"),
        ("{", "cannot be read"),
    ],
)
def test_damaged_postprocessing_is_refused(content: str, why: str, tmp_path: Path) -> None:
    folder = write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE))
    (folder / "postprocessing.json").write_text(content)
    with pytest.raises(ModelError, match=rf"postprocessing\.json.*{why}"):
        read_v1(tmp_path, (), None)


def test_an_ensemble_has_its_own_postprocessing(tmp_path: Path) -> None:
    for name, stage in (("2d", PLANAR_STAGE), ("3d_fullres", FULLRES_STAGE)):
        folder = write_v1(tmp_path, name, plans_v1(stage))
        (folder / "postprocessing.json").write_text('{"for_which_classes": [1]}')
    published = read_v1(tmp_path, ["2d", "3d_fullres"], None)
    assert [one.name for one in published.part.configurations] == ["2d", "3d_fullres"]
    assert published.part.postprocessing == ()
    members = (f"3d_fullres__{TRAINER_V1}", f"2d__{TRAINER_V1}")
    folder = tmp_path / "nnUNet/ensembles/Task055_SegTHOR" / f"ensemble_{'--'.join(members)}"
    folder.mkdir(parents=True)
    (folder / "postprocessing.json").write_text('{"for_which_classes": [2]}')
    assert read_v1(tmp_path, ["2d", "3d_fullres"], None).part.postprocessing == (LargestComponent((2,)),)


def test_names_of_another_task_come_from_its_dataset_json(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE, num_classes=2), task="Task500_Lungs")
    assert [one.name for one in read_v1(tmp_path, (), None).structures] == ["label_1", "label_2"]
    (tmp_path / "nnUNet/dataset.json").write_text('{"labels": {"0": "background", "1": "lung", "2": "tumour"}}')
    assert [one.name for one in read_v1(tmp_path, (), None).structures] == ["lung", "tumour"]
    assert [one.name for one in read_v1(folder, (), None).structures] == ["label_1", "label_2"], "outside the path"
    (tmp_path / "nnUNet/dataset.json").write_text('{"labels": {"0": "background", "1": "lung"}}')
    with pytest.raises(ModelError, match=r"dataset\.json has no '2'"):
        read_v1(tmp_path, (), None)


@pytest.mark.parametrize("trainer", ["nnUNetTrainerV2_noMirroring", "nnUNetTrainerV2_noDataAugmentation"])
def test_trainers_without_mirroring_are_not_mirrored(trainer: str, tmp_path: Path) -> None:
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), trainer=f"{trainer}__nnUNetPlansv2.1")
    assert only(read_v1(tmp_path, (), None)).mirror_axes == ()


@pytest.mark.parametrize(
    "trainer",
    [
        "nnUNetTrainer",
        "nnUNetTrainerCascadeFullRes",
        "nnUNetTrainerV2_BN",
        "nnUNetTrainerV2_DA3_BN",
        "nnUNetTrainerV2_GeLU",
        "nnUNetTrainerV2_ReLU_convReLUIN",
        "nnUNetTrainerV2_LReLU_slope_2en1",
        "nnUNetTrainerV2_ResencUNet_DA3",
        "nnUNetTrainerV2BraTSRegions_DA4_BN",
    ],
)
def test_trainers_with_another_network_are_refused_by_name(trainer: str, tmp_path: Path) -> None:
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), trainer=f"{trainer}__nnUNetPlansv2.1")
    with pytest.raises(ModelError, match=f"trained by {trainer}, whose network"):
        read_v1(tmp_path, (), None)


@pytest.mark.parametrize(
    "trainer", ["nnUNetTrainerV2_DA3", "nnUNetTrainerV2_Loss_DiceTopK10", "nnUNetTrainerV2_fp32", "OwnTrainer"]
)
def test_trainers_that_only_train_otherwise_are_read(trainer: str, tmp_path: Path) -> None:
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), trainer=f"{trainer}__nnUNetPlansv2.1")
    published = read_v1(tmp_path, (), None)
    assert only(published) == SEGTHOR
    assert [trainer in limit for limit in published.limits] == [True] * (trainer == "OwnTrainer")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_modalities": 2}, "needs 2 images"),
        ({"modalities": {0: "MRI"}}, "for 'MRI' images"),
        ({"normalization_schemes": {0: "CT2"}}, "CT2 is not supported"),
        ({"preprocessor_name": "Preprocessor3DBetterResampling"}, "Preprocessor3DBetterResampling is not supported"),
        ({"preprocessor_name": "PreprocessorFor2D"}, "PreprocessorFor2D is not supported"),
        ({"num_classes": None}, "has no 'num_classes'"),
        ({"num_classes": 300}, "301 outputs"),
        ({"num_classes": "four"}, "never writes"),
        ({"conv_per_stage": 1}, "conv_per_stage 1"),
        ({"base_num_features": 0}, "out of bounds"),
        ({"transpose_forward": [0, 1, 1]}, "is not a permutation of three axes"),
        ({"transpose_forward": [2, 0, 1], "transpose_backward": [2, 0, 1]}, "does not undo"),
        ({"plans_per_stage": {}}, "has no 0"),
        ({"dataset_properties": {"intensityproperties": None}}, "never writes"),
        (
            {
                "segmentation_export_params": {
                    "interpolation_order": 3,
                    "interpolation_order_z": 0,
                    "force_separate_z": None,
                }
            },
            "softmax is resampled by spline order 3",
        ),
        (
            {
                "segmentation_export_params": {
                    "interpolation_order": 1,
                    "interpolation_order_z": 1,
                    "force_separate_z": None,
                }
            },
            "order 1 and 1 across",
        ),
    ],
)
def test_unsupported_plans_are_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE) | changes)
    if changes.get("num_classes", 0) is None:
        plans = plans_v1(FULLRES_STAGE, num_classes=None)
        write_v1(tmp_path / "again", "3d_fullres", plans)
        tmp_path = tmp_path / "again"
    with pytest.raises(ModelError, match=rf"model_final_checkpoint\.model\.pkl.*{why}"):
        read_v1(tmp_path, (), None)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"patch_size": np.array([64.5, 192, 160])}, "not whole numbers"),
        ({"patch_size": np.array([64, 192])}, "never writes|of different lengths|not of 2"),
        ({"current_spacing": np.array([2.5, 0.0, 1.0])}, "is not a spacing"),
        ({"current_spacing": np.array([2.5, np.nan, 1.0])}, "is not a spacing"),
        ({"pool_op_kernel_sizes": [[2, 2, 2]] * 3}, "of different lengths"),
        ({"conv_kernel_sizes": [[5, 3, 3]] * 6}, "pads 1 and 3 only"),
        ({"pool_op_kernel_sizes": [[1, 1, 1]] * 10**5}, "100001 stages"),
        ({"patch_size": np.array([4096, 4096, 4096])}, r"patch_size \(4096"),
        ({"pool_op_kernel_sizes": [[2, 2]] * 5}, "not of 3 dimensions"),
    ],
)
def test_stages_that_do_not_make_a_network_are_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE | changes, preprocessor_name=None))
    with pytest.raises(ModelError, match=why):
        read_v1(tmp_path, (), None)


def test_incomplete_and_ambiguous_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no trained nnU-Net v1 model"):
        read_v1(tmp_path, (), None)
    folder = write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE))
    with pytest.raises(ModelError, match="no configuration 2d here, only: 3d_fullres"):
        read_v1(tmp_path, ["2d"], None)
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), trainer="nnUNetTrainerV2_DA3__nnUNetPlansv2.1")
    with pytest.raises(ModelError, match="3d_fullres was trained more than once"):
        read_v1(tmp_path, (), None)
    (folder / "fold_0/model_final_checkpoint.model").rename(folder / "fold_0/model_best.model")
    with pytest.raises(ModelError, match=r"no finished fold \(only model_best\.model: train to the end"):
        read_v1(folder, ["3d_fullres"], None)
    write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE), task="Task003_Liver")
    with pytest.raises(ModelError, match="Task003_Liver and Task055_SegTHOR; name the folder of one task"):
        read_v1(tmp_path, (), None)


def test_a_checkpoint_without_its_plans_is_refused(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, "3d_fullres", plans_v1(FULLRES_STAGE))
    file = folder / "fold_0/model_final_checkpoint.model.pkl"
    file.write_bytes(pickle.dumps({"name": "nnUNetTrainerV2", "init": (), "plans": {}}))
    with pytest.raises(ModelError, match="never writes"):
        read_v1(tmp_path, (), None)
    file.unlink()
    with pytest.raises(ModelError, match=r"\.model\.pkl cannot be read"):
        read_v1(tmp_path, (), None)
