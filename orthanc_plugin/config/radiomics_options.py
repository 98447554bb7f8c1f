"""The part of a rule that says how radiomics are measured."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from orthanc_plugin.config.base import SETTINGS_CONFIG
from orthanc_plugin.domain.image_filters import parse_filter, write_filter
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsSettings
from orthanc_plugin.errors import ConfigError


@dataclass(config=SETTINGS_CONFIG, frozen=True, slots=True)
class RadiomicsOptions(RadiomicsSettings):
    """The parameters of the measurement by their keys in orthanc.json, and what the report lists beside the values."""

    image_library: Annotated[bool, Field(description="true or false")] = False

    def __post_init__(self) -> None:
        """Refuse parameters that contradict each other."""
        try:
            RadiomicsSettings.__post_init__(self)
        except ConfigError as error:
            raise ValueError(str(error)) from None  # pydantic adds the place in the file
        if self.bin_count == 1:
            raise ValueError("BinCount 1 leaves no texture")
        if 0 in self.spacing_mm[1:]:
            raise ValueError("Spacing needs three steps, of y and x above 0")

    @property
    def settings(self) -> RadiomicsSettings:
        """The parameters as plans pin them: lists in a fixed order, so that equal choices give equal plans."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(RadiomicsSettings)}
        return replace(
            RadiomicsSettings(**values),
            classes=tuple(name for name in FeatureClass if name in self.classes),
            log_sigma_mm=tuple(sorted(set(self.log_sigma_mm))),
            filters=tuple(dict.fromkeys(write_filter(parse_filter(text)) for text in self.filters)),
        )
