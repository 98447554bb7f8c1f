"""BodyPartRegression's public folder becomes a card; a graph of one product replaces the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthanc_plugin.catalog.bpr import LANDMARKS, LandmarkScore
from orthanc_plugin.catalog.card import Engine, ModelCard
from orthanc_plugin.catalog.install import require_licence
from orthanc_plugin.catalog.nnunet import Precision
from orthanc_plugin.catalog.reader import read_card, verify_model
from orthanc_plugin.catalog.records import BPR, record_of
from orthanc_plugin.conversion import convert
from orthanc_plugin.conversion.bpr import find_bpr, read_bpr
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.errors import ConfigError, ModelError
from tests.support.cases.bpr_case import BACKGROUND, TABLE, weighted
from tests.support.cases.bpr_folder import END_RAW, START_RAW, config, settings, write_settings

SETTINGS = "inference-settings.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_settings(tmp_path / "source" / "public_bpr_model")
    (folder / "model.pt").write_bytes(b"weights")
    return folder


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the network gives to empty slices; the export writes a graph of one product."""
    scores: list[float] = []

    def export(checkpoint: Path, size: int, out: Path) -> tuple[float, ...]:
        assert checkpoint.read_bytes() == b"weights"
        weighted(out, np.full((size, size), 75 / size**2), 50.0)
        return tuple(scores)

    monkeypatch.setattr(convert, "_tools", lambda: (None, None))
    monkeypatch.setattr(convert, "_export_bpr", export)
    return scores


def converted(source: Path, out: Path, **options: Any) -> ModelCard:
    card = convert_model(source, "bpr", out, **options)
    assert card == read_card(out / "bpr")
    assert [path.name for path in out.iterdir()] == ["bpr"], "nothing else is left beside the model"
    verify_model(card)
    return card


# What the folder says.


def test_table_and_slopes_are_read(folder: Path) -> None:
    model = read_bpr(folder, ())
    assert (model.start_raw, model.end_raw) == (START_RAW, pytest.approx(END_RAW))
    assert [row.mean for row in model.look_up] == sorted(mean for mean, _ in TABLE.values())
    assert set(model.look_up) == {LandmarkScore(key, *row) for key, row in TABLE.items()}
    assert (model.slope_mean, model.tangential_min, model.tangential_max) == (0.118, -0.037, 0.25)
    assert (model.pixel_mm, model.size, model.low_hu, model.high_hu) == (3.5, 128, -1000, 1500)
    assert (model.smoothing_mm, model.ratio_tolerance, model.background_scores) == (10, 0.28, ())


def test_all_35_landmarks_of_the_published_table_are_known() -> None:
    assert set(LANDMARKS) == TABLE.keys()
    assert len(LANDMARKS) == 35


def test_the_raw_means_are_of_training_and_validation(folder: Path) -> None:
    content = settings()
    content["lookuptable_train"] = settings(start_raw=-70, end_raw=90)["lookuptable_train"]
    write_settings(folder, content)
    assert read_bpr(folder, ()).start_raw == START_RAW


def test_the_folder_is_found_where_a_zip_puts_it(folder: Path, tmp_path: Path) -> None:
    assert find_bpr(folder) == find_bpr(tmp_path) == folder.resolve()
    rubbish = tmp_path / "__MACOSX" / "public_bpr_model"
    rubbish.mkdir(parents=True)
    (rubbish / SETTINGS).write_bytes(b"")
    assert find_bpr(tmp_path) == folder.resolve()
    assert find_bpr(rubbish.parent.parent / "nowhere") is None


def test_an_incomplete_folder_and_two_of_them_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.pt").rename(folder / "model.ckpt")
    with pytest.raises(ModelError, match=r"model\.pt is missing; get the complete folder"):
        find_bpr(tmp_path)
    write_settings(tmp_path / "another")
    with pytest.raises(ModelError, match="holds 2 body part regressions; name the folder"):
        find_bpr(tmp_path)


# What it must not say.


def table(content: dict[str, Any], name: str = "transformed") -> dict[str, Any]:
    found: dict[str, Any] = content["lookuptable_train_val"][name]
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.pop("slope_mean"), "slope_mean is None, not a number"),
        (lambda c: c.update(slope_mean="0.118"), "slope_mean is '0.118', not a number"),
        (lambda c: c.update(slope_mean=True), "slope_mean is True, not a number"),
        (lambda c: c.update(slope_mean=10**400), "slope_mean is inf, not a number"),
        (lambda c: c.update(slope_mean=float("nan")), "is not valid JSON .NaN is not a JSON number"),
        (lambda c: c.update(slope_mean=float("-inf")), "is not valid JSON .-Infinity is not a JSON number"),
        (lambda c: c.update(slope_mean=-0.1), "slope_mean: the score rises"),
        (lambda c: c.update(slope_mean=0.3), "slope_mean lies between them"),
        (lambda c: c.update(lower_quantile_tangential_slope=None), "lower_quantile_tangential_slope is None"),
        (lambda c: c.pop("lookuptable_train_val"), "has no object 'lookuptable_train_val'"),
        (lambda c: c["lookuptable_train_val"].update(original=[]), "has no object 'original'"),
        (lambda c: table(c).update(Th13={"mean": 46, "std": 2}), "landmark 'Th13' is not known; known are"),
        (lambda c: table(c).update(Th12=44.9), "has no object 'Th12'"),
        (lambda c: table(c)["Th12"].update(std=float("nan")), "is not valid JSON"),
        (lambda c: table(c)["Th12"].update(std=0), "every sd is above 0"),
        (lambda c: table(c)["pelvis_start"].update(mean=2), "pelvis_start is at 0 and eyes_end at 100"),
        (lambda c: table(c, "original").pop("eyes_end"), "original has no eyes_end"),
        (lambda c: table(c, "original")["eyes_end"].update(mean=START_RAW), "the scores that become 0 and 100 differ"),
        (lambda c: c["settings"].update({"start-landmark": "L5"}), "start-landmark is 'L5'; only pelvis_start"),
        (lambda c: c.pop("settings"), "has no object 'settings'"),
    ],
)
def test_settings_that_cannot_be_trusted_are_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    content = settings()
    change(content)
    write_settings(folder, content)
    with pytest.raises(ModelError, match=rf"inference-settings\.json.*{told}") as error:
        read_bpr(folder, ())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not valid JSON"),
        (b"[1, 2]", "does not hold a JSON object"),
        (b"\xff\xfe", "is not valid JSON"),
        (b'{"a": 1, "a": 2}', r"is not valid JSON \(an object has the same name twice"),
        (b'{"a": ' * 100_000, "is not valid JSON"),
        (b" " * (2**20 + 1), "is larger than 1 MiB"),
        (b'{"slope_mean": 1e999}', "has no object"),
    ],
)
def test_anything_but_a_settings_file_is_refused(folder: Path, content: bytes, told: str) -> None:
    (folder / SETTINGS).write_bytes(content)
    with pytest.raises(ModelError, match=rf"inference-settings\.json {told}"):
        read_bpr(folder, ())


