"""The feature classes that only IBSI defines, except textures: of the shape, of intensities, and of grey levels."""

from __future__ import annotations

from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsSettings
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.discretise import MOST_BINS, Levels
from orthanc_plugin.radiomics.firstorder import dispersion_features, histogram_features
from orthanc_plugin.radiomics.ivh import ARBITRARY_BINS, intensity_volume_features
from orthanc_plugin.radiomics.local_intensity import local_intensity_features
from orthanc_plugin.radiomics.morphology import morphological_features
from orthanc_plugin.radiomics.prepare import Region
from orthanc_plugin.radiomics.spatial import spatial_features


def region_features(region: Region, settings: RadiomicsSettings) -> dict[str, float]:
    """Measure what depends on the place of the voxels of the original image: morphology, spatial, localintensity.

    Returns
    -------
    dict
        Full name, such as "spatial_MoranI", to value; NaN if it is undefined.
    """
    voxels, inside, spacing_mm = region.inside_hu, region.intensity, region.spacing_mm
    values: dict[str, float] = {}
    if FeatureClass.MORPHOLOGY in settings.classes:
        found = morphological_features(voxels, region.morphological, inside, spacing_mm)
        values |= _named(FeatureClass.MORPHOLOGY, found)
    if FeatureClass.SPATIAL in settings.classes:
        values |= _named(FeatureClass.SPATIAL, spatial_features(voxels, inside, spacing_mm))
    if FeatureClass.LOCAL_INTENSITY in settings.classes:
        found = local_intensity_features(region.voxels_hu, region.box, inside, spacing_mm)
        values |= _named(FeatureClass.LOCAL_INTENSITY, found)
    return values


def distribution_features(
    voxels: Voxels, levels: Levels, region: Region, settings: RadiomicsSettings, *, filtered: bool
) -> dict[str, float]:
    """Measure what depends on the values alone, of the original or a filtered image: statistics, histogram, ivh.

    The intensity-volume histogram of a filtered image has 1000 bins, as IBSI recommends where intensities have no unit.
    """
    inside = voxels[region.intensity]
    values: dict[str, float] = {}
    if FeatureClass.STATISTICS in settings.classes:
        values |= _named(FeatureClass.STATISTICS, dispersion_features(inside))
    if FeatureClass.HISTOGRAM in settings.classes and levels.max() <= MOST_BINS:
        values |= _named(FeatureClass.HISTOGRAM, histogram_features(levels[region.intensity]))
    if FeatureClass.IVH in settings.classes:
        found = (
            intensity_volume_features(inside, bins=ARBITRARY_BINS)
            if filtered
            else intensity_volume_features(
                inside, settings.resegment_hu, settings.ivh_bin_width_hu, settings.ivh_bin_count
            )
        )
        values |= _named(FeatureClass.IVH, found)
    return values


def _named(feature_class: FeatureClass, values: dict[str, float]) -> dict[str, float]:
    return {f"{feature_class}_{name}": value for name, value in values.items()}
