"""A zip in the public layout goes through `models install bpr` to a verified model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.cli import main as cli
from tests.parity.bpr.public_folder import random_weights, write_public_folder

SMALL = ((4, 5), (6, 7), (8, 9, 8), (9, 10, 11), (12, 11, 10))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENRICHMENT__MODELS_DIRECTORY", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    write_public_folder(tmp_path / "source" / "public_bpr_model", random_weights(3, SMALL))
    return Path(shutil.make_archive(str(tmp_path / "by hand"), "zip", tmp_path / "source"))


def test_a_zip_got_by_hand_is_installed_once_its_terms_are_accepted(
    zipped: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models", "install", "bpr", "--file", str(zipped)]
    assert cli.main(words) != cli.EXIT_DONE
    refused = capsys.readouterr()
    assert "read them at the record" in refused.out + refused.err
    assert "--accept-licence" in refused.out + refused.err
    assert not models.exists()
    assert cli.main([*words, "--accept-licence", "--json"]) == cli.EXIT_DONE
    made = json.loads(capsys.readouterr().out)
    card = find_model("bpr", models)
    assert (made["installed"], made["digest"], card.manufacturer) == ("bpr", card.digest, "MIC-DKFZ, Heidelberg")
    assert card.bpr is not None
    assert [file.file for file in card.bpr.source][:2] == ["by hand.zip", "public_bpr_model/model.pt"]
    assert cli.main(["models", "verify", "bpr"]) == cli.EXIT_DONE
    assert "public_bpr_model.zip" in json.loads((models / ".records.json").read_text())


def test_options_of_nnunet_are_refused(zipped: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "convert", str(zipped), "--name", "bpr", "--config", "2d"]) != cli.EXIT_DONE
    output = capsys.readouterr()
    assert "this is a body part regression" in output.out + output.err
    assert not list(models.glob("*"))
