"""What the tables call a patient: a pseudonym by default, never the PatientID unless somebody asks for it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.jobs.pseudonym import KEY_FILE, patient_column, pseudonym

KEY = "sixteen or more characters"


def configured(state: Path, **tables: str) -> Configuration:
    section = {"Archives": {"local": {"Url": "http://pacs"}}, "StateDirectory": str(state), "Tables": tables}
    return parse_section(section, {})


def test_by_default_a_patient_has_a_pseudonym_that_stays(tmp_path: Path) -> None:
    first, second = (patient_column(configured(tmp_path)) for _ in range(2))
    assert first("P1") == second("P1") != first("P2")
    assert "P1" not in first("P1")
    assert len(first("P1")) == 16
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]


def test_two_installations_give_other_pseudonyms_unless_they_share_a_key(tmp_path: Path) -> None:
    states = [tmp_path / name for name in ("one", "two")]
    for state in states:
        state.mkdir()
    own = {patient_column(configured(state))("P1") for state in states}
    shared = {patient_column(configured(state, Key=KEY))("P1") for state in states}
    assert len(own) == 2
    assert shared == {pseudonym(KEY.encode(), "P1")}


def test_padding_of_a_patient_id_makes_no_other_patient() -> None:
    assert pseudonym(KEY.encode(), "P1 ") == pseudonym(KEY.encode(), "P1")


def test_patient_id_only_for_those_who_ask(tmp_path: Path) -> None:
    assert patient_column(configured(tmp_path, Patient="id"))("P1") == "P1"
    assert patient_column(configured(tmp_path, Patient="none"))("P1") == ""
    assert list(tmp_path.iterdir()) == []


def test_without_a_key_or_a_place_for_one_there_is_no_pseudonym(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert patient_column(configured(absent))("P1") == ""
    assert not absent.exists()
    assert patient_column(configured(absent, Key=KEY))("P1") == pseudonym(KEY.encode(), "P1")


def test_nobody_has_no_pseudonym(tmp_path: Path) -> None:
    assert patient_column(configured(tmp_path, Key=KEY))("") == ""


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Tables.*Key needs 16 characters or more"):
        configured(tmp_path, Key="short")
