"""The convolutional filters of IBSI 2, as rules choose them: one line of text for each filter.

`laws kernels=L5E5E5 pooling=max energy=7` names the kind and its parameters. The text is also the name of the filtered
image, in reports and tables. Parameters that are left out have their defaults.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import ClassVar

from orthanc_plugin.errors import ConfigError


class Boundary(StrEnum):
    """What lies beyond the image: nothing, its nearest voxel, the image again, or its mirror image."""

    ZERO = "zero"
    NEAREST = "nearest"
    PERIODIC = "periodic"
    MIRROR = "mirror"


class Pooling(StrEnum):
    """Which response of a voxel counts where a filter is turned; NONE: it is not turned."""

    NONE = "none"
    AVERAGE = "average"
    MAX = "max"
    MIN = "min"


class Reach(StrEnum):
    """Along which axes a filter works: within axial slices, or in space."""

    SLICE = "slice"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class MeanFilter:
    """The mean of a cube (or square) of `size` voxels, an odd number."""

    kind: ClassVar = "mean"
    size: int
    reach: Reach = Reach.VOLUME
    boundary: Boundary = Boundary.MIRROR

    def __post_init__(self) -> None:
        """Refuse a size without a centre."""
        _require(self.size > 0 and self.size % 2 == 1, "the size of a mean filter must be odd")


@dataclass(frozen=True, slots=True)
class LawsFilter:
    """Laws kernels along x, y and z (`E5L5S5`), or x and y (`L5S5`).

    energy: voxels on each side of which the absolute response is averaged; 0: the response itself.
    """

    kind: ClassVar = "laws"
    kernels: str
    pooling: Pooling = Pooling.NONE
    energy: int = 0
    boundary: Boundary = Boundary.MIRROR

    def __post_init__(self) -> None:
        """Refuse kernels that are not Laws'."""
        known = re.fullmatch(r"([LES][35]|[WR]5){2,3}", self.kernels)
        _require(known is not None, "Laws kernels are two or three of L5 E5 S5 W5 R5 L3 E3 S3")
        _require(0 <= self.energy <= 50, "the distance of Laws energy must be from 0 to 50 voxels")


@dataclass(frozen=True, slots=True)
class GaborFilter:
    """The modulus of a Gabor kernel in axial slices, or averaged over the slices of all three axes.

    sigma, wavelength: mm. gamma: ratio of the widths along and across the wave. theta: its direction from x towards y.
    step: degrees between the directions over which responses are pooled; 0: theta alone.
    """

    kind: ClassVar = "gabor"
    sigma: float
    wavelength: float
    gamma: float = 1.0
    theta: float = 0.0
    step: float = 0.0
    pooling: Pooling = Pooling.AVERAGE
    reach: Reach = Reach.SLICE
    boundary: Boundary = Boundary.MIRROR

    def __post_init__(self) -> None:
        """Refuse kernels without a width, and directions that do not divide a turn."""
        _require(0 < self.sigma <= 50 and 0 < self.wavelength <= 200, "Gabor sigma and wavelength must be above 0 mm")
        _require(0.1 <= self.gamma <= 10, "Gabor gamma must be from 0.1 to 10")
        _require(abs(self.theta) <= 360, "Gabor theta must be from -360 to 360 degrees")
        turns = 360 / self.step if self.step >= 1 else 1
        whole = self.step == 0 or (self.step >= 1 and abs(turns - round(turns)) < 1e-9)
        _require(whole, "Gabor step must divide 360 degrees and be at least 1, or be 0")


_FAMILIES = frozenset(
    (
        "haar",
        "dmey",
        *(f"db{n}" for n in range(1, 39)),
        *(f"sym{n}" for n in range(2, 21)),
        *(f"coif{n}" for n in range(1, 18)),
        *(f"{kind}{n}" for kind in ("bior", "rbio") for n in (1.1, 1.3, 1.5, 2.2, 2.4, 2.6, 2.8)),
        *(f"{kind}{n}" for kind in ("bior", "rbio") for n in (3.1, 3.3, 3.5, 3.7, 3.9, 4.4, 5.5, 6.8)),
    )
)
"""PyWavelets' discrete wavelets."""


