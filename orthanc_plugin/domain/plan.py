"""A plan: what one series gets, and the objects that result. Rules make plans, and workers carry them out."""

from __future__ import annotations

import json
import operator
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.input_quality import InputLimits
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.radiomics_settings import LATER_PARAMETERS, RadiomicsSettings
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.identity import digest


class Output(StrEnum):
    """Kinds of stored objects."""

    SEG = "seg"
    RADIOMICS = "radiomics"
    LANDMARKS = "landmarks"
    BODY_LANDMARKS = "body-landmarks"
    BODY_REGIONS = "body-regions"
    VIEWER_LANDMARKS = "viewer-landmarks"
    CHECKS = "checks"
    RTSTRUCT = "rtstruct"
    PREVIEW = "preview"
    INPUT_QUALITY = "input-quality"
    SECONDARY_CAPTURE = "secondary-capture"
    SUMMARY_PDF = "summary-pdf"
    KEY_OBJECTS = "key-objects"
    PROBABILITIES = "probabilities"


BODY_OUTPUTS = (Output.BODY_LANDMARKS, Output.BODY_REGIONS, Output.VIEWER_LANDMARKS)
"""Objects that body part regression gives, in the order in which they are made."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One result in the home archive. `adopted`: it was there before this run."""

    kind: Output
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    adopted: bool


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model by name, pinned to the digest that it had when the plan was made."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class MaskObject:
    """A SEG or an RT structure set that somebody else made."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


class Measure(StrEnum):
    """Whose masks a job measures: those of its models, or those that others made of the series."""

    MODELS = "models"
    EXPERT = "expert"


class Guard(StrEnum):
    """What happens to a series that body part regression doubts."""

    REFUSE = "refuse"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Location:
    """How a series is located in the body, and what the scan must show before organ models run.

    model: body part regression; None if none can run. Landmarks of masks then stand in, and the job says so.
    absent: why there is no model.
    min_coverage: regions, each with the part of it that must lie in the scan (0 to 1).
    on_reversed, on_invalid_spacing: what happens to a scan that seems upside down or whose slice spacing is doubtful.
    crop: organ models see only the slices of this region and a margin; None for all slices.
    """

    model: PlannedModel | None = None
    min_coverage: tuple[tuple[Region, float], ...] = ()
    on_reversed: Guard = Guard.FLAG
    on_invalid_spacing: Guard = Guard.FLAG
    crop: Region | None = None
    absent: str = ""

    @property
    def is_guarded(self) -> bool:
        """Whether a series can be refused for where it lies in the body."""
        return bool(self.min_coverage or self.crop) or Guard.REFUSE in (self.on_reversed, self.on_invalid_spacing)


class SegEncoding(StrEnum):
    """Kind and transfer syntax of a SEG; `auto` chooses for each series."""

    AUTO = "auto"
    BINARY = "binary"
    LABELMAP = "labelmap"
    LABELMAP_RLE = "labelmap-rle"


@dataclass(frozen=True, slots=True)
class SegSettings:
    """How masks are stored.

    ceiling: with `auto`, a SEG that needs more than this part of the source's pixel bytes becomes a LABELMAP with RLE.
    body: whether what a body has outside the other segments is stored as a segment of its own, the last one.
    """

    encoding: SegEncoding = SegEncoding.AUTO
    ceiling: float = 0.2
    body: Annotated[bool, Field(exclude_if=False.__eq__)] = False


DEFAULT_SEG = SegSettings(ceiling=1.0)
"""What rules ask for by default. Plans that were written before body could be chosen mean a ceiling of 0.2."""


class ContourStyle(StrEnum):
    """How an RT structure set writes holes: joined to the outside by a channel, or as contours of their own."""

    KEYHOLE = "keyhole"
    SEPARATE = "separate"


_AS_IT_IS, _LIMITS = ReadSettings(), InputLimits()
"""Not written: the texts of plans that choose nothing stay those of before."""


@dataclass(frozen=True, slots=True)
class Plan(JsonRecord):
    """What one series gets, where its results go, and by which rule.

    hold_back: a SEG that fails one of these checks is not stored.
    image_library: whether the radiomics report lists every source slice.
    reading: what the loader may do beyond vouching for the series.
    input_limits: when a check of the input fails, and which failures refuse the series.
    contours: how RT structure sets write holes.
    measure: whose masks are measured; with `expert`, no model runs.
    shadow: models that run beside those of the rule; only numbers are kept of what they find.
    """

    rule: str
    models: tuple[PlannedModel, ...]
    outputs: tuple[Output, ...]
    home_archive: str
    destinations: tuple[str, ...] = ()
    location: Location | None = None
    radiomics: RadiomicsSettings = field(default=RadiomicsSettings())
    seg: SegSettings = field(default=SegSettings())
    hold_back: tuple[Check, ...] = ()
    image_library: bool = False
    reading: Annotated[ReadSettings, Field(exclude_if=_AS_IT_IS.__eq__)] = field(default=_AS_IT_IS)
    input_limits: Annotated[InputLimits, Field(exclude_if=_LIMITS.__eq__)] = field(default=_LIMITS)
    contours: Annotated[ContourStyle, Field(exclude_if=ContourStyle.KEYHOLE.__eq__)] = field(
        default=ContourStyle.KEYHOLE
    )
    measure: Annotated[Measure, Field(exclude_if=Measure.MODELS.__eq__)] = field(default=Measure.MODELS)
    shadow: Annotated[tuple[PlannedModel, ...], Field(exclude_if=operator.not_)] = ()

    @property
    def digest(self) -> str:
        """Identity of the plan; it leaves out the name of the rule, and later fields that have their default."""
        content = {key: value for key, value in asdict(self).items() if key != "rule"}
        if self.location is None or self.location.model is None:
            del content["location"]
        if not self.seg.body:
            del content["seg"]["body"]
        for parameter in LATER_PARAMETERS:
            if not content["radiomics"][parameter]:
                del content["radiomics"][parameter]
        for chosen in (f for f in fields(self) if f.name in _LATER and getattr(self, f.name) == f.default):
            del content[chosen.name]
        return digest(json.dumps(content, sort_keys=True))


_LATER = (
    "radiomics", "seg", "hold_back", "image_library", "reading", "input_limits", "contours", "measure", "shadow",
)  # fmt: skip
