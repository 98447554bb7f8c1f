"""The API as OpenAPI 3.1, and the page to read it. A test holds the table of operations against the routes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin import __version__
from orthanc_plugin.service import schema as s
from orthanc_plugin.service import schema_health as h
from orthanc_plugin.service import schema_inspected as i
from orthanc_plugin.service import schema_pages as p
from orthanc_plugin.service.pages import render
from orthanc_plugin.service.routes import in_thread
from orthanc_plugin.service.searching import PAGE

ROOT = "/enrichment/api/v1"
_JSON, _PNG, _CSV, _EVENTS = "application/json", "image/png", "text/csv", "text/event-stream"
_PARQUET = "application/vnd.apache.parquet"
_PARAMETERS: Mapping[str, str] = {
    "state": "states, separated by commas",
    "archive": "name of an archive",
    "study": "StudyInstanceUIDs, separated by commas",
    "series": "a SeriesInstanceUID, or its end",
    "reason": "code of a reason",
    "text": "part of the sentence of the reason",
    "rule": "name of a rule",
    "model": "name of a model",
    "since": "decided on from this date or time",
    "until": "decided on before this time, or up to this day",
    "standing": "yes: without decisions that newer content replaced",
    "limit": "rows, 1 to 500",
    "offset": "rows to skip",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "object": "SOPInstanceUID of one of the job's previews; without it, the first",
    "window": "soft-tissue, lung, bone, brain or wide",
    "outlines": "yes or no",
    "hide": "keys of structures without outline, separated by commas",
    "id": "id of the job",
    "subject": "`job_id` of the delivery: the id of a job, or of a skip",
    "destination": "name of an archive or a webhook",
    "order": "id of the order",
    "name": "name of the webhook",
    "plane": "axial, coronal or sagittal",
    "index": "from 0 at the feet, the front or the right",
}
_LIST = ("state", "limit", "offset")
_ASKED = (400, 404, 503)
_SERIES = ("archive", "study_instance_uid", "series_instance_uid")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and gives.

    answer: shape of the body, or the media type if it is not JSON. status: of success. errors: statuses beside 401.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | str
    query: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()


def _job(verb: str, path: str, summary: str) -> Operation:
    return Operation("post", f"/jobs/{{id}}{path}/{verb}", summary, s.Job, errors=(404, 409))


OPERATIONS = (
    Operation("get", "/health", "Report the health of every part", h.Health),
    Operation("get", "/events", "Stream progress and changes as server-sent events", _EVENTS, errors=(503,)),
    Operation("get", "/jobs", "List jobs, newest first", s.JobList, PAGE, errors=(400,)),
    Operation("get", "/jobs/{id}", "Return one job", s.Job, errors=(404,)),
    _job("retry", "", "Run a job again that ended or is stuck"),
    _job("cancel", "", "End an open job"),
    _job("withdraw", "", "Withdraw what a job had stored that has no valid result"),
    _job("retry", "/deliveries/{destination}", "Run deliveries again that failed or were cancelled"),
    _job("cancel", "/deliveries/{destination}", "End open deliveries"),
    Operation("get", "/jobs/{id}/radiomics.csv", "Return the radiomics as CSV", _CSV, errors=(404, 503)),
    Operation("get", "/jobs/{id}/radiomics.json", "Return the radiomics as JSON", _JSON, errors=(404, 503)),
    Operation(
        "get", "/jobs/{id}/radiomics.parquet", "Return the radiomics as Parquet", _PARQUET, errors=(404, 501, 503)
    ),
    Operation("get", "/jobs/{id}/preview.png", "Return a preview", _PNG, ("object",), errors=(404, 503)),
    Operation("get", "/jobs/{id}/scan", "Say what can be drawn of the scan", p.DrawnScan, errors=(404, 503)),
    Operation(
        "get", "/jobs/{id}/slices/{plane}/{index}.png", "Draw one plane with the outlines of the structures", _PNG,
        ("window", "outlines", "hide"), errors=_ASKED,
    ),
    Operation("get", "/deliveries", "List deliveries, newest first", s.DeliveryList, _LIST, errors=(400,)),
    Operation(
        "post", "/deliveries/{subject}/{destination}/retry", "Run deliveries of a job or a skip again", s.DeliveryList,
        errors=(404, 409),
    ),
    Operation(
        "post", "/deliveries/{subject}/{destination}/cancel", "End open deliveries of a job or a skip", s.DeliveryList,
        errors=(404, 409),
    ),
    Operation("post", "/retry", "Run all jobs again that ended for a reason", s.Retried, ("reason", "text")),
    Operation("post", "/decide-again", "Decide by the current rules", s.Backfill, (), s.DecideAgainBody, 202, (400,)),
    Operation("get", "/backfills", "List backfills, newest first", s.BackfillList),
    Operation("post", "/backfills", "Enrich studies that an archive has", s.Backfill, (), s.BackfillBody, 202, (400,)),
    Operation("post", "/backfills/{order}/stop", "End a backfill", s.Backfill, errors=(404, 409)),
    Operation("post", "/pause", "Let workers take no new job", s.Paused),
    Operation("post", "/resume", "Let workers take jobs again", s.Paused),
    Operation("get", "/series", "List decisions on series, newest first", s.SeriesList, PAGE, errors=(400,)),
    Operation("post", "/series/act", "Act on several series", p.Acted, (), p.ActBody, errors=(400,)),
    Operation("post", "/patients", "Look up the patient of a series", p.Patient, (), p.PatientBody, errors=_ASKED),
    Operation(
        "post", "/find", "Find studies by accession number or PatientID", p.FoundStudies, (), p.FindBody, errors=_ASKED
    ),
    Operation("get", "/rules/compare", "Say how far the comparison of rules is", p.RuleComparison, errors=(404,)),
    Operation(
        "post", "/rules/compare", "Compare a copy of the rules with those in use", p.RuleComparison, (), p.RulesBody,
        202, (400,),
    ),
    Operation("get", "/webhooks", "List the webhooks of the configuration", p.WebhookList),
    Operation("post", "/webhooks/{name}/test", "Send a webhook a test", p.Tried, errors=(404, 409)),
    Operation("get", "/inspect", "Show what would be done with a series", i.Inspected, _SERIES, errors=_ASKED),
    Operation("get", "/inspect/picture.png", "Draw the middle slice of a series", _PNG, _SERIES, errors=_ASKED),
    Operation(
        "post", "/hints", "Tell that a series is stable; only Orthanc's plugin may", s.Accepted, (), s.HintBody, 202,
        (400, 403),
    ),
)  # fmt: skip


class OpenApi:
    """Handlers of the document and of the page."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/enrichment/api/", in_thread(self.page)),
            Route("/enrichment/api/openapi.json", in_thread(self.document)),
        ]

    def document(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        return Response(json.dumps(document()), media_type="application/json")

    def page(self, request: Request) -> Response:
        """Render the document for people."""
        whole = document()
        root = f"{str(request.base_url).rstrip('/')}{ROOT}"
        return render(
            "api.html", active="api", document=whole, root=root, reference=lambda name: name.rpartition("/")[2]
        )


@cache
def document() -> dict[str, Any]:
    """Write the API as OpenAPI 3.1."""
    references, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(f"{ROOT}{operation.path}", {})[operation.method] = _described(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Enrichment",
            "version": __version__,
            "summary": "Jobs, decisions and results of orthanc-enrichment. Research use only.",
            "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "orthanc": {"type": "http", "scheme": "basic", "description": "a user of Orthanc"},
                "plugin": {"type": "apiKey", "in": "header", "name": "X-Enrichment-Secret"},
            },
        },
        "security": [{"orthanc": []}],
    }


