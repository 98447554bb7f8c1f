"""The tests of phase 1 of IBSI 2 (1.a.1 to 10.b.2): phantom, filter, and the same filter in MIRP's words.

Phantoms are made by formula, in the grid of IBSI's digital phantoms (64 voxels of 2 mm along each axis). Source of the
configurations: IBSI 2 reference manual (arXiv:2006.05470), phase 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIZE, STEP_MM = 64, 2.0
SPACING_MM = (STEP_MM, STEP_MM, STEP_MM)
TOLERANCE = 0.01
"""IBSI's tolerance of a response map: a share of its range."""
STEER = "steer=1"
"""The window of the structure tensor is 1 mm wide. MIRP 2.7.0 reads such a setting and does not steer."""


@dataclass(frozen=True, slots=True)
class ResponseMap:
    """One response map. chosen: the filter, as in a rule. mirp: MIRP's settings; empty: it has no such filter.

    theirs: IBSI's phantom, where it has another than `phantom`.
    """

    id: str
    phantom: str
    chosen: str
    mirp: dict[str, Any] = field(default_factory=dict)
    theirs: str = ""


def phantoms() -> dict[str, Floats]:
    """Make the digital phantoms, with intensities from 0 to 255, and noise that has no symmetry."""
    z, y, x = np.mgrid[:SIZE, :SIZE, :SIZE]
    impulse = np.zeros((SIZE, SIZE, SIZE))
    impulse[(SIZE // 2 - 1,) * 3] = 255
    return {
        "checkerboard": 255.0 * ((z // 8 + y // 8 + x // 8) % 2),
        "impulse": impulse,
        "sphere": 255.0 * ((z - 31.5) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2 <= 20.0**2),
        "noise": np.random.default_rng(2).normal(48, 16, (SIZE, SIZE, SIZE)),
    }


_MODES = {"zero": "constant", "nearest": "nearest", "periodic": "wrap", "mirror": "reflect"}
"""MIRP's names of boundaries, which are scipy's."""


def _mean(number: str, phantom: str, boundary: str, flat: bool = False) -> ResponseMap:
    reach = " reach=slice" if flat else ""
    mirp = {"filter_kernels": "mean", "mean_filter_kernel_size": 15, "by_slice": flat}
    mirp["mean_filter_boundary_condition"] = _MODES[boundary]
    return ResponseMap(number, phantom, f"mean size=15{reach} boundary={boundary}", mirp)


def _log(number: str, phantom: str, sigma_mm: float, boundary: str, flat: bool = False, riesz: str = "") -> ResponseMap:
    extra = (" reach=slice" if flat else "") + (f" riesz={riesz}" if riesz else "")
    mirp: dict[str, Any] = {
        "filter_kernels": "riesz_laplacian_of_gaussian" if riesz else "laplacian_of_gaussian",
        "laplacian_of_gaussian_sigma": sigma_mm / STEP_MM,
        "laplacian_of_gaussian_kernel_truncate": 4.0,
        "laplacian_of_gaussian_boundary_condition": _MODES[boundary],
        "by_slice": flat,
    } | _riesz(riesz)
    return ResponseMap(number, phantom, f"log sigma={sigma_mm:g}{extra} boundary={boundary}", mirp)


def _laws(number: str, phantom: str, kernels: str, boundary: str, pooled: bool, energy: int) -> ResponseMap:
    chosen = f"laws kernels={kernels}{' pooling=max' * pooled}{f' energy={energy}' if energy else ''}"
    mirp = {
        "filter_kernels": "laws",
        "laws_kernel": kernels,
        "laws_rotation_invariance": pooled,
        "laws_pooling_method": "max",
        "laws_compute_energy": bool(energy),
        "laws_delta": 7,
        "laws_boundary_condition": _MODES[boundary],
        "by_slice": len(kernels) == 4,
    }
    return ResponseMap(number, phantom, f"{chosen} boundary={boundary}", mirp)


def _gabor(
    number: str, phantom: str, boundary: str, sizes: tuple[float, float, float], turn: str, angle: float
) -> ResponseMap:
    sigma, wavelength, gamma = sizes
    pooled = turn == "step"
    chosen = f"gabor sigma={sigma:g} wavelength={wavelength:g} gamma={gamma:g} {turn}={angle:g}"
    mirp: dict[str, Any] = {
        "filter_kernels": "gabor",
        "gabor_sigma": sigma / STEP_MM,
        "gabor_lambda": wavelength / STEP_MM,
        "gabor_gamma": gamma,
        "gabor_theta": 0.0 if pooled else angle,
        "gabor_theta_step": angle if pooled else None,
        "gabor_rotation_invariance": pooled,
        "gabor_pooling_method": "mean",
        "gabor_boundary_condition": _MODES[boundary],
    }
    return ResponseMap(number, phantom, f"{chosen}{' reach=volume' * pooled} boundary={boundary}", mirp)


def _wavelet(
    number: str, phantom: str, boundary: str, family: str, kernels: str, pooled: bool, level: int = 1
) -> ResponseMap:
    chosen = f"wavelet family={family} kernels={kernels} level={level}{' pooling=average' * pooled}"
    mirp = {
        "filter_kernels": "separable_wavelet",
        "separable_wavelet_families": family,
        "separable_wavelet_set": kernels,
        "separable_wavelet_decomposition_level": level,
        "separable_wavelet_rotation_invariance": pooled,
        "separable_wavelet_pooling_method": "mean",
        "separable_wavelet_boundary_condition": _MODES[boundary],
    }
    return ResponseMap(number, phantom, f"{chosen} boundary={boundary}", mirp)


def _simoncelli(number: str, phantom: str, level: int, riesz: str = "") -> ResponseMap:
    mirp: dict[str, Any] = {
        "filter_kernels": "riesz_nonseparable_wavelet" if riesz else "nonseparable_wavelet",
        "nonseparable_wavelet_families": "simoncelli",
        "nonseparable_wavelet_decomposition_level": level,
        "nonseparable_wavelet_boundary_condition": "wrap",
    } | _riesz(riesz)
    return ResponseMap(number, phantom, f"simoncelli level={level}{f' riesz={riesz}' if riesz else ''}", mirp)


def _riesz(orders: str) -> dict[str, Any]:
    """MIRP lists orders along z, y and x, and asks for the sigma of a tensor that it does not use then."""
    if not orders:
        return {}
    return {"riesz_filter_order": [int(one) for one in orders.split(",")][::-1], "riesz_filter_tensor_sigma": 1.0}


_BY_BOUNDARY = zip("1234", ("zero", "nearest", "periodic", "mirror"), strict=True)
_FINE, _COARSE = (10.0, 4.0, 0.5), (20.0, 8.0, 2.5)
TESTS = (
    *(_mean(f"1.a.{number}", "checkerboard", boundary) for number, boundary in _BY_BOUNDARY),
    _mean("1.b.1", "impulse", "zero", flat=True),
    _log("2.a", "impulse", 3, "zero"),
    _log("2.b", "checkerboard", 5, "mirror"),
    _log("2.c", "checkerboard", 5, "mirror", flat=True),
    *(
        _laws(f"3.{letter}.{number}", phantom, kernels, boundary, pooled, energy)
        for letter, phantom, kernels, boundary in (
            ("a", "impulse", "E5L5S5", "zero"),
            ("b", "checkerboard", "E3W5R5", "mirror"),
            ("c", "checkerboard", "L5S5", "mirror"),
        )
        for number, pooled, energy in ((1, False, 0), (2, True, 0), (3, True, 7))
    ),
    _gabor("4.a.1", "impulse", "zero", _FINE, "theta", 60),
    _gabor("4.a.2", "impulse", "zero", _FINE, "step", 45),
    _gabor("4.b.1", "sphere", "mirror", _COARSE, "theta", 225),
    _gabor("4.b.2", "sphere", "mirror", _COARSE, "step", 22.5),
    _wavelet("5.a.1", "impulse", "zero", "db2", "LHL", pooled=False),
    _wavelet("5.a.2", "impulse", "zero", "db2", "LHL", pooled=True),
    _wavelet("6.a.1", "sphere", "periodic", "coif1", "HHL", pooled=False),
    _wavelet("6.a.2", "sphere", "periodic", "coif1", "HHL", pooled=True),
    _wavelet("7.a.1", "checkerboard", "mirror", "haar", "LLL", pooled=True, level=2),
    _wavelet("7.a.2", "checkerboard", "mirror", "haar", "HHH", pooled=True, level=2),
    *(_simoncelli(f"8.a.{level}", "checkerboard", level) for level in (1, 2, 3)),
    _log("9.a", "impulse", 3, "zero", riesz="1,0,0"),
    _log("9.b.1", "sphere", 3, "mirror", riesz="0,2,0"),
    ResponseMap("9.b.2", "sphere", f"log sigma=3 riesz=0,2,0 {STEER} boundary=mirror"),
    _simoncelli("10.a", "impulse", 1, riesz="1,0,0"),
    replace(_simoncelli("10.b.1", "sphere", 1, riesz="0,2,0"), theirs="pattern_1"),
    ResponseMap("10.b.2", "sphere", f"simoncelli level=1 riesz=0,2,0 {STEER}", theirs="pattern_1"),
)
