"""Inspects a series in a configured archive: what would be done with it and why. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.orthanc import open_feed
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.plan import Plan
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.domain.uids import check_uids
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, InputError, Refusal
from orthanc_plugin.jobs.inspection import Inspection, inspect_series
from orthanc_plugin.jobs.progress import stages_planned
from orthanc_plugin.rules.best import Candidate, candidate_of, is_ranked, ranked, skip_for_better
from orthanc_plugin.rules.decide import RuleVerdict, Skip, decide, explain, taken_by
from orthanc_plugin.rules.installed import installed_models
from orthanc_plugin.rules.tags import OrthancMetadata, SeriesTags, series_tags
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.read import read_series


@dataclass(frozen=True, slots=True)
class Place:
    """A series in an archive, by its name in the configuration."""

    archive: str
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What each rule says of a series, and the stages of the job that it would get."""

    verdicts: tuple[RuleVerdict, ...]
    stages: tuple[str, ...]


class Inspector:
    """Inspects series by the rules of a configuration.

    Parameters
    ----------
    configuration : Configuration
    opened : callable
        Opens an archive, given its name and settings.
    """

    def __init__(
        self, configuration: Configuration, opened: Callable[[str, ArchiveSettings], Archive] = open_archive
    ) -> None:
        self._configuration, self._opened = configuration, opened

    def inspect(self, place: Place) -> tuple[Inspection, CtSeries | None]:
        """Inspect a series; it comes along where it could be read.

        Raises
        ------
        ConfigError
            There is no such archive.
        InputError
            BAD_UID: what is given as a UID is none. GONE: the archive has no such series.
        TransientError
            The archive does not respond.
        """
        uids = place.study_instance_uid, place.series_instance_uid
        with self._open(place) as archive:
            test_models = installed_models(self._configuration.models_directory).test_models
            return inspect_series(
                place.series_instance_uid,
                self._configuration.rules,
                partial(self._tags, archive, *uids),
                partial(archive.headers, *uids),
                partial(_read, archive, *uids),
                partial(self._better, archive, uids, test_models),
                test_models,
            )

    def explain(self, place: Place) -> Explained:
        """Tell what each rule says of a series, from its headers alone, and what would be done; raise as `inspect`."""
        return self.explain_tags(self.tags(place))

    def explain_tags(self, tags: SeriesTags) -> Explained:
        """Tell the same of a series whose tags were read elsewhere."""
        rules, installed = self._configuration.rules, installed_models(self._configuration.models_directory)
        plan = decide(rules, tags, installed.digests, installed.test_models)
        stages = stages_planned(plan.to_json()) if isinstance(plan, Plan) else ()
        return Explained(explain(rules, tags, installed.test_models), stages)

    @property
    def test_models(self) -> frozenset[str]:
        """Names of the models that were trained on phantoms only."""
        return installed_models(self._configuration.models_directory).test_models

    def tags(self, place: Place) -> SeriesTags:
        """Read what rules judge of a series, from its headers alone; raise as `inspect`."""
        with self._open(place) as archive:
            return self._tags(archive, place.study_instance_uid, place.series_instance_uid)

    @contextmanager
    def _open(self, place: Place) -> Iterator[Archive]:
        check_uids(place.study_instance_uid, place.series_instance_uid)
        settings = self._configuration.archives.get(place.archive)
        if settings is None:
            raise ConfigError("there is no such archive in the configuration")
        with closing(self._opened(place.archive, settings)) as archive:
            if not archive.same_series_studies(place.series_instance_uid):
                raise InputError(Refusal.GONE, "the archive has no such series")
            yield archive

    def _tags(self, archive: Archive, study_uid: str, series_uid: str) -> SeriesTags:
        headers = archive.headers(study_uid, series_uid)
        known = self._known(archive.name, study_uid, series_uid)
        return series_tags(headers, known, archive=archive.name, today=date.today())

    def _known(self, archive: str, study_uid: str, series_uid: str) -> OrthancMetadata | None:
        """Ask an Orthanc for what only it knows of a series; None for another archive."""
        feed = open_feed(archive, self._configuration.archives[archive])
        if feed is None:
            return None
        with closing(feed):
            found = feed.series(orthanc_id) if (orthanc_id := feed.lookup(study_uid, series_uid)) else None
        if found is None:
            return None
        copied = bool(found.anonymized_from), bool(found.modified_from)
        return OrthancMetadata(found.remote_aet, found.origin, *copied, found.remote_ip)

    def _better(self, archive: Archive, uids: tuple[str, str], test_models: Collection[str], rule: str) -> Skip | None:
        """Give the skip where the rule enriches another series of the study; the others count as they lie there."""
        rules, candidates = self._configuration.rules, list[Candidate]()
        if not is_ranked(rules, rule):
            return None
        for series_uid in archive.ct_series(uids[0]):
            with suppress(InputError):  # it is refused for its own reason
                identity_of(archive.headers(uids[0], series_uid))
                tags = self._tags(archive, uids[0], series_uid)
                if taken_by(rules, tags, test_models) == rule:
                    candidates.append(candidate_of(rule, series_uid, tags))
        return skip_for_better(uids[1], ranked(candidates))


def _read(archive: Archive, study_uid: str, series_uid: str, reading: ReadSettings) -> CtSeries:
    return read_series(archive.retrieve(study_uid, series_uid), reading)
