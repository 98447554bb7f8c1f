"""The part of a rule that says how radiomics are measured; `radiomics_settings` says what each parameter means."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from orthanc_plugin.config.base import Settings
from orthanc_plugin.domain.radiomics_settings import FeatureClass, Interpolation, RadiomicsMode, RadiomicsSettings

_DEFAULT = RadiomicsSettings()
_CLASSES = ", ".join(f'"{name}"' for name in FeatureClass)


class RadiomicsOptions(Settings):
    """Parameters of the measurement, by their keys in orthanc.json."""

    mode: RadiomicsMode = Field(default=_DEFAULT.mode, description='"ibsi" or "pyradiomics"')
    classes: tuple[FeatureClass, ...] = Field(
        default=_DEFAULT.classes, min_length=1, description=f"a list of {_CLASSES}"
    )
    bin_width: float = Field(default=_DEFAULT.bin_width_hu, gt=0, le=10000, description="HU, above 0 to 10000")
    bin_count: int = Field(default=0, ge=0, le=4096, description="2 to 4096, or 0 for bins of BinWidth")
    spacing: tuple[Annotated[float, Field(ge=0, le=50)], ...] = Field(
        default=(), description="three steps in mm as [z, y, x] (z 0 keeps the slices), or [] for no resampling"
    )
    interpolation: Interpolation = Field(default=_DEFAULT.interpolation, description='"linear" or "cubic"')
    resegment: tuple[float, ...] = Field(default=(), description="two HU as [lowest, highest], or [] for all")
    resegment_sigma: float = Field(default=0.0, ge=0, le=100, description="standard deviations, or 0 for all")
    force_2d: bool = Field(default=False, alias="Force2D", description="true or false")
    log_sigma: tuple[Annotated[float, Field(gt=0, le=50)], ...] = Field(
        default=(), description="a list of mm, or [] for no filter"
    )
    wavelet: bool = Field(default=False, description="true or false")
    deprecated: bool = Field(default=False, description="true or false")
    image_library: bool = Field(default=False, description="true or false")

    @model_validator(mode="after")
    def _sound(self) -> RadiomicsOptions:
        if self.bin_count == 1:
            raise ValueError("BinCount 1 leaves no texture")
        if len(self.spacing) not in (0, 3) or any(step == 0 for step in self.spacing[1:]):
            raise ValueError("Spacing needs three steps, of y and x above 0")
        if len(self.resegment) not in (0, 2) or self.resegment != tuple(sorted(self.resegment)):
            raise ValueError("Resegment needs the lowest and the highest HU, in this order")
        if self.mode is RadiomicsMode.PYRADIOMICS and self.resegment and self.resegment_sigma:
            raise ValueError('Mode "pyradiomics" takes Resegment or ResegmentSigma, not both')
        return self

    @property
    def settings(self) -> RadiomicsSettings:
        """The parameters as plans pin them."""
        return RadiomicsSettings(
            mode=self.mode,
            classes=tuple(name for name in FeatureClass if name in self.classes),
            bin_width_hu=self.bin_width,
            bin_count=self.bin_count,
            spacing_mm=self.spacing,
            interpolation=self.interpolation,
            resegment_hu=self.resegment,
            resegment_sigma=self.resegment_sigma,
            force_2d=self.force_2d,
            log_sigma_mm=tuple(sorted(set(self.log_sigma))),
            wavelet=self.wavelet,
            deprecated=self.deprecated,
        )
