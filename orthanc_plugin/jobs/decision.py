"""Decisions: what a complete series gets, as a row of the ledger and, if it gets anything, a job.

The generation tells a series that was deleted and sent again from one that was left alone: the content is the same,
but the archive received it at another time. A content also gets a new decision if it returns after another content
superseded it before its job began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.job import EnrichJob, JobState, Priority
from orthanc_plugin.domain.plan import Plan
from orthanc_plugin.domain.uids import check_uids, loggable_uid
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.identity import SeriesIdentity
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision, Ledger, Verdict
from orthanc_plugin.jobs.stage import whereabouts
from orthanc_plugin.rules.best import Candidate, candidate_of, is_ranked
from orthanc_plugin.rules.decide import Skip, decide
from orthanc_plugin.rules.tags import OrthancMetadata, SeriesTags, series_tags
from orthanc_plugin.series.identify import identity_of

_ODD_VALUES = (ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError)
_LARGEST_MM = 5000
GONE_AT_MOST = 5
"""Jobs of one series that may end as `gone` while the archive still has the series; then it gets no further one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """The reason why a series gets nothing, as a word and as a sentence.

    rule: the rule that takes the series and passes it over for a better one; otherwise empty.
    """

    reason: Refusal
    sentence: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides on series by the rules.

    models: digest of each installed model, by name.
    test_models: names of the models that were trained on phantoms only.
    """

    rules: tuple[Rule, ...]
    models: Mapping[str, str]
    ledger: Ledger
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    test_models: frozenset[str] = frozenset()

    def decide(
        self, hint: Hint, received: str, archive: Archive, instead: Refused | None = None
    ) -> tuple[Decision, EnrichJob | None] | None:
        """Decide on the content that the archive holds now.

        Parameters
        ----------
        hint : Hint
        received : str
            When the archive received the newest instance of the series.
        archive : Archive
        instead : Refused or None
            What a series gets in place of its plan (see `jobs.study`).

        Returns
        -------
        tuple of Decision and EnrichJob or None, or None
            The decision and its job, if it has one; None if this content was decided on before and the hint does not
            ask again.

        Raises
        ------
        InputError
            `gone`: the archive answers that it has no such series. Other reasons: it cannot be searched.
        TransientError
            If the archive is away.
        ModelError
            If a rule names a model that is not installed.
        """
        try:
            check_uids(hint.study_instance_uid, hint.series_instance_uid)
        except InputError as error:
            return self.refuse(hint, received, error)
        places = archive.same_series_studies(hint.series_instance_uid)
        if len(places) > 1:
            said = f"the series belongs to {len(places)} studies or patients"
            return self._row(hint, _conflict(hint, places), "", Refused(Refusal.TWO_PATIENTS, said))
        try:
            headers = archive.headers(hint.study_instance_uid, hint.series_instance_uid)
        except InputError as error:
            return self.refuse(hint, received, error)
        if not headers:
            raise InputError(Refusal.GONE, f"archive {hint.archive} does not find the series")
        series, plan = self._judged(headers, hint)
        judged = instead if instead and isinstance(plan, Plan) else plan
        return self._row(hint, series, received, judged, headers)

    def candidate(self, hint: Hint, archive: Archive) -> Candidate | None:
        """Return the figures that rank a series in its study; None if no rule takes it that ranks series."""
        try:
            headers = archive.headers(hint.study_instance_uid, hint.series_instance_uid)
        except InputError:
            return None
        if not headers or len(archive.same_series_studies(hint.series_instance_uid)) > 1:
            return None
        _, plan = self._judged(headers, hint)
        if isinstance(plan, Refused) or not is_ranked(self.rules, plan.rule):
            return None
        return candidate_of(plan.rule, hint.series_instance_uid, self._tags(headers, hint))

    def _tags(self, headers: Sequence[Dataset], hint: Hint) -> SeriesTags:
        copied = (bool(hint.anonymized_from), bool(hint.modified_from))
        orthanc = (
            OrthancMetadata(hint.remote_aet, hint.origin, *copied, hint.remote_ip) if hint.orthanc_series_id else None
        )
        return series_tags(headers, orthanc, archive=hint.archive, today=self.now().date())

    def refuse(self, hint: Hint, received: str, error: InputError) -> tuple[Decision, EnrichJob | None] | None:
        """Refuse a series whose headers cannot be had; None if it was refused before and has not come again."""
        return self._row(hint, _unknown(hint, ()), received, Refused(error.reason, str(error)))

    def _judged(self, headers: Sequence[Dataset], hint: Hint) -> tuple[SeriesIdentity, Plan | Refused]:
        """Return the identity of the series, with its plan or the reason why it has none."""
        sops = tuple(str(header.get("SOPInstanceUID", "")) for header in headers)
        try:
            check_uids(*_uids(headers))
            plan = decide(self.rules, self._tags(headers, hint), self.models, self.test_models)
            if isinstance(plan, Skip) and plan.in_error:
                logger.error("series %s: %s", loggable_uid(hint.series_instance_uid), plan.sentence)
            judged = Refused(plan.reason, plan.sentence) if isinstance(plan, Skip) else plan
            return _identity(headers, hint, sops, judged)
        except InputError as error:
            return _unknown(hint, sops), Refused(error.reason, str(error))
        except _ODD_VALUES as error:
            # Odd values in a header, which pydicom finds only when they are read.
            said = f"its headers cannot be read: {type(error).__name__} {whereabouts(error)}"
            return _unknown(hint, sops), Refused(Refusal.UNREADABLE, said)

    def _priority(self, hint: Hint, plan: Plan) -> Priority:
        if hint.order:
            return Priority.BACKFILL
        return next((rule.priority for rule in self.rules if rule.name == plan.rule), Priority.NORMAL)

    def _row(
        self, hint: Hint, series: SeriesIdentity, received: str, plan: Plan | Refused, headers: Sequence[Dataset] = ()
    ) -> tuple[Decision, EnrichJob | None] | None:
        rows = self.ledger.of_series(hint.archive, hint.series_instance_uid)
        generation = generation_of(series, received, rows)
        if generation is None and not hint.again:
            return None
        if generation is None:
            generation = max(row.generation for row in rows)
        fingerprint = identity.fingerprint(series, generation)
        place = (hint.archive, hint.study_instance_uid, hint.series_instance_uid, fingerprint, generation)
        if isinstance(plan, Refused):
            decision = Decision(
                *place, received, self.now(), Verdict.SKIP, JobState.SKIPPED,
                reason=plan.reason, detail=plan.sentence, rule=plan.rule, ended_at=self.now(),
            )  # fmt: skip
            return decision, None
        job = EnrichJob(*place, plan, _voxels(headers), extent_mm(headers))
        job_id = identity.job_id(hint.archive, fingerprint, plan.digest)
        decision = Decision(
            *place, received, self.now(), Verdict.ENRICH, JobState.QUEUED,
            job_id=job_id, rule=plan.rule, argument=job.to_json(), priority=self._priority(hint, plan),
        )  # fmt: skip
        return decision, job


def generation_of(series: SeriesIdentity, received: str, rows: Sequence[Decision]) -> int | None:
    """Return the generation of a content, or None if it was decided on before and has not come again.

    Parameters
    ----------
    series : SeriesIdentity
        Identity of what the archive holds now.
    received : str
        When the archive received the newest instance of the series; empty if the archive does not know.
    rows : sequence of Decision
        All decisions on this SeriesInstanceUID.
    """
    generation = max((row.generation for row in rows), default=0)
    fingerprint = identity.fingerprint(series, generation)
    known = next((row for row in rows if row.fingerprint == fingerprint), None)
    if known is None:
        return generation
    received_again = bool(known.received and received) and received != known.received
    # A worker did not find it: the address was wrong, or it was away for a moment.
    found_again = known.reason == Refusal.GONE and sum(row.reason == Refusal.GONE for row in rows) < GONE_AT_MOST
    # Another content took its place meanwhile, and its results may be withdrawn.
    replaced = bool(known.superseded_by) or known.state is JobState.SUPERSEDED
    came_again = received_again or found_again or replaced
    return generation + 1 if came_again else None


def _voxels(headers: Sequence[Dataset]) -> int:
    """Count the pixels of all instances; 0 if a header is odd, which the loader tells."""
    try:
        return sum(
            int(h.get("Rows") or 0) * int(h.get("Columns") or 0) * int(h.get("NumberOfFrames") or 1) for h in headers
        )
    except (ValueError, TypeError):
        return 0


def extent_mm(headers: Sequence[Dataset]) -> tuple[float, float, float] | None:
    """Measure the series along (z, y, x); None if a header is odd or tells no place, as those of multi-frame CT."""
    try:
        size = np.array([(float(h["Rows"].value), float(h["Columns"].value)) for h in headers])
        y, x = (size * [[float(mm) for mm in h["PixelSpacing"].value] for h in headers]).max(axis=0)
        places = np.array([[float(mm) for mm in h["ImagePositionPatient"].value] for h in headers])
        with np.errstate(invalid="ignore"):
            z = np.linalg.norm(np.ptp(places, axis=0)) * (1 + 1 / max(1, len(headers) - 1))
    except _ODD_VALUES:
        return None
    found = round(float(z), 1), round(float(y), 1), round(float(x), 1)
    return found if all(0 < mm < _LARGEST_MM for mm in found) else None


def _uids(headers: Sequence[Dataset]) -> Iterator[str]:
    """Return the UIDs of all instances; the loader tells of those that are missing."""
    for header in headers:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            if value := str(header.get(keyword) or ""):
                yield value


def _identity(
    headers: Sequence[Dataset], hint: Hint, sops: tuple[str, ...], judged: Plan | Refused
) -> tuple[SeriesIdentity, Plan | Refused]:
    """Identify the series; the rules count first: an MR series is "not CT", whatever else is wrong with it."""
    try:
        return identity_of(headers), judged
    except InputError as error:
        refused = judged if isinstance(judged, Refused) else Refused(error.reason, str(error))
        return _unknown(hint, sops), refused


def _unknown(hint: Hint, sops: tuple[str, ...]) -> SeriesIdentity:
    """Make a stand-in for the identity of a series that has no valid one."""
    return SeriesIdentity("", hint.study_instance_uid, hint.series_instance_uid, sops, ())


def _conflict(hint: Hint, places: Sequence[tuple[str, str]]) -> SeriesIdentity:
    """Make one identity for a SeriesInstanceUID in several places, so that the conflict is decided on once."""
    everywhere = tuple(identity.digest(study, patient) for study, patient in places)
    return SeriesIdentity("", "", hint.series_instance_uid, everywhere, ())
