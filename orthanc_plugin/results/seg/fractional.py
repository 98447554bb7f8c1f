"""Write the probabilities of one model as a FRACTIONAL SEG, beside the SEG of its decisions.

Each segment is one of the SEG, with the same label, codes and tracking UID. A frame holds bytes, 255 for certain; a
slice in which a structure has no chance is left out. Frames are compressed with RLE, since most of them is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import RLELossless

from orthanc_plugin import identity
from orthanc_plugin.domain.masks import Probability, Segment, Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.headers import complete
from orthanc_plugin.results.provenance import CHARACTER_SET, Provenance, statements_of
from orthanc_plugin.results.seg import frames as seg_frames
from orthanc_plugin.results.seg.frames import Occupancy
from orthanc_plugin.results.seg.labels import comments
from orthanc_plugin.results.seg.writer import description, name_frames, shell, standin_headers, standin_labels

FRACTIONAL_SETTINGS = "probabilities in bytes; RLE; empty frames omitted"
"""As it enters the UID."""

NOT_CALIBRATED = "Probabilities as the model gives them, before any clean-up and not calibrated."
CERTAIN = 255


def encode_fractional(
    provenance: Provenance, seg_uid: str, stored: Segmentation, probabilities: Sequence[Probability]
) -> Dataset:
    """Encode the probabilities of the structures of a stored SEG.

    Parameters
    ----------
    provenance : Provenance
        Of the new object.
    seg_uid : str
        SOPInstanceUID of the SEG.
    stored : Segmentation
        The segments of the SEG; those without probabilities, such as what covers others, are left out.
    probabilities : sequence of Probability
        What the model gave.

    Raises
    ------
    EncodingError
        If no structure of the SEG has a probability above 0.

    Source
    ------
    DICOM PS3.3 C.8.20.2.3 (SegmentationFractionalType, MaximumFractionalValue).
    """
    series = provenance.series
    of_key = {one.key: whole for one in probabilities if (whole := _whole(one, series)).any()}
    segments = [segment for segment in stored.segments if segment.key in of_key]
    if not segments:
        raise EncodingError("a FRACTIONAL SEG without a segment is never written")
    values = [of_key[segment.key] for segment in segments]
    there = np.stack([np.zeros(len(values[0]), bool), *(each.any(axis=(1, 2)) for each in values)], axis=1)
    where = Occupancy(np.zeros(256, np.uint8), there)
    described = [_description(number, segment, provenance, seg_uid) for number, segment in enumerate(segments, start=1)]
    ds = shell(
        standin_headers(series), standin_labels(where), described[:2], "FRACTIONAL", provenance, Output.PROBABILITIES
    )
    complete(ds, provenance, Output.PROBABILITIES)
    ds.SegmentSequence = described
    ds.ImageComments = comments((NOT_CALIBRATED, *statements_of(provenance.card)))
    return _with_frames(ds, series, values, where)


def _whole(one: Probability, series: CtSeries) -> NDArray[np.uint8]:
    """Put probabilities onto all source slices."""
    shape = series.volume.voxels_hu.shape
    values = one.values
    if values.shape != shape:
        values = np.zeros(shape, np.uint8)
        values[one.first : one.first + len(one.values)] = one.values
    return values if series.placement is None else series.on_source(values)


def _description(number: int, segment: Segment, provenance: Provenance, seg_uid: str) -> SegmentDescription:
    item = description(number, segment, provenance)
    item.TrackingUID = identity.tracking_uid(seg_uid, str(segment.number))
    return item


def _with_frames(ds: Dataset, series: CtSeries, values: Sequence[NDArray[np.uint8]], where: Occupancy) -> Dataset:
    """Replace the stand-in's frames by bytes."""
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    name_frames(ds, groups, series)
    slices = seg_frames.slice_indices(series)
    order = [slices[seg_frames.source_slice(group)] for group in groups]
    del ds.PerFrameFunctionalGroupsSequence, ds.PixelData
    whole = Dataset()
    whole.file_meta = ds.file_meta
    whole.update(ds)
    whole.file_meta.TransferSyntaxUID = RLELossless
    _, whole.Rows, whole.Columns = values[0].shape
    whole.NumberOfFrames = where.frames
    whole.MaximumFractionalValue, whole.SegmentationFractionalType = CERTAIN, "PROBABILITY"
    correct_ambiguous_vr(whole, True)
    whole.set_original_encoding(False, True, convert_encodings(CHARACTER_SET))
    element = seg_frames.per_frame_groups(groups, order, where)
    whole[element.tag] = element
    planes = (values[number - 1][index] for number, index in seg_frames.pairs(where, order))
    whole.add_new("PixelData", "OB", encapsulate([seg_frames.rle_frame(plane) for plane in planes]))
    return whole
