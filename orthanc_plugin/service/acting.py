"""The routes of the API that act on series: one, several, or all that a search finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.domain.job import Priority
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.jobs.orders import Orders
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.service.auditing import note
from orthanc_plugin.service.routes import answer, body_of, guarded, parsed, problem
from orthanc_plugin.service.schema_pages import Act, ActBody, Acted, NotActed
from orthanc_plugin.service.searching import FILTERS, search_of

MOST = 10_000
"""Series that one request acts on."""
_BODY_BYTES = 1 << 20
_NAMED = 50
_UNKNOWN = "nothing was decided on it in this archive; name a series of the list as ARCHIVE/SeriesInstanceUID"


class Acting:
    """Handlers that act on series.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the decisions in its ledger.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._acts: Mapping[Act, Callable[[str], None]] = {
            Act.RETRY: queue.retry,
            Act.CANCEL: queue.cancel,
            Act.URGENT: partial(queue.prioritise, priority=Priority.URGENT),
            Act.NORMAL: partial(queue.prioritise, priority=Priority.NORMAL),
            Act.LATER: partial(queue.prioritise, priority=Priority.BACKFILL),
        }

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [Route(f"{root}/series/act", guarded(self.act), methods=["POST"])]

    async def act(self, request: Request) -> Response:
        """Do something with the series that are named, or with all that a search finds.

        What cannot be done with one of them, because of its state, does not stop the others; the answer names it.
        """
        body = parsed(ActBody, await body_of(request, _BODY_BYTES))
        if bool(body.series) == (body.search is not None):
            return problem(400, "series and search: give one of them")
        if body.search is not None and not (any(body.search.values()) and set(body.search) <= set(FILTERS)):
            return problem(400, f"search: needs at least one of {', '.join(FILTERS)}, and nothing else")
        rows, unknown = await run_in_threadpool(self.rows, body)
        note(request, *(row.series_instance_uid for row in rows), detail=f"{body.act} of series")
        return answer(await run_in_threadpool(self.done, body.act, rows, unknown))

    def done(self, act: Act, rows: tuple[Decision, ...], unknown: Sequence[str] = ()) -> Acted:
        """Act on series; unknown: texts that name none."""
        failed = [NotActed(series_instance_uid=named.rpartition("/")[2], message=_UNKNOWN) for named in unknown]
        done = list[str]()
        if act is Act.DECIDE_AGAIN:
            done, rows = self._decided_again(rows), ()
        for row in rows:
            try:
                if not row.job_id:
                    raise EnrichError("no rule takes this series, so it has no job; decide on it again")
                self._acts[act](row.job_id)
                done.append(row.series_instance_uid)
            except EnrichError as error:
                failed.append(NotActed(series_instance_uid=row.series_instance_uid, message=str(error)))
        return Acted(done=len(done), not_done=len(failed), problems=tuple(failed[:_NAMED]))

    def rows(self, body: ActBody) -> tuple[tuple[Decision, ...], tuple[str, ...]]:
        """Return the newest decisions that a checked body names or finds, and the names of those that are not there."""
        if body.search is not None:
            return self._queue.ledger.decisions(search_of(body.search), limit=MOST), ()
        found = {named: self._newest(named) for named in body.series}
        unknown = tuple(named for named, row in found.items() if row is None)
        return tuple(row for row in found.values() if row is not None), unknown

    def _newest(self, named: str) -> Decision | None:
        """Return the newest decision on a series, named by archive and UID."""
        archive, _, uid = named.partition("/")
        return next(reversed(self._queue.ledger.of_series(archive, uid)), None)

    def _decided_again(self, rows: tuple[Decision, ...]) -> list[str]:
        orders = Orders(self._queue.ledger)
        for archive in dict.fromkeys(row.archive for row in rows):
            items = [(row.study_instance_uid, row.series_instance_uid) for row in rows if row.archive == archive]
            orders.place_list(archive, items, f"{len(items)} series, decided on again", again=True)
        return [row.series_instance_uid for row in rows]
