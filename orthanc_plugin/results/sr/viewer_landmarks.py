"""Report landmarks for a viewer: points that OHIF loads as measurements and that take the reader to the slice.

Body part regression knows levels but no places inside a slice, and a point on anatomy would be invented. Each point
therefore lies in a corner of its slice, in air if a corner shows air, and is labelled `slice level`. OHIF opens points
only under the title 126000 and loads them only under the name of its own tool, so both are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.body import BodyLandmark, BodyLocation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.provenance import Provenance
from orthanc_plugin.results.sr.body_codes import LEVELS
from orthanc_plugin.results.sr.body_landmarks import coded
from orthanc_plugin.results.sr.content import comment, frame_numbers
from orthanc_plugin.results.sr.report import encode_report

TITLE = Code("126000", "DCM", "Imaging Measurement Report")
TOOL = "Cornerstone3DTools@^0.1.0:ArrowAnnotate"

_AIR_HU = -950.0  # lungs lie above, the air round a patient below
_SAYS = "Each point marks the slice of a level, not an anatomical position: it lies in a corner of the image."


def encode_viewer_landmarks_sr(
    provenance: Provenance, location: BodyLocation, *, title: Code, notes: Sequence[str]
) -> Dataset:
    """Encode levels of the body as points in corners of their slices (PS3.16 TID 1500, 1410).

    Parameters
    ----------
    title : Code
        Not used (see above); all reports of body part regression have the same signature.

    Raises
    ------
    EncodingError
        If no landmark has a code.
    """
    algorithm = provenance.group_algorithm()
    known, left_out = coded(location.landmarks)
    return encode_report(
        provenance,
        [_group(landmark, provenance, algorithm) for landmark in known],
        title=TITLE,
        kind=Output.VIEWER_LANDMARKS,
        notes=[*notes, *left_out, _SAYS],
    )


def _group(
    landmark: BodyLandmark, provenance: Provenance, algorithm: sr.AlgorithmIdentification
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    series = provenance.series
    header, level = series.header_at(landmark.slice_index), LEVELS[landmark.key]
    point = corner(series.source_plane(landmark.slice_index))
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=identity.tracking_uid(provenance.sop_instance_uid, landmark.key), identifier=TOOL),
        referenced_region=sr.ImageRegion(
            sr.GraphicTypeValues.POINT,
            np.array([point]),
            sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frame_numbers(header)),
        ),
        finding_type=concept(level.structure),
        algorithm_id=algorithm,
    )
    group[0].ContentSequence.append(comment(f"slice level {landmark.key}"))
    return group


def corner(image: Voxels) -> tuple[float, float]:
    """Find the first corner pixel whose surroundings are air, or else the emptiest corner.

    Parameters
    ----------
    image : ndarray, shape (rows, columns), float32, HU

    Returns
    -------
    tuple of float
        Column and row from the upper left edge of the image, in pixels (PS3.3 C.18.6.1.1).
    """
    rows, columns = image.shape
    high, wide = max(1, rows // 16), max(1, columns // 16)
    corners = {
        (0.5, 0.5): image[:high, :wide],
        (columns - 0.5, 0.5): image[:high, -wide:],
        (0.5, rows - 0.5): image[-high:, :wide],
        (columns - 0.5, rows - 0.5): image[-high:, -wide:],
    }
    means = {point: float(part.mean()) for point, part in corners.items()}
    return next((point for point, mean in means.items() if mean < _AIR_HU), min(means, key=means.__getitem__))
