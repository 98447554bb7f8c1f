"""Where the objects of a validation come from: folders, files, an archive, or a file of pairs; and the CT of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.archive.part10 import Damaged, NotDicom, read_instance
from orthanc_plugin.archive.protocol import MASKS, Archive
from orthanc_plugin.archive.rested import asked_again
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, MaskError, Refusal
from orthanc_plugin.pipeline.foreign import named_series
from orthanc_plugin.results.headers import check_identity
from orthanc_plugin.series.read import read_series
from orthanc_plugin.validation.csv_input import read_csv

_OBJECTS = (*MASKS, "SR")
Place = tuple[str, str]
"""StudyInstanceUID and SeriesInstanceUID of a CT."""


@dataclass(frozen=True, slots=True)
class Found:
    """Objects of one side. unread: files that are DICOM and cannot be read."""

    objects: tuple[Dataset, ...]
    unread: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Dataset, ...]:
        """The SEGs and RT structure sets."""
        return tuple(ds for ds in self.objects if ds.get("Modality") in MASKS)

    @property
    def reports(self) -> tuple[Dataset, ...]:
        """The structured reports."""
        return tuple(ds for ds in self.objects if ds.get("Modality") == "SR")


def find_objects(named: Sequence[str], archive: Archive) -> Found:
    """Read the SEGs, RT structure sets and reports that are named.

    Parameters
    ----------
    named : sequence of str
        Folders, files, or `STUDY/SERIES/SOP` in the archive.

    Raises
    ------
    ConfigError
        If there is no such file, folder or object.
    """
    objects: list[Dataset] = []
    unread: list[Path] = []
    for name in named:
        path, uids = Path(name), name.split("/")
        if path.is_dir():
            for file in sorted(one for one in path.rglob("*") if one.is_file()):
                _read(file, objects, unread)
        elif path.is_file():
            _read(path, objects, unread)
        else:
            found = archive.find(*uids) if len(uids) == 3 else None
            if found is None:
                raise ConfigError(f"{name} is no file or folder, and archive {archive.name} has no such object")
            objects.append(found)
    return Found(tuple({str(ds.get("SOPInstanceUID")): ds for ds in objects}.values()), tuple(unread))


def whole(ds: Dataset) -> Dataset:
    """Read an object with its pixels, if only its header was read: those of a cohort do not fit into memory.

    Raises
    ------
    MaskError
        If its file cannot be read whole.
    """
    if ds.get("Modality") != "SEG" or "PixelData" in ds or not getattr(ds, "filename", None):
        return ds
    try:
        return read_instance(Path(str(ds.filename)))
    except (Damaged, NotDicom):
        raise MaskError(Refusal.MASK_UNREADABLE, "the file is not a DICOM file that can be read whole") from None


def read_pairs(file: Path) -> tuple[tuple[str, str], ...]:
    """Read a file of pairs: CSV with the columns `ai` and `expert`; relative paths begin at its folder.

    Raises
    ------
    ConfigError
        If the file is not such a table.
    """
    rows = read_csv(file, "file of pairs", ("ai", "expert"))
    if any(not (row["ai"] and row["expert"]) for row in rows):
        raise ConfigError(f"the file of pairs {file.name} has a row that lacks one side")
    return tuple((_beside(file, row["ai"]), _beside(file, row["expert"])) for row in rows)


def _beside(file: Path, name: str) -> str:
    beside = file.parent / name
    return str(beside) if beside.exists() else name


def pair_objects(
    ai: Iterable[Dataset], expert: Iterable[Dataset], shelf: CtShelf
) -> Iterator[tuple[Dataset | None, Dataset | None, str]]:
    """Pair AI objects with the expert's objects of the same CT; what has no partner comes alone, with the reason."""
    sides: list[dict[Place, list[Dataset]]] = [{}, {}]
    for side, objects in enumerate((ai, expert)):
        for ds in objects:
            try:
                sides[side].setdefault(shelf.place_of(ds), []).append(ds)
            except MaskError as error:
                yield (ds, None, str(error)) if side == 0 else (None, ds, str(error))
    for place in sorted(sides[0].keys() | sides[1].keys()):
        ours, theirs = sides[0].get(place, []), sides[1].get(place, [])
        yield from ((one, other, "") for one in ours for other in theirs)
        yield from ((one, None, "no expert's object is of this CT") for one in ours if not theirs)
        yield from ((None, one, "no AI object is of this CT") for one in theirs if not ours)


class CtShelf:
    """The CTs of an archive; the last one that was read stays in memory, so that objects of one CT read it once."""

    def __init__(self, archive: Archive, reading: ReadSettings) -> None:
        self._archive, self._reading = archive, reading
        self._last: tuple[Place, CtSeries] | None = None

    def place_of(self, mask: Dataset) -> Place:
        """Find the CT that the masks name; where they name none that is there, the only CT of their study.

        Raises
        ------
        MaskError
            If there is no such CT, or there are several.
        """
        study = str(mask.get("StudyInstanceUID") or "")
        if isinstance(self._archive, FolderArchive):
            there = [(s.study_instance_uid, s.series_instance_uid) for s in self._archive.series if s.modality == "CT"]
            there = [place for place in there if place[0] == study] or there
        else:
            there = [(study, uid) for uid in asked_again(lambda: self._archive.ct_series(study))]
        named = named_series(mask)
        chosen = [one for one in there if one[1] in named] or ([] if named else there)
        if len(chosen) != 1:
            text = "the CT of the masks is not there" if named else f"the masks name no CT of the {len(there)} there"
            raise MaskError(Refusal.MASK_OTHER_SERIES, text)
        return chosen[0]

    def read(self, place: Place) -> CtSeries:
        """Read a CT; raise as `series.read` does."""
        if self._last is None or self._last[0] != place:
            self._last = None  # two at a time may not fit into memory
            series = asked_again(lambda: read_series(self._archive.retrieve(*place), self._reading))
            check_identity(series)
            self._last = place, series
        return self._last[1]


def _read(file: Path, objects: list[Dataset], unread: list[Path]) -> None:
    try:
        modality = read_instance(file, tags=["Modality"], stop_before_pixels=True).get("Modality")
        if modality in _OBJECTS:
            objects.append(read_instance(file, stop_before_pixels=modality == "SEG"))
            objects[-1].filename = str(file)
    except Damaged:
        unread.append(file)
    except NotDicom:
        return