def test_another_network_is_refused_by_name(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config() | {"base_model": "resnet"}))
    with pytest.raises(ModelError, match=r"config\.json: base_model is 'resnet'; only vgg"):
        read_bpr(folder, ())
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json cannot be read \(No such file"):
        read_bpr(folder, ())


# The card.


@pytest.mark.usefixtures("background")
def test_the_card_names_maker_and_source_files(folder: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "public"), "zip", folder.parent))
    card = converted(archive, tmp_path / "models")
    assert card.engine is Engine.BODY_PART_REGRESSION
    assert card.bpr is not None
    assert (card.labels, card.graphs[0].file, card.axes) == ((), "model.onnx", ("z:S", "y:P", "x:L"))
    assert (card.manufacturer, card.licence[:10], card.test_model) == ("MIC-DKFZ, Heidelberg", "not stated", False)
    assert "arXiv:2110.09148" in card.citation
    assert [file.file for file in card.bpr.source] == [
        "public.zip",
        *(f"public_bpr_model/{name}" for name in ("model.pt", "config.json", SETTINGS)),
    ]
    assert "https://zenodo.org/record/5113483" in (tmp_path / "models" / "bpr" / "LICENSE").read_text()


def test_background_scores_belong_to_the_published_weights_only(
    folder: Path, tmp_path: Path, background: list[float]
) -> None:
    own = folder.rename(tmp_path / "own")
    card = converted(own, tmp_path / "models")
    assert card.bpr is not None
    assert (card.bpr.background_scores, card.manufacturer) == ((), "not stated")
    background += BACKGROUND
    card = converted(own, tmp_path / "models", replace=True)
    assert card.bpr is not None
    assert (card.bpr.background_scores, card.manufacturer) == (BACKGROUND, "MIC-DKFZ, Heidelberg")


@pytest.mark.usefixtures("background")
def test_the_card_marks_the_stand_in_and_states_what_the_user_says(folder: Path, tmp_path: Path) -> None:
    card = converted(folder, tmp_path / "models", licence="CC-BY-4.0", test_model=True)
    assert (card.licence, card.test_model, card.intended_use[:10]) == ("CC-BY-4.0", True, "Test model")
    assert (tmp_path / "models" / "bpr" / "LICENSE").read_text().startswith("Licence of the weights: CC-BY-4.0\nSchu")
    card = converted(folder.rename(tmp_path / "bpr_standin"), tmp_path / "models", replace=True)
    assert (card.licence, card.manufacturer, card.test_model) == ("AGPL-3.0-or-later", "Orthanc Enrichment", True)


@pytest.mark.usefixtures("background")
@pytest.mark.parametrize(
    "options",
    [{"configurations": ["2d"]}, {"folds": [0]}, {"precision": Precision.FP16}, {"axes": ("z:S", "y:A", "x:L")}],
)
def test_options_of_nnunet_are_refused(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"body part regression; --config, --folds, .* leave them out"):
        convert_model(folder, "bpr", tmp_path / "models", **options)
    assert not (tmp_path / "models").exists()


def test_weights_that_fail_leave_nothing(
    folder: Path, tmp_path: Path, background: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = converted(folder, tmp_path / "models")

    def export(checkpoint: Path, size: int, out: Path) -> tuple[float, ...]:
        out.write_bytes(b"half a graph")
        raise ModelError("model.pt holds os.system, which no checkpoint needs")

    monkeypatch.setattr(convert, "_export_bpr", export)
    with pytest.raises(ModelError, match=r"public_bpr_model: model\.pt holds os\.system"):
        convert_model(folder, "bpr", tmp_path / "models", replace=True)
    with pytest.raises(ModelError, match=r"os\.system"):
        convert_model(folder, "another", tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["bpr"]
    assert read_card(tmp_path / "models" / "bpr") == card


# The record.


def test_the_record_shows_a_licence_that_the_user_must_accept() -> None:
    assert record_of("bpr") is BPR
    assert [file.url for file in BPR.files] == [
        "https://zenodo.org/record/5113483/files/public_bpr_model.zip?download=1"
    ]
    assert "read them at the record" in BPR.licence.terms
    with pytest.raises(ConfigError, match=r"bpr are under a licence that is not stated, .*--accept-licence"):
        require_licence(BPR, accepted=False)
    require_licence(BPR, accepted=True)
