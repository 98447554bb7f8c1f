"""The card that a conversion writes, and how it starts and ends; plain bytes replace networks and graphs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Precision
from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.conversion import convert
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.errors import ConfigError, ModelError
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


def write_graph(checkpoint: Path, *rest: Any) -> None:
    """A stand-in for the export: the checkpoint's path, so that every graph is another."""
    *_, out = rest
    out.write_text(str(checkpoint.relative_to(checkpoint.parents[1])))


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_tools", lambda: (write_graph, header_of_folder))


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    write_v1(tmp_path / "source", "3d_fullres", plans_v1(FULLRES_STAGE), folds=("fold_0", "fold_1"))
    return tmp_path / "source"


def converted(source: Path, out: Path, **options: Any) -> ModelCard:
    card = convert_model(source, "organs", out, **options)
    assert card == read_card(out / "organs")
    return card


@pytest.mark.usefixtures("without_torch")
def test_the_card_names_maker_and_source_files(v1: Path, tmp_path: Path) -> None:
    card = converted(v1, tmp_path / "models", precision=Precision.FP16)
    assert card.nnunet is not None
    assert (card.licence[:12], card.manufacturer, card.test_model) == ("CC BY-NC 4.0", "MIC-DKFZ, Heidelberg", False)
    assert "SegTHOR" in card.citation
    assert card.nnunet.precision is Precision.FP16
    heart = card.labels[1]
    assert (heart.number, heart.key, heart.label, heart.type.value) == (2, "heart", "Heart", "80891009")
    files = [source.file for source in card.nnunet.source]
    assert len(set(files)) == len(files) == 5
    assert all(file.startswith("nnUNet/3d_fullres/Task055_SegTHOR/") for file in files)
    assert card.nnunet.source[0].sha256 != card.nnunet.source[1].sha256
    text = (card.directory / "LICENSE").read_text()
    assert "CC BY-NC 4.0" in text
    assert "purposes that are not commercial" in text
    assert str(tmp_path) not in (card.directory / "card.json").read_text(), "a card names no folder of this machine"


@pytest.mark.usefixtures("without_torch")
def test_the_same_source_gives_the_same_card(v1: Path, tmp_path: Path) -> None:
    first, second = (converted(v1, tmp_path / name) for name in ("first", "second"))
    assert first.digest == second.digest
    assert converted(v1, tmp_path / "third", folds=[0]).digest != first.digest


@pytest.mark.usefixtures("without_torch")
def test_what_the_user_says_goes_into_the_card(v1: Path, tmp_path: Path) -> None:
    (v1 / "LICENSE.txt").write_text("as published")
    mapping = tmp_path / "labels.json"
    heart = {"label": "Heart muscle", "type": {"scheme": "SCT", "value": "80891009", "meaning": "Heart"}}
    mapping.write_text(json.dumps({"heart": heart}))
    axes = ("y:A", "z:I", "x:R")
    card = converted(v1, tmp_path / "m", labels=mapping, axes=axes, licence="ours", test_model=True)
    assert (card.axes, card.licence, card.test_model, card.labels[1].label) == (axes, "ours", True, "Heart muscle")
    assert (card.directory / "LICENSE").read_text() == "as published"


@pytest.mark.usefixtures("without_torch")
def test_the_limits_name_a_foreign_trainer(tmp_path: Path) -> None:
    write_v2(tmp_path / "s", plans_v2({"3d_fullres": configuration_v2()}), dataset_v2(), trainer="OwnTrainer")
    card = converted(tmp_path / "s", tmp_path / "models")
    assert card.limits[-1].startswith("Trained by OwnTrainer, not one of nnU-Net's")
    assert card.licence.startswith("not stated")


@pytest.mark.usefixtures("without_torch")
def test_a_model_is_replaced_only_when_asked_for(v1: Path, tmp_path: Path) -> None:
    before = converted(v1, tmp_path / "models")
    with pytest.raises(ConfigError, match="organs already exists"):
        convert_model(v1, "organs", tmp_path / "models", licence="other")
    assert read_card(tmp_path / "models/organs").digest == before.digest
    assert converted(v1, tmp_path / "models", licence="other", replace=True).licence == "other"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["organs"]


def test_an_export_that_fails_leaves_nothing(v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail(*arguments: Any) -> None:
        write_graph(*arguments)
        if "fold_1" in arguments[-1].name:
            raise ModelError("of the export")

    monkeypatch.setattr(convert, "_tools", lambda: (fail, header_of_folder))
    with pytest.raises(ModelError, match="of the export"):
        convert_model(v1, "organs", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("without_torch")
def test_a_move_that_fails_keeps_the_old_model(v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = converted(v1, tmp_path / "models")
    replace = convert.os.replace

    def fail(source: Path, target: Path) -> None:
        if source.parent.name.startswith(".converting-") and source.name == "organs":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(convert.os, "replace", fail)
    with pytest.raises(ModelError, match="cannot be written"):
        convert_model(v1, "organs", tmp_path / "models", licence="other", replace=True)
    assert read_card(tmp_path / "models/organs").digest == before.digest
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["organs"]


@pytest.mark.usefixtures("without_torch")
def test_a_hostile_pickle_in_a_zip_runs_nothing_and_installs_nothing(v1: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'mark'}",)

    (file,) = v1.rglob("fold_1/*.pkl")
    file.write_bytes(pickle.dumps({"plans": Hostile(), "init": (), "name": "nnUNetTrainerV2"}))
    source = shutil.make_archive(str(tmp_path / "Task055"), "zip", v1)
    message = r"Task055\.zip/nnUNet/.*/fold_1/model_final_checkpoint\.model\.pkl holds posix\.system"
    with pytest.raises(ModelError, match=message):
        convert_model(Path(source), "organs", tmp_path / "models")
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "models").exists()


@pytest.mark.usefixtures("without_torch")
def test_labels_without_codes_stop_before_the_export(tmp_path: Path) -> None:
    plans = plans_v1(FULLRES_STAGE, num_classes=2)
    write_v1(tmp_path / "source", "3d_fullres", plans, task="Task500_Own")
    with pytest.raises(ModelError, match=r'no code for label_1, label_2.*"value": "80891009"'):
        convert_model(tmp_path / "source", "organs", tmp_path / "models")
    assert not (tmp_path / "models").exists()
    mapping = tmp_path / "labels.json"
    mapping.write_text('{"label_1": "heart", "label_2": "aorta"}')
    card = converted(tmp_path / "source", tmp_path / "models", labels=mapping)
    assert [label.key for label in card.labels] == ["heart", "aorta"]


@pytest.mark.parametrize("name", ["", "Organs", "../organs", "a b", "1organs", "o" * 65])
def test_names_that_are_not_valid_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a valid model name"):
        convert_model(tmp_path, name, tmp_path)


@pytest.mark.parametrize("axes", [("z:S", "y:P", "y:P"), ("z:S", "y:P", "x:S"), ("S", "P", "L"), ("z:S", "", "x:L")])
def test_axes_that_are_none_are_refused(axes: tuple[str, str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="once, in any order"):
        convert_model(tmp_path, "organs", tmp_path, axes=axes)


def test_without_torch_the_extra_is_named(v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("export", "weights", "network"):
        monkeypatch.delitem(sys.modules, f"orthanc_plugin.conversion.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"pip install 'orthanc-enrichment\[convert\]'"):
        convert_model(v1, "organs", tmp_path / "models")
