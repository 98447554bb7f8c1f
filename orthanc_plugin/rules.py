"""Which series get what, and why the others get nothing.

A rule is a list of criteria and what a series that meets them all gets. A criterion that a rule does not write has the
value of the default rule, so a rule loosens a guard only by saying so. The first rule that matches wins; where none
does, the skip says for each rule which criteria failed. What the archive cannot tell is an error of the rule, never a
silent "no match".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

from orthanc_plugin.body import Region
from orthanc_plugin.errors import ModelError, Refusal
from orthanc_plugin.plan import BODY_OUTPUTS, Guard, Location, Output, Plan, PlannedModel
from orthanc_plugin.tags import ImageKind, SeriesTags


class Settings(BaseModel):
    """Base of all parts of the configuration: PascalCase keys as in orthanc.json, nothing unknown, nothing changed."""

    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", frozen=True, hide_input_in_errors=True)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression ({error})") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class Range(Settings):
    """From `Min` to `Max`, both included; None is open."""

    min: float | None = Field(default=None, description="a number, or null for no lower limit")
    max: float | None = Field(default=None, description="a number, or null for no upper limit")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("Min is not above Max")
        return self

    def __contains__(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def told(self, unit: str = "") -> str:
        """The range in words."""
        if self.max is None:
            return "known" if self.min is None else f"{self.min:g}{unit} or more"
        return f"{self.max:g}{unit} or less" if self.min is None else f"{self.min:g} to {self.max:g}{unit}"


class ImageTypeMatch(Settings):
    """Values of ImageType that must, or must not, be there."""

    any: tuple[str, ...] = Field(default=(), description="a list of values; one of them is there (empty: no condition)")
    none: tuple[str, ...] = Field(default=(), description="a list of values; not one of them is there")


_SOP_CLASS_NAMES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "EnhancedCT",
    "1.2.840.10008.5.1.4.1.1.2.2": "LegacyEnhancedCT",
}
SopClass = Annotated[str, Field(pattern=r"^(CT|EnhancedCT|LegacyEnhancedCT|[0-9]+(\.[0-9]+)+)$")]


class Match(Settings):
    """The criteria of a rule. All must be met; an empty list or text, or null, is no condition."""

    archive: tuple[str, ...] = Field(default=(), description="a list of names from Archives")
    modality: tuple[str, ...] = Field(default=("CT",), description='a list of modalities such as ["CT"]')
    sop_class: tuple[SopClass, ...] = Field(
        default=("CT", "EnhancedCT", "LegacyEnhancedCT"),
        alias="SOPClass",
        description='a list of "CT", "EnhancedCT", "LegacyEnhancedCT" or SOP class UIDs',
    )
    image_type: ImageTypeMatch = Field(
        default=ImageTypeMatch(),
        description='an object with the lists "Any" and "None"',
    )
    exclude_kinds: tuple[ImageKind, ...] = Field(
        default=tuple(ImageKind), description="a list of " + ", ".join(f'"{kind}"' for kind in ImageKind)
    )
    body_part_examined: tuple[str, ...] = Field(
        default=(), description='a list of body parts such as ["CHEST", "THORAX"]'
    )
    series_description: Pattern = Field(default="", description="a regular expression")
    study_description: Pattern = Field(default="", description="a regular expression")
    protocol_name: Pattern = Field(default="", description="a regular expression")
    convolution_kernel: Pattern = Field(default="", description="a regular expression")
    slices: Range | None = Field(
        default=Range.model_validate({"Min": 20}), description="an object with Min and Max (slices or frames), or null"
    )
    slice_thickness: Range | None = Field(default=None, description="an object with Min and Max (mm), or null")
    spacing: Range | None = Field(
        default=Range.model_validate({"Max": 6}), description="an object with Min and Max (mm), or null"
    )
    time_points: Range | None = Field(
        default=Range.model_validate({"Max": 1}), description="an object with Min and Max, or null"
    )
    study_age_days: Range | None = Field(default=None, description="an object with Min and Max (days), or null")
    axial: bool | None = Field(default=True, description="true, false or null (any)")
    rescale_type: tuple[str, ...] = Field(
        default=("HU",), description='a list such as ["HU"]; an absent RescaleType is HU'
    )
    remote_aet: tuple[str, ...] = Field(default=(), alias="RemoteAET", description="a list of calling AE titles")
    origin: tuple[str, ...] = Field(default=(), description='a list such as ["DicomProtocol", "RestApi", "Plugins"]')

    @property
    def orthanc_keys(self) -> tuple[str, ...]:
        """Keys in use that only Orthanc's own metadata can answer."""
        return ("RemoteAET",) * bool(self.remote_aet) + ("Origin",) * bool(self.origin)