@dataclass(frozen=True, slots=True)
class WaveletFilter:
    """A separable wavelet without decimation: low (L) or high (H) pass along x, y and z, or x and y.

    family: PyWavelets' name of an orthogonal or biorthogonal wavelet. level: of the decomposition.
    """

    kind: ClassVar = "wavelet"
    family: str
    kernels: str
    level: int = 1
    pooling: Pooling = Pooling.NONE
    boundary: Boundary = Boundary.MIRROR

    def __post_init__(self) -> None:
        """Refuse what is no discrete wavelet."""
        _require(self.family in _FAMILIES, f"unknown wavelet {self.family}")
        _require(re.fullmatch(r"[LH]{2,3}", self.kernels) is not None, "wavelet kernels are two or three of L and H")
        _require(1 <= self.level <= 5, "the level of a wavelet must be from 1 to 5")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """The Laplacian of a Gaussian, whose kernel ends at four standard deviations; or a Riesz transform of it.

    sigma: mm. riesz: orders of a Riesz transform of the response along x, y and z (or x and y), such as `1,0,0`; empty:
    none. steer: mm, the sigma of the window of a structure tensor, along whose eigenvectors (largest eigenvalue first)
    the orders then are; 0: along the axes.
    """

    kind: ClassVar = "log"
    sigma: float
    reach: Reach = Reach.VOLUME
    boundary: Boundary = Boundary.MIRROR
    riesz: str = ""
    steer: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a Gaussian without a width, and orders that are not one for each axis."""
        _require(0 < self.sigma <= 50, "the sigma of a Laplacian of Gaussian must be above 0 to 50 mm")
        # Its transform reads the whole image and what the kernel reaches around it.
        _require(self.sigma <= 10 or not self.riesz, "the sigma of a Riesz transform must be above 0 to 10 mm")
        _require_orders(self.riesz, self.reach)
        _require_window(self.steer, self.orders)

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders of the Riesz transform along x, y and z; empty for none."""
        return _orders(self.riesz)


@dataclass(frozen=True, slots=True)
class SimoncelliFilter:
    """Simoncelli's wavelet, which is not separable and has no direction; beyond the image lies the image again.

    riesz, steer: as of `LogFilter`.
    """

    kind: ClassVar = "simoncelli"
    level: int = 1
    reach: Reach = Reach.VOLUME
    riesz: str = ""
    steer: float = 0.0

    def __post_init__(self) -> None:
        """Refuse levels that leave no frequency, and orders that are not one for each axis."""
        _require(1 <= self.level <= 5, "the level of a wavelet must be from 1 to 5")
        _require_orders(self.riesz, self.reach)
        _require_window(self.steer, self.orders)

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders of the Riesz transform along x, y and z; empty for none."""
        return _orders(self.riesz)


ImageFilter = MeanFilter | LogFilter | LawsFilter | GaborFilter | WaveletFilter | SimoncelliFilter

_KINDS: dict[str, type[ImageFilter]] = {
    one.kind: one for one in (MeanFilter, LogFilter, LawsFilter, GaborFilter, WaveletFilter, SimoncelliFilter)
}
_READ = {"int": int, "float": float, "str": str, "Boundary": Boundary, "Pooling": Pooling, "Reach": Reach}


def parse_filter(text: str) -> ImageFilter:
    """Read a filter, such as `mean size=5 boundary=nearest`.

    Raises
    ------
    ConfigError
        If the kind or a parameter is unknown, missing or out of range.
    """
    name, *given = text.split() or [""]
    if (kind := _KINDS.get(name)) is None:
        raise ConfigError(f'"{text}" names none of the filters {", ".join(_KINDS)}')
    types = {field.name: str(field.type) for field in fields(kind)}
    pairs = [part.partition("=") for part in given]
    unknown = [key for key, _, _ in pairs if key not in types]
    _require(not unknown, f'the filter "{text}" does not know {", ".join(unknown)}')
    try:
        return kind(**{key: _READ[types[key]](value) for key, _, value in pairs})
    except (TypeError, ValueError) as error:
        raise ConfigError(f'the filter "{text}" is not complete or has a value that cannot be read') from error


def write_filter(one: ImageFilter) -> str:
    """Write a filter such that `parse_filter` reads it: equal filters have equal texts."""
    chosen = [
        f"{field.name}={_number(getattr(one, field.name))}"
        for field in fields(one)
        if field.default is MISSING or getattr(one, field.name) != field.default
    ]
    return " ".join([one.kind, *chosen])


def _number(value: object) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _orders(riesz: str) -> tuple[int, ...]:
    return tuple(int(one) for one in riesz.split(",") if one)


def _require_orders(riesz: str, reach: Reach) -> None:
    axes = 2 if reach is Reach.SLICE else 3
    fits = re.fullmatch(rf"[0-9](,[0-9]){{{axes - 1}}}", riesz) and 0 < sum(_orders(riesz)) < 10
    _require(bool(fits) or not riesz, f"Riesz orders are {axes} digits such as 1,0,0, of a sum from 1 to 9")


def _require_window(steer: float, orders: tuple[int, ...]) -> None:
    _require(0 <= steer <= 20, "the window of a steered Riesz transform must be above 0 to 20 mm, or 0")
    _require(not steer or 0 < sum(orders) < 5, "only Riesz transforms of orders of a sum from 1 to 4 are steered")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
