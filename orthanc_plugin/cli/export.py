"""The command `export`: studies as folders without identities."""

from __future__ import annotations

import secrets
from pathlib import Path

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.ct_source import opened, source_options
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, unseen


def add_commands(commands: Commands) -> None:
    """Add `export`."""
    command = commands.add("export", export, "write studies with their results as a folder without identities")
    command.add_argument("--deidentified", action="store_true", required=True, help="remove identities (needed)")
    command.add_argument("--study", nargs="+", action="extend", default=[], metavar="UID", help="these studies")
    text = "all studies of these patients (-: one from stdin)"
    command.add_argument("--patient", nargs="+", action="extend", default=[], type=unseen, metavar="ID", help=text)
    source_options(command)
    command.add_argument("--layout", choices=["dicom", "bids"], default="dicom", help="of the folder (default: dicom)")
    text = "what becomes of dates: removed, or shifted by one number of days for each patient (default: remove)"
    command.add_argument("--dates", choices=["remove", "shift"], default="remove", help=text)
    text = (
        "file of 16 bytes or more; the same key gives the same pseudonyms again (default: a key for this export only)"
    )
    command.add_argument("--key-file", type=Path, metavar="FILE", help=text)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="empty folder")


def export(desk: Desk) -> int:
    """Export, and say what was refused; fail if nothing was written, or something was refused or is not there."""
    from orthanc_plugin.archive.patients import studies_of_patient
    from orthanc_plugin.errors import ConfigError
    from orthanc_plugin.sharing.export import MODALITIES, Export, Layout
    from orthanc_plugin.sharing.profile import Dates, Deidentifier
    from orthanc_plugin.sharing.pseudonyms import Pseudonyms

    options = desk.options
    if not options.study and not options.patient:
        raise ConfigError("name --study or --patient")
    by = Deidentifier(Pseudonyms(_key(options.key_file)), Dates(options.dates))
    with opened(desk) as archive:
        made = Export(options.out, by, Layout(options.layout))
        for study in dict.fromkeys(options.study):
            made.add_study(archive, study)
        for patient in dict.fromkeys(options.patient):
            for study in studies_of_patient(archive, patient):
                if study not in options.study:
                    made.add_study(archive, study, patient)
    made.finish()
    absent = [study for study in dict.fromkeys(options.study) if study not in made.sources]
    for study in absent:
        desk.tell(f"not exported: study {study} is not there, or holds none of {', '.join(MODALITIES)}")
    name = options.archive if options.ct is None else ""
    for study, series in made.sources.items():
        desk.acts(What.EXPORT, *series, study=study, archive=name)
    for one in made.refused:
        desk.tell(f"not exported: {one.modality} series {one.series_instance_uid}: {one.reason}")
    facts = {"written": len(made.written), "refused": len(made.refused), "out": str(options.out)}
    desk.say(facts)
    return EXIT_DONE if made.written and not (made.refused or absent) else EXIT_FAILED


def _key(file: Path | None) -> bytes:
    from orthanc_plugin.errors import ConfigError

    if file is None:
        return secrets.token_bytes(32)
    key = file.read_bytes().strip()
    if len(key) < 16:
        raise ConfigError(f"the key in {file.name} is shorter than 16 bytes")
    return key