DEFAULT_LOCATOR = "bpr"
_REGIONS = ", ".join(f'"{region}"' for region in Region)
_GUARD = " or ".join(f'"{guard}"' for guard in Guard)
RuleOutput = Literal[Output.SEG, Output.LANDMARKS, Output.BODY_LANDMARKS, Output.BODY_REGIONS, Output.VIEWER_LANDMARKS]


class Rule(Settings):
    """One rule: criteria, and what a series that meets them gets."""

    name: str = Field(pattern=r"^[\w][\w .-]{0,63}$", description="1 to 64 letters, digits, spaces or ._-")
    match: Match = Field(default=Match(), description="an object of criteria")
    models: tuple[str, ...] = Field(
        default=("chest_structures",), min_length=1, description="a list of installed models"
    )
    allow_test_models: bool = Field(default=False, description="true or false")
    radiomics: bool = Field(default=True, description="true or false")
    outputs: tuple[RuleOutput, ...] = Field(
        default=(Output.SEG, Output.LANDMARKS, Output.BODY_LANDMARKS, Output.BODY_REGIONS),
        description='a list with "seg", and any of "landmarks", "body-landmarks", "body-regions", "viewer-landmarks"',
    )
    locate: str = Field(default=DEFAULT_LOCATOR, description="an installed body part regression, or empty: not located")
    min_coverage: dict[Region, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description=f"an object with parts from 0 to 1 of {_REGIONS}"
    )
    on_reversed: Guard = Field(default=Guard.FLAG, description=_GUARD)
    on_invalid_spacing: Guard = Field(default=Guard.FLAG, description=_GUARD)
    crop_to_region: Region | Literal[""] = Field(default="", description=f"empty (off), or one of {_REGIONS}")
    home_archive: str = Field(default="", description="a name from Archives, or empty: where the series came from")
    destinations: tuple[str, ...] = Field(default=(), description="a list of names from Archives")

    @model_validator(mode="after")
    def _has_seg(self) -> Rule:
        if Output.SEG not in self.outputs:
            raise ValueError('Outputs needs "seg": reports are made of the stored segmentation')
        return self

    @property
    def location_keys(self) -> tuple[str, ...]:
        """Keys in use that only body part regression can answer."""
        uses = {
            "MinCoverage": bool(self.min_coverage),
            "OnReversed": self.on_reversed is Guard.REFUSE,
            "OnInvalidSpacing": self.on_invalid_spacing is Guard.REFUSE,
            "CropToRegion": bool(self.crop_to_region),
        }
        return tuple(key for key, used in uses.items() if used)


DEFAULT_RULE = Rule.model_validate({"Name": "default"})


