"""Start-up checks: a missing part stops the start, and the message names it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.service.app import front_archive
from orthanc_plugin.service.readiness import check_readiness


def configured(**section: object) -> Configuration:
    return parse_section({"StateDirectory": "/state", "Provider": "cpu", **section}, {})


def archive(number: int, orthanc: bool) -> dict[str, str]:
    url = f"http://127.0.0.1:{number}"
    return {"Url": f"{url}/dicom-web"} | ({"OrthancUrl": url} if orthanc else {})


def test_default_configuration_is_ready() -> None:
    readiness = check_readiness(configured())
    assert [card.name for card in readiness.models] == ["chest_structures", "head_neck_oar"]
    assert readiness.provider is Provider.CPU


def test_model_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="no_such_model"):
        check_readiness(configured(Rules=[{"Name": "wrong", "Models": ["no_such_model"]}]))


def test_models_directory_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        check_readiness(configured(ModelsDirectory=str(tmp_path / "absent")))


def test_radiomics_is_needed_only_where_a_rule_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pyradiomics is not installed"):
        check_readiness(configured())
    assert check_readiness(configured(Rules=[{"Name": "plain", "Radiomics": False}])).models


def test_login_is_asked_of_the_local_orthanc_or_the_first() -> None:
    both = {"other": archive(1, True), "local": archive(2, True)}
    assert front_archive(configured(Archives=both)).orthanc_url == "http://127.0.0.1:2"
    first = {"vendor": archive(1, False), "here": archive(2, True), "there": archive(3, True)}
    assert front_archive(configured(Archives=first)).orthanc_url == "http://127.0.0.1:2"
    with pytest.raises(ConfigError, match="OrthancUrl"):
        front_archive(configured(Archives={"vendor": archive(1, False)}))
