"""Curves of scores made by hand, with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.inference.bpr.scores import body_curve, peer_curve, transformed
from tests.support.cases.bpr_case import SLOPE, bpr_model

MODEL = bpr_model()
Z = np.arange(0, 600, 3.0) - 200


def test_start_and_end_landmark_become_0_and_100() -> None:
    np.testing.assert_allclose(
        transformed(np.array([-2.0, 0.5, 3.0]), bpr_model(start_raw=-2, end_raw=3)), [0, 50, 100]
    )


def test_a_straight_curve_stays_straight_up_to_its_ends() -> None:
    curve = body_curve(20 + SLOPE * Z, Z, MODEL)
    np.testing.assert_allclose(curve.cleaned, 20 + SLOPE * Z, atol=1e-9)
    assert curve.ratio == pytest.approx(1)
    assert curve.expected_spacing_mm == pytest.approx(3)
    assert curve.valid_spacing
    assert not curve.reversed


def test_the_original_bends_it_at_the_ends_only() -> None:
    line = 20 + SLOPE * Z
    smooth = peer_curve(line, 3.0, MODEL).cleaned
    np.testing.assert_allclose(smooth[14:-14], line[14:-14], atol=1e-3)
    assert smooth[0] - line[0] > 0.7


def test_noise_is_smoothed_by_10_mm() -> None:
    noise = np.random.default_rng(0).normal(size=len(Z))
    curve = body_curve(20 + SLOPE * Z + noise, Z, MODEL)
    expected = np.sqrt(3.0 / (2 * np.sqrt(np.pi) * 10))  # of a Gaussian of 10 mm on steps of 3 mm
    assert np.std((curve.cleaned - 20 - SLOPE * Z)[15:-15]) == pytest.approx(expected, rel=0.25)


def test_a_gap_separates_what_the_original_packs_together() -> None:
    scores = 20 + SLOPE * Z
    scores[80:120] = np.nan
    np.testing.assert_allclose(body_curve(scores, Z, MODEL).cleaned, scores, atol=1e-9)
    packed = np.where(np.isnan(scores), 6.14, scores)
    assert np.nanmax(np.abs(peer_curve(packed, 3.0, MODEL).cleaned - scores)[70:130]) > 3


def test_background_scores_of_the_weights_are_dropped_by_the_original() -> None:
    scores = 20 + SLOPE * Z
    scores[[0, 1, -1]] = 110.8312, 6.1449, 108.92
    cleaned = peer_curve(scores, 3.0, MODEL).cleaned
    assert np.flatnonzero(np.isnan(cleaned)).tolist() == [0, 1, len(Z) - 1]


@pytest.mark.parametrize("make", [lambda s: peer_curve(s, 5.0, MODEL), lambda s: body_curve(s, 5.0 * MM, MODEL)])
def test_tails_beyond_the_scale_are_cut_at_their_outliers(make) -> None:  # type: ignore[no-untyped-def]
    curve = make(TAILED)
    kept = curve.valid
    assert 0 < kept[0] <= 24
    assert 180 < kept[-1] <= 195
    assert (np.diff(kept) == 1).all()


MM = np.arange(230.0)
TAILED = np.concatenate([np.linspace(60, 0, 20), np.arange(0, 100, SLOPE * 5), np.linspace(100, 160, 20)])
TAILED = np.concatenate([TAILED, np.full(230 - len(TAILED), 160.0)])
"""Falls below the pelvis, rises as people do, shoots up above the head."""


def test_a_falling_curve_is_a_rising_one_seen_from_the_other_side() -> None:
    up, down = body_curve(TAILED, 5 * MM, MODEL), body_curve(TAILED[::-1].copy(), 5 * MM, MODEL)
    np.testing.assert_allclose(down.cleaned[::-1], up.cleaned, atol=1e-9)
    assert down.reversed
    assert down.slope_per_mm == pytest.approx(-up.slope_per_mm)


@pytest.mark.parametrize(("factor", "valid"), [(0.70, False), (0.75, True), (1.25, True), (1.30, False)])
def test_spacing_is_valid_within_28_percent(factor: float, valid: bool) -> None:
    curve = body_curve(20 + factor * SLOPE * Z, Z, MODEL)
    assert curve.valid_spacing is valid
    assert curve.expected_spacing_mm == pytest.approx(3 * factor)
    assert body_curve(20 + factor * SLOPE * Z, Z, replace(MODEL, ratio_tolerance=0.4)).valid_spacing


@pytest.mark.parametrize("scores", [[], [np.nan] * 5, [50.0], [np.nan, 50.0]])
def test_too_little_gives_no_line(scores: list[float]) -> None:
    curve = body_curve(np.array(scores), 3.0 * np.arange(len(scores)), MODEL)
    assert np.isnan(curve.slope_per_mm)
    assert not curve.valid_spacing
    assert not curve.reversed
