"""The architecture of a U-Net; one description for the plans of nnU-Net v1 and v2."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Kernel = tuple[int, ...]

LEAKY_SLOPE, NORM_EPSILON = 0.01, 1e-5
"""Parameters of the leaky ReLU and the instance norm in every published network."""


class NetworkClass(StrEnum):
    """Architectures that can be converted, by the class name in v2 plans; v1's Generic_UNet is a PlainConvUNet."""

    PLAIN = "PlainConvUNet"
    RESIDUAL = "ResidualEncoderUNet"


@dataclass(frozen=True, slots=True)
class Topology:
    """A U-Net; tuples run over encoder stages from full resolution down, or over decoder steps from the bottom up.

    heads: output channels, including the background.
    features: channels of each stage.
    kernels, strides: kernel of each encoder stage's convolutions, and stride of its first one.
    encoder_blocks: convolutions (plain) or residual blocks (residual) of each stage.
    decoder_convs, decoder_kernels: for each decoder step u; v1 uses the kernel of encoder stage n-1-u, v2 of n-2-u.
    upsampling_bias, head_bias: false in v1.
    """

    network: NetworkClass
    dimensions: int
    input_channels: int
    heads: int
    features: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    strides: tuple[Kernel, ...]
    encoder_blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    decoder_kernels: tuple[Kernel, ...]
    upsampling_bias: bool
    head_bias: bool
