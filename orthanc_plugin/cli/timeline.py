"""The command `timeline`: what reports of several studies say of one patient."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.ct_source import opened, source_options
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk


def add_commands(commands: Commands) -> None:
    """Add `timeline`."""
    command = commands.add("timeline", timeline, "show volumes and features of a patient over several studies")
    command.add_argument("--patient", required=True, metavar="ID", help="PatientID, exactly as in the archive")
    source_options(command)
    text = "features beside the volume, by pyradiomics' names, such as firstorder_Mean"
    command.add_argument("--feature", nargs="+", default=[], metavar="NAME", help=text)
    text = "CSV with the columns structure, measure, wcv_percent and source (default: the limits of this project)"
    command.add_argument("--limits", type=Path, metavar="FILE", help=text)
    command.add_argument("--viewer", default="", metavar="URL", help="address of the service, for links to the viewer")
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
    for study in dict.fromkeys(value.study_instance_uid for value in values):
        desk.acts(What.EXPORT, study=study, archive=options.archive if options.ct is None else "")
    files = write_tables(options.out, "timeline", over_time.Value, values)
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
