"""Report the landmarks of body part regression: one image-level group per landmark, with its nearest source slice.

The level itself lies between slices; its position and standard deviation are numbers of the group. The tracking
identifier repeats what OHIF's text view does not show: modifier, slice and deviation.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin import identity
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.body import BodyLandmark, BodyLocation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import instance_number
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.body_codes import LEVELS
from orthanc_plugin.results.sr.body_scan import MM, scan_group
from orthanc_plugin.results.sr.content import measurement, source_image, store_as_read, target_region
from orthanc_plugin.results.sr.report import encode_report

POSITION = Code("BPR_LEVEL", PRIVATE_SCHEME, "Position along the craniocaudal axis (LPS z)")


def encode_body_landmarks_sr(
    provenance: Provenance, location: BodyLocation, *, title: Code, notes: Sequence[str]
) -> Dataset:
    """Encode the levels of the body found in a scan (PS3.16 TID 1500, 1501).

    Parameters
    ----------
    location : BodyLocation
        Result for this series. Landmarks without a code are left out, and a comment names them.

    Raises
    ------
    EncodingError
        If no landmark has a code.
    """
    algorithm = provenance.group_algorithm()
    known, left_out = coded(location.landmarks)
    groups = [_group(landmark, provenance, algorithm) for landmark in known]
    return encode_report(
        provenance,
        [scan_group(location, provenance, algorithm), *groups] if groups else [],
        title=title,
        kind=Output.BODY_LANDMARKS,
        notes=[*notes, *left_out],
    )


def coded(landmarks: Sequence[BodyLandmark]) -> tuple[list[BodyLandmark], list[str]]:
    """Split landmarks into those that have a code and a comment that names the others, if any."""
    unknown = [landmark.key for landmark in landmarks if landmark.key not in LEVELS]
    known = [landmark for landmark in landmarks if landmark.key in LEVELS]
    return known, [f"Not reported, because there is no standard code: {', '.join(unknown)}"] if unknown else []


def _group(
    landmark: BodyLandmark, provenance: Provenance, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    header, level = provenance.series.header_at(landmark.slice_index), LEVELS[landmark.key]
    text = (
        f"{landmark.key} ({level.meaning}), instance {instance_number(header)}, "
        f"z {landmark.z_mm:.1f} mm, sd {landmark.sd_mm:.1f} mm"
    )
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=identity.tracking_uid(provenance.sop_instance_uid, landmark.key), identifier=text),
        algorithm_id=algorithm,
        qualitative_evaluations=[target_region(level.structure, level.modifier)],
        measurements=[measurement(POSITION, landmark.z_mm, MM, properties=_deviation(landmark.sd_mm))],
        source_images=[source_image(header)],
    )


def _deviation(sd_mm: float) -> sr.MeasurementProperties:
    """State the deviation of the landmark's score, and over which people (TID 311)."""
    number = sr.NumContentItem(
        codes.SCT.StandardDeviation, sd_mm, concept(MM), relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES
    )
    store_as_read(number)
    people = "annotated subjects of the model's look-up table"
    return sr.MeasurementProperties(
        measurement_statistical_properties=sr.MeasurementStatisticalProperties([number], description=people)
    )
