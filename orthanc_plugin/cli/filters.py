"""The options that find decisions on series: the same search as on the page and in the API, with the same words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What, subject
from orthanc_plugin.cli.desk import Desk, unseen
from orthanc_plugin.cli.recording import record_now
from orthanc_plugin.errors import ConfigError, EnrichError

if TYPE_CHECKING:
    from orthanc_plugin.jobs.search import Search

OPTIONS = {
    "state": "only in these states, separated by commas",
    "archive": "only series of this archive",
    "study": "only series of these StudyInstanceUIDs, separated by commas",
    "series": "only this SeriesInstanceUID, or the end of one",
    "reason": "only decisions with this reason: failed, or the code of a skip",
    "text": "only decisions whose detail contains this text",
    "rule": "only what this rule took",
    "model": "only jobs with this model",
    "since": "only what was decided on from this date or time",
    "until": "only what was decided on before this time, or up to this day",
}
PEOPLE = {
    "accession_number": "only studies with this accession number (-: from stdin); look-ups are recorded",
    "patient_id": "only studies of this PatientID (-: from stdin), as the archive says; look-ups are recorded",
}


def add_filters(command: argparse.ArgumentParser) -> None:
    """Add the options to a command; a value that cannot be is wrong use."""
    for name, text in (OPTIONS | PEOPLE).items():
        command.add_argument(
            f"--{name.replace('_', '-')}", default="", metavar="VALUE", help=text, type=partial(_checked, name)
        )
    command.add_argument("--standing", action="store_true", help="without decisions that newer content replaced")


def _checked(name: str, value: str) -> str:
    from starlette.exceptions import HTTPException

    from orthanc_plugin.service.searching import search_of

    if name in PEOPLE:
        value = unseen(value)
    try:
        search_of({name: value})
    except HTTPException as error:
        raise argparse.ArgumentTypeError(error.detail) from None
    return value


def chosen(desk: Desk) -> dict[str, str]:
    """Give the filters that are set, as an address of the page writes them; people are looked up in the archive."""
    given = {name: str(getattr(desk.options, name)) for name in OPTIONS}
    wanted = {name: value for name, value in given.items() if value}
    if desk.options.standing:
        wanted["standing"] = "yes"
    if desk.options.accession_number or desk.options.patient_id:
        studies = found_studies(desk)
        if "study" in wanted:
            studies = tuple(uid for uid in wanted["study"].split(",") if uid in studies)
        if not studies:
            raise EnrichError("the archive has no study with this accession number or PatientID")
        wanted["study"] = ",".join(studies)
    return wanted


def search_for(desk: Desk) -> Search:
    """Read the filters that are set."""
    from orthanc_plugin.service.searching import search_of

    with in_words():
        return search_of(chosen(desk))


def found_studies(desk: Desk) -> tuple[str, ...]:
    """Return the studies with the accession number or PatientID of the options, and record who asked."""
    from orthanc_plugin.service.people import People
    from orthanc_plugin.service.schema_pages import FindBody

    options = desk.options
    wanted = FindBody(
        archive=archive_of(desk), accession_number=options.accession_number, patient_id=options.patient_id
    )
    with in_words():
        studies = People(desk.configuration.archives).studies(wanted)
    by = " and ".join(name.replace("_", " ") for name in PEOPLE if getattr(options, name))
    record_now(desk, What.SEARCH, subject(archive=wanted.archive, detail=f"searched by {by}", count=len(studies)))
    return studies


def archive_of(desk: Desk) -> str:
    """Return the archive of the options, or the first one."""
    name = desk.options.archive or next(iter(desk.configuration.archives))
    if name not in desk.configuration.archives:
        raise ConfigError(f"the configuration has no archive {name}")
    return str(name)


@contextmanager
def in_words() -> Iterator[None]:
    """Let what the API would refuse fail the command, with the same words."""
    from starlette.exceptions import HTTPException

    try:
        yield
    except HTTPException as error:
        raise EnrichError(error.detail) from None