@dataclass(frozen=True, slots=True)
class Failure:
    """A criterion that a series does not meet.

    found: what the series has; may be a free text of the hospital, so it is for the terminal, not for logs.
    undecidable: the archive cannot tell, so that the rule is in error.
    """

    criterion: str
    found: str
    wanted: str
    private: bool = False
    undecidable: bool = False

    def __str__(self) -> str:
        if self.undecidable:
            return f"{self.criterion} cannot be decided: {self.found}"
        return f"{self.criterion}: {'another' if self.private else self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says about a series: it matches where no criterion failed."""

    rule: str
    failures: tuple[Failure, ...]

    @property
    def matches(self) -> bool:
        """Whether all criteria are met."""
        return not self.failures

    @property
    def in_error(self) -> bool:
        """Whether the rule fails only by what the archive cannot tell."""
        return bool(self.failures) and all(failure.undecidable for failure in self.failures)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The failed criteria, without free texts of the hospital."""
        return tuple(map(str, self.failures))


@dataclass(frozen=True, slots=True)
class Skip:
    """No rule takes the series. The sentence holds no free text of the hospital: ledger and logs keep it."""

    reason: Refusal
    sentence: str
    verdicts: tuple[RuleVerdict, ...]

    @property
    def in_error(self) -> bool:
        """Whether a rule asks what the archive cannot tell: the operator must act."""
        return any(verdict.in_error for verdict in self.verdicts)


def decide(
    rules: Sequence[Rule], tags: SeriesTags, models: Mapping[str, str], test_models: Collection[str] = ()
) -> Plan | Skip:
    """Plan of the first rule that matches, or why there is none.

    Parameters
    ----------
    rules : sequence of Rule
    tags : SeriesTags
    models : mapping
        Digest of each installed model, by name.
    test_models : collection of str
        Those that were trained on phantoms only.

    Raises
    ------
    ModelError
        If the rule names a model that is not installed (`config.check_rules` refuses this at the start).
    """
    verdicts: list[RuleVerdict] = []
    for rule in rules:
        verdicts.append(_verdict(rule, tags, test_models))
        if verdicts[-1].matches:
            return _plan(rule, tags, models, test_models)
        if verdicts[-1].in_error:  # a later rule must not take what this one may want
            break
    return Skip(_reason(verdicts), _sentence(verdicts), tuple(verdicts))


def explain(rules: Iterable[Rule], tags: SeriesTags, test_models: Collection[str] = ()) -> tuple[RuleVerdict, ...]:
    """What each rule says, also those after the first match."""
    return tuple(_verdict(rule, tags, test_models) for rule in rules)


def _verdict(rule: Rule, tags: SeriesTags, test_models: Collection[str]) -> RuleVerdict:
    """Whether a model may run on patients is asked last: it is the reason only where nothing else is."""
    failures = tuple(_failures(rule.match, tags)) or tuple(_phantoms_only(rule, tags, test_models))
    return RuleVerdict(rule.name, failures)


def _phantoms_only(rule: Rule, tags: SeriesTags, test_models: Collection[str]) -> Iterator[Failure]:
    needed = (*rule.models, *([rule.locate] if rule.location_keys else []))
    named = [name for name in needed if name in test_models]
    if named and not _may_test(rule, tags):
        wanted = f"YES (a phantom) for the test model {', '.join(named)}, or AllowTestModels true in the rule"
        yield Failure(_PHANTOM, "absent or not YES", wanted)


def _may_test(rule: Rule, tags: SeriesTags) -> bool:
    return tags.phantom or rule.allow_test_models


def _plan(rule: Rule, tags: SeriesTags, models: Mapping[str, str], test_models: Collection[str]) -> Plan:
    absent = [name for name in rule.models if name not in models]
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
    )


def _location(rule: Rule, models: Mapping[str, str], barred: Collection[str]) -> Location | None:
    """How a series is located; where the rule can do without, a model that is absent or barred leaves a word only."""
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
    """What the operator must act on, else the guard of a rule that matches but for it, else what all rules share."""
    if any(verdict.in_error for verdict in verdicts):
        return Refusal.RULE_ERROR
    if any(failure.criterion == _PHANTOM for verdict in verdicts for failure in verdict.failures):
        return Refusal.TEST_MODEL
    for criterion, refusal in _REFUSALS.items():
        if verdicts and all(any(f.criterion == criterion for f in verdict.failures) for verdict in verdicts):
            return refusal
    return Refusal.NO_RULE


def _sentence(verdicts: Iterable[RuleVerdict]) -> str:
    told = [f"rule {v.rule}{' is in error' if v.in_error else ''}: {'; '.join(v.reasons)}" for v in verdicts]
    return ". ".join(told) or "there are no rules"


def _failures(match: Match, tags: SeriesTags) -> Iterator[Failure]:
    """Criteria that the tags do not meet, in the order of the schema; of what is no CT only that."""
    yield from _listed("Archive", (tags.archive,), match.archive)
    no_ct = [
        *_listed("Modality", tags.modality, match.modality),
        *_listed("SOPClass", _names(tags.sop_class_uids), _names(match.sop_class)),
    ]
    yield from no_ct
    if not no_ct:
        yield from _image_failures(match, tags)
    yield from _known_to_orthanc("RemoteAET", tags.remote_aet, match.remote_aet)
    yield from _known_to_orthanc("Origin", tags.origin, match.origin)


def _names(sop_classes: Iterable[str]) -> list[str]:
    return [_SOP_CLASS_NAMES.get(name, name) for name in sop_classes]


def _image_failures(match: Match, tags: SeriesTags) -> Iterator[Failure]:
    if not tags.complete:
        yield Failure("ImageType", "the archive gives no whole headers, see SeriesMetadata", "", undecidable=True)
    yield from _image_type(match, tags)
    yield from _listed("BodyPartExamined", tags.body_part_examined, match.body_part_examined)
    yield from _text("SeriesDescription", tags.series_description, match.series_description)
    yield from _text("StudyDescription", tags.study_description, match.study_description)
    yield from _text("ProtocolName", tags.protocol_name, match.protocol_name)
    yield from _text("ConvolutionKernel", tags.convolution_kernel, match.convolution_kernel, private=False)
    yield from _ranged("Slices", tags.slices, match.slices)
    yield from _ranged("SliceThickness", tags.slice_thickness_mm, match.slice_thickness, " mm")
    yield from _ranged("Spacing", tags.spacing_mm, match.spacing, " mm")
    yield from _ranged("TimePoints", tags.time_points, match.time_points)
    yield from _ranged("StudyAgeDays", tags.study_age_days, match.study_age_days)
    if match.axial is not None and tags.axial is not match.axial:
        yield Failure("Axial", _told(tags.axial), _told(match.axial))
    if tags.rescale_types:
        yield from _listed("RescaleType", tags.rescale_types, match.rescale_type)


def _told(value: bool | None) -> str:
    return "unknown" if value is None else str(value).lower()


def _listed(criterion: str, found: Sequence[str], wanted: Sequence[str]) -> Iterator[Failure]:
    allowed = {value.upper() for value in wanted}
    if wanted and not (found and all(value.upper() in allowed for value in found)):
        yield Failure(criterion, ", ".join(found) or "absent", " or ".join(wanted))


def _image_type(match: Match, tags: SeriesTags) -> Iterator[Failure]:
    wanted, unwanted = ({value.upper() for value in values} for values in (match.image_type.any, match.image_type.none))
    if wanted and not wanted & set(tags.image_types):
        yield Failure("ImageType", "\\".join(tags.image_types) or "absent", " or ".join(match.image_type.any))
    for value in tags.image_types:
        if value in unwanted:
            yield Failure("ImageType", value, f"no {value}")
    for kind, value in tags.kinds.items():
        if kind in match.exclude_kinds:
            yield Failure("ImageType", value, f"no {kind}")


def _text(criterion: str, found: Sequence[str], pattern: str, *, private: bool = True) -> Iterator[Failure]:
    if pattern and not any(re.search(pattern, value, re.IGNORECASE) for value in found):
        yield Failure(criterion, ", ".join(found) or "absent", f"like {pattern}", private=private and bool(found))


def _ranged(criterion: str, found: float | None, wanted: Range | None, unit: str = "") -> Iterator[Failure]:
    if wanted is not None and (found is None or found not in wanted):
        yield Failure(criterion, "unknown" if found is None else f"{found:g}{unit}", wanted.told(unit))


def _known_to_orthanc(criterion: str, found: str | None, wanted: Sequence[str]) -> Iterator[Failure]:
    if wanted and found is None:
        yield Failure(criterion, "only Orthanc's own metadata tell it", " or ".join(wanted), undecidable=True)
    elif wanted:
        yield from _listed(criterion, (found,) if found else (), wanted)
