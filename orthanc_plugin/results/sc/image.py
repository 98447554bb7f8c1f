"""Encode a picture as a Secondary Capture Image: RGB, 8 bit, not compressed, one frame.

Of all classes of colour pictures, this one is supported most widely (decision 0026).
"""

from __future__ import annotations

from dataclasses import dataclass

import highdicom
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from orthanc_plugin import identity
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.headers import complete, first_header, image_references
from orthanc_plugin.results.provenance import Provenance, statements_of
from orthanc_plugin.results.sc.drawing import banner
from orthanc_plugin.results.seg.labels import comments


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture, and what it shows.

    slices: indices of the source slices that it shows; None if it cuts all of them.
    edges: where its left, right, upper and lower edge lie in the patient; empty if it shows several planes.
    shows_profile: whether it holds a sagittal plane. That of a head shows the face in profile.
    """

    image: Image.Image
    slices: tuple[int, ...] | None = None
    edges: tuple[str, ...] = ()
    shows_profile: bool = False


def encode_picture(
    provenance: Provenance, seg: Dataset, picture: Picture, kind: Output, *, number: int = 1, first: str = ""
) -> Dataset:
    """Encode one picture of the structures of a stored SEG.

    Parameters
    ----------
    seg : Dataset
        The SEG as stored.
    kind : Output
        What the series of the picture holds.
    number : int
        InstanceNumber.
    first : str
        SOPInstanceUID of the first picture of the series; this one by default.

    Returns
    -------
    Dataset
        BurnedInAnnotation is NO: the attribute is about text that identifies patient and date (DICOM PS3.3 C.7.6.1),
        and what is drawn does not.
    """
    series, header = provenance.series, first_header(provenance.series)
    # highdicom quotes a physician's name without `^` in a warning, so names are copied afterwards.
    arguments = provenance.sop_arguments(kind)
    arguments["instance_number"] = number
    if first:
        arguments["series_instance_uid"] = identity.series_uid(first)
    ds = highdicom.sc.SCImage(
        np.asarray(picture.image),
        "RGB",
        8,
        "PATIENT",
        study_instance_uid=header.StudyInstanceUID,
        patient_orientation=("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[provenance.equipment()],
        **arguments,
    )
    ds.copy_patient_and_study_information(header)
    ds.PatientOrientation = [picture.edges[1], picture.edges[3]] if picture.edges else []
    ds.ImageLaterality = "U"  # whole cross sections: no paired part
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "NO"
    if (shows := recognizable(provenance.source, shows_profile=picture.shows_profile)) is not None:
        ds.RecognizableVisualFeatures = shows
    ds.DerivationDescription = f"Outlines of the structures found by {provenance.model}. {banner(provenance.card)}"
    ds.ImageComments = comments((*statements_of(provenance.card), *series.marks))
    shown = series.headers if picture.slices is None else [series.headers[index] for index in picture.slices]
    ds.SourceImageSequence = image_references([*shown, seg])
    complete(ds, provenance, kind)
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    return ds


def recognizable(source: Dataset, *, shows_profile: bool) -> str | None:
    """Say whether a picture shows a face (RecognizableVisualFeatures); None if that is not known.

    Cross sections do not show faces. A sagittal plane through a head does, unless the source says that it shows none.
    """
    if not shows_profile:
        return "NO"
    value = source.get("RecognizableVisualFeatures")
    return str(value) if value in ("YES", "NO") else None
