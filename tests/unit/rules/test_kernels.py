"""Kernels of the large vendors as series write them, told soft from sharp; what nobody knows stands between."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orthanc_plugin.rules.kernels import KERNELS, Sharpness, sharpness_of


@pytest.mark.parametrize(
    "kernel",
    ["B10f", "B20s", "B30f", "b31s", "B40f", "B41f", "B45f", "Br36", "Br40d\\3", "Br44f", "Bv40", "Bf37f", "Hr38",
     "H30s", "I30f\\2", "I41s\\3", "J40s", "Qr40d", "D30f",
     "STANDARD", "Standard", "STND+", "SOFT", "HD STND", "CHST",
     "A", "B", "UA", "UB", "CB", "XCA",
     "FC01", "FC03", "FC08", "FC13", "FC17", "FC18-H"],
)  # fmt: skip
def test_soft_kernels(kernel: str) -> None:
    assert sharpness_of([kernel]) is Sharpness.SOFT


@pytest.mark.parametrize(
    "kernel",
    ["B50f", "B60f", "B70f", "B80s", "Br59d\\3", "Br64", "Bl57", "Bl64d", "I70f\\3", "Hr60", "U90u", "Ur77",
     "LUNG", "Lung", "BONE", "BONEPLUS", "BONE PLUS", "EDGE", "ULTRA", "HD LUNG",
     "D", "L", "YA", "YC", "CD", "XCD",
     "FC30", "FC35", "FC50", "FC51", "FC56", "FC81", "FC86"],
)  # fmt: skip
def test_sharp_kernels(kernel: str) -> None:
    assert sharpness_of([kernel]) is Sharpness.SHARP


@pytest.mark.parametrize("kernel", ["", "B46f", "Br49", "DETAIL", "C", "XCC", "FC05", "FC43", "T80", "OTHER", "3"])
def test_kernels_between_or_unknown(kernel: str) -> None:
    assert sharpness_of([kernel]) is Sharpness.UNKNOWN


def test_a_series_without_a_kernel_is_unknown_and_one_with_two_is_as_sharp_as_its_sharpest() -> None:
    assert sharpness_of([]) is Sharpness.UNKNOWN
    assert sharpness_of(["B30f", "B70f"]) is Sharpness.SHARP
    assert sharpness_of(["B30f", "other"]) is Sharpness.UNKNOWN


def test_documentation_names_each_vendor_and_only_kernels_of_the_kind_that_it_says() -> None:
    text = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
    section = text.partition("#### Kernels")[2].partition("###")[0]
    rows = re.findall(r"^\| (\w+[^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)[1:]
    assert {vendor.partition(":")[0].partition(", also")[0] for vendor, *_ in rows} == {name for name, *_ in KERNELS}
    for _, soft, sharp, unknown in rows:
        for cell, kind in ((soft, Sharpness.SOFT), (sharp, Sharpness.SHARP), (unknown, Sharpness.UNKNOWN)):
            kernels = re.findall(r"`([^`]+)`", cell)
            assert kernels
            assert {kernel: sharpness_of([kernel]) for kernel in kernels} == dict.fromkeys(kernels, kind)
