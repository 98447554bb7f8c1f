"""What rules look at: the tags of one series as a whole, from its headers and from Orthanc's own metadata.

Headers are instances, or WADO-RS metadata of all of them; classic and multi-frame CT give the same tags. A value that
differs between instances keeps all its values. What lies beside the slices (localizers, pictures, other objects) is set
aside, as the loader does: rules judge the slices without it. A series of nothing else is judged as such.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

from orthanc_plugin.domain.hounsfield import rescale_unit
from orthanc_plugin.domain.image_kind import ImageKind, image_kinds
from orthanc_plugin.domain.instances import Beside, beside_slices, distinct_instances, few_enough
from orthanc_plugin.errors import InputError, Refusal

Vector = NDArray[np.float64]

_KIND_KEYWORDS = ("ImageType", "FrameType")
_IMAGE_TYPE_KEYWORDS = ("ImageType", "FrameType", "VolumeBasedCalculationTechnique")

# An obliquity of 37 degrees: gantries tilt up to 30 (the loader then says "gantry tilt"), coronal and sagittal are 90.
_AXIAL_COSINE = 0.8

_ODD_VALUES = (
    ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ArithmeticError, EOFError,
    RecursionError, BytesLengthException, struct.error,
)  # fmt: skip

_OF_OTHER_IMAGES = ("DerivationImageSequence", "ReferencedImageSequence", "SourceImageSequence")

_LIKE_OTHERS = (0.5, 1.5)
"""A step between positions counts for the spacing while it is that many times the median step."""

_TENTH = 1e-3

_SAME_POSITION_DECIMALS = 2  # positions closer than 0.01 mm are one
_SAME_DIRECTION_DECIMALS = 4  # direction cosines and pixel spacings that differ by less are equal


@dataclass(frozen=True, slots=True)
class OrthancMetadata:
    """What only Orthanc knows of a series: who sent it, and how it came in (each may be empty).

    anonymized, modified: whether Orthanc made the series from another one by `/anonymize` or `/modify`.
    """

    remote_aet: str
    origin: str
    anonymized: bool = False
    modified: bool = False
    remote_ip: str = ""


@dataclass(frozen=True, slots=True)
class SeriesTags:
    """Tags of a series.

    Texts: distinct values over all instances, empty where the tag is absent.
    slices: instances, or frames of multi-frame instances, without localizers.
    rescale_types: `HU` for every spelling of Hounsfield units.
    slice_thickness_mm, spacing_mm: largest SliceThickness; usual step between positions; None if unknown.
    localizers: how many images were set aside as localizers.
    time_points: how many images there are at a typical position.
    remote_aet, remote_ip, origin, anonymized, modified: as in OrthancMetadata; None where the archive cannot tell.
    complete: whether the archive gave whole headers (an Orthanc with DicomWeb.SeriesMetadata "MainDicomTags" does not).
    phantom: whether every image says that it is no patient: QualityControlImage YES (PS3.3 C.7.6.1).
    images_per_position: largest number of images at one position.
    orientations, pixel_spacings: number of different ones.
    step_ratio: largest step between neighbouring positions across the slices, divided by the smallest.
    coverage_mm: way from the first to the last position across the slices.
    The last five are None where an image does not tell.
    """

    archive: str
    modality: tuple[str, ...]
    sop_class_uids: tuple[str, ...]
    image_types: tuple[str, ...]
    rescale_types: tuple[str, ...]
    body_part_examined: tuple[str, ...]
    series_description: tuple[str, ...]
    study_description: tuple[str, ...]
    protocol_name: tuple[str, ...]
    convolution_kernel: tuple[str, ...]
    slices: int
    slice_thickness_mm: float | None
    spacing_mm: float | None
    time_points: int
    axial: bool | None
    study_age_days: int | None
    remote_aet: str | None
    origin: str | None
    complete: bool
    phantom: bool = False
    anonymized: bool | None = None
    modified: bool | None = None
    localizers: int = 0
    images_per_position: int | None = None
    orientations: int | None = None
    pixel_spacings: int | None = None
    step_ratio: float | None = None
    coverage_mm: float | None = None
    remote_ip: str | None = None

    @property
    def kinds(self) -> Mapping[ImageKind, str]:
        """Kinds that ImageType tells, each with the value that tells it."""
        return image_kinds(self.image_types)


def series_tags(
    headers: Sequence[Dataset], orthanc: OrthancMetadata | None = None, *, archive: str, today: date
) -> SeriesTags:
    """Read the tags of one series.

    Parameters
    ----------
    headers : sequence of Dataset
        All instances of the series, or their WADO-RS metadata.
    orthanc : OrthancMetadata or None
        None where the archive is no Orthanc.
    archive : str
        Name of the archive in which the series lies.
    today : date
        For the age of the study.

    Raises
    ------
    InputError
        GONE: there are no headers. UNREADABLE: they cannot be read. MIXED_IDENTITY: an instance has two contents.
    """
    if not headers:
        raise InputError(Refusal.GONE, "the series has no instances")
    try:
        return _tags(headers, orthanc, archive, today)
    except _ODD_VALUES as error:
        # Odd values, which pydicom only finds out when they are asked for; its text may quote them.
        said = f"the headers cannot be read ({type(error).__name__}); export the series again"
        raise InputError(Refusal.UNREADABLE, said) from error


def _tags(headers: Sequence[Dataset], orthanc: OrthancMetadata | None, archive: str, today: date) -> SeriesTags:
    instances = distinct_instances(headers)
    kept, frames, localizers = _slices(instances)
    geometry, layout = _geometry(frames), _layout(frames)
    return SeriesTags(
        archive=archive,
        modality=_distinct(frames, "Modality"),
        sop_class_uids=_distinct(frames, "SOPClassUID"),
        image_types=_image_types(frames),
        rescale_types=tuple(dict.fromkeys(rescale_unit(text) for text in _distinct(frames, "RescaleType"))),
        body_part_examined=_distinct(frames, "BodyPartExamined"),
        series_description=_distinct(frames, "SeriesDescription"),
        study_description=_distinct(frames, "StudyDescription"),
        protocol_name=_distinct(frames, "ProtocolName"),
        convolution_kernel=_distinct(frames, "ConvolutionKernel"),
        slices=sum(max(1, int(_number(frame, "NumberOfFrames") or 1)) for frame in map(_whole, kept)),
        slice_thickness_mm=max((t for frame in frames if (t := _number(frame, "SliceThickness"))), default=None),
        spacing_mm=geometry.spacing_mm,
        time_points=geometry.time_points,
        axial=geometry.axial,
        study_age_days=_age_days(kept[0], today),
        remote_aet=orthanc.remote_aet if orthanc else None,
        origin=orthanc.origin if orthanc else None,
        complete=all(_values(_whole(header), "ImageType") or _values(_whole(header), "Rows") for header in kept),
        phantom=all(_values(_whole(header), "QualityControlImage") == ("YES",) for header in kept),
        anonymized=orthanc.anonymized if orthanc else None,
        modified=orthanc.modified if orthanc else None,
        localizers=localizers,
        images_per_position=layout.images_per_position,
        orientations=layout.orientations,
        pixel_spacings=layout.pixel_spacings,
        step_ratio=layout.step_ratio,
        coverage_mm=layout.coverage_mm,
        remote_ip=orthanc.remote_ip if orthanc else None,
    )


def _slices(headers: Sequence[Dataset]) -> tuple[list[Dataset], list[_Frame], int]:
    """Headers and frames of slices, and how many localizers there are; all headers where none is that of a slice."""
    frames = {id(header): list(_frames(header)) for header in headers}
    kinds = [
        beside_slices(h, (value for f in frames[id(h)] for key in _KIND_KEYWORDS for value in _values(f, key)))
        for h in headers
    ]
    told = [header for header, kind in zip(headers, kinds, strict=True) if kind is None]
    kept = _without_odd(told or list(headers), frames)
    localizers = (kinds.count(Beside.LOCALIZER) if told else 0) + len(told or headers) - len(kept)
    return kept, [frame for header in kept for frame in frames[id(header)]], localizers


def _without_odd(headers: list[Dataset], frames: Mapping[int, list[_Frame]]) -> list[Dataset]:
    """Leave out the few headers whose planes stand more than 45 degrees across the others'."""
    normals = [_normal(frames[id(header)][0]) for header in headers]
    known = np.array([normal for normal in normals if normal is not None])
    if not len(known):
        return headers
    middle = np.median(known * np.sign(known[np.arange(len(known)), np.abs(known).argmax(axis=1)])[:, None], axis=0)
    is_odd = [normal is not None and abs(normal @ middle) < np.sqrt(0.5) for normal in normals]
    if not few_enough(sum(is_odd), len(headers)):
        return headers
    return [header for header, odd in zip(headers, is_odd, strict=True) if not odd]


