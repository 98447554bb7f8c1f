"""Postprocessing of v1: the largest component stays."""

from __future__ import annotations

import numpy as np

from orthanc_plugin.catalog.nnunet import LargestComponent
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.inference.nnunet.postprocess import keep_largest


def labels(*rows: str) -> Labels:
    """One slice; a blank is background."""
    return np.array([[[int(c) if c != " " else 0 for c in row] for row in rows]], np.uint8)


def kept(before: Labels, *rules: LargestComponent, voxel_mm3: float = 1.0) -> Labels:
    after = before.copy()
    keep_largest(after, rules, voxel_mm3)
    return after


def test_only_the_largest_component_of_a_label_stays() -> None:
    before = labels("111  22 1", "         ", "2 11  222")
    after = labels("111  22  ", "         ", "2     222")
    np.testing.assert_array_equal(kept(before, LargestComponent((1,))), after)


def test_labels_together_are_one_component() -> None:
    before = labels("1222  11 ", "        2")
    np.testing.assert_array_equal(kept(before, LargestComponent((1, 2))), labels("1222     ", "         "))


def test_corners_do_not_connect() -> None:
    np.testing.assert_array_equal(kept(labels("11 ", "  1"), LargestComponent((1,))), labels("11 ", "   "))


def test_equal_maxima_all_stay() -> None:
    before = labels("11  11 1")
    np.testing.assert_array_equal(kept(before, LargestComponent((1,))), labels("11  11  "))


def test_components_of_the_least_size_stay() -> None:
    before = labels("111 11 1")
    rule = LargestComponent((1,), smaller_than_mm3=4.0)
    np.testing.assert_array_equal(kept(before, rule, voxel_mm3=2.0), labels("111 11  "))


def test_rules_follow_each_other() -> None:
    before = labels("12  2222 1")
    rules = (LargestComponent((1,)), LargestComponent((2,)))
    np.testing.assert_array_equal(kept(before, *rules), labels("1   2222 1"))


def test_nothing_to_do_does_nothing() -> None:
    before = labels("2 2")
    np.testing.assert_array_equal(kept(before, LargestComponent((1,))), before)
