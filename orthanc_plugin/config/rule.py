"""A rule as orthanc.json writes it: criteria, and what a series that meets them all gets.

A criterion that a rule leaves out has the value of the default rule, so a rule loosens a guard only explicitly.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, IPvAnyNetwork, model_validator

from orthanc_plugin.config.base import Pattern, Range, Settings
from orthanc_plugin.config.radiomics_options import RadiomicsOptions
from orthanc_plugin.config.rule_sets import RuleSet, with_rule_set
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.image_kind import ImageKind
from orthanc_plugin.domain.input_quality import REFUSABLE, InputCheck, InputLimits
from orthanc_plugin.domain.job import Priority
from orthanc_plugin.domain.plan import DEFAULT_SEG, ContourStyle, Guard, Measure, Output, SegEncoding
from orthanc_plugin.domain.reading import MissingSlices, Phase, ReadSettings

DEFAULT_LOCATOR = "bpr"
_REGIONS = ", ".join(f'"{region}"' for region in Region)
_GUARD = " or ".join(f'"{guard}"' for guard in Guard)
RuleOutput = Literal[
    Output.SEG,
    Output.LANDMARKS,
    Output.BODY_LANDMARKS,
    Output.BODY_REGIONS,
    Output.VIEWER_LANDMARKS,
    Output.CHECKS,
    Output.RTSTRUCT,
    Output.PREVIEW,
    Output.INPUT_QUALITY,
    Output.SECONDARY_CAPTURE,
    Output.SUMMARY_PDF,
    Output.KEY_OBJECTS,
    Output.PROBABILITIES,
]
_LIMITS = InputLimits()
_FURTHER = ", ".join(f'"{output}"' for output in get_args(RuleOutput)[1:])


class SeriesPerStudy(StrEnum):
    """Which of the series that a rule takes are enriched in one study."""

    ALL = "all"
    BEST = "best"


class ImageTypeMatch(Settings):
    """Values of ImageType that must be there, or must not."""

    any: tuple[str, ...] = Field(
        default=(), description="a list of values, one of which must be there (empty: no condition)"
    )
    none: tuple[str, ...] = Field(default=(), description="a list of values, none of which may be there")


SopClass = Annotated[str, Field(pattern=r"^(CT|EnhancedCT|LegacyEnhancedCT|[0-9]+(\.[0-9]+)+)$")]


class Match(Settings):
    """The criteria of a rule. All must be met; an empty list, an empty text and null set no condition."""

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
    localizers: Range | None = Field(default=None, description="an object with Min and Max, or null")
    images_per_position: Range | None = Field(default=None, description="an object with Min and Max, or null")
    orientations: Range | None = Field(default=None, description="an object with Min and Max, or null")
    pixel_spacings: Range | None = Field(default=None, description="an object with Min and Max, or null")
    step_ratio_below: float | None = Field(default=None, gt=1, description="a number above 1, or null")
    study_age_days: Range | None = Field(default=None, description="an object with Min and Max (days), or null")
    axial: bool | None = Field(default=True, description="true, false or null (any)")
    rescale_type: tuple[str, ...] = Field(
        default=("HU",), description='a list such as ["HU"]; an absent RescaleType is HU'
    )
    remote_aet: tuple[str, ...] = Field(default=(), alias="RemoteAET", description="a list of calling AE titles")
    remote_ip: tuple[IPvAnyNetwork, ...] = Field(
        default=(), alias="RemoteIP", description='a list of addresses or networks such as ["10.0.0.7", "10.1.0.0/16"]'
    )
    origin: tuple[str, ...] = Field(default=(), description='a list such as ["DicomProtocol", "RestApi", "Plugins"]')
    anonymized_from: bool | None = Field(default=False, description="true, false or null (any)")
    modified_from: bool | None = Field(default=False, description="true, false or null (any)")

    @property
    def orthanc_keys(self) -> tuple[str, ...]:
        """Keys in use that only Orthanc's own metadata can answer."""
        uses = {
            "RemoteAET": bool(self.remote_aet),
            "RemoteIP": bool(self.remote_ip),
            "Origin": bool(self.origin),
            "AnonymizedFrom": self.anonymized_from is True,
            "ModifiedFrom": self.modified_from is True,
        }
        return tuple(key for key, used in uses.items() if used)


class InputQuality(Settings):
    """When a check of the input fails, and which failures refuse the series instead of being noted."""

    max_noise: float = Field(default=_LIMITS.max_noise_hu, gt=0, le=1000, description="HU, above 0 to 1000")
    max_truncated: float = Field(
        default=_LIMITS.max_truncated, ge=0, le=1, description="a fraction of the body's outline, 0 to 1"
    )
    max_metal: float = Field(default=_LIMITS.max_metal, ge=0, le=1, description="a fraction of the slices, 0 to 1")
    refuse: tuple[InputCheck, ...] = Field(
        default=(), description="a list of " + ", ".join(f'"{check}"' for check in REFUSABLE)
    )

    @model_validator(mode="after")
    def _refusable(self) -> InputQuality:
        if unknown := [check for check in self.refuse if check not in REFUSABLE]:
            raise ValueError(f'Refuse cannot name "{unknown[0]}": it is no fault of the pixels, or needs a model')
        return self

    @property
    def limits(self) -> InputLimits:
        """The limits as plans pin them."""
        refuse = tuple(check for check in REFUSABLE if check in self.refuse)
        return InputLimits(self.max_noise, self.max_truncated, self.max_metal, refuse)


