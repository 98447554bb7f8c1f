"""The instances of one CT series to a volume that can be vouched for, or a refusal with its reason.

Instances are consumed one by one: each is checked, decoded in a small thread pool and kept as its stored pixels and its
header only, so a series costs its volume and half of that again. What was put right is noted, what cannot be put right
is refused; messages hold UIDs and numbers of the geometry, no patient data.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from orthanc_plugin import identity
from orthanc_plugin.domain.volume import CtSeries, Volume, Voxels
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.identity import SeriesIdentity
from orthanc_plugin.series.geometry import (
    SAME_POSITION_MM,
    SlicePlane,
    Stack,
    fit_grid,
    is_tilt_hidden,
    odd_planes,
    same_heights,
    slice_plane,
    stack_of,
)
from orthanc_plugin.series.pixels import Rescale, Stored, decode, fill_hu, padding_of, rescale_of

MIN_SLICES = 3
"""Fewer give no volume; the default rule asks for more."""

_PIXEL_DATA_GROUP = 0x7FE00000
_THREADS = min(4, os.cpu_count() or 1)
_MULTI_FRAME = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    header: Dataset
    plane: SlicePlane
    stored: Stored
    rescale: Rescale

    def repeats(self, other: _Slice) -> bool:
        """Whether it is the same image at the same place."""
        distance = np.abs(self.plane.position - other.plane.position).max()
        same_scale = self.rescale == other.rescale
        return bool(distance <= SAME_POSITION_MM and same_scale and np.array_equal(self.stored, other.stored))


def identity_of(headers: Sequence[Dataset]) -> SeriesIdentity:
    """Who a series is.

    Parameters
    ----------
    headers : sequence of Dataset
        All instances of one series, or their WADO-RS metadata; pixel data is not looked at.

    Raises
    ------
    InputError
        GONE: there is no instance. MIXED_IDENTITY: PatientID, StudyInstanceUID or SeriesInstanceUID differ, or a
        SOPInstanceUID comes twice. MISSING_IDENTITY: a UID is missing.
    """
    if not headers:
        raise InputError(Refusal.GONE, "the series has no instances")
    sop_uids = tuple(_uid(ds, "SOPInstanceUID") for ds in headers)
    if len(set(sop_uids)) < len(sop_uids):
        raise InputError(Refusal.MIXED_IDENTITY, "a SOPInstanceUID comes more than once; send each instance once")
    return SeriesIdentity(
        patient_id=_only({str(ds.get("PatientID") or "") for ds in headers}, "PatientID"),
        study_instance_uid=_only({_uid(ds, "StudyInstanceUID") for ds in headers}, "StudyInstanceUID"),
        series_instance_uid=_only({_uid(ds, "SeriesInstanceUID") for ds in headers}, "SeriesInstanceUID"),
        sop_instance_uids=tuple(sorted(sop_uids)),
        frame_of_reference_uids=tuple(sorted({str(ds.get("FrameOfReferenceUID") or "") for ds in headers} - {""})),
    )


def read_series(instances: Iterable[Dataset]) -> CtSeries:
    """Read one CT series.

    Parameters
    ----------
    instances : iterable of Dataset
        The instances of one series with pixel data, in any order; left unchanged. Give an iterator and no compressed
        or raw pixel data stays in memory.

    Returns
    -------
    CtSeries
        Volume on one regular orthogonal grid, z rising; headers in z order without pixel data.

    Raises
    ------
    InputError
        With the `Refusal` that docs/geometry.md lists.
    """
    localizers: list[Dataset] = []
    slices = sorted(_decoded(instances, localizers), key=lambda s: str(s.header.get("SOPInstanceUID")))
    who = identity_of([*(s.header for s in slices), *localizers])
    if not slices:
        raise InputError(Refusal.NOT_CT, "the series holds localizers only")
    notes = [f"{len(localizers)} localizer(s) left out"] if localizers else []
    slices = _without_odd(slices, notes)
    stack = stack_of([s.plane for s in slices])
    slices = _without_duplicates(stack, slices, notes)
    if len(slices) < MIN_SLICES:
        raise InputError(Refusal.TOO_FEW_SLICES, f"{len(slices)} slice(s), at least {MIN_SLICES} make a volume")
    grid = fit_grid(stack, [s.plane for s in slices])
    slices = [slices[i] for i in grid.order]
    if is_tilt_hidden(max(_tilt_degrees(s.header) for s in slices), grid):
        message = "GantryDetectorTilt tells of a tilt that the slice planes do not show; reconstruct without tilt"
        raise InputError(Refusal.GANTRY_TILT, message)
    headers = tuple(s.header for s in slices)
    frame = _frame_of_reference(headers, who, notes)
    if any(ds.get("LossyImageCompression") == "01" for ds in headers):
        notes.append("pixels were compressed with loss before they came here")
    volume = Volume(_voxels(slices, notes), grid.spacing_mm, grid.affine)
    return CtSeries(who, volume, headers, frame, tuple(notes))


def _uid(ds: Dataset, keyword: str) -> str:
    value = str(ds.get(keyword) or "")
    if not value:
        raise InputError(Refusal.MISSING_IDENTITY, f"an instance has no {keyword}; de-identify again, keeping UIDs")
    return value


def _only(values: set[str], keyword: str) -> str:
    if len(values) > 1:
        raise InputError(Refusal.MIXED_IDENTITY, f"instances differ in {keyword}; split the series")
    return values.pop()


def _decoded(instances: Iterable[Dataset], localizers: list[Dataset]) -> Iterator[_Slice]:
    """Slices in the order of arrival, a few decoded at a time; localizers are set aside by their ImageType."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        pending: deque[Future[_Slice]] = deque()
        for ds in instances:
            _check_kind(ds)
            if "LOCALIZER" in _image_type(ds):
                localizers.append(_header(ds))
                continue
            pending.append(pool.submit(_slice, ds))
            if len(pending) > 2 * _THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _check_kind(ds: Dataset) -> None:
    sop_class = ds.get("SOPClassUID")
    if ds.get("Modality") != "CT":
        raise InputError(Refusal.NOT_CT, "Modality is not CT")
    if sop_class in _MULTI_FRAME or _frames(ds) > 1:
        raise InputError(
            Refusal.MULTI_FRAME, "multi-frame CT is not read yet; send it as single-frame CT Image Storage"
        )
    if sop_class != CTImageStorage:
        raise InputError(Refusal.NOT_CT, "SOPClassUID is missing or not CT Image Storage")


