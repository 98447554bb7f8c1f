"""The instances of one CT series to a volume that can be vouched for, or a refusal with its reason.

Instances are consumed one by one: each is checked, decoded in a small thread pool and kept as its stored pixels and its
header only, so a series costs its volume and half of that again. What was put right is noted, what cannot be put right
is refused; messages hold UIDs and numbers of the geometry, no patient data.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from orthanc_plugin import identity
from orthanc_plugin.correlation import CarryingPool
from orthanc_plugin.domain.hounsfield import HOUNSFIELD
from orthanc_plugin.domain.instances import (
    CT_IMAGES,
    Beside,
    beside_slices,
    frame_count,
    frame_number,
    same_content,
    two_contents,
)
from orthanc_plugin.domain.reading import MissingSlices, Phase, ReadSettings
from orthanc_plugin.domain.volume import CtSeries, Volume, Voxels
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.identity import SeriesIdentity
from orthanc_plugin.series.beside import Aside
from orthanc_plugin.series.damage import check_slices_whole
from orthanc_plugin.series.decoders import MAY_LOSE
from orthanc_plugin.series.frames import check_concatenations, image_types, is_multi_frame, single_frames
from orthanc_plugin.series.geometry import (
    SAME_POSITION_MM,
    Grid,
    SlicePlane,
    Stack,
    fit_grid,
    is_upright,
    odd_planes,
    same_heights,
    slice_plane,
    stack_of,
)
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.limits import check_extent, check_voxels
from orthanc_plugin.series.phases import choose_phase
from orthanc_plugin.series.pixels import Rescale, Stored, decode, fill_hu, padding_of, rescale_of, sample_hu
from orthanc_plugin.series.plausibility import check_plausible, fills_11_bits, sampling_step, wrapped
from orthanc_plugin.series.resampling import in_place, resample
from orthanc_plugin.series.rows import SLICES_LOOKED_AT, check_row_length
from orthanc_plugin.series.scale import check_scale, doubtful_lengths

MIN_SLICES = 3
"""Fewer give no volume; the default rule asks for more."""

TILT_NOTED_DEGREES = 1.0
"""GantryDetectorTilt is nominal (PS3.3 C.8.2.1). A smaller one beside upright planes is not worth a note."""

_AS_IT_IS = ReadSettings()
_PIXEL_DATA_GROUP = 0x7FE00000
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
"""Values that pydicom can always read: any bytes are a text. Headers hold mostly these, and few are asked for."""
_THREADS = min(4, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    header: Dataset
    plane: SlicePlane
    stored: Stored
    rescale: Rescale

    @property
    def key(self) -> tuple[str, int]:
        """Give the SOPInstanceUID, and the number of the frame (0 for a single-frame instance)."""
        return str(self.header.get("SOPInstanceUID")), frame_number(self.header) or 0

    def is_again(self, other: _Slice) -> bool:
        """Whether it is the same image; refuses one SOPInstanceUID with two contents."""
        if not self.header.get("SOPInstanceUID") or self.key != other.key:
            return False
        if not (np.array_equal(self.stored, other.stored) and same_content(self.header, other.header)):
            raise two_contents(self.key[0])
        return True

    def repeats(self, other: _Slice) -> bool:
        """Whether it is the same image at the same place."""
        distance = np.abs(self.plane.position - other.plane.position).max()
        same_scale = self.rescale == other.rescale
        return bool(distance <= SAME_POSITION_MM and same_scale and np.array_equal(self.stored, other.stored))


def read_series(instances: Iterable[Dataset], settings: ReadSettings = _AS_IT_IS) -> CtSeries:
    """Read one CT series, or refuse it.

    Parameters
    ----------
    instances : iterable of Dataset
        The instances of one series with pixel data, in any order; left unchanged. Give an iterator and no compressed
        or raw pixel data stays in memory.
    settings : ReadSettings
        What the rule allows: one phase of several, interpolated slices.

    Returns
    -------
    CtSeries
        Volume on one regular orthogonal grid, z rising; headers in z order without pixel data.

    Raises
    ------
    InputError
        With the `Refusal` that docs/geometry.md lists.
    """
    aside = Aside()
    notes: list[str] = []
    slices = _without_repeats(sorted(_decoded(instances, aside), key=_key), notes)
    who = identity_of([*(s.header for s in slices if not is_multi_frame(s.header)), *aside.headers])
    check_concatenations(aside.multi_frame)
    if not slices:
        raise InputError(Refusal.NOT_CT, "the series holds localizers or pictures only; send the CT series")
    slices = _without_odd(slices, aside.count(Beside.LOCALIZER), notes)
    notes += aside.notes()
    stack = stack_of([s.plane for s in slices])
    aside.check_ends(stack, [s.plane for s in slices])
    slices, phase_mark = _one_phase(stack, slices, settings.phase)
    slices = _without_duplicates(stack, slices, notes)
    if len(slices) < MIN_SLICES:
        raise InputError(Refusal.TOO_FEW_SLICES, f"{len(slices)} slice(s), at least {MIN_SLICES} make a volume")
    grid = fit_grid(stack, [s.plane for s in slices], settings.missing_slices)
    slices = [slices[i] for i in grid.order]
    check_extent(grid.shape, grid.spacing_mm)
    check_voxels(int(np.prod(grid.shape)))
    _note_geometry(slices, grid, notes)
    headers = tuple(s.header for s in slices)
    frame = _frame_of_reference(headers, who, notes)
    _note_pixels(headers, notes)
    samples = _samples(slices)
    notes += check_plausible(samples, [s.rescale for s in slices])
    notes += _inverted(slices, samples)
    if fills_11_bits(samples):
        notes += wrapped(_rows(slices))
    del samples
    voxels = _voxels(slices, notes)
    notes += check_scale(headers, slices[0].plane.size, stack.pixel_spacing_mm, voxels)
    check_row_length(voxels[:: len(voxels) // SLICES_LOOKED_AT + 1])
    notes += check_slices_whole(in_place(voxels, grid.placement, grid.shape))
    if grid.placement is not None:
        voxels = resample(voxels, grid.placement, grid.shape)
    return CtSeries(
        who, Volume(voxels, grid.spacing_mm, grid.affine), headers, frame, tuple(notes),
        marks=(*phase_mark, *grid.marks),
        placement=grid.placement,
        variant=_variant(settings, bool(phase_mark), grid),
    )  # fmt: skip


def _key(s: _Slice) -> tuple[str, int]:
    return s.key


def _decoded(instances: Iterable[Dataset], aside: Aside) -> Iterator[_Slice]:
    """Slices in the order of arrival, a few decoded at a time; what its header tells from a slice is set aside."""
    with CarryingPool(_THREADS, thread_name_prefix="decode") as pool:
        pending: deque[Future[_Slice]] = deque()
        voxels = 0
        for ds in _single_slices(instances, aside):
            with _readable():
                voxels += _voxel_count(ds)
            check_voxels(voxels)
            pending.append(pool.submit(_slice, ds))
            if len(pending) > 2 * _THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _single_slices(instances: Iterable[Dataset], aside: Aside) -> Iterator[Dataset]:
    for ds in instances:
        with _readable():
            kind = beside_slices(ds, (*_image_type(ds), *image_types(ds)))
            if kind is None:
                _check_kind(ds)
        if kind is not None:
            aside.beside.append((kind, _header(ds)))
        elif is_multi_frame(ds):
            aside.multi_frame.append(_header(ds))
            yield from single_frames(ds)
        else:
            yield ds


@contextmanager
def _readable() -> Iterator[None]:
    """Refuse an instance of which pydicom tells only when a value is asked for that it is damaged."""
    try:
        yield
    except (NotImplementedError, BytesLengthException) as error:
        message = f"a header value cannot be read ({type(error).__name__}); copy or export the series again"
        raise InputError(Refusal.UNREADABLE, message) from None


def _voxel_count(ds: Dataset) -> int:
    try:
        return int(ds.get("Rows") or 0) * int(ds.get("Columns") or 0)
    except (TypeError, ValueError, BytesLengthException):
        return 0  # slice_plane says what is wrong


def _check_kind(ds: Dataset) -> None:
    if ds.get("Modality") != "CT":
        raise InputError(Refusal.NOT_CT, "Modality is not CT; send the CT series")
    if not is_multi_frame(ds) and frame_count(ds) > 1:
        message = "several frames in an instance that is not Enhanced CT; send it as single-frame CT Image Storage"
        raise InputError(Refusal.MULTI_FRAME, message)
    if str(ds.get("SOPClassUID") or "") not in CT_IMAGES:
        raise InputError(Refusal.NOT_CT, "SOPClassUID is missing or not a CT image; send the CT series")


def _image_type(ds: Dataset) -> tuple[str, ...]:
    values = ds.get("ImageType") or ()
    return (values,) if isinstance(values, str) else tuple(str(value).strip() for value in values)


def _header(ds: Dataset) -> Dataset:
    """Copy the header; elements whose value nobody can read count as absent, so that no later room stumbles on them."""
    with _readable():
        header = ds[:_PIXEL_DATA_GROUP]
    for tag in [tag for tag in header.keys() if not tag.is_private]:  # noqa: SIM118 - iteration would read values
        if _is_text(header.get_item(tag)):
            continue
        try:
            header[tag]
        except (NotImplementedError, BytesLengthException):
            del header[tag]
    if hasattr(ds, "file_meta"):
        header.file_meta = ds.file_meta
    return header


def _is_text(element: DataElement | RawDataElement) -> bool:
    """Tell whether a value is a text; implicit VR leaves that to the dictionary."""
    if element.VR is None and dictionary_has_tag(element.tag):
        return dictionary_VR(element.tag) in _TEXTS
    return element.VR in _TEXTS


def _slice(ds: Dataset) -> _Slice:
    with _readable():
        rescale, plane, stored = rescale_of(ds), slice_plane(ds), decode(ds)
    return _Slice(_header(ds), plane, stored, rescale)


def _without_repeats(slices: list[_Slice], notes: list[str]) -> list[_Slice]:
    """Each instance once: the same file may lie in a folder twice; `identity_of` refuses what else shares a UID."""
    kept: list[_Slice] = []
    for s in slices:  # equal UIDs lie side by side
        if not (kept and s.is_again(kept[-1])):
            kept.append(s)
    if len(kept) < len(slices):
        notes.append(f"{len(slices) - len(kept)} instance(s) came twice with the same content and count once")
    return kept


def _without_odd(slices: list[_Slice], localizers: int, notes: list[str]) -> list[_Slice]:
    """Slices without those across the others; the note counts the localizers that ImageType told of as well."""
    odd = odd_planes([s.plane for s in slices])
    if localizers:
        notes.append(f"{localizers + len(odd)} localizer(s) left out")
    elif odd:
        notes.append(f"{len(odd)} slice(s) across the others left out as localizers")
    return [s for index, s in enumerate(slices) if index not in odd]


def _note_geometry(slices: Sequence[_Slice], grid: Grid, notes: list[str]) -> None:
    if grid.drift_mm:
        placed = f"they are placed within {grid.drift_mm / 2:.2f} mm"
        notes.append(f"slices drift sideways by {grid.drift_mm:.2f} mm (table sag); {placed}")
    tilt = max(abs(_number(s.header, "GantryDetectorTilt")) for s in slices)
    if tilt > TILT_NOTED_DEGREES and is_upright(grid):
        notes.append(f"GantryDetectorTilt says {tilt:g} degrees, the slices stand upright; it is taken for nominal")
    thickness_mm = float(np.median([_number(s.header, "SliceThickness") for s in slices]))
    notes += doubtful_lengths(grid.shape, grid.spacing_mm, thickness_mm)


def _note_pixels(headers: Sequence[Dataset], notes: list[str]) -> None:
    if any(ds.get("LossyImageCompression") == "01" for ds in headers):
        notes.append("pixels were compressed with loss before they came here")
    elif any(_may_have_lost(ds) for ds in headers):
        notes.append("pixels came in a transfer syntax that allows loss; LossyImageCompression says nothing of it")
    if any(str(ds.get("RescaleType") or HOUNSFIELD) != HOUNSFIELD for ds in headers):
        notes.append("RescaleType is not spelled HU but means Hounsfield units")


def _may_have_lost(ds: Dataset) -> bool:
    return ds.get("LossyImageCompression") != "00" and ds.file_meta.get("TransferSyntaxUID") in MAY_LOSE


def _one_phase(stack: Stack, slices: list[_Slice], phase: Phase) -> tuple[list[_Slice], tuple[str, ...]]:
    """Keep the phase that the rule chose where there are several, and what results say of it."""
    heights = same_heights(stack, [s.plane for s in slices])
    differ = any(not slices[first].repeats(slices[other]) for first, *others in heights for other in others)
    if phase is Phase.REFUSE or not differ:
        return slices, ()
    chosen = choose_phase([s.header for s in slices], heights, phase)
    if chosen is None:
        message = f"{_phases_message(len(slices), len(heights))}: no attribute tells the phases apart"
        raise InputError(Refusal.DUPLICATE_POSITIONS, message)
    return [slices[index] for index in chosen.indices], (chosen.mark,)


def _variant(settings: ReadSettings, is_a_phase: bool, grid: Grid) -> str:
    """Tell what the rule chose that decides the voxels; empty where it had nothing to choose."""
    interpolated = settings.missing_slices is MissingSlices.INTERPOLATE and grid.filled > 0
    chosen = [f"phase={settings.phase}"] * is_a_phase + ["missing slices interpolated"] * interpolated
    return "; ".join(chosen)


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
        found = f"{slices // positions} images at each position (phases, 4D or perfusion)"
        return f"{found}; split the series by phase, or let the rule choose one (Phase)"
    return f"{slices} different images at {positions} positions; split the series"


def _number(ds: Dataset, keyword: str) -> float:
    """Read a number that only notes ask for; 0 where there is none."""
    try:
        return float(ds.get(keyword) or 0.0)
    except (TypeError, ValueError):
        return 0.0


def _frame_of_reference(headers: Sequence[Dataset], who: SeriesIdentity, notes: list[str]) -> str:
    """Choose the frame of reference for results: a derived one where every slice has its own, or none has any."""
    uids = [str(ds.get("FrameOfReferenceUID") or "") for ds in headers]
    if not any(uids):
        notes.append("the series has no FrameOfReferenceUID; results use one derived from the series")
        return identity.frame_of_reference_uid(who)
    if not all(uids):
        message = "some slices have no FrameOfReferenceUID; results could not be placed; export the series again"
        raise InputError(Refusal.MISSING_GEOMETRY, message)
    if len(set(uids)) == 1:
        return uids[0]
    if len(set(uids)) < len(uids):
        message = f"{len(set(uids))} frames of reference: several scans in one series; split it"
        raise InputError(Refusal.MIXED_FRAME_OF_REFERENCE, message)
    notes.append("every slice has its own FrameOfReferenceUID; results use one derived from the series")
    return identity.frame_of_reference_uid(who)


def _samples(slices: Sequence[_Slice]) -> list[Voxels]:
    step = sampling_step(len(slices) * slices[0].stored.size)
    return [sample_hu(s.stored[::step, ::step], s.rescale, padding_of(s.header, s.rescale)) for s in slices]


def _inverted(slices: Sequence[_Slice], samples: Sequence[Voxels]) -> Iterator[str]:
    """Note slices that are shown inverted, and refuse them where their values themselves are inverted.

    Source
    ------
    DICOM PS3.3 C.7.6.3.1.2: MONOCHROME1 says how values are shown, after the transformation to HU and to the window.
    """
    some = [n for n, s in enumerate(slices) if s.header.get("PhotometricInterpretation") == "MONOCHROME1"]
    if some:
        check_plausible([samples[n] for n in some])
        yield f"{len(some)} slice(s) are MONOCHROME1, which viewers show inverted; their values are HU as they are"


def _rows(slices: Sequence[_Slice]) -> list[Voxels]:
    """Give some rows of each slice in HU, whole, so that neighbours lie side by side."""
    step = sampling_step(len(slices) * slices[0].stored.size)
    return [
        s.stored[::step].astype(np.float32) * np.float32(s.rescale.slope) + np.float32(s.rescale.intercept)
        for s in slices
    ]


def _voxels(slices: list[_Slice], notes: list[str]) -> Voxels:
    voxels = np.empty((len(slices), *slices[0].plane.size), np.float32)
    replaced = 0
    for index, s in enumerate(slices):
        replaced += fill_hu(s.stored, s.rescale, padding_of(s.header, s.rescale), voxels[index])
    if replaced:
        notes.append(f"padding and values below -1024 HU set to -1024 HU in {replaced} slice(s)")
    return voxels
