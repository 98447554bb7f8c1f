"""The command `timeline`: what reports of several studies say of one patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.ct_source import chosen_rule, opened, source_options
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, unseen

if TYPE_CHECKING:
    from orthanc_plugin.archive.protocol import Archive
    from orthanc_plugin.validation.timeline import Value


def add_commands(commands: Commands) -> None:
    """Add `timeline`."""
    command = commands.add("timeline", timeline, "show volumes and features of a patient over several studies")
    text = "PatientID, exactly as in the archive (-: from stdin)"
    command.add_argument("--patient", required=True, type=unseen, metavar="ID", help=text)
    source_options(command)
    text = "features beside the volume, by pyradiomics' names, such as firstorder_Mean"
    command.add_argument("--feature", nargs="+", action="extend", default=[], metavar="NAME", help=text)
    text = "CSV with the columns structure, measure, wcv_percent and source (default: the limits of this project)"
    command.add_argument("--limits", type=Path, metavar="FILE", help=text)
    command.add_argument("--viewer", default="", metavar="URL", help="address of the service, for links to the viewer")
    command.add_argument("--sr", action="store_true", help="also write the values as DICOM SR of the newest study")
    command.add_argument("--rule", default="", metavar="NAME", help="rule that says how to read a CT (default: first)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for table and page")


def timeline(desk: Desk) -> int:
    """Write the table and the page, and print each change; fail if the patient has no report."""
    from orthanc_plugin.validation import timeline as over_time
    from orthanc_plugin.validation.tables import write_tables
    from orthanc_plugin.validation.timeline_page import render_timeline

    options = desk.options
    limits = over_time.read_limits(options.limits) if options.limits else over_time.read_limits()
    with opened(desk) as archive:
        measures = (over_time.VOLUME, *options.feature)
        values, notes = over_time.timeline(archive, options.patient, measures, limits)
        report = _write_sr(desk, archive, values) if options.sr and values else None
    for study in dict.fromkeys(value.study_instance_uid for value in values):
        desk.acts(What.EXPORT, study=study, archive=options.archive if options.ct is None else "")
    files = write_tables(options.out, "timeline", over_time.Value, values)
    files = (*files, *([report] if report else []))
    page = options.out / "timeline.html"
    page.write_text(render_timeline(values, notes, options.viewer), encoding="utf-8")
    for note in (*notes, *([] if values else ["no radiomics report of this patient was found"])):
        desk.tell(note)
    lines = [
        f"{v.date or 'no date'} {v.structure} {v.model} {v.measure} {v.value:.4g} {v.unit} "
        + (f"{v.change_percent:+.1f} %, " if v.change_percent is not None else "")
        + f"{v.change}{f' ({v.note})' if v.note else ''}"
        for v in values
    ]
    facts = {"files": [str(file) for file in (*files, page)], "notes": notes, "values": [asdict(v) for v in values]}
    desk.say(facts, *(lines or ["nothing found"]))
    return EXIT_DONE if values and not notes else EXIT_FAILED


def _write_sr(desk: Desk, archive: Archive, values: Sequence[Value]) -> Path:
    """Write the report on the values beside the tables; it belongs to the newest CT."""
    from datetime import UTC, datetime

    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.validation.sources import CtShelf
    from orthanc_plugin.validation.timeline_sr import encode_timeline_sr

    newest = max(values, key=lambda value: value.date)
    shelf = CtShelf(archive, chosen_rule(desk).reading)
    series = shelf.read((newest.study_instance_uid, newest.series_instance_uid))
    wanted = {value.report_sop_instance_uid for value in values}
    places = sorted({(value.study_instance_uid, value.report_series_instance_uid) for value in values})
    reports = [ds for place in places for ds in archive.retrieve(*place) if ds.SOPInstanceUID in wanted]
    title = desk.configuration.report_title.code
    ds = encode_timeline_sr(series, values, reports, title=title, created=datetime.now(UTC))
    folder = FolderArchive(desk.options.out, desk.options.out)
    folder.store(ds)
    return folder.stored_file(ds.SOPInstanceUID) or desk.options.out
