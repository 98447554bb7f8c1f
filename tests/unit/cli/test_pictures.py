"""The command that draws: the plane that was asked for, with and without outlines, and refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED
from orthanc_plugin.jobs import scans
from tests.support.cases.shown_job import ShownJob, shown_job


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShownJob]:
    with shown_job(tmp_path_factory.mktemp("state")) as shown:
        yield shown


def test_a_plane_is_that_of_the_page(
    shown: ShownJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Path(str(shown.queue.ledger.engine.url.database))
    monkeypatch.setenv("ENRICHMENT__STATE_DIRECTORY", str(database.parent))
    monkeypatch.setenv("ENRICHMENT__ARCHIVES__LOCAL__URL", "http://127.0.0.1:1/dicom-web")
    made = scans.Scans.__init__
    monkeypatch.setattr(
        scans.Scans,
        "__init__",
        lambda self, queue, archives: made(self, queue, archives, shown.scans._opened, shown.scans._load),
    )
    out = tmp_path / "plane.png"
    for options, address in (
        (["--slice", "6"], "axial/5.png"),
        (["--plane", "coronal", "--slice", "17", "--window", "lung", "--no-outlines"],
         "coronal/16.png?window=lung&outlines=no"),
    ):  # fmt: skip
        assert cli.main(["jobs", "picture", shown.id, "--out", str(out), *options]) == EXIT_DONE
        assert out.read_bytes() == shown.client.get(f"{shown.api}/slices/{address}").content
    for wrong in (["--slice", "99"], ["--window", "x"]):
        assert cli.main(["jobs", "picture", shown.id, "--out", str(out), *wrong]) == EXIT_FAILED
        assert "the scan has no axial plane" in capsys.readouterr().err
