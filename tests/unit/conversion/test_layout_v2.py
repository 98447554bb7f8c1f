"""nnU-Net v2 folders, made by hand: what their plans mean, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Resampling, Scheme
from orthanc_plugin.conversion.layout_v2 import find_v2, read_v2
from orthanc_plugin.conversion.published import Published
from orthanc_plugin.conversion.topology import NetworkClass, Topology
from orthanc_plugin.errors import ModelError
from tests.support.cases.published_folders import (
    RESAMPLING,
    Header,
    architecture,
    configuration_v2,
    dataset_v2,
    header_of_folder,
    plans_v2,
    write_v2,
)

FULLRES = Configuration(
    name="3d_fullres",
    framework=Framework.V2,
    graphs=("3d_fullres_fold_0.onnx",),
    transpose_forward=(1, 0, 2),
    transpose_backward=(1, 0, 2),
    spacing_mm=(2.5, 0.9, 0.8),
    patch_size=(32, 64, 48),
    normalisation=Normalisation(Scheme.CT, -996.0, 213.5, -102.5, 230.25),
    data_resampling=Resampling(3),
    output_resampling=Resampling(1),
    mirror_axes=(0, 1, 2),
    tile_step=0.5,
    heads=5,
)
PLAIN = Topology(
    network=NetworkClass.PLAIN,
    dimensions=3,
    input_channels=1,
    heads=5,
    features=(32, 64, 128),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    encoder_blocks=(2, 2, 2),
    decoder_convs=(2, 2),
    decoder_kernels=((3, 3, 3), (1, 3, 3)),
    upsampling_bias=True,
    head_bias=True,
)


def read(root: Path, *configurations: str, folds: list[int] | None = None) -> Published:
    return read_v2(find_v2(root), configurations, folds, header_of_folder)


def fullres(root: Path, configuration: dict[str, Any], **changes: Any) -> Published:
    write_v2(root, plans_v2({"3d_fullres": configuration}, **changes), dataset_v2())
    return read(root)


def only(published: Published) -> Configuration:
    (configuration,) = published.part.configurations
    return configuration


def test_plans_are_read_as_published(tmp_path: Path) -> None:
    published = fullres(tmp_path, configuration_v2())
    assert only(published) == FULLRES
    assert published.graphs[0].topology == PLAIN
    assert published.part.numbers == (0, 1, 2, 3, 4)
    assert (published.part.regions, published.axes, published.limits) == (False, None, ())
    assert [one.name for one in published.structures] == ["esophagus", "heart", "trachea", "aorta"]
    assert (published.task, published.trained) == ("Dataset100_Organs", "nnUNetTrainer__nnUNetPlans")
    assert [file.name for file in published.files] == ["plans.json", "dataset.json"]


def test_mirroring_is_that_of_the_first_folds_checkpoint(tmp_path: Path) -> None:
    write_v2(tmp_path, plans_v2({"3d_fullres": configuration_v2()}), dataset_v2(), folds=("fold_3", "fold_1"))
    asked: list[str] = []

    def read_header(checkpoint: Path) -> Header:
        asked.append(checkpoint.parent.name)
        return Header("3d_fullres", (2, 0))

    found = only(read_v2(find_v2(tmp_path), (), None, read_header))
    assert (found.mirror_axes, asked) == ((0, 2), ["fold_1"])
    assert found.graphs == ("3d_fullres_fold_1.onnx", "3d_fullres_fold_3.onnx")


def test_a_renamed_folder_is_what_its_checkpoint_says(tmp_path: Path) -> None:
    folder = write_v2(tmp_path, plans_v2({"3d_fullres": configuration_v2()}), dataset_v2())
    folder.rename(tmp_path / "weights")
    published = read_v2(find_v2(tmp_path / "weights"), (), None, lambda _: Header("3d_fullres"))
    assert only(published).name == "3d_fullres"


def test_old_plans_without_an_architecture_are_rebuilt(tmp_path: Path) -> None:
    old = configuration_v2(
        architecture=None,
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=32,
        unet_max_num_features=100,
        conv_kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        n_conv_per_stage_encoder=[2, 2, 2],
        n_conv_per_stage_decoder=[2, 2],
        num_pool_per_axis=[1, 2, 2],
    )
    topology = fullres(tmp_path, old).graphs[0].topology
    assert topology.features == (32, 64, 100)
    assert (topology.kernels, topology.strides, topology.decoder_kernels) == (
        PLAIN.kernels,
        PLAIN.strides,
        PLAIN.decoder_kernels,
    )
    old["UNet_class_name"] = "ResidualEncoderUNet"
    assert fullres(tmp_path / "residual", old).graphs[0].topology.network is NetworkClass.RESIDUAL
    old["UNet_class_name"] = "Swin"
    with pytest.raises(ModelError, match="architecture Swin is not supported"):
        fullres(tmp_path / "swin", old)


@pytest.mark.parametrize("module", ["unet", "residual_unet"])
def test_residual_encoders_of_the_presets_are_read(module: str, tmp_path: Path) -> None:
    residual = architecture(n_blocks_per_stage=[1, 3, 4], n_conv_per_stage_decoder=[1, 1])
    del residual["arch_kwargs"]["n_conv_per_stage"]
    residual["network_class_name"] = f"dynamic_network_architectures.architectures.{module}.ResidualEncoderUNet"
    plans = plans_v2({"3d_fullres": configuration_v2(architecture=residual)}, plans_name="nnUNetResEncUNetLPlans")
    write_v2(tmp_path, plans, dataset_v2())
    topology = read(tmp_path).graphs[0].topology
    assert (topology.network, topology.encoder_blocks) == (NetworkClass.RESIDUAL, (1, 3, 4))
    assert topology.decoder_convs == (1, 1)


def test_sizes_may_be_one_number_for_all_stages(tmp_path: Path) -> None:
    short = architecture(kernel_sizes=3, n_conv_per_stage=2, n_conv_per_stage_decoder=1, strides=[1, 2, [1, 2, 2]])
    topology = fullres(tmp_path, configuration_v2(architecture=short)).graphs[0].topology
    assert topology.kernels == ((3, 3, 3),) * 3
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (1, 2, 2))
    assert (topology.encoder_blocks, topology.decoder_convs) == ((2, 2, 2), (1, 1))


def test_a_configuration_inherits_from_another(tmp_path: Path) -> None:
    configurations = {
        "3d_fullres": configuration_v2(),
        "3d_wide": {"inherits_from": "3d_fullres", "patch_size": [64, 64, 48], "batch_size": 4},
        "3d_wider": {"inherits_from": "3d_wide", "spacing": [2, 1, 1]},
        "3d_loop": {"inherits_from": "3d_loops"},
        "3d_loops": {"inherits_from": "3d_loop"},
    }
    for name in ("3d_wider", "3d_loop"):
        write_v2(tmp_path, plans_v2(configurations), dataset_v2(), configuration=name)
    found = only(read(tmp_path, "3d_wider"))
    assert (found.name, found.patch_size, found.spacing_mm) == ("3d_wider", (64, 64, 48), (2, 1, 1))
    assert found.normalisation == FULLRES.normalisation
    with pytest.raises(ModelError, match="inherits from itself"):
        read(tmp_path, "3d_loop")


def test_a_2d_configuration_keeps_slices(tmp_path: Path) -> None:
    planar = architecture(
        conv_op="torch.nn.modules.conv.Conv2d",
        norm_op="torch.nn.modules.instancenorm.InstanceNorm2d",
        kernel_sizes=[[3, 3]] * 3,
        strides=[[1, 1], [2, 2], [2, 2]],
    )
    values = configuration_v2(patch_size=[128, 96], spacing=[0.9, 0.8], architecture=planar)
    write_v2(tmp_path, plans_v2({"2d": values}), dataset_v2(), configuration="2d")
    published = read_v2(find_v2(tmp_path), (), None, lambda _: Header("2d", (0, 1)))
    found = only(published)
    assert (found.spacing_mm, found.patch_size, found.mirror_axes) == ((None, 0.9, 0.8), (128, 96), (0, 1))
    assert published.graphs[0].topology.dimensions == 2


def test_regions_are_painted_in_their_order_and_cover_what_lies_inside(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "enhancing": 3, "core": [2, 3], "ignore": 4}
    dataset = dataset_v2(labels, regions_class_order=[1, 3, 2])
    write_v2(tmp_path, plans_v2({"3d_fullres": configuration_v2()}), dataset)
    published = read(tmp_path)
    assert (published.part.regions, published.part.numbers, only(published).heads) == (True, (1, 3, 2), 3)
    assert [(one.number, one.name, one.covers) for one in published.structures] == [
        (1, "whole", (1, 2, 3)),
        (2, "core", (2, 3)),
        (3, "enhancing", (3,)),
    ]


def test_an_ignore_label_has_no_head_and_names_follow_their_numbers(tmp_path: Path) -> None:
    labels = {"aorta": 2, "background": 0, "heart": [1], "ignore": 3}
    write_v2(tmp_path, plans_v2({"3d_fullres": configuration_v2()}), dataset_v2(labels))
    published = read(tmp_path)
    assert [(one.number, one.name) for one in published.structures] == [(1, "heart"), (2, "aorta")]
    assert published.graphs[0].topology.heads == 3


def test_a_cascade_takes_its_previous_stage(tmp_path: Path) -> None:
    configurations = {
        "3d_lowres": configuration_v2(spacing=[5, 1.8, 1.6]),
        "3d_cascade_fullres": configuration_v2(
            previous_stage="3d_lowres", resampling_fn_seg_kwargs=RESAMPLING | {"is_seg": True, "order": 0}
        ),
    }
    write_v2(tmp_path, plans_v2(configurations), dataset_v2(), configuration="3d_cascade_fullres")
    with pytest.raises(ModelError, match="its 3d_lowres model is missing"):
        read(tmp_path)
    write_v2(tmp_path, plans_v2(configurations), dataset_v2(), configuration="3d_lowres")
    published = read(tmp_path)
    previous = only(published).previous
    assert previous is not None
    assert (previous.order, previous.part.configurations[0].spacing_mm) == (0, (5, 1.8, 1.6))
    assert {graph.file: graph.topology.input_channels for graph in published.graphs} == {
        "3d_lowres_fold_0.onnx": 1,
        "3d_cascade_fullres_fold_0.onnx": 5,
    }
    regions = dataset_v2({"background": 0, "all": [1, 2], "one": 1}, regions_class_order=[1, 2])
    write_v2(tmp_path / "regions", plans_v2(configurations), regions, configuration="3d_cascade_fullres")
    with pytest.raises(ModelError, match="cascade of overlapping regions"):
        read(tmp_path / "regions")


def test_configurations_are_averaged_only_where_their_labels_agree(tmp_path: Path) -> None:
    plans = plans_v2({"3d_fullres": configuration_v2(), "3d_lowres": configuration_v2(spacing=[5, 2, 2])})
    write_v2(tmp_path, plans, dataset_v2())
    folder = write_v2(tmp_path, plans, dataset_v2(), configuration="3d_lowres")
    published = read(tmp_path, "3d_lowres", "3d_fullres")
    assert [one.name for one in published.part.configurations] == ["3d_lowres", "3d_fullres"]
    (folder / "dataset.json").write_text((folder / "dataset.json").read_text().replace("aorta", "lung"))
    with pytest.raises(ModelError, match="other labels or axes"):
        read(tmp_path, "3d_lowres", "3d_fullres")


@pytest.mark.parametrize("reader", ["SimpleITKIOWithReorient", "NibabelIOWithReorient"])
def test_a_reader_that_reorients_fixes_the_axes(reader: str, tmp_path: Path) -> None:
    assert fullres(tmp_path, configuration_v2(), image_reader_writer=reader).axes == ("z:S", "y:A", "x:R")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [True]}, (Scheme.ZSCORE, True)),
        ({"normalization_schemes": ["NoNormalization"]}, (Scheme.NONE, False)),
    ],
)
def test_normalisation_without_training_values(changes: dict[str, Any], found: Any, tmp_path: Path) -> None:
    published = fullres(tmp_path, configuration_v2(**changes), foreground_intensity_properties_per_channel=None)
    normalisation = only(published).normalisation
    assert (normalisation.scheme, normalisation.use_mask) == found


def test_the_old_name_of_the_intensities_is_known(tmp_path: Path) -> None:
    plans = plans_v2({"3d_fullres": configuration_v2()})
    plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
    write_v2(tmp_path, plans, dataset_v2())
    assert only(read(tmp_path)) == FULLRES


def test_arguments_of_the_resampling_function_default_to_its_own(tmp_path: Path) -> None:
    values = configuration_v2(
        resampling_fn_data_kwargs={"is_seg": False},
        resampling_fn_probabilities_kwargs={"order": 0, "force_separate_z": True},
    )
    found = only(fullres(tmp_path, values))
    assert found.data_resampling == Resampling(3, 0, False)
    assert found.output_resampling == Resampling(0, 0, True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "data resampled by resample_torch_fornnunet"),
        ({"resampling_fn_probabilities": "no_resampling_hack"}, "resampled by no_resampling_hack"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"order": 4}}, "spline order 4"),
        ({"resampling_fn_probabilities_kwargs": RESAMPLING | {"order": 3}}, "spline order 3"),
        ({"resampling_fn_probabilities_kwargs": RESAMPLING | {"order": 1, "order_z": 1}}, "order 1 and 1"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"separate_z_anisotropy_threshold": 2}}, "separate_z_anisotropy"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"force_separate_z": "yes"}}, "force_separate_z is 'yes'"),
        ({"normalization_schemes": ["RescaleTo01Normalization"]}, "RescaleTo01Normalization is not supported"),
        ({"preprocessor_name": "OwnPreprocessor"}, "preprocessor_name OwnPreprocessor"),
        ({"patch_size": None}, "has no 'patch_size'"),
        ({"patch_size": [32.5, 64, 48]}, "not whole numbers"),
        ({"patch_size": [32, 64]}, "conv_op is 'Conv3d'"),
        ({"spacing": [0.9, 0.8]}, "never writes"),
        ({"spacing": [-1, 0.9, 0.8]}, "is not a spacing"),
        ({"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}}, "architecture os.system"),
        (
            {"architecture": architecture() | {"network_class_name": "evil.PlainConvUNet"}},
            "architecture evil.PlainConvUNet",
        ),
        ({"architecture": architecture(conv_op="os.Conv3d")}, "conv_op is 'os.Conv3d'"),
        ({"architecture": architecture(norm_op="torch.nn.BatchNorm3d")}, "norm_op is 'BatchNorm3d'"),
        ({"architecture": architecture(nonlin="torch.nn.GELU")}, "nonlin is 'GELU'"),
        ({"architecture": architecture(nonlin_kwargs={"negative_slope": 0.1})}, "negative_slope is 0.1"),
        ({"architecture": architecture(norm_op_kwargs={"eps": 1e-3, "affine": True})}, r"norm_op_kwargs\.eps"),
        ({"architecture": architecture(conv_bias=False)}, "conv_bias is False"),
        ({"architecture": architecture(dropout_op="subprocess.run")}, "dropout_op is 'subprocess.run'"),
        ({"architecture": architecture(nonlin_first=True)}, "with nonlin_first is not supported"),
        ({"architecture": architecture(n_stages=10**12, strides=2)}, "1000000000000 stages"),
        ({"architecture": architecture(n_conv_per_stage=10**9)}, "out of bounds"),
        ({"architecture": architecture(n_stages=4)}, "does not have 4 values"),
        ({"architecture": architecture(kernel_sizes=[[2, 3, 3]] * 3)}, "kernels"),
        ({"architecture": architecture(strides=[[2, 2, 2]] * 3)}, "first stage has stride"),
        ({"architecture": architecture(features_per_stage=[32, 64, 2**20])}, "out of bounds"),
    ],
)
def test_unsupported_configurations_are_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"plans\.json.*{why}"):
        fullres(tmp_path, configuration_v2(**changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"label_manager": "OwnLabelManager"}, "label_manager OwnLabelManager"),
        ({"image_reader_writer": "NaturalImage2DIO"}, "read by NaturalImage2DIO"),
        ({"transpose_backward": [2, 0, 1]}, "does not undo"),
        ({"transpose_forward": None}, "has no 'transpose_forward'"),
        ({"foreground_intensity_properties_per_channel": None}, "has no 'foreground"),
    ],
)
def test_unsupported_plans_are_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"plans\.json.*{why}"):
        fullres(tmp_path, configuration_v2(), **changes)


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (dataset_v2(channel_names={"0": "CT", "1": "PET"}), "needs 2 images"),
        (dataset_v2(channel_names={"0": "MRI"}), "for 'MRI' images"),
        (dataset_v2({"background": 0, "heart": 1, "aorta": 3}), "not consecutive"),
        (dataset_v2({"heart": 1}), "without a background"),
        (dataset_v2({"background": 0, "all": [1, 2], "one": 1}), "has no 'regions_class_order'"),
        (dataset_v2({"background": 0, "all": [1, 2], "one": 1}, regions_class_order=[1, 1]), "regions_class_order"),
        ({"channel_names": {"0": "CT"}}, "has no 'labels'"),
        (dataset_v2({"background": 0} | {f"rib {n}": n for n in range(1, 300)}), "300 outputs"),
    ],
)
def test_unsupported_datasets_are_refused(dataset: dict[str, Any], why: str, tmp_path: Path) -> None:
    write_v2(tmp_path, plans_v2({"3d_fullres": configuration_v2()}), dataset)
    with pytest.raises(ModelError, match=why):
        read(tmp_path)


def test_a_configuration_that_its_plans_do_not_have_is_named(tmp_path: Path) -> None:
    write_v2(tmp_path, plans_v2({"3d_other": configuration_v2()}), dataset_v2())
    with pytest.raises(ModelError, match=r"plans\.json has no '3d_fullres'"):
        read(tmp_path)


def test_unfinished_trainings_are_refused_with_a_remedy(tmp_path: Path) -> None:
    folder = write_v2(tmp_path, plans_v2({"3d_fullres": configuration_v2()}), dataset_v2())
    (folder / "fold_0/checkpoint_final.pth").rename(folder / "fold_0/checkpoint_best.pth")
    with pytest.raises(ModelError, match=r"no finished fold \(only checkpoint_best\.pth: train to the end, or copy"):
        read(tmp_path)
