"""How radiomics are measured: every parameter that changes a value.

Rules choose the parameters, plans pin them, and reports state them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from operator import not_
from typing import Annotated

from pydantic import Field

from orthanc_plugin.domain.image_filters import parse_filter
from orthanc_plugin.errors import ConfigError


class RadiomicsMode(StrEnum):
    """Whose definitions count where two differ.

    IBSI: the reference manual of the Image Biomarker Standardisation Initiative.
    PYRADIOMICS: pyradiomics 3.0.1, value for value.
    """

    IBSI = "ibsi"
    PYRADIOMICS = "pyradiomics"


class FeatureClass(StrEnum):
    """The feature classes of pyradiomics, then those with the features that only IBSI defines."""

    SHAPE = "shape"
    SHAPE2D = "shape2D"
    FIRSTORDER = "firstorder"
    GLCM = "glcm"
    GLRLM = "glrlm"
    GLSZM = "glszm"
    NGTDM = "ngtdm"
    GLDM = "gldm"
    MORPHOLOGY = "morphology"
    SPATIAL = "spatial"
    LOCAL_INTENSITY = "localintensity"
    STATISTICS = "statistics"
    HISTOGRAM = "histogram"
    IVH = "ivh"
    COOCCURRENCE = "cooccurrence"
    GLDZM = "gldzm"
    NGLDM = "ngldm"


TEXTURES = (FeatureClass.GLCM, FeatureClass.GLRLM, FeatureClass.GLSZM, FeatureClass.NGTDM, FeatureClass.GLDM)
IBSI_TEXTURES = (FeatureClass.COOCCURRENCE, FeatureClass.GLDZM, FeatureClass.NGLDM)


class Aggregation(StrEnum):
    """How the matrices of slices and directions become one value, in the words of IBSI's tables.

    Classes without directions (zones, neighbourhoods) know only 2D, 2.5D and 3D.
    """

    SLICES_AVERAGED = "2D, averaged"
    SLICES_MERGED = "2D, slice-merged"
    FLAT_DIRECTIONS = "2.5D, direction-merged"
    FLAT_MERGED = "2.5D, merged"
    VOLUME_AVERAGED = "3D, averaged"
    VOLUME_MERGED = "3D, merged"

    @property
    def by_slice(self) -> bool:
        """Whether every slice has matrices of its own."""
        return self in (Aggregation.SLICES_AVERAGED, Aggregation.SLICES_MERGED)

    @property
    def flat(self) -> bool:
        """Whether only neighbours within a slice count."""
        return self not in (Aggregation.VOLUME_AVERAGED, Aggregation.VOLUME_MERGED)

    @property
    def merges_directions(self) -> bool:
        """Whether the matrices of all directions are added up before a feature is computed."""
        return self in (Aggregation.SLICES_MERGED, Aggregation.FLAT_MERGED, Aggregation.VOLUME_MERGED)


class Interpolation(StrEnum):
    """How the image is interpolated where it is resampled; IBSI takes the mask linearly, pyradiomics the nearest."""

    LINEAR = "linear"
    CUBIC = "cubic"


LATER_PARAMETERS = ("aggregation", "ivh_bin_width_hu", "ivh_bin_count", "filters")
"""Parameters that came after plans were first stored. A plan's digest and text lack them while they are empty or 0."""
_CLASSES = ", ".join(f'"{name}"' for name in FeatureClass)
_AGGREGATIONS = ", ".join(f'"{name}"' for name in Aggregation)


