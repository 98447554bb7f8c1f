"""The series of a folder that compete within their study, ranked (`SeriesPerStudy`: `best`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orthanc_plugin.archive.folder import FolderArchive, FolderSeries
from orthanc_plugin.config.rule import Rule, SeriesPerStudy
from orthanc_plugin.errors import InputError
from orthanc_plugin.rules.best import Candidate, candidate_of, figures, is_ranked, ranked
from orthanc_plugin.rules.decide import taken_by
from orthanc_plugin.rules.tags import series_tags
from orthanc_plugin.series.identify import identity_of

Studies = Mapping[tuple[str, str], tuple[Candidate, ...]]
"""The competing series, best first, by StudyInstanceUID and name of the rule that takes them."""


def rank_studies(archive: FolderArchive, rules: Sequence[Rule], test_models: Collection[str]) -> Studies:
    """Rank the series of every study of a folder; nothing is read if no rule ranks series."""
    found: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    if any(rule.series_per_study is SeriesPerStudy.BEST for rule in rules):
        for series in archive.series:
            study_uid, series_uid = series.study_instance_uid, series.series_instance_uid
            try:
                headers = archive.headers(study_uid, series_uid)
                identity_of(headers)
                tags = series_tags(headers, None, archive=archive.name, today=date.today())
            except InputError:
                continue  # it is refused for its own reason
            rule = taken_by(rules, tags, test_models)
            if rule and is_ranked(rules, rule):
                found[study_uid, rule].append(candidate_of(rule, series_uid, tags))
    return {key: ranked(candidates) for key, candidates in found.items()}


def by_rank(series: Iterable[FolderSeries], studies: Studies) -> list[FolderSeries]:
    """Return the series in an order in which the best of a study comes before those that could take its place."""
    places = {c.series_instance_uid: place for ranking in studies.values() for place, c in enumerate(ranking)}
    return sorted(series, key=lambda one: places.get(one.series_instance_uid, 0))


def without(studies: Studies, series: FolderSeries) -> Studies:
    """Return the rankings without a series that was refused, so that the next one takes its place."""
    refused = series.series_instance_uid
    return {key: tuple(c for c in ranking if c.series_instance_uid != refused) for key, ranking in studies.items()}


def show_study(candidates: Sequence[Candidate], series_uid: str, console: Console) -> None:
    """Print the ranking of a study for people, with the figures of each series in the order in which they count."""
    table = Table("place in the study", "series", *figures(candidates[0]))
    for place, candidate in enumerate(candidates, start=1):
        mark = " (this series)" if candidate.series_instance_uid == series_uid else ""
        words = map(escape, figures(candidate).values())
        table.add_row(f"{place}{mark}", candidate.series_instance_uid, *words)
    console.print(table)
