"""Quality of the input: each check tells its fault in a phantom, and a clean phantom passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.domain.input_quality import InputCheck, InputLimits
from orthanc_plugin.domain.plan import Output, Plan, PlannedModel
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.pipeline.scan import refuse_unfit
from orthanc_plugin.quality.picture import middle_slice_png
from orthanc_plugin.quality.scan import jumps, measure_scan, metal, noise, repeated, truncation
from orthanc_plugin.series.read import read_series

PHANTOM = make_phantom((40, 96, 96))
VOLUME = PHANTOM.volume


def test_clean_phantom_fails_nothing() -> None:
    figures = measure_scan(read_series(encode_phantom(PHANTOM)), InputLimits())
    assert [figure.note for figure in figures if figure.passed is False] == []
    assert {figure.check for figure in figures} == {*InputCheck} - {InputCheck.CONTRAST, InputCheck.BODY_PART}


def test_every_fault_is_told() -> None:
    voxels = VOLUME.voxels_hu.copy()
    voxels[11] = voxels[10]
    voxels[20:24, 48, 48] = 3071
    voxels[30:] = np.roll(voxels[30:], 10, axis=2)
    faulty = replace(VOLUME, voxels_hu=voxels)
    assert repeated(faulty).value == 1
    assert metal(faulty, 0.02).value == pytest.approx(0.1)
    assert jumps(faulty).passed is False
    cut = replace(VOLUME, voxels_hu=np.ascontiguousarray(VOLUME.voxels_hu[:, :, 20:]))
    assert truncation(cut, 0.02).passed is False
    random = np.random.default_rng(0).standard_normal(VOLUME.voxels_hu.shape, np.float32)
    noisy = replace(VOLUME, voxels_hu=VOLUME.voxels_hu + 100 * random)
    assert noise(noisy, 50.0)[0].passed is False


def test_a_rule_refuses_for_a_named_check_only() -> None:
    figure = truncation(replace(VOLUME, voxels_hu=np.ascontiguousarray(VOLUME.voxels_hu[:, :, 20:])), 0.02)
    assert refuse_unfit((figure,), InputLimits()) == (figure,)
    with pytest.raises(InputError) as refused:
        refuse_unfit((figure,), InputLimits(refuse=(InputCheck.TRUNCATED,)))
    assert refused.value.reason is Refusal.INPUT_QUALITY


def test_default_limits_change_no_plan_digest() -> None:
    plan = Plan("r", (PlannedModel("m", "d"),), (Output.SEG,), "local")
    assert Plan.from_json(plan.to_json()) == plan
    assert replace(plan, input_limits=InputLimits(max_noise_hu=9.0)).digest != plan.digest


def test_picture_is_a_png() -> None:
    assert middle_slice_png(VOLUME).startswith(b"\x89PNG")
