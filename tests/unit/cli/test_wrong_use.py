"""Words on the command line that cannot be right, and half-done work of an earlier command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli import setup as setup_command
from orthanc_plugin.cli.desk import EXIT_FAILED, EXIT_USAGE
from orthanc_plugin.cli.setup import RECORD
from orthanc_plugin.cli.setup_plan import FILE
from tests.support.servers.front_door import front_door

DEBIAN = Path("/etc/orthanc")


@pytest.mark.parametrize("number", ["-1", "1.5", "x", "", "²", "1" * 20])
@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "list", "--limit"),
        ("jobs", "list", "--offset"),
        ("jobs", "deliveries", "--limit"),
        ("series", "list", "--limit"),
        ("worker", "--slot"),
    ],
)
def test_a_number_that_cannot_be_is_wrong_use(
    words: tuple[str, ...], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([*words[:-1], f"{words[-1]}={number}"])
    assert raised.value.code == EXIT_USAGE
    assert "must be a number from 0 to 999999999" in capsys.readouterr().err


def test_series_that_cannot_be_named_so_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with front_door(tmp_path) as door:
        door.queue.settle()
        settings = tmp_path / "orthanc.json"
        settings.write_text(json.dumps({"Enrichment": {"StateDirectory": str(tmp_path)}}))
        assert cli.main(["series", "act", "--config", str(settings), "retry", "x" * 200]) == EXIT_FAILED
    assert "series.0: must have at most 128 characters" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_file_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "orthanc.json"
    settings.write_text(json.dumps({"Enrichment": {"StateDirectory": "/proc/none"}}))
    assert cli.main(["worker", "--config", str(settings)]) == EXIT_FAILED
    assert "error: /proc/none: No such file or directory" in capsys.readouterr().err


@pytest.mark.skipif(not DEBIAN.is_dir() and "CI" not in os.environ, reason="Debian's package orthanc is not installed")
@pytest.mark.parametrize("written", [1])
def test_a_setup_that_ended_halfway_is_taken_back_or_goes_on(
    tmp_path: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(DEBIAN, tmp_path / "orthanc", ignore=shutil.ignore_patterns(FILE, RECORD)))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    me = "root" if os.geteuid() == 0 else os.environ["USER"]
    words = ["setup", "--config", str(folder), "--user", me, "--state-directory", str(tmp_path / "state")]
    write, files = setup_command._write, list[Path]()

    def write_some(file: Path, text: str, group: str, mode: int = 0o640) -> None:
        if file.name != "record.json":
            files.append(file)
            if len(files) > written:
                raise OSError(28, "No space left on device", str(file))
        write(file, text, group, mode)

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    with monkeypatch.context() as patched:
        patched.setattr(setup_command, "_write", write_some)
        assert cli.main(words) == EXIT_FAILED
    assert cli.main([*words, "--undo"]) == 0
    assert contents() == before
    files.clear()
    with monkeypatch.context() as patched:
        patched.setattr(setup_command, "_write", write_some)
        assert cli.main(words) == EXIT_FAILED
    assert cli.main(words) == 0
    assert cli.main([*words, "--undo"]) == 0
    assert contents() == before
