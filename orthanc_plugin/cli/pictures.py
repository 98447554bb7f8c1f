"""The command `jobs picture`: draw one plane of a job's scan with outlines, or write its preview."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk
from orthanc_plugin.cli.jobs import acts_on_job
from orthanc_plugin.errors import EnrichError

if TYPE_CHECKING:
    from orthanc_plugin.jobs.queue import JobQueue


def add_commands(commands: Commands) -> None:
    """Add the command."""
    drawing = commands.add("picture", draw, "draw one plane of a job's scan with outlines as PNG, or write its preview")
    drawing.add_argument("job", help="id of the job")
    drawing.add_argument("--out", type=Path, required=True, metavar="FILE", help="PNG file to write")
    drawing.add_argument("--plane", choices=["axial", "coronal", "sagittal"], default="axial", help="(default: axial)")
    drawing.add_argument(
        "--slice", type=int, metavar="N", help="from 1 at the feet, the front or the right (default: shows most)"
    )
    drawing.add_argument("--window", default="soft-tissue", help="soft-tissue (default), lung, bone, brain or wide")
    drawing.add_argument("--hide", default="", metavar="KEYS", help="structures without outline, separated by commas")
    drawing.add_argument("--no-outlines", action="store_true", help="the scan alone")
    drawing.add_argument("--preview", action="store_true", help="the preview that the job stored, instead of a plane")
    drawing.add_argument(
        "--object",
        default="",
        metavar="UID",
        help="with --preview: the preview of this SOPInstanceUID (default: the first)",
    )


def draw(desk: Desk) -> None:
    """Write the picture."""
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    check_database(desk.configuration)
    queue = JobQueue(desk.configuration.database, desk.configuration.stuck_s)
    acts_on_job(desk, queue, What.EXPORT)
    png = _preview(desk, queue) if desk.options.preview else _plane(desk, queue)
    desk.options.out.write_bytes(png)
    desk.say({"picture": str(desk.options.out)})


def _preview(desk: Desk, queue: JobQueue) -> bytes:
    from orthanc_plugin.jobs.numbers import StoredResults

    png = StoredResults(queue, desk.configuration.archives).preview(desk.options.job, desk.options.object)
    if png is None and desk.options.object:
        raise EnrichError("--object must be the SOPInstanceUID of a preview that this job stored")
    if png is None:
        raise EnrichError("this job made no preview: the Outputs of its rule do not include one")
    return png


def _plane(desk: Desk, queue: JobQueue) -> bytes:
    from orthanc_plugin.jobs.scans import Scans

    options, scans = desk.options, Scans(queue, desk.configuration.archives)
    views = {view.name: view for view in scans.scan(options.job).planes}
    index = views[options.plane].best if options.slice is None else options.slice - 1
    hidden = None if options.no_outlines else frozenset(filter(None, options.hide.split(",")))
    try:
        return scans.png(options.job, options.plane, index, options.window, hidden)
    except LookupError:
        raise EnrichError(f"the scan has no {options.plane} plane {index + 1}, or there is no such window") from None
