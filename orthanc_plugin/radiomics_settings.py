"""How radiomics are measured: every parameter that changes a value. Rules choose it, plans pin it, reports state it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
