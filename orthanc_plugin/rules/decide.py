"""Decides which series get what, and why the others get nothing.

The first rule that matches wins. If none matches, the skip names for each rule the criteria that failed. A criterion
that the archive cannot answer is an error of the rule, never a silent "no match".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.plan import BODY_OUTPUTS, Location, Measure, Output, Plan, PlannedModel, SegSettings
from orthanc_plugin.errors import ModelError, Refusal
from orthanc_plugin.rules.criteria import Failure, failures_of
from orthanc_plugin.rules.tags import SeriesTags


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says about a series. It matches if no criterion failed."""

    rule: str
    failures: tuple[Failure, ...]

    @property
    def matches(self) -> bool:
        """Whether the series meets all criteria."""
        return not self.failures

    @property
    def in_error(self) -> bool:
        """Whether the rule fails only because of what the archive does not know."""
        return bool(self.failures) and all(failure.undecidable for failure in self.failures)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The failed criteria, without the hospital's free texts."""
        return tuple(map(str, self.failures))


@dataclass(frozen=True, slots=True)
class Skip:
    """No rule takes the series. The sentence holds none of the hospital's free texts: ledger and logs keep it."""

    reason: Refusal
    sentence: str
    verdicts: tuple[RuleVerdict, ...]

    @property
    def in_error(self) -> bool:
        """Whether a rule asks for what the archive does not know: the operator must act."""
        return any(verdict.in_error for verdict in self.verdicts)


def decide(
    rules: Sequence[Rule], tags: SeriesTags, models: Mapping[str, str], test_models: Collection[str] = ()
) -> Plan | Skip:
    """Plan by the first rule that matches, or explain why none does.

    Parameters
    ----------
    rules : sequence of Rule
    tags : SeriesTags
    models : mapping
        Digest of each installed model, by name.
    test_models : collection of str
        Models that were trained on phantoms only.

    Raises
    ------
    ModelError
        If the rule names a model that is not installed (`rules.installed.check_rules` refuses such rules at the start).
    """
    verdicts: list[RuleVerdict] = []
    for rule in rules:
        verdicts.append(_verdict(rule, tags, test_models))
        if verdicts[-1].matches:
            return _plan(rule, tags, models, test_models)
        if verdicts[-1].in_error:  # a later rule must not take what this one may want
            break
    return skip_of(verdicts)


def skip_of(verdicts: Sequence[RuleVerdict]) -> Skip:
    """Give the skip of a series that no rule takes."""
    return Skip(_reason(verdicts), _sentence(verdicts), tuple(verdicts))


def explain(rules: Iterable[Rule], tags: SeriesTags, test_models: Collection[str] = ()) -> tuple[RuleVerdict, ...]:
    """Return what each rule says, including the rules after the first match."""
    return tuple(_verdict(rule, tags, test_models) for rule in rules)


def taken_by(rules: Iterable[Rule], tags: SeriesTags, test_models: Collection[str] = ()) -> str:
    """Return the name of the rule by which `decide` plans; empty if none matches."""
    for rule in rules:
        verdict = _verdict(rule, tags, test_models)
        if verdict.matches or verdict.in_error:
            return rule.name if verdict.matches else ""
    return ""


def _verdict(rule: Rule, tags: SeriesTags, test_models: Collection[str]) -> RuleVerdict:
    """Judge by one rule. Test models come last: they are the reason only if there is no other."""
    failures = tuple(failures_of(rule.match, tags)) or tuple(_phantoms_only(rule, tags, test_models))
    return RuleVerdict(rule.name, failures)


def _phantoms_only(rule: Rule, tags: SeriesTags, test_models: Collection[str]) -> Iterator[Failure]:
    if rule.measure is Measure.EXPERT:  # no model runs
        return
    needed = (*rule.models, *rule.shadow, *([rule.locate] if rule.location_keys else []))
    named = [name for name in needed if name in test_models]
    if named and not _may_test(rule, tags):
        wanted = f"YES (a phantom) for the test model {', '.join(named)}, or AllowTestModels true in the rule"
        yield Failure(_PHANTOM, "absent or not YES", wanted)


def _may_test(rule: Rule, tags: SeriesTags) -> bool:
    return tags.phantom or rule.allow_test_models


