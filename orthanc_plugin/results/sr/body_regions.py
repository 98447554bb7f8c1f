"""Report the regions of the body: one image-level group per slice, as published, and additionally one per region.

A scan has hundreds of slices, and highdicom needs some 20 ms for a group. It therefore makes one group for each set of
regions, and the slices share its items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import instance_number
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.body_codes import REGIONS
from orthanc_plugin.results.sr.body_scan import scan_group
from orthanc_plugin.results.sr.content import source_image, target_region
from orthanc_plugin.results.sr.report import add_groups, encode_report

RANGE = Code("BPR_RANGE", PRIVATE_SCHEME, "Extent of a body region: lowest and highest slice")


def encode_body_regions_sr(
    provenance: Provenance, location: BodyLocation, *, title: Code, notes: Sequence[str]
) -> Dataset:
    """Encode which regions of the body each slice shows, and the range of each region (PS3.16 TID 1500, 1501).

    Raises
    ------
    EncodingError
        If there is no region.
    """
    algorithm = provenance.group_algorithm()
    ranges = [_range(region, provenance, location, algorithm) for region in location.regions]
    ds = encode_report(
        provenance,
        [scan_group(location, provenance, algorithm), *ranges] if ranges else [],
        title=title,
        kind=Output.BODY_REGIONS,
        notes=[*notes, "Adjacent regions overlap by design."],
    )
    add_groups(ds, _slice_groups(provenance, location, algorithm))
    return ds


def _range(
    region: Region, provenance: Provenance, location: BodyLocation, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    indices = location.regions[region]
    ends = (min(indices), max(indices))
    first, last = (provenance.series.header_at(index) for index in ends)
    bottom_mm, top_mm = (location.z_mm[index] for index in ends)
    text = (
        f"{region}, instances {instance_number(first)} to {instance_number(last)}, "
        f"z {bottom_mm:.1f} to {top_mm:.1f} mm, {len(indices)} slices"
    )
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=identity.tracking_uid(provenance.sop_instance_uid, region), identifier=text),
        finding_type=concept(RANGE),
        algorithm_id=algorithm,
        qualitative_evaluations=[target_region(code) for code in REGIONS[region]],
        source_images=[source_image(first), source_image(last)],
    )


def _slice_groups(
    provenance: Provenance, location: BodyLocation, algorithm: sr.AlgorithmIdentification
) -> Iterator[Dataset]:
    models: dict[tuple[Region, ...], Dataset] = {}
    for index, shown in sorted(_regions_of_slices(location).items()):
        header = provenance.series.header_at(index)
        tracking = sr.TrackingIdentifier(
            uid=identity.tracking_uid(provenance.sop_instance_uid, f"slice {index}"),
            identifier=f"{', '.join(shown)}, instance {instance_number(header)}, z {location.z_mm[index]:.1f} mm",
        )
        if shown not in models:
            models[shown] = _model_group(shown, tracking, source_image(header), algorithm)
        yield _like(models[shown], tracking, source_image(header))


def _regions_of_slices(location: BodyLocation) -> dict[int, tuple[Region, ...]]:
    found: dict[int, tuple[Region, ...]] = {}
    for region, indices in location.regions.items():
        for index in indices:
            found[index] = (*found.get(index, ()), region)
    return found


def _model_group(
    shown: Sequence[Region],
    tracking: sr.TrackingIdentifier,
    image: sr.SourceImageForMeasurementGroup,
    algorithm: sr.AlgorithmIdentification,
) -> Dataset:
    (group,) = sr.MeasurementsAndQualitativeEvaluations(
        tracking,
        algorithm_id=algorithm,
        qualitative_evaluations=[target_region(code) for region in shown for code in REGIONS[region]],
        source_images=[image],
    )
    return group


def _like(model: Dataset, tracking: sr.TrackingIdentifier, image: sr.SourceImageForMeasurementGroup) -> Dataset:
    """Make the group of another slice with the same regions: own identifiers first, own image last, the rest shared."""
    group = Dataset()
    group.update({element.tag: element for element in model if element.keyword != "ContentSequence"})
    group.ContentSequence = [*tracking, *model.ContentSequence[len(tracking) : -1], image]
    return group
