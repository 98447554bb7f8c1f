"""The parameters of a measurement in words: every one that changes a value, each on its own, in a fixed order.

They are written in the report beside the model's digest (PS3.16 TID 4019), one text each, and together they enter the
report's UID: other parameters make another report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orthanc_plugin.domain.radiomics_settings import TEXTURES, Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.radiomics.discretise import IBSI_ORIGIN_HU
from orthanc_plugin.radiomics.filters import LOG_CUTOFF_SIGMA
from orthanc_plugin.radiomics.reference import VERSION


def describe(settings: RadiomicsSettings) -> str:
    """All parameters in one line; equal for equal settings, different for others."""
    return "; ".join(parameter_texts(settings))


def parameter_texts(settings: RadiomicsSettings) -> tuple[str, ...]:
    """`name=value` of each parameter."""
    return tuple(f"{name}={value}" for name, value in _parameters(settings))


def _parameters(settings: RadiomicsSettings) -> Iterator[tuple[str, str]]:
    ibsi = settings.mode is RadiomicsMode.IBSI
    yield "mode", settings.mode
    yield "pyradiomics", VERSION
    yield "classes", " ".join(settings.classes) + (" deprecated" if settings.deprecated else "")
    yield "resampling", _resampling(settings, ibsi)
    yield "resegmentation", _resegmentation(settings)
    yield "discretisation", _discretisation(settings, ibsi)
    if set(settings.classes) & set(TEXTURES):
        yield "textures", f"{'2.5D, direction merged' if settings.force_2d else '3D, averaged'}; distance 1; alpha 0"
    yield "kurtosis", "excess" if ibsi else "not excess"
    yield "covariance", "n - 1" if ibsi else "n"
    if settings.log_sigma_mm:
        yield "LoG", f"sigma {_numbers(settings.log_sigma_mm)} mm{_log_definition(settings) if ibsi else ''}"
    if settings.wavelet:
        yield "wavelet", f"coif1, level 1{', within slices' if settings.force_2d else ''}"


def _resampling(settings: RadiomicsSettings, ibsi: bool) -> str:
    if not settings.spacing_mm:
        return "none"
    image = settings.interpolation if ibsi or settings.interpolation is Interpolation.LINEAR else "B-spline"
    grid = "centres aligned, integer HU, mask linear from 0.5" if ibsi else "corners aligned, mask nearest"
    return f"{_numbers(settings.spacing_mm)} mm (z y x), {image}, {grid}"


def _log_definition(settings: RadiomicsSettings) -> str:
    within_slices = ", within slices" if settings.force_2d else ""
    return f", IBSI kernel per voxel, cut off at {_number(LOG_CUTOFF_SIGMA)} sigma, mirrored{within_slices}"


def _resegmentation(settings: RadiomicsSettings) -> str:
    limits = [f"{_numbers(settings.resegment_hu)} HU"] if settings.resegment_hu else []
    limits += [f"{_number(settings.resegment_sigma)} sigma"] if settings.resegment_sigma else []
    return ", then ".join(limits) or "none"


def _discretisation(settings: RadiomicsSettings, ibsi: bool) -> str:
    if settings.bin_count:
        return f"{settings.bin_count} bins"
    width = f"width {_number(settings.bin_width_hu)} HU"
    if not ibsi:
        return f"{width} from a multiple of it"
    return f"{width} from {_number(settings.resegment_hu[0] if settings.resegment_hu else IBSI_ORIGIN_HU)} HU"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(map(_number, values))


def _number(value: float) -> str:
    """With all digits that tell it from every other; -0 is 0."""
    return repr(float(value) + 0.0).removesuffix(".0")