def _plan(rule: Rule, tags: SeriesTags, models: Mapping[str, str], test_models: Collection[str]) -> Plan:
    if rule.measure is Measure.EXPERT:
        return _plan_for_masks(rule, tags)
    absent = [name for name in (*rule.models, *rule.shadow) if name not in models]
    if absent:
        raise ModelError(f"rule {rule.name}: model {', '.join(absent)} is not installed")
    home = rule.home_archive or tags.archive
    location = _location(rule, models, () if _may_test(rule, tags) else test_models)
    wanted = {*rule.outputs, *([Output.RADIOMICS] if rule.radiomics else [])}
    if location is None or location.model is None:
        wanted -= {*BODY_OUTPUTS}
    return Plan(
        rule=rule.name,
        models=tuple(PlannedModel(name, models[name]) for name in dict.fromkeys(rule.models)),
        outputs=tuple(output for output in Output if output in wanted),
        home_archive=home,
        destinations=tuple(name for name in dict.fromkeys(rule.destinations) if name != home),
        location=location,
        radiomics=rule.radiomics_settings.settings,
        image_library=rule.radiomics_settings.image_library,
        seg=SegSettings(rule.seg_encoding, rule.seg_ceiling, rule.seg_body),
        hold_back=tuple(check for check in Check if check in rule.hold_back),
        reading=rule.reading,
        input_limits=rule.input_quality.limits,
        contours=rule.contours,
        shadow=tuple(PlannedModel(name, models[name]) for name in dict.fromkeys(rule.shadow)),
    )


def _plan_for_masks(rule: Rule, tags: SeriesTags) -> Plan:
    """Plan to measure the masks that others made; no model runs."""
    home = rule.home_archive or tags.archive
    return Plan(
        rule=rule.name,
        models=(),
        outputs=(Output.RADIOMICS,),
        home_archive=home,
        destinations=tuple(name for name in dict.fromkeys(rule.destinations) if name != home),
        radiomics=rule.radiomics_settings.settings,
        image_library=rule.radiomics_settings.image_library,
        reading=rule.reading,
        input_limits=rule.input_quality.limits,
        measure=Measure.EXPERT,
    )


def _location(rule: Rule, models: Mapping[str, str], barred: Collection[str]) -> Location | None:
    """Plan how to locate the series. If the rule can do without, an absent or barred model leaves only a remark."""
    if not rule.locate:
        return None
    if rule.locate not in models:
        if rule.location_keys:
            raise ModelError(f"rule {rule.name}: model {rule.locate} is not installed")
        return Location(absent="no body part regression model is installed")
    if rule.locate in barred:
        return Location(absent=f"the body part regression {rule.locate} is a test model and the series no phantom")
    return Location(
        model=PlannedModel(rule.locate, models[rule.locate]),
        min_coverage=tuple(sorted(rule.min_coverage.items())),
        on_reversed=rule.on_reversed,
        on_invalid_spacing=rule.on_invalid_spacing,
        crop=rule.crop_to_region or None,
    )


_PHANTOM = "QualityControlImage"
_REFUSALS = {
    "Modality": Refusal.NOT_CT,
    "SOPClass": Refusal.NOT_CT,
    "Slices": Refusal.TOO_FEW_SLICES,
    "Axial": Refusal.NOT_AXIAL,
    "RescaleType": Refusal.NOT_HU,
}


def _reason(verdicts: Sequence[RuleVerdict]) -> Refusal:
    """Choose the reason: what the operator must fix, else the only guard that failed, else what all rules share."""
    if any(verdict.in_error for verdict in verdicts):
        return Refusal.RULE_ERROR
    if any(failure.criterion == _PHANTOM for verdict in verdicts for failure in verdict.failures):
        return Refusal.TEST_MODEL
    for criterion, refusal in _REFUSALS.items():
        if verdicts and all(any(f.criterion == criterion for f in verdict.failures) for verdict in verdicts):
            return refusal
    return Refusal.NO_RULE


def _sentence(verdicts: Iterable[RuleVerdict]) -> str:
    sentences = [f"rule {v.rule}{' is in error' if v.in_error else ''}: {'; '.join(v.reasons)}" for v in verdicts]
    return ". ".join(sentences) or "there are no rules"
