"""MONAI bundles: known parts become a card that runs as MONAI would, the first unknown part ends it with its name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.catalog.volume import Scheme, Values
from orthanc_plugin.cli.main import main
from orthanc_plugin.conversion.monai_bundle import convert_bundle, is_bundle
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from tests.support.cases.bundle_case import INFERENCE, METADATA, bundle, changed
from tests.support.cases.volume_case import network

KERNEL = np.zeros((3, 1, 1, 1, 1))
KERNEL[1:, 0, 0, 0, 0] = 1.0, 1.5
NET = network([KERNEL], ("d", "h", "w"))
STEPS = "preprocessing.transforms"


def converted(folder: Path, metadata: dict[str, Any] = METADATA, inference: dict[str, Any] = INFERENCE) -> Any:
    return convert_bundle(bundle(folder, NET, metadata, inference), "anything", folder / "models", replace=True)


def test_known_parts_become_a_card(tmp_path: Path) -> None:
    card = converted(tmp_path)
    section = card.volume
    assert card.axes == ("x:R", "y:A", "z:S")
    assert section.spacing_mm == (2.0, 2.0, None)
    assert section.patch_size == (8, 8, 8)
    assert section.overlap == 0.5
    assert (section.intensity.scheme, section.intensity.low_hu, section.intensity.high) == (Scheme.WINDOW, -200, 1)
    assert (section.values, section.numbers) == (Values.LOGITS, (0, 1, 2))
    assert [(rule.number, rule.largest) for rule in section.cleaning] == [(1, True)]
    assert [label.key for label in card.labels] == ["liver", "spleen"]
    assert (card.version, card.manufacturer, card.citation) == ("0.3.2", "tests", "Nobody et al.")


def test_a_bundle_runs_as_its_steps_say(tmp_path: Path) -> None:
    """Every step by hand: RAS is two reversed axes of the CT here; the network is one multiplication a voxel."""
    inference = changed(INFERENCE, f"{STEPS}.3", None)  # no resampling: equal voxel by voxel
    card = converted(tmp_path, inference=changed(inference, "postprocessing.transforms.3", None))
    hu = ndimage.gaussian_filter(np.random.default_rng(3).normal(50, 900, (12, 14, 10)), 1.0).astype(np.float32)
    labels = open_engine(card, Provider.CPU).segment(Volume(hu, (2.0, 1.0, 1.0), np.diag([1.0, 1, 2, 1]))).labels
    scaled = np.clip((hu + 200) / 500, 0, 1)
    np.testing.assert_array_equal(labels, np.where(scaled > 0, 2, 0))
    assert {*np.unique(labels)} == {0, 2}


def test_sigmoids_with_a_threshold_are_masks(tmp_path: Path) -> None:
    inference = changed(INFERENCE, "postprocessing.transforms.0", {"_target_": "Activationsd", "sigmoid": True})
    inference = changed(inference, "postprocessing.transforms.2", {"_target_": "AsDiscreted", "threshold": 0.4})
    metadata = changed(
        METADATA, "network_data_format.outputs.pred.channel_def", {"0": "liver", "1": "spleen", "2": "heart"}
    )
    section = converted(tmp_path, metadata, inference).volume
    assert (section.values, section.numbers, section.threshold) == (Values.SIGMOID_LOGITS, (1, 2, 3), 0.4)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (f"{STEPS}.2", None, "Spacingd before Orientationd"),
        (f"{STEPS}.4", None, "no ScaleIntensityRanged"),
        (f"{STEPS}.2.axcodes", "RAR", "axcodes is RAR"),
        (f"{STEPS}.2.axcodes", "$'RAS'", "axcodes is an expression"),
        (f"{STEPS}.3.mode", "nearest", "mode is nearest"),
        (f"{STEPS}.3.pixdim", [1.0, 1.0], "must have 3 numbers"),
        (f"{STEPS}.4.clip", False, "clip is not true"),
        (f"{STEPS}.4.a_min", "low", "a_min is low"),
        (f"{STEPS}.5", {"_target_": "CropForegroundd"}, "preprocessing has CropForegroundd"),
        (f"{STEPS}.5", {"_target_": "NormalizeIntensityd"}, "second step for intensity"),
        (f"{STEPS}.5", "@nothing", "refers to @nothing"),
        ("preprocessing", {"_target_": "Other"}, "preprocessing is not a Compose"),
        ("inferer._target_", "MyInferer", "inferer is MyInferer"),
        ("inferer", None, "no inferer"),
        ("inferer.roi_size", "@missing", "refers to @missing"),
        ("patch", "@patch", "refers to"),
        ("postprocessing.transforms.0.softmax", False, "must have one of softmax, sigmoid"),
        ("postprocessing.transforms.2", None, "decision none"),
        ("postprocessing.transforms.3", {"_target_": "VoteEnsembled"}, "postprocessing has VoteEnsembled"),
    ],
)
def test_the_part_that_is_not_known_is_named_and_nothing_stays(
    tmp_path: Path, path: str, value: object, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        converted(tmp_path, inference=changed(INFERENCE, path, value))
    assert not (tmp_path / "models" / "anything").exists()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("network_data_format", None, "one input and one output"),
        ("network_data_format.inputs.image.modality", "MR", "not one channel of CT"),
        ("network_data_format.inputs.image.num_channels", 2, "not one channel of CT"),
        ("network_data_format.outputs.pred.channel_def", {"0": "background", "2": "liver"}, "channel_def"),
        ("network_data_format.outputs.pred.channel_def.1", "flux", "no code for flux"),
    ],
)
def test_metadata_that_does_not_fit_is_named(tmp_path: Path, path: str, value: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        converted(tmp_path, changed(METADATA, path, value))


def test_weights_without_a_graph_say_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="onnx_export"):
        convert_bundle(bundle(tmp_path, None), "anything", tmp_path / "models")


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    root = bundle(tmp_path, NET)
    (root / "configs" / "inference.json").write_text("{")
    with pytest.raises(ModelError, match=r"inference\.json cannot be read"):
        convert_bundle(root, "anything", tmp_path / "models")


def test_the_command_takes_folder_and_zip(tmp_path: Path) -> None:
    root = bundle(tmp_path, NET)
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", root.parent, root.name))
    assert is_bundle(root)
    assert is_bundle(packed)
    assert not is_bundle(tmp_path / "nothing")
    for number, source in enumerate((root, packed)):
        wanted = ["models", "convert", str(source), "--name", f"net_{number}", "--out", str(tmp_path / "models")]
        assert main(wanted) == 0
        assert read_card(tmp_path / "models" / f"net_{number}").volume is not None
