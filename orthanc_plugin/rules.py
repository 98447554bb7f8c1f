"""Which series get what, and why the others get nothing.

A rule is a list of criteria and what a series that meets them all gets. A criterion that a rule does not write has the
value of the default rule, so a rule loosens a guard only by saying so. The first rule that matches wins; where none
does, the skip says for each rule which criteria failed. What the archive cannot tell is an error of the rule, never a
silent "no match".
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

from orthanc_plugin.plan import Output
from orthanc_plugin.tags import ImageKind


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

    def __str__(self) -> str:
        low = "" if self.min is None else f"{self.min:g}"
        high = "" if self.max is None else f"{self.max:g}"
        return f"{low}..{high}"


class ImageTypeMatch(Settings):
    """Values of ImageType that must, or must not, be there."""

    any: tuple[str, ...] = Field(default=(), description="a list of values; one of them is there (empty: no condition)")
    none: tuple[str, ...] = Field(default=(), description="a list of values; not one of them is there")


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


class Rule(Settings):
    """One rule: criteria, and what a series that meets them gets."""

    name: str = Field(pattern=r"^[\w][\w .-]{0,63}$", description="1 to 64 letters, digits, spaces or ._-")
    match: Match = Field(default=Match(), description="an object of criteria")
    models: tuple[str, ...] = Field(
        default=("chest_structures",), min_length=1, description="a list of installed models"
    )
    radiomics: bool = Field(default=True, description="true or false")
    outputs: tuple[Literal[Output.SEG, Output.LANDMARKS], ...] = Field(
        default=(Output.SEG, Output.LANDMARKS),
        description='["seg"] or ["seg", "landmarks"]; radiomics have a key of their own',
    )
    home_archive: str = Field(default="", description="a name from Archives, or empty: where the series came from")
    destinations: tuple[str, ...] = Field(default=(), description="a list of names from Archives")

    @model_validator(mode="after")
    def _has_seg(self) -> Rule:
        if Output.SEG not in self.outputs:
            raise ValueError('Outputs needs "seg": reports are made of the stored segmentation')
        return self


DEFAULT_RULE = Rule.model_validate({"Name": "default"})