# A frame is the datasets in which to look for an attribute, nearest first (PS3.3 C.7.6.16: functional groups).
_Frame = Sequence[Dataset]


def _whole(header: Dataset) -> _Frame:
    return (header,)


def _frames(header: Dataset) -> Iterator[_Frame]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = [macro for item in header.get("SharedFunctionalGroupsSequence") or () for macro in _macros(item)]
    for item in per_frame:
        yield (*_macros(item), *shared, header)
    if not per_frame:
        yield (*shared, header)


def _macros(item: Dataset) -> Iterator[Dataset]:
    """Give the first item of each functional group; what a maker or another image says is not said of the frame."""
    for element in item:
        of_frame = not element.tag.is_private and element.keyword not in _OF_OTHER_IMAGES
        if of_frame and element.VR == "SQ" and element.value:
            yield element.value[0]


def _values(frame: _Frame, keyword: str) -> tuple[str, ...]:
    """Give the values of an attribute as texts; none where it is absent, empty or unreadable."""
    for dataset in frame:
        try:
            value = dataset.get(keyword)
        except (ValueError, TypeError):
            return ()
        if value is not None:
            values = tuple(str(item).strip() for item in (value if isinstance(value, MultiValue | list) else [value]))
            if any(values):
                return values
    return ()


def _numbers(frame: _Frame, keyword: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in _values(frame, keyword))
    except ValueError:
        return ()


