"""A folder that is enriched without a PACS: a test model runs on no patient there either."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.cli import run as once
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.errors import Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom, write_instances
from orthanc_plugin.phantoms.phantom import make_phantom


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """A CT that does not say that it is a phantom."""
    instances = encode_phantom(make_phantom((24, 16, 16), (5, 20, 20)))
    for ds in instances:
        del ds.QualityControlImage
    write_instances(tmp_path / "patient", instances)
    return tmp_path / "patient"


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """The default rule, and a built-in model whose card calls it a test model."""
    models = tmp_path / "models"
    builtin = find_model("chest_structures", None).directory
    shutil.copytree(builtin, models / builtin.name)
    card = json.loads((builtin / "card.json").read_text())
    (models / builtin.name / "card.json").write_text(json.dumps(card | {"test_model": True}))
    section = {"ModelsDirectory": str(models), "StateDirectory": str(tmp_path / "state")}
    return parse_section(section, {})


def test_a_patient_is_skipped_with_the_reason(patient: Path, configuration: Configuration, tmp_path: Path) -> None:
    (outcome,) = once.enrich_folder(patient, tmp_path / "out", configuration, Console(quiet=True))
    assert (outcome.state, outcome.reason) == (JobState.SKIPPED, Refusal.TEST_MODEL)
    assert "chest_structures" in outcome.detail
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_rules_test_names_the_guard(patient: Path, configuration: Configuration) -> None:
    (verdict,) = once.check_rules(patient, configuration)
    assert verdict.takes == ""
    assert [failure.criterion for failure in verdict.rules[0].failures] == ["QualityControlImage"]
