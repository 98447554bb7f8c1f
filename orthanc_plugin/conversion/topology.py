"""The shape of a U-Net, as the plans of nnU-Net v1 and v2 state it; one description serves both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Kernel = tuple[int, ...]

LEAKY_SLOPE, NORM_EPSILON = 0.01, 1e-5
"""Of the leaky ReLU and the instance norm in every published network."""


class NetworkClass(StrEnum):
    """Architectures that can be converted, by the class name in v2 plans; v1's Generic_UNet is a PlainConvUNet."""

    PLAIN = "PlainConvUNet"
    RESIDUAL = "ResidualEncoderUNet"


@dataclass(frozen=True, slots=True)
class Topology:
    """A U-Net; tuples run over encoder stages from full resolution down, or over decoder steps from the bottom up.

    heads: channels of the output, background included.
    features: channels a stage.
    kernels: of the convolutions of each encoder stage; strides: of its first convolution.
    encoder_blocks: convolutions (plain) or residual blocks (residual) a stage.
    decoder_convs, decoder_kernels: a decoder step; kernels are those of encoder stage n-1-u in v1, n-2-u in v2.
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