def _number(frame: _Frame, keyword: str) -> float | None:
    return next(iter(_numbers(frame, keyword)), None)


def _distinct(frames: Iterable[_Frame], keyword: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys("\\".join(values) for frame in frames if (values := _values(frame, keyword))))


def _image_types(frames: Iterable[_Frame]) -> tuple[str, ...]:
    """All values of ImageType, of Frame Type and of how a volume was calculated, upper case, without NONE."""
    found: dict[str, None] = {}
    for frame in frames:
        for keyword in _IMAGE_TYPE_KEYWORDS:
            found.update(dict.fromkeys(value.upper() for value in _values(frame, keyword)))
        if _values(frame, "MonoenergeticEnergyEquivalent"):
            found["VMI"] = None
    return tuple(value for value in found if value not in ("", "NONE"))


@dataclass(frozen=True, slots=True)
class _Geometry:
    axial: bool | None
    spacing_mm: float | None
    time_points: int


def _geometry(frames: Sequence[_Frame]) -> _Geometry:
    normals = [normal for frame in frames if (normal := _normal(frame)) is not None]
    axial = all(abs(normal[2]) >= _AXIAL_COSINE for normal in normals) if normals else None
    positions = [position for frame in frames if len(position := _numbers(frame, "ImagePositionPatient")) == 3]
    if not positions:
        return _Geometry(axial, None, 1)
    images_at = Counter(tuple(np.round(position, _SAME_POSITION_DECIMALS)) for position in positions)
    time_points = int(median(images_at.values()))
    if not normals:
        return _Geometry(axial, None, time_points)
    along = np.unique(np.round(np.asarray(positions) @ normals[0], _SAME_POSITION_DECIMALS))
    return _Geometry(axial, _step_mm(along) if len(along) > 1 else None, time_points)


def _step_mm(along: Vector) -> float:
    """Give the usual step between rising positions: the median, or the mean where the sender rounded to tenths."""
    steps = np.diff(along)
    middle = float(np.median(steps))
    tenths = along * 10
    if np.abs(tenths - np.rint(tenths)).max() > _TENTH:
        return middle
    low, high = _LIKE_OTHERS
    return round(float(steps[(steps > low * middle) & (steps < high * middle)].mean()), 4)


@dataclass(frozen=True, slots=True)
class _Layout:
    images_per_position: int | None
    orientations: int | None
    pixel_spacings: int | None
    step_ratio: float | None
    coverage_mm: float | None


def _layout(frames: Sequence[_Frame]) -> _Layout:
    """Measure how evenly the images lie; a figure is None where an image lacks what it is made of."""
    positions = _rounded(frames, "ImagePositionPatient", 3, _SAME_POSITION_DECIMALS)
    orientations = _rounded(frames, "ImageOrientationPatient", 6, _SAME_DIRECTION_DECIMALS)
    pixel_spacings = _rounded(frames, "PixelSpacing", 2, _SAME_DIRECTION_DECIMALS)
    normal = next((normal for frame in frames if (normal := _normal(frame)) is not None), None)
    steps = np.array([])
    if positions and normal is not None:
        steps = np.diff(np.unique(np.round(np.asarray(positions) @ normal, _SAME_POSITION_DECIMALS)))
    return _Layout(
        images_per_position=max(Counter(positions).values(), default=None),
        orientations=len(set(orientations)) or None,
        pixel_spacings=len(set(pixel_spacings)) or None,
        # Rounded, so that a ratio of exactly 2 (a missing slice) is never just below 2.
        step_ratio=round(float(steps.max() / steps.min()), 3) if steps.size else None,
        coverage_mm=float(steps.sum()) if steps.size else None,
    )


def _rounded(frames: Sequence[_Frame], keyword: str, length: int, decimals: int) -> list[tuple[float, ...]]:
    """Return the rounded numbers of every image; none if one of the images lacks them."""
    found = [_numbers(frame, keyword) for frame in frames]
    if any(len(numbers) != length for numbers in found):
        return []
    return [tuple(map(float, np.round(numbers, decimals))) for numbers in found]


def _normal(frame: _Frame) -> Vector | None:
    """Give the unit vector across the slice (PS3.3 C.7.6.2.1.1)."""
    orientation = _numbers(frame, "ImageOrientationPatient")
    if len(orientation) != 6:
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0 else None


def _age_days(header: Dataset, today: date) -> int | None:
    text = "".join(_values(_whole(header), "StudyDate"))
    try:
        return (today - date(int(text[:4]), int(text[4:6]), int(text[6:8]))).days
    except ValueError:
        return None
