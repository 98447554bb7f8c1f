"""The parameters of a measurement in words: every one that changes a value, each on its own, in a fixed order.

They are written in the report beside the model's digest (PS3.16 TID 4019), one text each, and together they enter the
report's UID: other parameters make another report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orthanc_plugin.domain.measures import Conditions
from orthanc_plugin.domain.radiomics_settings import Aggregation, Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.radiomics.discretise import ibsi_origin_hu, number_text
from orthanc_plugin.radiomics.filters import log_name
from orthanc_plugin.radiomics.ibsi2.laplacian import LOG_CUTOFF_SIGMA
from orthanc_plugin.radiomics.reference import VERSION

AGGREGATION = "aggregation"
"""Name of the parameter that a group has which holds only the textures of a further aggregation."""


def describe(settings: RadiomicsSettings) -> str:
    """All parameters in one line; equal for equal settings, different for others."""
    return "; ".join(parameter_texts(settings))


def parameter_texts(settings: RadiomicsSettings) -> tuple[str, ...]:
    """`name=value` of each parameter."""
    return tuple(f"{name}={value}" for name, value in _parameters(settings))


def condition_texts(conditions: Conditions) -> tuple[str, ...]:
    """`name=value` of what was done for one segment on one image, by the names of `parameter_texts` where it has one.

    A report that states the parameters once needs from these only what differs.
    """
    return (
        f"classes={conditions.classes}",
        f"discretisation={conditions.discretisation}",
        *([f"textures={conditions.textures}"] if conditions.textures else []),
        spacing_text(conditions),
        f"voxels={conditions.voxels}",
    )


def spacing_text(conditions: Conditions) -> str:
    """`name=value` of the grid on which a segment was measured."""
    return f"spacing={_numbers(conditions.spacing_mm)} mm (z y x)"


def filter_text(image: str, settings: RadiomicsSettings) -> str:
    """Say in words which filter made an image of `filters.image_names`."""
    for sigma_mm in settings.log_sigma_mm:
        if image == log_name(sigma_mm, settings):
            return f"LoG, sigma {number_text(sigma_mm)} mm{_log_definition(settings)}"
    if image in settings.filters:
        return f"IBSI 2, {image}"
    return f"wavelet {_wavelet(settings)}, {image.removeprefix('wavelet-')}"


def _parameters(settings: RadiomicsSettings) -> Iterator[tuple[str, str]]:
    ibsi = settings.mode is RadiomicsMode.IBSI
    yield "mode", settings.mode
    yield "pyradiomics", VERSION
    yield "classes", " ".join(settings.classes) + (" deprecated" if settings.deprecated else "")
    yield "resampling", _resampling(settings, ibsi)
    yield "resegmentation", _resegmentation(settings)
    yield "discretisation", discretisation(settings)
    if settings.textures:
        yield "textures", textures(*settings.aggregations)
    yield "kurtosis", "excess" if ibsi else "not excess"
    yield "covariance", "n - 1" if ibsi else "n"
    if settings.log_sigma_mm:
        yield "LoG", f"sigma {_numbers(settings.log_sigma_mm)} mm{_log_definition(settings)}"
    if settings.ivh_bin_width_hu or settings.ivh_bin_count:
        width = f"width {number_text(settings.ivh_bin_width_hu)} HU"
        yield "ivh", f"{settings.ivh_bin_count} bins" if settings.ivh_bin_count else width
    if settings.wavelet:
        yield "wavelet", _wavelet(settings)
    if settings.filters:
        yield "filters", " and ".join(settings.filters)


def textures(*aggregations: Aggregation) -> str:
    """Say in words how texture matrices are made."""
    # "direction merged" without a hyphen is in reports of earlier versions, whose UID must stay.
    return f"{' and '.join(aggregations).replace('direction-merged', 'direction merged')}; distance 1; alpha 0"


def _wavelet(settings: RadiomicsSettings) -> str:
    return f"coif1, level 1{', within slices' if settings.force_2d else ''}"


def _resampling(settings: RadiomicsSettings, ibsi: bool) -> str:
    if not settings.spacing_mm:
        return "none"
    image = settings.interpolation if ibsi or settings.interpolation is Interpolation.LINEAR else "B-spline"
    grid = "centres aligned, integer HU, mask linear from 0.5" if ibsi else "corners aligned, mask nearest"
    return f"{_numbers(settings.spacing_mm)} mm (z y x), {image}, {grid}"


def _log_definition(settings: RadiomicsSettings) -> str:
    if settings.mode is not RadiomicsMode.IBSI:
        return ""
    within_slices = ", within slices" if settings.force_2d else ""
    return f", IBSI kernel per voxel, cut off at {number_text(LOG_CUTOFF_SIGMA)} sigma, mirrored{within_slices}"


def _resegmentation(settings: RadiomicsSettings) -> str:
    limits = [f"{_numbers(settings.resegment_hu)} HU"] if settings.resegment_hu else []
    limits += [f"{number_text(settings.resegment_sigma)} sigma"] if settings.resegment_sigma else []
    return ", then ".join(limits) or "none"


def discretisation(settings: RadiomicsSettings) -> str:
    """Say in words how the grey levels of the original image are made."""
    if settings.bin_count:
        return f"{settings.bin_count} bins"
    width = f"width {number_text(settings.bin_width_hu)} HU"
    if settings.mode is not RadiomicsMode.IBSI:
        return f"{width} from a multiple of it"
    return f"{width} from {number_text(ibsi_origin_hu(settings))} HU"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(map(number_text, values))
