"""How radiomics are measured: every parameter that changes a value. Rules choose it, plans pin it, reports state it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orthanc_plugin.errors import ConfigError


class RadiomicsMode(StrEnum):
    """Whose definitions count where two differ.

    IBSI: the reference manual of the Image Biomarker Standardisation Initiative.
    PYRADIOMICS: pyradiomics 3.0.1, value for value.
    """

    IBSI = "ibsi"
    PYRADIOMICS = "pyradiomics"


class FeatureClass(StrEnum):
    """The feature classes of pyradiomics."""

    SHAPE = "shape"
    SHAPE2D = "shape2D"
    FIRSTORDER = "firstorder"
    GLCM = "glcm"
    GLRLM = "glrlm"
    GLSZM = "glszm"
    NGTDM = "ngtdm"
    GLDM = "gldm"


TEXTURES = (FeatureClass.GLCM, FeatureClass.GLRLM, FeatureClass.GLSZM, FeatureClass.NGTDM, FeatureClass.GLDM)


class Interpolation(StrEnum):
    """How the image is interpolated where it is resampled; IBSI takes the mask linearly, pyradiomics the nearest."""

    LINEAR = "linear"
    CUBIC = "cubic"


@dataclass(frozen=True, slots=True)
class RadiomicsSettings:
    """Parameters of a measurement.

    classes: shape of organs whose card asks for it only; shape2D on the largest axial slice of an organ.
    bin_width_hu, bin_count: fixed width of grey levels, or (bin_count > 0) their fixed number.
    spacing_mm: (z, y, x) of the grid to resample to; empty: as scanned. A z of 0 keeps the slices (2.5D).
    resegment_hu: lowest and highest HU that count; empty: all.
    resegment_sigma: and only those within that many standard deviations of the mean; 0: all.
    force_2d: textures slice by slice, merged (IBSI 2.5D, direction merged), instead of in 3D.
    log_sigma_mm, wavelet: filtered images on which first order and textures are measured again.
    deprecated: Compactness 1 and 2 and SphericalDisproportion, which repeat Sphericity.
    """

    mode: RadiomicsMode = RadiomicsMode.IBSI
    classes: tuple[FeatureClass, ...] = (FeatureClass.SHAPE, FeatureClass.FIRSTORDER, *TEXTURES)
    bin_width_hu: float = 25.0
    bin_count: int = 0
    spacing_mm: tuple[float, ...] = ()
    interpolation: Interpolation = Interpolation.LINEAR
    resegment_hu: tuple[float, ...] = ()
    resegment_sigma: float = 0.0
    force_2d: bool = False
    log_sigma_mm: tuple[float, ...] = ()
    wavelet: bool = False
    deprecated: bool = False

    def __post_init__(self) -> None:
        if len(self.spacing_mm) not in (0, 3) or len(self.resegment_hu) not in (0, 2):
            raise ConfigError("radiomics: spacing_mm has three numbers (z, y, x) or none, resegment_hu two or none")
        if self.bin_width_hu <= 0 or self.bin_count < 0 or min(self.spacing_mm, default=0) < 0:
            raise ConfigError("radiomics: bin_width_hu is above 0; bin_count and spacing_mm are not below 0")
        if list(self.resegment_hu) != sorted(self.resegment_hu):
            raise ConfigError("radiomics: resegment_hu is the lowest, then the highest HU")
        if self.resegment_sigma < 0 or min(self.log_sigma_mm, default=1) <= 0:
            raise ConfigError("radiomics: resegment_sigma is not below 0, each log_sigma_mm above 0")
        if self.mode is RadiomicsMode.PYRADIOMICS and self.resegment_hu and self.resegment_sigma:
            raise ConfigError("radiomics: pyradiomics re-segments by resegment_hu or by resegment_sigma, not by both")
