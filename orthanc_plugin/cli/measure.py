"""The command `measure`: radiomics of masks that others made, from a SEG or an RT structure set of any maker."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.cli.ct_source import chosen_rule, opened, source_options
from orthanc_plugin.cli.desk import Commands, Desk

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from orthanc_plugin.archive.protocol import Archive
    from orthanc_plugin.config.rule import Rule
    from orthanc_plugin.domain.volume import CtSeries


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What became of one object.

    report: file of the SR; tables lie beside it.
    values, without_value: features with a value, and those with a reason instead.
    """

    mask_sop_instance_uid: str
    series_instance_uid: str
    report: str
    structures: int
    values: int
    without_value: int
    notes: tuple[str, ...]


def add_commands(commands: Commands) -> None:
    """Add `measure`."""
    text = "measure radiomics of masks that others made: SR and tables of a SEG or an RT structure set"
    command = commands.add("measure", measure, text)
    objects = command.add_mutually_exclusive_group(required=True)
    named = "a file, or STUDY/SERIES/SOP (UIDs) in the archive"
    objects.add_argument("--seg", metavar="OBJECT", help=f"DICOM SEG: {named}")
    objects.add_argument("--rtstruct", metavar="OBJECT", help=f"RT structure set: {named}")
    source_options(command)
    command.add_argument("--rule", default="", metavar="NAME", help="rule whose settings count (default: the first)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report and the tables")


def measure(desk: Desk) -> None:
    """Measure the masks of one object and print what became of them."""
    rule = chosen_rule(desk)
    with opened(desk) as archive:
        mask = _mask(desk.options, archive)
        series = _series(archive, mask, rule)
    measured = _measured(desk, series, mask, rule)
    lines = (f"report: {measured.report}", f"structures: {measured.structures}", f"values: {measured.values}")
    missing = [f"without a value, with the reason: {measured.without_value}"] if measured.without_value else []
    desk.say(dataclasses.asdict(measured), *lines, *missing, *measured.notes)


def _mask(options: argparse.Namespace, archive: Archive) -> Dataset:
    from orthanc_plugin.archive.part10 import Damaged, NotDicom, read_instance
    from orthanc_plugin.errors import ConfigError, MaskError, Refusal

    named, modality = (options.seg, "SEG") if options.seg else (options.rtstruct, "RTSTRUCT")
    file, uids = Path(named), named.split("/")
    try:
        found = read_instance(file) if file.is_file() else archive.find(*uids) if len(uids) == 3 else None
    except (Damaged, NotDicom):
        raise MaskError(Refusal.MASK_UNREADABLE, f"{file.name} is not a DICOM file that can be read whole") from None
    if found is None:
        raise ConfigError(f"{named} is no file, and archive {archive.name} has no such object")
    if found.get("Modality") != modality:
        raise MaskError(Refusal.MASK_UNREADABLE, f"the object is not a {modality}")
    return found


def _series(archive: Archive, mask: Dataset, rule: Rule) -> CtSeries:
    """Read the CT that the masks name; where they name none that is there, the only CT."""
    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.errors import MaskError, Refusal
    from orthanc_plugin.pipeline.foreign import named_series
    from orthanc_plugin.results.headers import check_identity
    from orthanc_plugin.series.read import read_series

    study = str(mask.get("StudyInstanceUID") or "")
    if isinstance(archive, FolderArchive):
        there = [(one.study_instance_uid, one.series_instance_uid) for one in archive.series if one.modality == "CT"]
    else:
        there = [(study, uid) for uid in archive.ct_series(study)]
    named = named_series(mask)
    chosen = [one for one in there if one[1] in named] or there
    if len(chosen) != 1:
        text = f"the masks name no CT series of the {len(chosen)} that are there"
        raise MaskError(Refusal.MASK_OTHER_SERIES, text)
    series = read_series(archive.retrieve(*chosen[0]), rule.reading)
    check_identity(series)
    return series


def _measured(desk: Desk, series: CtSeries, mask: Dataset, rule: Rule) -> Measured:
    from datetime import UTC, datetime

    from orthanc_plugin import identity
    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.errors import StoreError
    from orthanc_plugin.jobs.pseudonym import patient_column
    from orthanc_plugin.pipeline import Context, ReadBack
    from orthanc_plugin.pipeline.foreign import measure_masks
    from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr, write_tables

    configuration, out = desk.configuration, desk.options.out
    store = FolderArchive(out, out)
    context = Context(
        fingerprint=identity.fingerprint(series.identity, generation=0),
        store=store,
        clock=lambda: datetime.now(UTC),
        title=configuration.report_title.code,
        read_back=ReadBack(),
        radiomics=rule.radiomics_settings.settings,
        image_library=rule.radiomics_settings.image_library,
        processes=configuration.processes_for_radiomics,
        memory_mib=configuration.radiomics_memory_mib,
    )
    result = measure_masks(series, mask, context)
    file = store.stored_file(result.stored.sop_instance_uid) if result.stored is not None else None
    report = store.find("", "", result.stored.sop_instance_uid) if result.stored is not None else None
    if file is None or report is None:
        raise StoreError("the out folder does not give the report back")
    rows = read_radiomics_sr(report, patient_column(configuration))
    write_tables(file, rows)
    values = sum(row.value is not None for row in rows)
    numbers = {row.segment_number for row in rows}
    return Measured(
        str(mask.SOPInstanceUID), series.identity.series_instance_uid, str(file), len(numbers), values,
        len(rows) - values, result.notes,
    )  # fmt: skip
