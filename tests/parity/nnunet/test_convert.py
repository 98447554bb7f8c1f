"""Folders and zips that the frameworks' own trainers wrote become models of this project, complete or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Framework, LargestComponent, Precision
from orthanc_plugin.catalog.reader import read_card, verify_model
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.errors import ConfigError, ModelError
from tests.parity.nnunet import peers
from tests.parity.nnunet.fixtures import (
    CASCADE,
    FULLRES,
    HIGH_HU,
    LOW_HU,
    LOWRES,
    MEAN_HU,
    PLANAR,
    SD_HU,
    Labels,
    Model,
)
from tests.support.cases.published_folders import architecture, configuration_v2, dataset_v2, plans_v2, write_v2

POSTPROCESSING = '{"for_which_classes": [[1, 2, 3, 4], 2], "min_valid_object_sizes": "{(1, 2, 3, 4): 500.0, 2: 80}"}'
SEGTHOR = Model(
    Framework.V1, (PLANAR, LOWRES, FULLRES, CASCADE), folds=2, transpose=(0, 2, 1), postprocessing=POSTPROCESSING
)
ORGANS = Model(Framework.V2, (FULLRES, LOWRES, CASCADE), folds=2, mirroring=True)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Peer]:
    peer = peers.Peer(tmp_path_factory.mktemp("peer"))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def v1(peer: peers.Peer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peer.call(peers.write_model, SEGTHOR, tmp_path_factory.mktemp("v1"))


@pytest.fixture(scope="module")
def v1_zip(v1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = tmp_path_factory.mktemp("zip") / "Task055_SegTHOR"
    return Path(shutil.make_archive(str(name), "zip", v1))


@pytest.fixture(scope="module")
def v2(peer: peers.Peer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peer.call(peers.write_model, ORGANS, tmp_path_factory.mktemp("v2"))


def convert(source: Path, out: Path, **options: object) -> ModelCard:
    card = convert_model(source, "organs", out, **options)  # type: ignore[arg-type]
    assert card == read_card(out / "organs")
    verify_model(card)
    assert [path.name for path in out.iterdir()] == ["organs"], "nothing else is left beside the model"
    return card


def logits(card: ModelCard, graph: str, channels: int, patch: tuple[int, ...]) -> np.ndarray:
    session = onnxruntime.InferenceSession(card.directory / graph, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(3).standard_normal((1, channels, *patch), dtype=np.float32)
    (found,) = session.run(["logits"], {"image": image})
    return found


def files(card: ModelCard) -> tuple[str, ...]:
    return tuple(graph.file for graph in card.graphs)


def test_a_v1_zip_becomes_a_model_with_all_its_folds(v1_zip: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    card = convert(v1_zip, tmp_path / "models", progress=steps.append)
    assert card.nnunet is not None
    (part,) = card.nnunet.parts
    (found,) = part.configurations
    assert [label.key for label in card.labels] == ["esophagus", "heart", "trachea", "aorta"]
    assert (card.version, card.axes) == ("nnUNetTrainerV2__nnUNetPlansv2.1", ("z:S", "y:P", "x:L"))
    assert "NC" in card.licence
    assert (found.name, found.framework, found.heads) == ("3d_fullres", Framework.V1, 5)
    assert found.graphs == files(card) == ("3d_fullres_fold_0.onnx", "3d_fullres_fold_1.onnx")
    assert (found.transpose_forward, found.spacing_mm, found.patch_size) == ((0, 2, 1), (4.6, 3.7, 3.5), (32, 48, 40))
    of_training = found.normalisation
    assert (of_training.low_hu, of_training.high_hu) == (LOW_HU, HIGH_HU)
    assert (of_training.mean_hu, of_training.sd_hu) == (MEAN_HU, SD_HU)
    assert part.postprocessing == (LargestComponent((1, 2, 3, 4), 500.0), LargestComponent((2,), 80.0))
    sources = [source.file for source in card.nnunet.source]
    folder = "nnUNet/3d_fullres/Task055_SegTHOR/nnUNetTrainerV2__nnUNetPlansv2.1"
    assert sources[:2] == ["Task055_SegTHOR.zip", f"{folder}/plans.pkl"]
    assert f"{folder}/fold_1/model_final_checkpoint.model" in sources
    assert [step for step in steps if step.startswith("graph")] == [
        "graph 1 of 2: 3d_fullres_fold_0.onnx",
        "graph 2 of 2: 3d_fullres_fold_1.onnx",
    ]
    first, second = (logits(card, graph, 1, (32, 48, 40)) for graph in files(card))
    assert np.abs(first - second).max() > 0.1, "folds are different networks"


def test_a_v1_cascade_brings_its_first_stage(v1: Path, tmp_path: Path) -> None:
    card = convert(v1, tmp_path / "models", configurations=["3d_cascade_fullres"], folds=[1])
    assert card.nnunet is not None
    (found,) = card.nnunet.parts[0].configurations
    assert found.previous is not None
    (first,) = found.previous.part.configurations
    assert files(card) == (*first.graphs, *found.graphs) == ("3d_lowres_fold_1.onnx", "3d_cascade_fullres_fold_1.onnx")
    assert (found.previous.order, found.previous.part.postprocessing) == (1, card.nnunet.parts[0].postprocessing)
    assert logits(card, found.graphs[0], 5, (32, 48, 40)).shape == (1, 5, 32, 48, 40)


def test_v1_configurations_become_an_ensemble_with_its_own_postprocessing(v1: Path, tmp_path: Path) -> None:
    trained = "__nnUNetTrainerV2__nnUNetPlansv2.1"
    ensemble = f"ensemble_2d{trained}--3d_fullres{trained}"
    folder = tmp_path / "source"
    shutil.copytree(v1, folder)
    file = folder / "nnUNet/ensembles/Task055_SegTHOR" / ensemble / "postprocessing.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"for_which_classes": [3], "min_valid_object_sizes": "None"}')
    card = convert(folder, tmp_path / "models", configurations=["2d", "3d_fullres"], folds=[0])
    assert card.nnunet is not None
    (part,) = card.nnunet.parts
    planar, fullres = part.configurations
    assert (planar.spacing_mm, planar.patch_size, planar.mirror_axes) == ((None, 2.9, 3.1), (56, 48), (0, 1))
    assert (fullres.mirror_axes, part.postprocessing) == ((0, 1, 2), (LargestComponent((3,)),))


def test_a_v2_folder_becomes_a_model_at_half_precision(v2: Path, tmp_path: Path) -> None:
    card = convert(v2, tmp_path / "models", folds=[1], precision=Precision.FP16, axes=("z:S", "y:A", "x:R"))
    assert card.nnunet is not None
    (found,) = card.nnunet.parts[0].configurations
    assert (found.framework, found.mirror_axes, found.graphs) == (Framework.V2, (0, 1, 2), ("3d_fullres_fold_1.onnx",))
    assert (card.axes, card.nnunet.precision) == (("z:S", "y:A", "x:R"), Precision.FP16)
    assert (found.data_resampling.order, found.output_resampling.order) == (3, 1)


def test_a_v2_cascade_and_regions_are_read(peer: peers.Peer, v2: Path, tmp_path: Path) -> None:
    card = convert(v2, tmp_path / "cascade", configurations=["3d_cascade_fullres"], folds=[0])
    assert card.nnunet is not None
    (found,) = card.nnunet.parts[0].configurations
    assert found.previous is not None
    assert found.previous.part.configurations[0].name == "3d_lowres"
    model = Model(Framework.V2, (FULLRES,), labels=Labels.REGIONS, mirroring=False)
    card = convert(peer.call(peers.write_model, model, tmp_path / "regions"), tmp_path / "models")
    assert card.nnunet is not None
    (part,) = card.nnunet.parts
    assert (part.regions, part.numbers, part.configurations[0].heads) == (True, (1, 2, 3, 4), 4)
    assert part.configurations[0].mirror_axes == ()
    assert [label.covers for label in card.labels] == [(1, 2, 3, 4), (2, 3, 4), (3, 4), (4,)]


def test_a_failed_conversion_leaves_nothing_and_keeps_what_was_there(v2: Path, tmp_path: Path) -> None:
    source, models = tmp_path / "source", tmp_path / "models"
    shutil.copytree(v2, source)
    before = convert(source, models, folds=[0])
    (checkpoint,) = source.glob("*__3d_fullres/fold_1/checkpoint_final.pth")
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"].pop("decoder.transpconvs.0.weight")
    torch.save(content, checkpoint)
    with pytest.raises(ModelError, match=r"fold_1: checkpoint_final\.pth lacks 'decoder\.transpconvs\.0\.weight'"):
        convert_model(source, "organs", models, replace=True)
    with pytest.raises(ConfigError, match="already exists"):
        convert_model(source, "organs", models, folds=[0])
    assert read_card(models / "organs").digest == before.digest
    after = convert(source, models, folds=[0], replace=True, licence="CC BY 4.0")
    assert after.licence == "CC BY 4.0"
    assert after.digest != before.digest


def test_labels_without_a_code_are_all_named_before_anything_is_exported(v2: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(v2, source)
    (file,) = source.glob("*__3d_fullres/dataset.json")
    file.write_text(file.read_text().replace("trachea", "gizmo").replace("aorta", "widget"))
    with pytest.raises(ModelError, match="gizmo, widget"):
        convert_model(source, "organs", tmp_path / "models")
    assert not (tmp_path / "models").exists()
    mapping = tmp_path / "labels.json"
    mapping.write_text(json.dumps({"gizmo": "trachea", "widget": "aorta"}))
    card = convert(source, tmp_path / "models", labels=mapping, folds=[0])
    assert [label.key for label in card.labels] == ["esophagus", "heart", "trachea", "aorta"]


def test_a_residual_encoder_gives_its_own_logits(tmp_path: Path) -> None:
    plan = architecture(n_blocks_per_stage=[1, 3, 2], n_conv_per_stage_decoder=[1, 1], features_per_stage=[8, 16, 32])
    arguments = plan["arch_kwargs"]
    del arguments["n_conv_per_stage"]
    plan["network_class_name"] = f"{ResidualEncoderUNet.__module__}.{ResidualEncoderUNet.__name__}"
    layers = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    torch.manual_seed(5)
    network = ResidualEncoderUNet(1, num_classes=5, deep_supervision=True, **arguments | layers).eval()
    folder = write_v2(tmp_path / "source", plans_v2({"3d_fullres": configuration_v2(architecture=plan)}), dataset_v2())
    header = {"trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"}}
    torch.save(header | {"network_weights": network.state_dict()}, folder / "fold_0/checkpoint_final.pth")
    card = convert(tmp_path / "source", tmp_path / "models")
    image = torch.from_numpy(np.random.default_rng(3).standard_normal((1, 1, 32, 64, 48), dtype=np.float32))
    with torch.inference_mode():
        expected = network(image)[0].numpy()
    assert np.abs(logits(card, card.graphs[0].file, 1, (32, 64, 48)) - expected).max() <= 1e-3