def _schemas() -> tuple[dict[Any, Any], dict[str, Any]]:
    shapes = {(o.answer, "serialization") for o in OPERATIONS if not isinstance(o.answer, str)}
    bodies = {(o.body, "validation") for o in OPERATIONS if o.body is not None}
    models = sorted({*shapes, *bodies, (s.Error, "serialization")}, key=str)
    template = "#/components/schemas/{model}"
    references, schema = models_json_schema(models, ref_template=template)  # type: ignore[arg-type]
    return references, schema["$defs"]


def _described(operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    answer = operation.answer
    given = {answer: {}} if isinstance(answer, str) else {_JSON: {"schema": references[answer, "serialization"]}}
    error = {"content": {_JSON: {"schema": references[s.Error, "serialization"]}}}
    described: dict[str, Any] = {
        "operationId": f"{operation.method}{re.sub(r'[^a-z0-9]+', '_', operation.path.lower())}".rstrip("_"),
        "summary": operation.summary,
        "responses": {
            str(operation.status): {"description": "success", "content": given},
            **{str(status): {"description": _ERRORS[status], **error} for status in operation.errors},
            "401": {"description": "Orthanc does not accept the credentials"},
        },
    }
    if parameters := [*_parameters(operation)]:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {_JSON: {"schema": references[operation.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.path == "/hints":
        described["security"] = [{"plugin": []}]
    return described


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    places = [(name, "path") for name in re.findall(r"\{(\w+)\}", operation.path)]
    for name, place in [*places, *((name, "query") for name in operation.query)]:
        kind = {"type": "integer"} if name in ("index", "limit", "offset") else {"type": "string"}
        described = {"name": name, "in": place, "description": _PARAMETERS[name], "schema": kind}
        yield described | ({"required": True} if place == "path" else {})


_ERRORS = {
    400: "the request is wrong; the message says how",
    403: "the secret is missing or wrong",
    404: "there is no such thing",
    409: "the state does not allow it",
    501: "an optional library is not installed",
    503: "the archive, or the job database, does not respond",
}
