"""nnU-Net's U-Net in torch: v1's Generic_UNet, v2's PlainConvUNet and ResidualEncoderUNet are one class.

Module names are those of v2's checkpoints. Only the full-resolution head exists, because deep supervision is for
training. Networks are built without values (device `meta`); a checkpoint brings them (`weights.read_weights`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orthanc_plugin.conversion.topology import LEAKY_SLOPE, NORM_EPSILON, Kernel, NetworkClass, Topology

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_AVERAGE_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class UNet(nn.Module):
    """A U-Net of nnU-Net.

    Parameters
    ----------
    topology : Topology
        The network that the plans describe.

    Notes
    -----
    forward takes (N, input_channels, *patch) and gives logits (N, heads, *patch), both float; every side of the patch
    is a multiple of the product of the strides of its axis.

    Source
    ------
    Isensee et al., Nature Methods 18 (2021) 203; residual encoder: Isensee et al., MICCAI 2024 (nnU-Net Revisited), its
    block: He et al., Bag of Tricks, CVPR 2019 (ResNet-D). Names as in dynamic-network-architectures 0.4.
    """

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        with torch.device("meta"):
            self.encoder = _Encoder(topology)
            self.decoder = _Decoder(topology)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Turn (N, channels, *patch) into logits (N, heads, *patch)."""
        return self.decoder(self.encoder(image))


class _Encoder(nn.Module):
    def __init__(self, topology: Topology) -> None:
        super().__init__()
        residual = topology.network is NetworkClass.RESIDUAL
        channels = topology.input_channels
        if residual:
            self.stem = _Convolutions(1, channels, topology.features[0], topology.kernels[0])
            channels = topology.features[0]
        stages = []
        of_stages = zip(topology.encoder_blocks, topology.features, topology.kernels, topology.strides, strict=True)
        for blocks, features, kernel, stride in of_stages:
            if residual:
                stages.append(_ResidualBlocks(blocks, channels, features, kernel, stride))
            else:
                stages.append(nn.Sequential(_Convolutions(blocks, channels, features, kernel, stride)))
            channels = features
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.stem(image) if hasattr(self, "stem") else image
        skips = []
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        return skips


class _Decoder(nn.Module):
    def __init__(self, topology: Topology) -> None:
        super().__init__()
        of_steps = zip(topology.decoder_convs, topology.decoder_kernels, topology.strides[:0:-1], strict=True)
        transpconvs, stages = [], []
        for step, (blocks, kernel, stride) in enumerate(of_steps, start=1):
            below, here = topology.features[-step], topology.features[-step - 1]
            up = _CONV_TRANSPOSE[topology.dimensions]
            transpconvs.append(up(below, here, stride, stride, bias=topology.upsampling_bias))
            stages.append(_Convolutions(blocks, 2 * here, here, kernel))
        head = _CONV[topology.dimensions](topology.features[0], topology.heads, 1, bias=topology.head_bias)
        self.transpconvs = nn.ModuleList(transpconvs)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleDict({str(len(stages) - 1): head})

    def forward(self, skips: list[Tensor]) -> Tensor:
        features = skips[-1]
        for up, stage, skip in zip(self.transpconvs, self.stages, skips[-2::-1], strict=True):
            features = stage(torch.cat((up(features), skip), 1))
        (head,) = self.seg_layers.values()
        return head(features)


class _Convolution(nn.Module):
    """Convolution, instance norm and leaky ReLU (not at the end of a residual branch)."""

    def __init__(
        self,
        channels: int,
        features: int,
        kernel: Kernel,
        stride: Kernel,
        *,
        bias: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        dimensions = len(kernel)
        padding = tuple((size - 1) // 2 for size in kernel)
        self.conv = _CONV[dimensions](channels, features, kernel, stride, padding, bias=bias)
        self.norm = _NORM[dimensions](features, eps=NORM_EPSILON, affine=True)
        self.nonlin = nn.LeakyReLU(LEAKY_SLOPE) if activation else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return self.nonlin(self.norm(self.conv(image)))


class _Convolutions(nn.Module):
    """Convolutions in a row; the first one has the stride."""

    def __init__(self, blocks: int, channels: int, features: int, kernel: Kernel, stride: Kernel | None = None) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        first = _Convolution(channels, features, kernel, stride or ones)
        self.convs = nn.Sequential(first, *(_Convolution(features, features, kernel, ones) for _ in range(blocks - 1)))

    def forward(self, image: Tensor) -> Tensor:
        return self.convs(image)


class _ResidualBlocks(nn.Module):
    """Residual blocks in a row; the first one has the stride."""

    def __init__(self, blocks: int, channels: int, features: int, kernel: Kernel, stride: Kernel) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        first = _ResidualBlock(channels, features, kernel, stride)
        rest = (_ResidualBlock(features, features, kernel, ones) for _ in range(blocks - 1))
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, image: Tensor) -> Tensor:
        return self.blocks(image)


class _ResidualBlock(nn.Module):
    """Two convolutions beside a skip, which is average-pooled for a stride and projected for other channels."""

    def __init__(self, channels: int, features: int, kernel: Kernel, stride: Kernel) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.conv1 = _Convolution(channels, features, kernel, stride)
        self.conv2 = _Convolution(features, features, kernel, ones, activation=False)
        self.nonlin2 = nn.LeakyReLU(LEAKY_SLOPE)
        skip: list[nn.Module] = []
        if stride != ones:
            skip.append(_AVERAGE_POOL[len(kernel)](stride, stride))
        if channels != features:
            skip.append(_Convolution(channels, features, ones, ones, bias=False, activation=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, image: Tensor) -> Tensor:
        return self.nonlin2(self.conv2(self.conv1(image)) + self.skip(image))
