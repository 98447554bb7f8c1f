"""The API under `/enrichment/api/v1`: jobs, decisions on series, health, and hints from Orthanc's plugin.

docs/api.md describes each route.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.errors import ConfigError, EnrichError
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.numbers import StoredResults
from orthanc_plugin.jobs.orders import Order, Orders, parse_query
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.reconcile import watermark_key
from orthanc_plugin.results.sr.radiomics_table import TableRow, to_csv, to_json, to_parquet
from orthanc_plugin.service.health import HealthCheck
from orthanc_plugin.service.routes import (
    answer,
    archive_errors,
    body_of,
    guarded,
    in_thread,
    known_job,
    parsed,
    problem,
)
from orthanc_plugin.service.schema import (
    Accepted,
    Backfill,
    BackfillBody,
    BackfillList,
    DecideAgainBody,
    Delivery,
    DeliveryList,
    HintBody,
    Job,
    JobList,
    Paused,
    Retried,
    SeriesDecision,
    SeriesList,
)
from orthanc_plugin.service.searching import PAGE, page_of

ROOT = "/enrichment/api/v1"
HINT_BYTES = 32 * 1024
DELIVERY_PAGE = ("state", "limit", "offset")
ORDER_BYTES = 4 * 1024 * 1024
"""A list of 60,000 studies."""
OrderBodyT = TypeVar("OrderBodyT", BackfillBody, DecideAgainBody)


class Api:
    """Handlers of the API.

    Parameters
    ----------
    queue : JobQueue
        Jobs, and the decisions in its ledger.
    health : HealthCheck
        Health of the service and of all it depends on.
    take_hint : callable
        Stores a hint. Raises EnrichError if its archive is not configured.
    results : StoredResults
        Objects that jobs stored.
    archives : collection of str
        Names of the archives.
    """

    def __init__(
        self,
        queue: JobQueue,
        health: HealthCheck,
        take_hint: Callable[[Hint], None],
        results: StoredResults,
        archives: Collection[str],
    ) -> None:
        self._queue, self._health, self._take_hint, self._results = queue, health, take_hint, results
        self._archives = archives

    def routes(self) -> list[Route]:
        """Return all routes of the API."""
        return [
            Route(f"{ROOT}/health", guarded(self.health)),
            Route(f"{ROOT}/jobs", in_thread(self.jobs, PAGE)),
            Route(f"{ROOT}/jobs/{{id}}", in_thread(self.job)),
            Route(f"{ROOT}/jobs/{{id}}/retry", in_thread(self.retry), methods=["POST"]),
            Route(f"{ROOT}/jobs/{{id}}/cancel", in_thread(self.cancel), methods=["POST"]),
            Route(f"{ROOT}/jobs/{{id}}/withdraw", in_thread(self.withdraw), methods=["POST"]),
            Route(
                f"{ROOT}/jobs/{{id}}/deliveries/{{destination}}/retry", in_thread(self.retry_delivery), methods=["POST"]
            ),
            Route(
                f"{ROOT}/jobs/{{id}}/deliveries/{{destination}}/cancel",
                in_thread(self.cancel_delivery),
                methods=["POST"],
            ),
            Route(f"{ROOT}/deliveries", in_thread(self.deliveries, DELIVERY_PAGE)),
            Route(f"{ROOT}/retry", in_thread(self.retry_all, ("reason", "text")), methods=["POST"]),
            Route(f"{ROOT}/decide-again", guarded(self.decide_again), methods=["POST"]),
            Route(f"{ROOT}/backfills", in_thread(self.backfills), methods=["GET"]),
            Route(f"{ROOT}/backfills", guarded(self.start_backfill), methods=["POST"]),
            Route(f"{ROOT}/backfills/{{order}}/stop", in_thread(self.stop_backfill), methods=["POST"]),
            Route(f"{ROOT}/pause", in_thread(self.pause), methods=["POST"]),
            Route(f"{ROOT}/resume", in_thread(self.resume), methods=["POST"]),
            Route(f"{ROOT}/jobs/{{id}}/radiomics.csv", in_thread(self.radiomics_csv)),
            Route(f"{ROOT}/jobs/{{id}}/radiomics.json", in_thread(self.radiomics_json)),
            Route(f"{ROOT}/jobs/{{id}}/radiomics.parquet", in_thread(self.radiomics_parquet)),
            Route(f"{ROOT}/jobs/{{id}}/preview.png", in_thread(self.preview, ("object",))),
            Route(f"{ROOT}/series", in_thread(self.series, PAGE)),
            Route(f"{ROOT}/hints", guarded(self.hints), methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        """Report health. The status is always 200; the body says `ok` or `degraded`."""
        return answer(await self._health.look())

    def jobs(self, request: Request) -> Response:
        """List jobs, newest first."""
        page = page_of(request.query_params)
        search = replace(page.search, jobs_only=True)
        rows = self._queue.views(self._queue.ledger.decisions(search, limit=page.limit, offset=page.offset))
        jobs = tuple(Job.model_validate(row).model_copy(update={"location": None, "checks": ()}) for row in rows)
        return answer(JobList(jobs=jobs, limit=page.limit, offset=page.offset))

    def job(self, request: Request) -> Response:
        """Return one job with its stages so far, its deliveries and where its scan lies in the body."""
        return answer(self._job(known_job(self._queue, request)))

    def retry(self, request: Request) -> Response:
        """Run a job again that ended or is stuck. Answers 409 while the job is open."""
        return self._act(request, self._queue.retry)

    def cancel(self, request: Request) -> Response:
        """End an open job. Answers 409 if the job has ended."""
        return self._act(request, self._queue.cancel)

    def withdraw(self, request: Request) -> Response:
        """Withdraw what a job had stored that did not end as done. Answers 409 if its results count, or it has none."""
        return self._act(request, self._queue.withdrawals.of_leftovers)

    def retry_delivery(self, request: Request) -> Response:
        """Run a delivery again that failed or was cancelled. Answers 409 if it is open, is done or does not exist."""
        destination = str(request.path_params["destination"])
        return self._act(request, lambda job_id: self._queue.deliveries.retry(job_id, destination))

    def cancel_delivery(self, request: Request) -> Response:
        """End an open delivery. Answers 409 if it has ended or does not exist."""
        destination = str(request.path_params["destination"])
        return self._act(request, lambda job_id: self._queue.deliveries.cancel(job_id, destination))

    def deliveries(self, request: Request) -> Response:
        """List deliveries, newest first."""
        page = page_of(request.query_params)
        found = self._queue.deliveries.list(*page.search.states, limit=page.limit, offset=page.offset)
        deliveries = tuple(Delivery.model_validate(delivery) for delivery in found)
        return answer(DeliveryList(deliveries=deliveries, limit=page.limit, offset=page.offset))

    def retry_all(self, request: Request) -> Response:
        """Run all jobs again that ended for a reason."""
        reason = request.query_params.get("reason") or "failed"
        return answer(Retried(jobs=self._queue.retry_all(reason, request.query_params.get("text") or "")))

    async def decide_again(self, request: Request) -> Response:
        """Order new decisions by the current rules. 202 means that the order is in the database."""
        return await self._ordered(request, DecideAgainBody, place_again)

    async def start_backfill(self, request: Request) -> Response:
        """Order studies of an archive to be enriched. 202 means that the order is in the database."""
        return await self._ordered(request, BackfillBody, place_backfill)

    def backfills(self, request: Request) -> Response:
        """List the backfills, newest first."""
        return answer(BackfillList(backfills=tuple(Backfill.model_validate(o) for o in self._orders.all())))

    def stop_backfill(self, request: Request) -> Response:
        """End a backfill. Answers 404 if there is none, and 409 if it has ended."""
        order_id = str(request.path_params["order"])
        if order_id not in {order.id for order in self._orders.all()}:
            return problem(404, "there is no such backfill")
        try:
            return answer(Backfill.model_validate(self._orders.stop(order_id)))
        except EnrichError as error:
            return problem(409, str(error))

    async def _ordered(
        self, request: Request, shape: type[OrderBodyT], place: Callable[[Orders, OrderBodyT], Order]
    ) -> Response:
        body = parsed(shape, await body_of(request, ORDER_BYTES) or b"{}")
        try:
            if body.archive not in self._archives:
                return problem(400, "archive: the configuration has no such archive")
            order = await run_in_threadpool(place, self._orders, body)
        except EnrichError as error:
            return problem(400, str(error))
        return answer(Backfill.model_validate(order), 202)

    def pause(self, request: Request) -> Response:
        """Let workers take no new job."""
        self._queue.pause(True)
        return answer(Paused(paused=True))

    def resume(self, request: Request) -> Response:
        """Let workers take jobs again."""
        self._queue.pause(False)
        return answer(Paused(paused=False))

    def radiomics_csv(self, request: Request) -> Response:
        """Return the values of the job's radiomics reports as CSV."""
        return Response(to_csv(self._radiomics(request)), media_type="text/csv; charset=utf-8")

    def radiomics_json(self, request: Request) -> Response:
        """Return the same values as JSON."""
        return Response(to_json(self._radiomics(request)), media_type="application/json")

    def radiomics_parquet(self, request: Request) -> Response:
        """Return the same values as a Parquet file, or 501 if this service cannot write one."""
        rows = self._radiomics(request)
        try:
            return Response(to_parquet(rows), media_type="application/vnd.apache.parquet")
        except ConfigError as error:
            return problem(501, str(error))

    def preview(self, request: Request) -> Response:
        """Return a preview of the job as PNG, by default the first, or 404 if the job made none."""
        job_id, wanted = known_job(self._queue, request), request.query_params.get("object", "")
        with archive_errors():
            png = self._results.preview(job_id, wanted)
        if png is None and wanted:
            raise HTTPException(404, "object: must be the SOPInstanceUID of a preview that this job stored")
        if png is None:
            raise HTTPException(404, "this job made no preview: the Outputs of its rule do not include one")
        return Response(png, media_type="image/png")

    def _radiomics(self, request: Request) -> tuple[TableRow, ...]:
        job_id = known_job(self._queue, request)
        with archive_errors():
            return self._results.radiomics(job_id)

    def series(self, request: Request) -> Response:
        """List decisions on series, newest first."""
        page = page_of(request.query_params)
        rows = self._queue.ledger.decisions(page.search, limit=page.limit, offset=page.offset)
        series = tuple(SeriesDecision.model_validate(row) for row in rows)
        return answer(SeriesList(series=series, limit=page.limit, offset=page.offset))

    async def hints(self, request: Request) -> Response:
        """Store a hint. 202 means that the hint is in the database; the decision on it comes later."""
        body = parsed(HintBody, await body_of(request, HINT_BYTES))
        try:
            read = await run_in_threadpool(self._keep_hint, Hint(**body.model_dump()))
        except EnrichError as error:
            return problem(400, str(error))
        return answer(Accepted(changes_read=read), 202)

    def _keep_hint(self, hint: Hint) -> int | None:
        self._take_hint(hint)
        watermark = self._queue.ledger.note(watermark_key(hint.archive))
        return int(watermark) if watermark is not None else None

    @property
    def _orders(self) -> Orders:
        return Orders(self._queue.ledger)

    def _act(self, request: Request, act: Callable[[str], None]) -> Response:
        """Do something with the job in the path and return the job; answer 409 if its state does not allow that."""
        job_id = known_job(self._queue, request)
        try:
            act(job_id)
        except EnrichError as error:
            return problem(409, str(error))
        return answer(self._job(job_id))

    def _job(self, job_id: str) -> Job:
        return Job.model_validate(self._queue.show(job_id))


def place_backfill(orders: Orders, body: BackfillBody) -> Order:
    """Place the order that a caller asks for."""
    if body.query and body.studies:
        raise EnrichError("query and studies: give one of them")
    if body.query:
        return orders.place_query(body.archive, parse_query([body.query]), limit=body.limit, again=body.again)
    items = [(uid, "") for uid in body.studies]
    asked = f"{len(items)} studies of a list"
    return orders.place_list(body.archive, items, asked, limit=body.limit, again=body.again)


def place_again(orders: Orders, body: DecideAgainBody) -> Order:
    """Place the order for new decisions that a caller asks for."""
    if body.query and (body.reason or body.text):
        raise EnrichError("query and reason: give one of them")
    if body.query:
        return orders.place_query(body.archive, parse_query([body.query]), again=True)
    return orders.place_again(body.archive, body.reason, body.text)
