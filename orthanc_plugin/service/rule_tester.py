"""The rule tester: which rule takes a series and why the others do not, and what a copy of the rules would change.

Nothing is stored or decided, and no rule in use is changed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orthanc_plugin.archive.part10 import BROKEN
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.rule import Rule
from orthanc_plugin.config.sections import Configuration, section_json
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.errors import EnrichError, InputError, Refusal, TransientError
from orthanc_plugin.jobs.comparison import MOST, Comparer
from orthanc_plugin.jobs.inspector import Explained, Inspector, Place
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.search import Search
from orthanc_plugin.rules.installed import check_rules, installed_models
from orthanc_plugin.rules.tags import series_tags
from orthanc_plugin.service.pages import is_part, render
from orthanc_plugin.service.routes import answer, body_of, guarded, in_thread, parsed, problem
from orthanc_plugin.service.schema_pages import RuleComparison, RulesBody

VERDICTS = ("archive", "study", "series")
FILES_BYTES = 128 << 20
_RULES_BYTES = 1 << 20
_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Dropped:
    """One series among the files that a person gave. problem: why the rules cannot be asked; else empty."""

    series_instance_uid: str
    files: int
    found: Explained | None
    problem: str = ""


_DEFLATED = DeflatedExplicitVRLittleEndian.encode()


class RuleTester:
    """Handlers of the rule tester.

    Parameters
    ----------
    configuration : Configuration
        Its rules are those in use.
    inspector : Inspector
        Judges series by them.
    queue : JobQueue
        Names the series that were decided on last.
    """

    def __init__(self, configuration: Configuration, inspector: Inspector, queue: JobQueue) -> None:
        self._configuration, self._inspector, self._queue = configuration, inspector, queue
        self._comparer: Comparer | None = None

    def routes(self, root: str) -> list[Route]:
        """Return the routes."""
        return [
            Route("/enrichment/rules", in_thread(self.page)),
            Route("/enrichment/rules/verdicts", in_thread(self.verdicts, VERDICTS)),
            Route("/enrichment/rules/files", guarded(self.files), methods=["POST"]),
            Route("/enrichment/rules/comparison", in_thread(self.shown)),
            Route(f"{root}/rules/compare", in_thread(self.compared)),
            Route(f"{root}/rules/compare", guarded(self.compare), methods=["POST"]),
        ]

    def page(self, request: Request) -> Response:
        """Render the page."""
        return render(
            "rules.html", active="rules", archives=list(self._configuration.archives), most=MOST,
            rules=rules_text(self._configuration.rules),
        )  # fmt: skip

    def verdicts(self, request: Request) -> Response:
        """Render what each rule wants of a series and what was found, from the headers in its archive."""
        archive, study, series = (request.query_params.get(name, "").strip() for name in VERDICTS)
        wrong, found = "", None
        try:
            found = self._inspector.explain(Place(archive or "local", study, series))
        except TransientError as error:
            wrong = f"{error}. Lists and history on the other pages do not need it."
        except EnrichError as error:
            wrong = str(error)
        layout = "part.html" if is_part(request) else "page.html"
        return render("verdicts.html", layout=layout, active="rules", problem=wrong, found=found)

    async def files(self, request: Request) -> Response:
        """Render what each rule says of the series of some files.

        The body holds the beginning of each file, as far as its header goes, after its length as four bytes, the
        lowest first.
        """
        body = await body_of(request, FILES_BYTES)
        try:
            dropped, unread = await run_in_threadpool(self._dropped, body)
        except InputError as error:
            return problem(400, str(error))
        return render("dropped.html", dropped=dropped, unread=unread)

    def shown(self, request: Request) -> Response:
        """Render how far the comparison is."""
        state = self._comparer.state() if self._comparer is not None else None
        return render("comparison.html", comparison=state)

    async def compare(self, request: Request) -> Response:
        """Begin to compare a copy of the rules with those in use; 202 means that it has begun."""
        body = parsed(RulesBody, await body_of(request, _RULES_BYTES))
        try:
            await run_in_threadpool(self._start, body)
        except EnrichError as error:
            return problem(400, str(error))
        return answer(self._state(), 202)

    def compared(self, request: Request) -> Response:
        """Return how far the comparison is; 404 if there was none since the start of the service."""
        return answer(self._state())

    def _state(self) -> RuleComparison:
        state = self._comparer.state() if self._comparer is not None else None
        if state is None:
            raise HTTPException(404, "no rules were compared since the service started")
        return RuleComparison.model_validate(state)

    def _start(self, body: RulesBody) -> None:
        self._comparer = started_comparison(
            self._configuration, self._queue, body.rules, self._inspector, self._comparer
        )

    def _dropped(self, body: bytes) -> tuple[list[Dropped], int]:
        groups: dict[str, list[Dataset]] = {}
        unread = 0
        for content in _parts(body):
            if _DEFLATED in content:  # what it grows to is not known before it is there
                unread += 1
                continue
            try:
                ds = dcmread(io.BytesIO(content), stop_before_pixels=True)
                uid = str(ds.SeriesInstanceUID)
                groups.setdefault(uid if is_uid(uid) else "", []).append(ds)
            except (InvalidDicomError, *BROKEN):
                unread += 1
        return [self._judged(uid, headers) for uid, headers in groups.items()], unread

    def _judged(self, uid: str, headers: Sequence[Dataset]) -> Dropped:
        if not uid:
            return Dropped(uid, len(headers), None, "its SeriesInstanceUID is missing or not valid (DICOM PS3.5 9.1)")
        archive = next(iter(self._configuration.archives))
        try:
            tags = series_tags(headers, None, archive=archive, today=date.today())
        except InputError as error:
            return Dropped(uid, len(headers), None, str(error))
        except BROKEN as error:
            return Dropped(uid, len(headers), None, f"its headers cannot be read: {type(error).__name__}")
        return Dropped(uid, len(headers), self._inspector.explain_tags(tags))


def started_comparison(
    configuration: Configuration,
    queue: JobQueue,
    rules: Sequence[dict[str, object]],
    inspector: Inspector | None = None,
    comparer: Comparer | None = None,
) -> Comparer:
    """Begin to compare rules with those of a configuration, on the newest decisions that stand.

    Raises
    ------
    ConfigError
        If the rules cannot be used.
    """
    changed = parse_section(json.loads(section_json(configuration)) | {"Rules": list(rules)}, {})
    installed = installed_models(configuration.models_directory)
    check_rules(changed, installed)
    inspector = inspector or Inspector(configuration)
    comparer = comparer or Comparer(inspector.tags, configuration.rules, installed.test_models)
    comparer.start(queue.ledger.decisions(Search(standing=True), limit=MOST), changed.rules)
    return comparer


def rules_text(rules: Sequence[Rule]) -> str:
    """Write rules as the configuration holds them, without what has its default."""
    written = [rule.model_dump(by_alias=True, mode="json", exclude_defaults=True) for rule in rules]
    return json.dumps(written, indent=2)


def _parts(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        length = int.from_bytes(body[at : at + _LENGTH], "little")
        at += _LENGTH
        if at + length > len(body):
            raise InputError(Refusal.UNREADABLE, "the body is cut off")
        yield body[at : at + length]
        at += length
