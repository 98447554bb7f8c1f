"""`models try` runs a model on a folder and writes a picture, and fails with a sentence where nothing can be drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.cli.main import main
from orthanc_plugin.phantoms.dicom import encode_phantom, write_instances
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.volume_case import installed, network


def tried(folder: Path, capsys: pytest.CaptureFixture[str], above_hu: float) -> tuple[int, list[dict[str, object]]]:
    """Try a network that labels all above a threshold."""
    write_instances(folder / "ct", encode_phantom(make_phantom((24, 64, 64))))
    proto = network([np.array([0.0, 1.0]).reshape(2, 1, 1, 1, 1)], ("d", "h", "w"))
    how = {"scheme": "zscore", "low_hu": -1024.0, "high_hu": 3071.0, "mean": above_hu, "sd": 1.0}
    card = installed(folder, proto, {"1": "liver"}, numbers=[0, 1], intensity=how)
    wanted = ["models", "try", card.name, str(folder / "ct"), "--models", str(card.directory.parent)]
    code = main([*wanted, "--out", str(folder / "pictures"), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_picture_shows_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, [found] = tried(tmp_path, capsys, above_hu=300.0)
    assert code == 0
    assert Path(str(found["picture"])).read_bytes().startswith(b"\x89PNG")
    assert found["volumes_ml"]["liver"] > 100  # type: ignore[index]


def test_nothing_found_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, [found] = tried(tmp_path, capsys, above_hu=3000.0)
    assert (code, found["picture"], found["volumes_ml"]) == (1, "", {})


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "try", "chest_structures", str(tmp_path / "none")]) == 78
    assert "is not a folder" in capsys.readouterr().err
