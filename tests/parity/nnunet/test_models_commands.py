"""Weights that the frameworks' trainers wrote go through `models install` from download or zip to a verified model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthanc_plugin.catalog import records
from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.catalog.records import SEGTHOR, RemoteFile
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.catalog.totalsegmentator import TASKS, Dataset
from orthanc_plugin.cli import main as cli
from tests.parity.nnunet import peers
from tests.parity.nnunet.fixtures import FULLRES, Model
from tests.support.servers.file_server import FileServer, serving

TOTAL = TASKS["total"]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Peer]:
    peer = peers.Peer(tmp_path_factory.mktemp("peer"))
    yield peer
    peer.close()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENRICHMENT__MODELS_DIRECTORY", str(tmp_path / "models"))
    return tmp_path / "models"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    code = cli.main(["models", *words, "--json"])
    output = capsys.readouterr()
    assert code == cli.EXIT_DONE, output.out
    answer: dict[str, object] = json.loads(output.out)
    return answer


def test_segthor_is_downloaded_converted_verified_and_removed(
    peer: peers.Peer, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A v1 zip of small networks takes the place of the published one; the line drops once."""
    folder = peer.call(peers.write_model, Model(Framework.V1, (FULLRES,), folds=2), tmp_path / "v1")
    zipped = Path(shutil.make_archive(str(tmp_path / "Task055_SegTHOR"), "zip", folder))
    with serving(FileServer(zipped.read_bytes(), drops=[1000])) as server:
        record = replace(SEGTHOR, files=(RemoteFile(zipped.name, server.url),))
        monkeypatch.setattr(records, "SEGTHOR", record)
        installed = run(capsys, "install", "segthor", "--accept-licence")
    card = find_model("segthor", models)
    assert card.digest == installed["digest"]
    assert [label.key for label in card.labels] == ["esophagus", "heart", "trachea", "aorta"]
    assert len(card.graphs) == 2
    assert "CC BY-NC 4.0" in card.licence
    assert run(capsys, "verify", "segthor") == {"verified": {"segthor": card.digest}}
    assert run(capsys, "show", "segthor")["digest"] == card.digest
    assert cli.main(["models", "show", "segthor"]) == cli.EXIT_DONE
    assert "3d_fullres of nnunet-v1, 4.6 x 3.7 x 3.5 mm, patch 32x48x40" in capsys.readouterr().out
    assert run(capsys, "remove", "segthor") == {"removed": "segthor"}


def test_the_five_parts_of_total_become_one_model(
    peer: peers.Peer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [zip_of_part(peer, dataset, tmp_path) for dataset in reversed(TOTAL.datasets)]
    run(capsys, "install", "totalsegmentator:total", *(word for file in files for word in ("--file", str(file))))
    card = find_model("totalsegmentator_total", models)
    assert card.nnunet is not None
    assert [part.numbers for part in card.nnunet.parts] == [TOTAL.numbers(dataset) for dataset in TOTAL.datasets]
    assert [label.key for label in card.labels] == [name.lower() for name in TOTAL.classes]
    assert card.nnunet.frame is not None
    assert card.nnunet.frame.spacing_mm == 1.5
    assert {one.tile_step for part in card.nnunet.parts for one in part.configurations} == {0.8}
    assert len(json.loads((models / ".records.json").read_text())) == 5
    assert run(capsys, "verify", card.name) == {"verified": {card.name: card.digest}}


def zip_of_part(peer: peers.Peer, dataset: Dataset, folder: Path) -> Path:
    """The release zip of one data set, its network small."""
    small = replace(FULLRES, features=2)
    model = Model(Framework.V2, (small,), mirroring=False, organs=dataset.classes, task=dataset.folder)
    root = folder / dataset.folder
    peer.call(peers.write_model, model, root)
    return Path(shutil.make_archive(str(folder / dataset.folder), "zip", root))
