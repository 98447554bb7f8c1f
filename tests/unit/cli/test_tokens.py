"""`orthanc-enrich tokens`: make, list and revoke tokens of the API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orthanc_plugin.cli.main import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, main
from orthanc_plugin.jobs.database import open_engine
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.tokens import Tokens


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    file = tmp_path / "orthanc.json"
    JobQueue(f"sqlite:///{tmp_path}/state/jobs.db").close()
    archives = {"local": {"Url": "http://127.0.0.1:9/dicom-web"}}
    file.write_text(json.dumps({"Enrichment": {"StateDirectory": str(tmp_path / "state"), "Archives": archives}}))
    return ["--config", str(file)]


def test_made_listed_and_revoked(settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create = ["tokens", "create", "report", "--right", "view", "--right", "export", "--days", "3", *settings]
    assert main([*create, "--json"]) == EXIT_DONE
    made = json.loads(capsys.readouterr().out)
    found = Tokens(open_engine(f"sqlite:///{tmp_path}/state/jobs.db")).find(made["token"])
    assert found is not None
    assert (found.name, found.rights) == ("report", ("export", "view"))
    assert main(["tokens", "list", *settings]) == EXIT_DONE
    listed = capsys.readouterr().out
    assert f"{made['id']}  report: export, view (until " in listed
    assert made["token"] not in listed
    assert main(["tokens", "revoke", made["id"], *settings]) == EXIT_DONE
    assert Tokens(open_engine(f"sqlite:///{tmp_path}/state/jobs.db")).find(made["token"]) is None
    assert main(["tokens", "revoke", made["id"], *settings]) == EXIT_FAILED
    capsys.readouterr()
    assert main(["tokens", "list", "--json", *settings]) == EXIT_DONE
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["valid"], row["name"]) == (False, "report")


@pytest.mark.parametrize(
    "wrong", [["x"], ["x", "--right", "everything"], ["", "--right", "view"], ["x", "--right", "view", "--days", "-1"]]
)
def test_a_token_without_name_or_rights_is_refused(settings: list[str], wrong: list[str]) -> None:
    assert main(["tokens", "create", *wrong, *settings]) == EXIT_CONFIG


@pytest.mark.parametrize("days", ["-1", "99999999999"])
def test_a_wrong_number_of_days_is_named(settings: list[str], days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "create", "x", "--right", "view", "--days", days, *settings]) == EXIT_CONFIG
    assert f"--days {days}: a token is valid for 1 to" in " ".join(capsys.readouterr().err.split())
