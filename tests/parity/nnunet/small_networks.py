"""Small networks of the original frameworks with random values, as their trainers build and save them.

Norms and biases are random too: zero biases and unit scales would hide mistakes of the key map.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.conversion.topology import Kernel, NetworkClass, Topology

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
    from nnunet.network_architecture.generic_UNet import Generic_UNet
    from nnunet.network_architecture.initialization import InitWeights_He

PATCH: dict[int, Kernel] = {2: (32, 16), 3: (8, 32, 16)}
_SLOPE = {"negative_slope": 0.01, "inplace": True}
_NORM = {"eps": 1e-5, "affine": True}


def topology(framework: Framework, dimensions: int, network: NetworkClass = NetworkClass.PLAIN) -> Topology:
    """Four stages; in 3-D the first is anisotropic, so v1's decoder kernels differ from v2's."""
    first, first_stride = ((1, 3, 3), (1, 2, 2)) if dimensions == 3 else ((3, 3), (2, 1))
    kernels = (first, *((3,) * dimensions,) * 3)
    old = framework is Framework.V1
    return Topology(
        network=network,
        dimensions=dimensions,
        input_channels=2,
        heads=3,
        features=(6, 12, 16, 16),
        kernels=kernels,
        strides=((1,) * dimensions, first_stride, *((2,) * dimensions,) * 2),
        encoder_blocks=(2, 2, 2, 2) if old else (1, 2, 3, 2),
        decoder_convs=(2, 2, 2) if old else (2, 1, 2),
        decoder_kernels=kernels[:0:-1] if old else kernels[-2::-1],
        upsampling_bias=not old,
        head_bias=not old,
    )


def peer(framework: Framework, shape: Topology) -> nn.Module:
    """The original network of a topology, with random values."""
    build = _generic_unet if framework is Framework.V1 else _dynamic_unet
    network = build(
        shape, *((nn.Conv3d, nn.InstanceNorm3d) if shape.dimensions == 3 else (nn.Conv2d, nn.InstanceNorm2d))
    )
    random = torch.Generator().manual_seed(3)
    for name, value in network.named_parameters():
        scale = 0.5 if value.ndim == 1 else (2 / value[0].numel()) ** 0.5
        value.data.copy_(torch.randn(value.shape, generator=random) * scale + ("norm.weight" in name))
    return network.eval()


def _generic_unet(shape: Topology, conv: type[nn.Module], norm: type[nn.Module]) -> nn.Module:
    """As nnUNetTrainerV2.initialize_network of nnunet 1.7.1 builds it."""
    dropout = nn.Dropout3d if shape.dimensions == 3 else nn.Dropout2d
    return Generic_UNet(
        shape.input_channels, shape.features[0], shape.heads, len(shape.features) - 1, 2, 2, conv, norm, _NORM,
        dropout, {"p": 0, "inplace": True}, nn.LeakyReLU, _SLOPE, False, False, lambda x: x, InitWeights_He(1e-2),
        shape.strides[1:], shape.kernels, False, True, True, max_num_features=shape.features[-1],
    )  # fmt: skip


def _dynamic_unet(shape: Topology, conv: type[nn.Module], norm: type[nn.Module]) -> nn.Module:
    residual = shape.network is NetworkClass.RESIDUAL
    blocks = {"n_blocks_per_stage" if residual else "n_conv_per_stage": shape.encoder_blocks}
    return (ResidualEncoderUNet if residual else PlainConvUNet)(
        input_channels=shape.input_channels,
        n_stages=len(shape.features),
        features_per_stage=shape.features,
        conv_op=conv,
        kernel_sizes=shape.kernels,
        strides=shape.strides,
        num_classes=shape.heads,
        n_conv_per_stage_decoder=shape.decoder_convs,
        conv_bias=True,
        norm_op=norm,
        norm_op_kwargs=_NORM,
        nonlin=nn.LeakyReLU,
        nonlin_kwargs=_SLOPE,
        deep_supervision=False,
        **blocks,
    )


def save(
    network: nn.Module,
    framework: Framework,
    folder: Path,
    change: Callable[[dict[str, Tensor]], object] = lambda state: None,
    *,
    zipped: bool = True,
    **more: object,
) -> Path:
    """Save a checkpoint with the keys of its framework; `change` edits the state dict first."""
    state = dict(network.state_dict())
    change(state)
    content = {"state_dict" if framework is Framework.V1 else "network_weights": state, **more}
    path = folder / ("model_final_checkpoint.model" if framework is Framework.V1 else "checkpoint_final.pth")
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
