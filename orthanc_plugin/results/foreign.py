"""What the readers of other makers' masks share: the grid of the CT, what must fit it, and codes as they come.

A mask is placed by its coordinates in the patient, never by the order of its frames. It must name the frame of
reference of the CT, and where it names a series it must name this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, Code
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import MaskError, Refusal
from orthanc_plugin.results.source_text import plain_text, raw_text

Vector = NDArray[np.float64]

OFF_SLICE = 0.1
"""How far from a slice, in steps between slices, a mask may lie that belongs to it."""
_LABEL, _MEANING, _SHORT = 64, 64, 16  # PS3.5 6.2


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The source slices of a CT in the patient.

    origins: (n, 3) mm, centre of the first pixel of each slice, rising in z.
    across, down: (3,) mm, from a pixel to the next one in its row, and to the one below.
    normal: (3,) unit vector, from slice to slice.
    step_mm: usual distance between slices.
    shape: slices, rows, columns.
    """

    origins: Vector
    across: Vector
    down: Vector
    normal: Vector
    step_mm: float
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, series: CtSeries) -> Grid:
        """Return the grid of the source slices of a series."""
        across, down = (series.volume.affine[:3, axis] for axis in (0, 1))
        origins = np.array([[float(v) for v in header.ImagePositionPatient] for header in series.headers])
        normal = np.cross(across, down)
        normal /= np.linalg.norm(normal)
        if len(origins) > 1 and (origins[-1] - origins[0]) @ normal < 0:
            normal = -normal
        steps = np.diff(origins @ normal)
        step = float(np.median(steps)) if len(steps) else series.volume.spacing_mm[0]
        return cls(origins, across, down, normal, step, series.source_shape)

    def slice_at(self, point: Vector) -> int | None:
        """Return the slice on which a point lies; None if it lies between slices or beyond them."""
        distances = np.abs((self.origins - point) @ self.normal)
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= OFF_SLICE * self.step_mm else None

    def pixels(self, points: Vector, index: int) -> Vector:
        """Return (n, 2) column and row, in pixels, of points (n, 3) in the plane of a slice."""
        basis = np.stack((self.across, self.down), axis=1)
        return np.asarray((points - self.origins[index]) @ np.linalg.pinv(basis).T)

    def heights(self, points: Vector) -> Vector:
        """Return how far along the normal points (n, 3) lie, in mm."""
        return np.asarray(points @ self.normal)


def check_frame_of_reference(stated: str, series: CtSeries) -> None:
    """Refuse masks whose coordinates are those of another scan.

    Raises
    ------
    MaskError
        If the object states another frame of reference, or none.
    """
    if stated not in (series.frame_of_reference_uid, *series.identity.frame_of_reference_uids):
        what = f"the frame of reference {_shown(stated)}" if stated else "no frame of reference"
        raise MaskError(
            Refusal.MASK_FRAME_OF_REFERENCE, f"the masks have {what}, and the CT has {series.frame_of_reference_uid}"
        )


def check_series(named: Collection[str], series: CtSeries) -> tuple[str, ...]:
    """Refuse masks that name other series only; return a note if they name none.

    Raises
    ------
    MaskError
        If series are named and the CT is not one of them.
    """
    if not named:
        return ("the masks name no series; they were taken by frame of reference and position",)
    if series.identity.series_instance_uid not in named:
        raise MaskError(Refusal.MASK_OTHER_SERIES, f"the masks were drawn on another series: {_shown(min(named))}")
    return ()


def check_object(mask: Dataset) -> None:
    """Refuse an object that a report could not refer to.

    Raises
    ------
    MaskError
        If one of its UIDs is missing or not valid.
    """
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not is_uid(str(mask.get(keyword) or "")):
            raise MaskError(Refusal.MASK_UNREADABLE, f"{keyword} of the object is missing or not a valid UID")


def check_numbers(numbers: Collection[int], what: str) -> None:
    """Refuse structures that share a number: the masks of one would be taken for those of the other.

    Raises
    ------
    MaskError
        If a number comes twice.
    """
    if twice := [number for number, count in Counter(numbers).items() if count > 1]:
        raise MaskError(Refusal.MASK_UNREADABLE, f"two {what} have the number {min(twice)}")


def _shown(uid: str) -> str:
    """Return a UID as messages may hold it: another text could be anything."""
    return uid if is_uid(uid) else "(not a valid UID)"


def code_of(items: Sequence[Dataset] | None, instead: Code = ANATOMICAL_STRUCTURE) -> Code:
    """Read the first coded concept of a sequence; `instead` if there is none that a report could repeat."""
    for item in items or ():
        value = str(item.get("CodeValue") or item.get("LongCodeValue") or "").strip()
        scheme, meaning = (str(item.get(k) or "").strip() for k in ("CodingSchemeDesignator", "CodeMeaning"))
        if value and scheme and max(len(value), len(scheme)) <= _SHORT:
            return Code(value, scheme, plain_text(_as_meant(meaning or value))[:_MEANING])
    return instead


def label_of(item: Dataset, keyword: str, number: int) -> str:
    """Read the name of a structure as a result can hold it; `Structure 4` if it has none."""
    text = plain_text(_as_meant(raw_text(item, keyword) or ""))
    return text.replace("\\", "/")[:_LABEL].strip() or f"Structure {number}"


def made_by(ds: Dataset) -> str:
    """Say which software made an object, without the names of people."""
    told = (raw_text(ds, keyword) or "" for keyword in ("Manufacturer", "ManufacturerModelName"))
    parts = (plain_text(_as_meant(text)) for text in told)
    return " ".join(part for part in parts if part) or "unknown software"


def _as_meant(text: str) -> str:
    """Read text as UTF-8 that was taken for Latin-1, because its writer declares no character set.

    dcmjs does so: OHIF 3.13.2 in a BINARY SEG. Latin-1 text with an accent is hardly ever valid UTF-8.
    """
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text