def _frames(ds: Dataset) -> int:
    try:
        return int(ds.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        raise InputError(Refusal.UNREADABLE, "NumberOfFrames is no number; export the series again") from None


def _image_type(ds: Dataset) -> tuple[str, ...]:
    values = ds.get("ImageType") or ()
    return (values,) if isinstance(values, str) else tuple(str(value).strip() for value in values)


def _header(ds: Dataset) -> Dataset:
    header = ds[:_PIXEL_DATA_GROUP]
    if hasattr(ds, "file_meta"):
        header.file_meta = ds.file_meta
    return header


def _slice(ds: Dataset) -> _Slice:
    rescale, plane, stored = rescale_of(ds), slice_plane(ds), decode(ds)
    if stored.shape != plane.size:
        raise InputError(Refusal.UNREADABLE, "decoded pixels do not have the size that the header gives")
    return _Slice(_header(ds), plane, stored, rescale)


def _without_odd(slices: list[_Slice], notes: list[str]) -> list[_Slice]:
    odd = odd_planes([s.plane for s in slices])
    if odd:
        notes.append(f"{len(odd)} slice(s) across the others left out as localizers")
    return [s for index, s in enumerate(slices) if index not in odd]


def _without_duplicates(stack: Stack, slices: list[_Slice], notes: list[str]) -> list[_Slice]:
    """One slice a height; equal images at its place are dropped, others refuse the series."""
    kept = []
    groups = same_heights(stack, [s.plane for s in slices])
    for first, *others in groups:
        if not all(slices[first].repeats(slices[other]) for other in others):
            raise InputError(Refusal.DUPLICATE_POSITIONS, _phases_message(len(slices), len(groups)))
        kept.append(slices[first])
    if len(kept) < len(slices):
        notes.append(f"{len(slices) - len(kept)} duplicate slice(s) left out")
    return kept


def _phases_message(slices: int, positions: int) -> str:
    if positions > 1 and slices % positions == 0:
        return f"{slices // positions} images at each position (phases, 4D or perfusion); split the series by phase"
    return f"{slices} different images at {positions} positions; split the series"


def _tilt_degrees(ds: Dataset) -> float:
    try:
        return abs(float(ds.get("GantryDetectorTilt") or 0.0))
    except (TypeError, ValueError):
        return 0.0


def _frame_of_reference(headers: Sequence[Dataset], who: SeriesIdentity, notes: list[str]) -> str:
    """Return the frame of reference for results; a derived one where de-identification gave every slice its own."""
    uids = [str(ds.get("FrameOfReferenceUID") or "") for ds in headers]
    if not all(uids):
        raise InputError(Refusal.MISSING_GEOMETRY, "FrameOfReferenceUID is missing; results could not be placed")
    if len(set(uids)) == 1:
        return uids[0]
    if len(set(uids)) < len(uids):
        message = f"{len(set(uids))} frames of reference: several scans in one series; split it"
        raise InputError(Refusal.MIXED_FRAME_OF_REFERENCE, message)
    notes.append("every slice has its own FrameOfReferenceUID; results use one derived from the series")
    return identity.frame_of_reference_uid(who)


def _voxels(slices: list[_Slice], notes: list[str]) -> Voxels:
    voxels = np.empty((len(slices), *slices[0].plane.size), np.float32)
    replaced = 0
    for index, s in enumerate(slices):
        replaced += fill_hu(s.stored, s.rescale, padding_of(s.header, s.rescale), voxels[index])
    if replaced:
        notes.append(f"padding and values below -1024 HU set to -1024 HU in {replaced} slice(s)")
    return voxels