@dataclass(frozen=True, slots=True)
class RadiomicsSettings:
    """Parameters of a measurement.

    This is their only declaration. Each annotation holds the limits and the allowed values in words; orthanc.json is
    read by it (`config.radiomics_options`), with the keys in PascalCase and without the unit.

    classes: shape of organs whose card asks for it only; shape2D on the largest axial slice of an organ.
    bin_width_hu, bin_count: fixed width of grey levels, or (bin_count > 0) their fixed number.
    spacing_mm: (z, y, x) of the grid to resample to; empty: as scanned. A z of 0 keeps the slices (2.5D).
    resegment_hu: lowest and highest HU that count; empty: all.
    resegment_sigma: and only those within that many standard deviations of the mean; 0: all.
    force_2d: textures slice by slice, merged (IBSI 2.5D, direction merged), instead of in 3D.
    aggregation: what becomes of the texture matrices of slices and directions; empty: averaged over 3D directions, or
        2.5D, direction-merged, with force_2d. With several, each has its textures.
    filters: filters of IBSI 2 (`image_filters`), of whose responses first order and textures are measured again.
    ivh_bin_width_hu, ivh_bin_count: bins of the intensity-volume histogram; both 0: whole HU.
    log_sigma_mm, wavelet: filtered images on which first order and textures are measured again.
    deprecated: Compactness 1 and 2 and SphericalDisproportion, which repeat Sphericity.

    Raises
    ------
    ConfigError
        If a list has the wrong length or order, or two parameters contradict each other.
    """

    mode: Annotated[RadiomicsMode, Field(description='"ibsi" or "pyradiomics"')] = RadiomicsMode.IBSI
    classes: Annotated[tuple[FeatureClass, ...], Field(min_length=1, description=f"a list of {_CLASSES}")] = (
        FeatureClass.SHAPE,
        FeatureClass.FIRSTORDER,
        *TEXTURES,
    )
    bin_width_hu: Annotated[float, Field(gt=0, le=10000, description="HU, above 0 to 10000")] = 25.0
    bin_count: Annotated[int, Field(ge=0, le=4096, description="2 to 4096, or 0 for bins of BinWidth")] = 0
    spacing_mm: Annotated[
        tuple[Annotated[float, Field(ge=0, le=50)], ...],
        Field(description="three steps in mm as [z, y, x] (z 0 keeps the slices), or [] for no resampling"),
    ] = ()
    interpolation: Annotated[Interpolation, Field(description='"linear" or "cubic"')] = Interpolation.LINEAR
    resegment_hu: Annotated[tuple[float, ...], Field(description="two HU as [lowest, highest], or [] for all")] = ()
    resegment_sigma: Annotated[float, Field(ge=0, le=100, description="standard deviations, or 0 for all")] = 0.0
    force_2d: Annotated[bool, Field(description="true or false")] = False
    log_sigma_mm: Annotated[
        tuple[Annotated[float, Field(gt=0, le=50)], ...],
        Field(max_length=32, description="a list of up to 32 mm, or [] for no filter"),
    ] = ()
    wavelet: Annotated[bool, Field(description="true or false")] = False
    deprecated: Annotated[bool, Field(description="true or false")] = False
    aggregation: Annotated[
        tuple[Aggregation, ...],
        Field(
            max_length=6, description=f"a list of {_AGGREGATIONS}; [] for 3D averaged, or Force2D's", exclude_if=not_
        ),
    ] = ()
    ivh_bin_width_hu: Annotated[float, Field(ge=0, le=10000, description="HU, or 0 for whole HU", exclude_if=not_)] = (
        0.0
    )
    ivh_bin_count: Annotated[
        int, Field(ge=0, le=100000, description="2 to 100000, or 0 for bins of IvhBinWidth", exclude_if=not_)
    ] = 0

    filters: Annotated[
        tuple[str, ...],
        Field(
            max_length=64,
            description='a list of up to 64 such as ["mean size=5"], or [] for no filter',
            exclude_if=not_,
        ),
    ] = ()

    @property
    def aggregations(self) -> tuple[Aggregation, ...]:
        """How textures are aggregated, at least one way."""
        usual = Aggregation.FLAT_DIRECTIONS if self.force_2d else Aggregation.VOLUME_AVERAGED
        return self.aggregation or (usual,)

    @property
    def textures(self) -> tuple[FeatureClass, ...]:
        """The classes that textures are."""
        return tuple(one for one in self.classes if one in TEXTURES + IBSI_TEXTURES)

    def __post_init__(self) -> None:
        """Refuse parameters that contradict each other."""
        if len(self.spacing_mm) not in (0, 3):
            raise ConfigError("Spacing needs three steps (z, y, x) or none")
        if len(self.resegment_hu) not in (0, 2) or list(self.resegment_hu) != sorted(self.resegment_hu):
            raise ConfigError("Resegment needs the lowest and the highest HU, in this order, or none")
        if self.bin_width_hu <= 0 or min(self.log_sigma_mm, default=1) <= 0:
            raise ConfigError("BinWidth and each LogSigma must be above 0")
        if min(self.bin_count, self.resegment_sigma, self.ivh_bin_width_hu, self.ivh_bin_count, *self.spacing_mm) < 0:
            raise ConfigError("BinCount, ResegmentSigma, IvhBinWidth, IvhBinCount and Spacing must not be below 0")
        if self.mode is RadiomicsMode.PYRADIOMICS and self.resegment_hu and self.resegment_sigma:
            raise ConfigError('Mode "pyradiomics" takes Resegment or ResegmentSigma, not both')
        for text in self.filters:
            parse_filter(text)
