"""As test_conformance.py: a multi-frame CT is read back by every reader, tilted and uneven series by those that can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.reading import MissingSlices, Phase, ReadSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series
from tests.conformance import readers
from tests.conformance.cases import FEW, Case, instances_in
from tests.conformance.kinds import KINDS
from tests.conformance.matrix import cell
from tests.support.cases.realct import real_ct
from tests.support.phantoms.multiframe import concatenated, enhanced_ct, legacy_enhanced_ct
from tests.support.phantoms.tilted import tilted_phantom

Record = Callable[[str, object], None]
SLICES = (24, 48, 56)
WHOLE = "Enhanced CT of cip_ct64"
LEGACY = "Legacy Converted Enhanced CT"
WITH_LIBRARY = "radiomics, pyradiomics, of BINARY"
FEW_KINDS = ("SEG", "landmarks", "RTSTRUCT", "preview", "secondary capture", "key objects")


def four_d() -> CtSeries:
    made = encode_phantom(make_phantom(SLICES))
    instance = enhanced_ct([*made, *made[::-1]], positions=[1] * SLICES[0] + [2] * SLICES[0])
    return read_series([instance], ReadSettings(phase=Phase.LAST))


FRAMES: dict[str, Callable[[], CtSeries]] = {
    WHOLE: lambda: read_series([enhanced_ct([*instances_in(real_ct("cip_ct64/dicom"))])]),
    LEGACY: lambda: read_series([legacy_enhanced_ct(encode_phantom(make_phantom(SLICES)))]),
    "concatenation": lambda: read_series(concatenated(encode_phantom(make_phantom(SLICES)), 2)),
    "4D": four_d,
}
PAIRS = [
    *((WHOLE, kind) for kind in KINDS if kind != WITH_LIBRARY),
    *((name, kind) for name in FRAMES if name != WHOLE for kind in FEW_KINDS),
    (LEGACY, WITH_LIBRARY),
]
"""All kinds of a real chest; of the other cases those that refer to images in ways of their own."""


def _every_second_above() -> CtSeries:
    made = encode_phantom(make_phantom((48, 48, 56), (4.0, 6.0, 6.0)))[::-1]
    return read_series([*made[:20], *made[20::2]])


def _incomplete() -> CtSeries:
    made = encode_phantom(make_phantom((48, 48, 56), (4.0, 6.0, 6.0)))
    return read_series([*made[:20], *made[21:]], ReadSettings(missing_slices=MissingSlices.INTERPOLATE))


UNEVEN: dict[str, Callable[[], CtSeries]] = {
    "tilted": lambda: read_series(tilted_phantom(make_phantom(SLICES), 15)),
    "two spacings": _every_second_above,
    "incomplete": _incomplete,
}


@pytest.fixture(scope="module")
def framed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, FRAMES[request.param](), tmp_path_factory.mktemp("framed"), landmarks=FEW)


@pytest.fixture(scope="module", params=UNEVEN)
def uneven(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, UNEVEN[request.param](), tmp_path_factory.mktemp("uneven"), landmarks=FEW)


@pytest.mark.parametrize(("framed", "kind"), PAIRS, indirect=["framed"], scope="module")
def test_every_reader_takes_every_object_of_frames(framed: Case, kind: str, record_property: Record) -> None:
    cell(framed, kind, record_property, every_reader="SEG" not in kind or framed.name != "concatenation")


@pytest.mark.parametrize("framed", FRAMES, indirect=True, scope="module")
def test_masks_name_their_frames(framed: Case) -> None:
    named = set()
    for groups in framed.stored.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        named.add((source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber))
    known = {(header.SOPInstanceUID, frame_number(header)) for header in framed.series.headers}
    assert named <= known
    assert len(named) > len(known) / 2
    (listed,) = framed.stored.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence} == {uid for uid, _ in named}


@pytest.mark.parametrize("kind", FEW_KINDS)
def test_every_object_of_an_uneven_series_is_valid(uneven: Case, kind: str, record_property: Record) -> None:
    cell(uneven, kind, record_property, every_reader="SEG" not in kind)


def test_masks_of_an_uneven_series_are_read_on_its_slices(uneven: Case, tmp_path: Path) -> None:
    """By highdicom, slice by slice. dcmqi wants one regular grid (docs/geometry.md)."""
    path = tmp_path / "seg.dcm"
    pydicom.dcmwrite(path, uneven.stored, enforce_file_format=True)
    readers.highdicom_reads_segments(path, uneven.series, uneven.kept)
