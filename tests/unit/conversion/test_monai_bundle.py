"""MONAI bundles: known parts become a card that runs as MONAI would, the first unknown part ends it with its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.catalog.totalsegmentator import TASKS
from orthanc_plugin.catalog.volume import Blending, Scheme, Values
from orthanc_plugin.cli.main import main
from orthanc_plugin.conversion.monai_bundle import convert_bundle, is_bundle
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.inference.volume import in_network_units
from tests.support.cases.bundle_case import (
    CLICKED,
    INFERENCE,
    METADATA,
    NODULES,
    PROGRAM,
    SPLEEN,
    WHOLE_BODY,
    bundle,
    changed,
    sliding,
    zoo_metadata,
)
from tests.support.cases.volume_case import network

KERNEL = np.zeros((3, 1, 1, 1, 1))
KERNEL[1:, 0, 0, 0, 0] = 1.0, 1.5
NET = network([KERNEL], ("d", "h", "w"))
STEPS = "preprocessing.transforms"
_SINCE_VERSION_2 = (
    *("kidney_cyst_left", "kidney_cyst_right", "thyroid_gland", "prostate", "vertebrae_S1", "heart", "pulmonary_vein"),
    *("brachiocephalic_trunk", "subclavian_artery_right", "subclavian_artery_left", "common_carotid_artery_right"),
    *("common_carotid_artery_left", "brachiocephalic_vein_left", "brachiocephalic_vein_right"),
    *("atrial_appendage_left", "superior_vena_cava", "spinal_cord", "skull", "sternum", "costal_cartilages"),
)
WHOLE_BODY_NAMES = (
    *(name for name in TASKS["total"].classes if name not in _SINCE_VERSION_2),
    *("heart_myocardium", "heart_atrium_left", "heart_ventricle_left", "heart_atrium_right", "heart_ventricle_right"),
    *("pulmonary_artery", "face"),
)
"""The 104 structures of TotalSegmentator 1, on which the zoo's whole-body network was trained."""


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
    assert [rule.number for rule in section.cleaning] == [2]  # channel 1


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (f"{STEPS}.2", None, "Spacingd before Orientationd"),
        (f"{STEPS}.4", None, "no ScaleIntensityRanged"),
        (f"{STEPS}.2.axcodes", "RAR", "axcodes is RAR"),
        (f"{STEPS}.2.axcodes", "$'RA' + 'S'", "axcodes is an expression"),
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
        ("inferer.mode", "median", "mode is median"),
        ("inferer.padding_mode", "reflect", "padding_mode is reflect"),
        ("inferer.cval", 1.0, "cval 0"),
        ("inferer.overlap", [0.5, 0.5, 0.25], "overlap differs"),
        ("inferer.roi_size", "@inferer#roi_size", "refers to itself"),
        ("inferer.roi_size", [-1, 8, 8], "patch_size"),
        ("patch", "%train.json#patch", "is a macro"),
        ("patch", "$__import__('os').abort()", "is an expression"),
        ("patch", "$[1, 2", "is an expression"),
        (f"{STEPS}.4", {"_target_": "ScaleIntensityd", "factor": 2.0}, "factor is given"),
        (f"{STEPS}", "LoadImaged", "transforms is not a list"),
        ("preprocessing", None, "there is no preprocessing"),
        ("postprocessing.transforms.3.num_components", 2, "more than one component"),
        ("postprocessing.transforms.3.connectivity", 4, "connectivity 1 to 3"),
        ("postprocessing.transforms.3.applied_labels", [0], "applied_labels has 0"),
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
        ("network_data_format.outputs.pred", [], "must be objects"),
        ("network_data_format.outputs.pred.format", "dict", "in format dict"),
        ("network_data_format.outputs.pred.channel_def", {"0": "background", "2": "liver"}, "channel_def"),
        ("network_data_format.outputs.pred.channel_def.1", "flux", "no code for flux"),
    ],
)
def test_metadata_that_does_not_fit_is_named(tmp_path: Path, path: str, value: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        converted(tmp_path, changed(METADATA, path, value))


def test_the_zoo_s_spleen_network_is_read_as_it_is(tmp_path: Path) -> None:
    net = network([np.ones((2, 1, 1, 1, 1))], ("d", "h", "w"))
    root = bundle(tmp_path, net, zoo_metadata(["background", "spleen"]), SPLEEN)
    card = convert_bundle(root, "anything", tmp_path / "models")
    section = card.volume
    assert section is not None
    assert (section.spacing_mm, section.patch_size, section.overlap) == ((1.5, 1.5, 2.0), (96, 96, 96), 0.5)
    assert (section.intensity.low_hu, section.intensity.high_hu) == (-57, 164)
    assert section.blending is Blending.UNIFORM
    assert card.citation == "First; Second"


def test_the_zoo_s_whole_body_network_is_read_as_it_is(tmp_path: Path) -> None:
    """Its spacing is an expression, its zeros are left out of the mean, and its 104 structures have codes."""
    names = ["background", *WHOLE_BODY_NAMES]
    net = network([np.ones((len(names), 1, 1, 1, 1))], ("d", "h", "w"))
    root = bundle(tmp_path, net, zoo_metadata(names), WHOLE_BODY)
    section = convert_bundle(root, "anything", tmp_path / "models").volume
    assert section is not None
    assert (section.spacing_mm, section.overlap) == ((1.5, 1.5, 1.5), 0.25)
    assert section.blending is Blending.GAUSSIAN
    how = section.intensity
    assert (how.scheme, how.low, how.high, how.nonzero) == (Scheme.RANGE, -1, 1, True)
    assert len(section.numbers) == 105


def test_an_image_is_scaled_as_monai_scales_it(tmp_path: Path) -> None:
    """Zeros keep the value 0 while the rest is normalised, then the whole image becomes -1 to 1."""
    metadata = zoo_metadata(["background", "liver", "spleen"])
    inference = changed(WHOLE_BODY, "pixdim", [-1, -1, -1])
    inference = changed(inference, "inferer", sliding(16, mode="gaussian"))
    card = convert_bundle(bundle(tmp_path, NET, metadata, inference), "anything", tmp_path / "models")
    hu = np.round(np.random.default_rng(4).normal(100, 500, (12, 14, 10))).astype(np.float32)
    hu[::3] = 0
    normal = np.where(hu == 0, 0, (hu - hu[hu != 0].mean()) / hu[hu != 0].std())
    scaled = (normal - normal.min()) / (normal.max() - normal.min()) * 2 - 1
    assert card.volume is not None
    np.testing.assert_allclose(in_network_units(hu, card.volume.intensity), scaled, atol=1e-5)


@pytest.mark.parametrize(
    ("inference", "output", "said"),
    [
        (NODULES, {"type": "object", "format": "dict", "channel_def": {"0": "x"}}, "object in format dict"),
        (NODULES, {}, "postprocessing has ClipBoxToImaged"),
        (CLICKED, {}, "preprocessing.transforms is an expression"),
        (PROGRAM, {}, "there is no preprocessing"),
    ],
)
def test_what_the_zoo_has_beside_segmentation_is_refused_by_name(
    tmp_path: Path, inference: dict[str, Any], output: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        converted(tmp_path, zoo_metadata(["background", "liver", "spleen"], **output), inference)


def test_settings_may_be_yaml(tmp_path: Path) -> None:
    inference = changed(SPLEEN, "inferer.overlap", 0.625)
    net = network([np.ones((3, 1, 1, 1, 1))], ("d", "h", "w"))
    root = bundle(tmp_path, net, zoo_metadata(["background", "pancreas", "spleen"]), inference, "yaml")
    section = convert_bundle(root, "anything", tmp_path / "models").volume
    assert section is not None
    assert section.overlap == 0.625
    (root / "configs" / "inference.yaml").write_text("a: [")
    with pytest.raises(ModelError, match=r"inference\.yaml cannot be read"):
        convert_bundle(root, "anything", tmp_path / "models", replace=True)


def test_sides_may_come_first_and_unknown_names_are_those_of_the_bundle(tmp_path: Path) -> None:
    net = network([np.ones((4, 1, 1, 1, 1))], ("d", "h", "w"))
    root = bundle(tmp_path, net, zoo_metadata(["background", "Right Kidney", "Left Kideny", "IVC"]), SPLEEN)
    with pytest.raises(ModelError, match=r"no code for Left Kideny, IVC"):
        convert_bundle(root, "anything", tmp_path / "models")
    mapping = tmp_path / "labels.json"
    mapping.write_text(json.dumps({"Left Kideny": "left kidney", "IVC": "inferior_vena_cava"}))
    card = convert_bundle(root, "anything", tmp_path / "models", labels=mapping)
    assert [label.key for label in card.labels] == ["kidney_right", "kidney_left", "inferior_vena_cava"]


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
