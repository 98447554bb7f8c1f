"""Compares a copy of the rules with those in use on the series that were decided on last. Nothing is changed.

Headers come from the archives, some series at a time, so a comparison runs in a thread of its own; its state can be
read while it runs. The tags of a series are kept, so that the next copy is compared in seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.correlation import CarryingPool
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.inspector import Place
from orthanc_plugin.jobs.ledger import Decision
from orthanc_plugin.rules.decide import explain, skip_of
from orthanc_plugin.rules.tags import SeriesTags

MOST = 1000
AT_ONCE = 4
"""Series whose headers are asked for at a time: the archive has other work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What rules do with a series. rule: the one that takes it; else the reason why none does, a code."""

    rule: str
    reason: str

    def __str__(self) -> str:
        """Describe the outcome in words."""
        return f"rule {self.rule}" if self.rule else self.reason.replace("-", " ")


@dataclass(frozen=True, slots=True)
class Difference:
    """A series with which the two sets of rules do not the same."""

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a comparison is.

    total, looked_at: series. unreadable: series whose headers the archive does not give.
    before, after: how many series each outcome has, in words, most first.
    """

    total: int
    looked_at: int
    unreadable: int
    before: tuple[tuple[str, int], ...]
    after: tuple[tuple[str, int], ...]
    differences: tuple[Difference, ...]


class Comparer:
    """Runs one comparison at a time; a new one ends the one before.

    Parameters
    ----------
    tags_of : callable
        Reads what rules judge of a series; raises EnrichError.
    rules : sequence of Rule
        Those in use.
    test_models : collection of str
        Models that were trained on phantoms only.
    """

    def __init__(
        self, tags_of: Callable[[Place], SeriesTags], rules: Sequence[Rule], test_models: Collection[str]
    ) -> None:
        self._tags_of, self._rules, self._test_models = tags_of, tuple(rules), frozenset(test_models)
        self._kept: dict[tuple[str, str], SeriesTags] = {}
        self._lock = threading.Lock()
        self._run = 0
        self._total = 0
        self._found: list[tuple[Decision, Outcome, Outcome] | None] = []

    def start(self, rows: Sequence[Decision], rules: Sequence[Rule]) -> None:
        """Begin to compare; `rows` are the newest decisions on the series."""
        with self._lock:
            self._run += 1
            self._total, self._found, run = len(rows), [], self._run
            self._kept = {key: tags for key, tags in self._kept.items() if key in {_key(row) for row in rows}}
        threading.Thread(target=self._compare, args=(run, tuple(rows), tuple(rules)), daemon=True).start()

    def state(self) -> Comparison | None:
        """Return how far the last comparison is; None if there was none."""
        with self._lock:
            if not self._run:
                return None
            found, total = tuple(self._found), self._total
        judged = [one for one in found if one is not None]
        differences = tuple(
            Difference(row.archive, row.study_instance_uid, row.series_instance_uid, before, after)
            for row, before, after in judged
            if before != after
        )
        before, after = (_counted([str(one[place]) for one in judged]) for place in (1, 2))
        return Comparison(total, len(found), len(found) - len(judged), before, after, differences)

    def _compare(self, run: int, rows: tuple[Decision, ...], rules: tuple[Rule, ...]) -> None:
        with CarryingPool(AT_ONCE, "compare") as pool:
            for row, tags in zip(rows, pool.map(lambda row: self._tags(run, row), rows), strict=True):
                one = None if tags is None else (row, self._outcome(self._rules, tags), self._outcome(rules, tags))
                with self._lock:
                    if run != self._run:
                        return
                    self._found.append(one)

    def _tags(self, run: int, row: Decision) -> SeriesTags | None:
        if run != self._run:
            return None
        if (kept := self._kept.get(_key(row))) is not None:
            return kept
        try:
            tags = self._tags_of(Place(row.archive, row.study_instance_uid, row.series_instance_uid))
        except EnrichError:
            return None
        with self._lock:
            self._kept[_key(row)] = tags
        return tags

    def _outcome(self, rules: Sequence[Rule], tags: SeriesTags) -> Outcome:
        verdicts = []
        for verdict in explain(rules, tags, self._test_models):
            if verdict.matches:
                return Outcome(verdict.rule, "")
            verdicts.append(verdict)
            if verdict.in_error:
                break
        return Outcome("", skip_of(verdicts).reason)


def _key(row: Decision) -> tuple[str, str]:
    return row.archive, row.fingerprint


def _counted(words: Sequence[str]) -> tuple[tuple[str, int], ...]:
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))
