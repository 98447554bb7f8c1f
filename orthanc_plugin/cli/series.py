"""The commands of `orthanc-enrich series`: list decisions, act on many at once, look patients up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What, subject
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, count, unseen
from orthanc_plugin.cli.filters import add_filters, chosen, found_studies, in_words, search_for
from orthanc_plugin.cli.recording import record_now
from orthanc_plugin.errors import EnrichError

if TYPE_CHECKING:
    from orthanc_plugin.jobs.ledger import Decision
    from orthanc_plugin.jobs.queue import JobQueue

ACTS = ("retry", "cancel", "decide-again", "urgent", "normal", "backfill")


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    listing = commands.add("list", list_series, "list decisions on series, newest first, with those that have no job")
    add_filters(listing)
    listing.add_argument("--limit", type=count, default=50, help="at most so many decisions (default: 50)")
    listing.add_argument("--offset", type=count, default=0, help="decisions to leave out at the start (default: 0)")
    acting = commands.add("act", act, "act on series that are named, or on all that the options find")
    acting.add_argument("act", choices=ACTS, help="what to do")
    acting.add_argument("named", nargs="*", metavar="ARCHIVE/SERIES", help="an archive and a SeriesInstanceUID")
    add_filters(acting)
    finding = commands.add("find", find, "find studies by accession number or PatientID; the look-up is recorded")
    finding.add_argument("--archive", default="", help="name of the archive (default: the first)")
    for name, keyword in (("--accession-number", "AccessionNumber"), ("--patient-id", "PatientID")):
        finding.add_argument(name, default="", type=unseen, help=f"{keyword} of the study (-: from stdin)")
    shown = commands.add("patient", show_patient, "show the patient of a series; the look-up is recorded")
    shown.add_argument("series", metavar="ARCHIVE/SERIES", help="an archive and a SeriesInstanceUID")


def _queue(desk: Desk) -> JobQueue:
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    check_database(desk.configuration)
    return JobQueue(desk.configuration.database, desk.configuration.stuck_s)


def list_series(desk: Desk) -> None:
    """List decisions, newest first."""
    from orthanc_plugin.service.schema import SeriesDecision

    search = search_for(desk)
    rows = _queue(desk).ledger.decisions(search, limit=desk.options.limit, offset=desk.options.offset)
    if desk.options.json:
        desk.print_json([SeriesDecision.model_validate(row).model_dump(mode="json") for row in rows])
        return
    for row in rows:
        desk.console.print(f"{row.archive}/{row.series_instance_uid} [bold]{row.state}[/bold]", soft_wrap=True)
        about = f"rule {row.rule or 'none'}, {row.first_seen:%Y-%m-%d %H:%M:%S} UTC"
        for line in (about, f"job {row.job_id}" if row.job_id else "", row.reason, row.detail):
            if line:
                desk.console.print(f"  {line}", soft_wrap=True, markup=False)


def act(desk: Desk) -> int:
    """Act on series; what cannot be done with one of them does not stop the others."""
    from orthanc_plugin.service.acting import Acting
    from orthanc_plugin.service.routes import parsed
    from orthanc_plugin.service.schema_pages import ActBody

    search = chosen(desk)
    if bool(desk.options.named) == bool(search):
        raise EnrichError("name series, or find them by options: one of both")
    asked = {"act": desk.options.act, "series": desk.options.named, "search": search or None}
    acting = Acting(_queue(desk))
    with in_words():
        body = parsed(ActBody, json.dumps(asked).encode())
        rows, unknown = acting.rows(body)
        desk.acts(What.ACT, *(row.series_instance_uid for row in rows), detail=f"{body.act} of series")
        acted = acting.done(body.act, rows, unknown)
    problems = [f"not with {one.series_instance_uid}: {one.message}" for one in acted.problems]
    desk.say(acted.model_dump(mode="json"), f"{desk.options.act}: done with {acted.done} series", *problems)
    return EXIT_FAILED if acted.not_done else EXIT_DONE


def find(desk: Desk) -> None:
    """Print the studies with an accession number or a PatientID."""
    studies = found_studies(desk)
    desk.say({"studies": studies}, *(studies or ("no study matches",)))


def show_patient(desk: Desk) -> None:
    """Print who the patient of a series is, as its archive says."""
    from orthanc_plugin.service.people import People
    from orthanc_plugin.service.schema_pages import PatientBody

    row = _newest(desk)
    uids = {"study_instance_uid": row.study_instance_uid, "series_instance_uid": row.series_instance_uid}
    with in_words():
        patient = People(desk.configuration.archives).patient_of(PatientBody(archive=row.archive, **uids))
    named = subject(
        row.series_instance_uid, study=row.study_instance_uid, archive=row.archive, detail="looked a patient up"
    )
    record_now(desk, What.PATIENT, named)
    desk.say(patient.model_dump(mode="json"))


def _newest(desk: Desk) -> Decision:
    archive, _, uid = desk.options.series.partition("/")
    rows = _queue(desk).ledger.of_series(archive, uid)
    if not rows:
        raise EnrichError(f"nothing was decided on series {uid} of archive {archive}")
    return rows[-1]
