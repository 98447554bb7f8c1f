"""List the key images of a result: the source slices of its pictures, and a BINARY SEG.

An archive that shows no SEG marks these slices of the CT (DICOM PS3.3 A.35.4, PS3.16 TID 2010).
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.headers import complete, image_references, result_headers
from orthanc_plugin.results.provenance import Provenance, statements_of
from orthanc_plugin.results.sc.preview import planes_of
from orthanc_plugin.results.sr.report import device_observer

SETTINGS = "source slices of 6 axial planes, BINARY SEG"
"""What decides the list beside the SEG; enters the SOPInstanceUID."""

_TITLE = CodedConcept("113009", "DCM", "For Research")  # PS3.16 CID 7010


def encode_key_objects(provenance: Provenance, seg: Dataset, segmentation: Segmentation) -> Dataset:
    """Encode the key images of one stored SEG as a Key Object Selection in a series of its own.

    Parameters
    ----------
    seg : Dataset
        The SEG as stored.
    segmentation : Segmentation
        What `decode_seg` reads from it.

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    series, headers = provenance.series, result_headers(provenance.series)
    axial = {series.source_index(plane.at) for plane in planes_of(series, segmentation) if not plane.axis}
    # dcmtk 3.6.7 ends at an image of a class that it does not know, and the standard has no other value type for one.
    segmentations = [seg] if seg.SOPClassUID == SegmentationStorage else []
    chosen = [*(headers[index] for index in sorted(axial)), *segmentations]
    ds = KeyObjectSelectionDocument(
        _instances(chosen),
        _content(provenance, chosen),
        contributing_equipment=[provenance.equipment()],
        **provenance.sop_arguments(Output.KEY_OBJECTS),
    )
    ds.copy_patient_and_study_information(headers[0])
    complete(ds, provenance, Output.KEY_OBJECTS)
    return ds


def _content(provenance: Provenance, chosen: Sequence[Dataset]) -> KeyObjectSelection:
    said = (*statements_of(provenance.card), *provenance.series.marks, "The slices show structures that were found.")
    content = KeyObjectSelection(
        _TITLE,
        _instances(chosen),
        observer_device_context=device_observer(provenance),
        description="\n".join(said),
    )
    images = (item for item in content[0].ContentSequence if item.ValueType == "IMAGE")
    for image, reference in zip(images, image_references(chosen), strict=True):
        image.ReferencedSOPSequence = [reference]
    return content


def _instances(chosen: Sequence[Dataset]) -> list[Dataset]:
    """List each instance once, also if several of its frames were chosen."""
    return list({str(ds.SOPInstanceUID): ds for ds in chosen}.values())