class Rule(Settings):
    """One rule: criteria, and what a series that meets them gets."""

    name: str = Field(pattern=r"^[\w][\w .-]{0,63}$", description="1 to 64 letters, digits, spaces or ._-")
    use: Literal["", RuleSet.SCI_DATA_2024_NLST, RuleSet.SCI_DATA_2024_NSCLC] = Field(
        default="", description="empty (no set), or one of " + ", ".join(f'"{name}"' for name in RuleSet)
    )
    match: Match = Field(default=Match(), description="an object of criteria")
    priority: Literal[Priority.URGENT, Priority.NORMAL] = Field(
        default=Priority.NORMAL, description='"urgent" or "normal"'
    )
    series_per_study: SeriesPerStudy = Field(
        default=SeriesPerStudy.ALL, description=" or ".join(f'"{choice}"' for choice in SeriesPerStudy)
    )
    models: tuple[str, ...] = Field(
        default=("chest_structures", "head_neck_oar"), min_length=1, description="a list of installed models"
    )
    shadow: tuple[str, ...] = Field(default=(), description="a list of installed models that are not in Models")
    allow_test_models: bool = Field(default=False, description="true or false")
    phase: Phase = Field(default=Phase.REFUSE, description=", ".join(f'"{phase}"' for phase in Phase))
    missing_slices: MissingSlices = Field(
        default=MissingSlices.REFUSE, description=" or ".join(f'"{choice}"' for choice in MissingSlices)
    )
    measure: Measure = Field(default=Measure.MODELS, description=" or ".join(f'"{choice}"' for choice in Measure))
    radiomics: bool = Field(default=True, description="true or false")
    outputs: tuple[RuleOutput, ...] = Field(
        default=(Output.SEG, Output.LANDMARKS, Output.BODY_LANDMARKS, Output.BODY_REGIONS, Output.CHECKS),
        description=f'a list with "seg", and any of {_FURTHER}',
    )
    radiomics_settings: RadiomicsOptions = Field(default=RadiomicsOptions(), description="an object of parameters")
    seg_encoding: SegEncoding = Field(
        default=SegEncoding.AUTO, description=", ".join(f'"{encoding}"' for encoding in SegEncoding)
    )
    seg_ceiling: float = Field(
        default=DEFAULT_SEG.ceiling, gt=0, le=10, description="a fraction of the source's pixel bytes, above 0 to 10"
    )
    contours: ContourStyle = Field(
        default=ContourStyle.KEYHOLE, description=" or ".join(f'"{style}"' for style in ContourStyle)
    )
    seg_body: bool = Field(default=False, description="true or false")
    hold_back: tuple[Check, ...] = Field(
        default=(),
        description="a list of " + ", ".join(f'"{check}"' for check in Check if check is not Check.AGREEMENT),
    )
    input_quality: InputQuality = Field(default=InputQuality(), description="an object of limits")
    locate: str = Field(
        default=DEFAULT_LOCATOR, description="an installed body part regression model, or empty: not located"
    )
    min_coverage: dict[Region, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description=f"an object with fractions from 0 to 1 for {_REGIONS}"
    )
    on_reversed: Guard = Field(default=Guard.FLAG, description=_GUARD)
    on_invalid_spacing: Guard = Field(default=Guard.FLAG, description=_GUARD)
    crop_to_region: Region | Literal[""] = Field(default="", description=f"empty (off), or one of {_REGIONS}")
    home_archive: str = Field(default="", description="a name from Archives, or empty: where the series came from")
    destinations: tuple[str, ...] = Field(default=(), description="a list of names from Archives")

    @model_validator(mode="before")
    @classmethod
    def _filled_from_its_set(cls, rule: Any) -> Any:
        return with_rule_set(rule)

    @model_validator(mode="after")
    def _has_seg(self) -> Rule:
        if Output.SEG not in self.outputs:
            raise ValueError('Outputs needs "seg": reports are made from the stored segmentation')
        if Check.AGREEMENT in self.hold_back:
            raise ValueError('HoldBack cannot name "agreement": it is only known after the segmentations are stored')
        return self

    @model_validator(mode="after")
    def _has_another_shadow(self) -> Rule:
        if both := [name for name in self.shadow if name in self.models]:
            raise ValueError(f'Shadow names "{both[0]}", which Models names, too')
        if self.shadow and self.measure is Measure.EXPERT:
            raise ValueError('Shadow needs Measure "models": with "expert", no model runs')
        return self

    @model_validator(mode="after")
    def _measures(self) -> Rule:
        if self.measure is Measure.EXPERT and not self.radiomics:
            raise ValueError('Measure "expert" needs Radiomics: it stores nothing else')
        return self

    @property
    def reading(self) -> ReadSettings:
        """What the loader may do, as plans pin it."""
        return ReadSettings(self.phase, self.missing_slices)

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
