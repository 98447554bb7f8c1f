"""Ranks the series of one study, where a rule enriches only the best of them (`SeriesPerStudy`: `best`).

The ranking compares these figures, in this order; the first that differs decides:

1. kernel: soft before unknown before sharp (see `kernels`);
2. slice thickness: 1 mm or more before thinner; then the thinnest of those of 1 mm or more, or the thickest of the
   thinner ones;
3. coverage: the longest way from the first to the last slice;
4. the number of slices, then the SeriesInstanceUID, so that the order of arrival never counts.

A figure that is unknown comes after every known one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from orthanc_plugin.config.rule import Rule, SeriesPerStudy
from orthanc_plugin.errors import Refusal
from orthanc_plugin.rules.decide import Skip
from orthanc_plugin.rules.kernels import Sharpness, sharpness_of
from orthanc_plugin.rules.tags import SeriesTags

THINNEST_MM = 1.0
"""Slices that are thinner come last: they hold more noise and memory than detail that the models use."""

_ORDER = tuple(Sharpness)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series that a rule takes, with the figures that rank it in its study.

    kernel: values of ConvolutionKernel; empty if absent.
    thickness_mm: SliceThickness, or the step between slices where it is absent; in hundredths.
    coverage_mm: way from the first to the last slice; in whole mm.
    """

    series_instance_uid: str
    rule: str
    sharpness: Sharpness
    kernel: str
    thickness_mm: float | None
    coverage_mm: int | None
    slices: int


def candidate_of(rule: str, series_uid: str, tags: SeriesTags) -> Candidate:
    """Return the figures of a series that a rule takes."""
    thickness_mm = tags.slice_thickness_mm or tags.spacing_mm
    return Candidate(
        series_uid,
        rule,
        sharpness_of(tags.convolution_kernel),
        ", ".join(tags.convolution_kernel),
        None if thickness_mm is None else round(thickness_mm, 2),
        None if tags.coverage_mm is None else round(tags.coverage_mm),
        tags.slices,
    )


def is_ranked(rules: Sequence[Rule], name: str) -> bool:
    """Return whether the rule of this name enriches only the best series of a study."""
    return any(rule.name == name and rule.series_per_study is SeriesPerStudy.BEST for rule in rules)


def ranked(candidates: Collection[Candidate]) -> tuple[Candidate, ...]:
    """Return the series of a study, best first."""
    return tuple(sorted(candidates, key=_key))


def better_one(candidate: Candidate, rivals: Collection[Candidate]) -> Candidate | None:
    """Return the best series of the study that the same rule takes; None if it is the candidate itself."""
    same = [candidate, *(r for r in rivals if r.rule == candidate.rule)]
    best = ranked(same)[0]
    return None if best.series_instance_uid == candidate.series_instance_uid else best


def skip_for_better(series_uid: str, study: Sequence[Candidate]) -> Skip | None:
    """Return the skip that names the best series of a study, which is ranked; None if this one is it or not ranked."""
    own = next((candidate for candidate in study[1:] if candidate.series_instance_uid == series_uid), None)
    return None if own is None else Skip(Refusal.BETTER_SERIES, why_better(study[0], own), ())


def why_better(chosen: Candidate, other: Candidate) -> str:
    """Name the chosen series, and say with both figures why another one is not chosen."""
    said = next(
        (f"{name} {text(chosen)}, not {text(other)}" for name, key, text in _FIGURES if key(chosen) != key(other)),
        "equal in every figure, and first by its SeriesInstanceUID",
    )
    return f"rule {other.rule}: better series chosen: {chosen.series_instance_uid} ({said})"


def figures(candidate: Candidate) -> Mapping[str, str]:
    """Return the figures of the ranking in words, by their names, in the order in which they count."""
    return {name: text(candidate) for name, _, text in _FIGURES}


def _thickness_key(candidate: Candidate) -> tuple[int, float]:
    thickness_mm = candidate.thickness_mm
    if thickness_mm is None:
        return 2, 0.0
    return (0, thickness_mm) if thickness_mm >= THINNEST_MM else (1, -thickness_mm)


def _coverage_key(candidate: Candidate) -> int:
    return 0 if candidate.coverage_mm is None else -candidate.coverage_mm


def _mm(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g} mm"


def _kernel(candidate: Candidate) -> str:
    return f"{candidate.kernel or 'absent'} ({candidate.sharpness})"


_FIGURES: tuple[tuple[str, Callable[[Candidate], object], Callable[[Candidate], str]], ...] = (
    ("kernel", lambda c: c.sharpness, _kernel),
    ("slice thickness", _thickness_key, lambda c: _mm(c.thickness_mm)),
    ("coverage", _coverage_key, lambda c: _mm(c.coverage_mm)),
    ("slices", lambda c: c.slices, lambda c: str(c.slices)),
)


def _key(candidate: Candidate) -> tuple[object, ...]:
    return (
        _ORDER.index(candidate.sharpness),
        _thickness_key(candidate),
        _coverage_key(candidate),
        -candidate.slices,
        candidate.series_instance_uid,
    )
