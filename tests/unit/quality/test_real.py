"""The built-in model on a real chest and on the phantom: correct structures pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.quality.agreement import check_agreement
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.series.read import read_series
from tests.support.cases.realct import real_ct


def cip_ct64() -> Volume:
    return read_series(pydicom.dcmread(path) for path in sorted(real_ct("cip_ct64/dicom").iterdir())).volume


def phantom() -> Volume:
    return make_phantom((56, 96, 96)).volume


@pytest.mark.parametrize("volume", [pytest.param(cip_ct64, marks=pytest.mark.real_ct), phantom])
def test_lungs_of_the_built_in_model_pass_every_check_and_mirrored_ones_do_not(volume: Callable[[], Volume]) -> None:
    ct, engine = volume(), open_engine(find_model("chest_structures", None), Provider.CPU)
    found = engine.segment(ct)
    results = {(result.key, result.check): result for result in check_masks(ct, found, engine.card)}
    whole = (Check.COMPLETE, Check.ONE_PIECE, Check.SIDE, Check.VOLUME, Check.INSIDE_BODY)
    asked = (*whole, Check.PARTNER, Check.GAS, Check.IN_IMAGE, Check.CLOSED)
    assert all(results[key, check].passed for key in ("lung_left", "lung_right") for check in asked)
    assert not results["airway", Check.COMPLETE].passed  # the scan ends in the neck, or below
    assert set(results) == {(key, check) for key in ("lung_left", "lung_right") for check in asked} | {
        ("airway", Check.COMPLETE),
        ("airway", Check.ONE_PIECE),
        ("airway", Check.UPRIGHT),
        ("bone", Check.CONTRAST),
    }
    assert results["airway", Check.UPRIGHT].passed
    assert results["bone", Check.CONTRAST].passed
    lungs = np.array([0, 1, 3, 2, 4, 5], np.uint8)  # left for right
    mirrored = replace(found, labels=lungs[found.labels])
    sides = [result for result in check_masks(ct, mirrored, engine.card) if result.check is Check.SIDE]
    assert [result.passed for result in sides] == [False, False]
    agreement = check_agreement([(engine.card, found), (replace(engine.card, name="mirrored"), mirrored)])
    assert {result.key for result in agreement if not result.passed} == {"lung_left", "lung_right"}
