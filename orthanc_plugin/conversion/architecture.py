"""Read the network that v2 plans describe, by their key `architecture` or the older keys before it.

Plans name Python classes for layers. This module compares the names with a list and imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orthanc_plugin.conversion.supported import stages_of, whole
from orthanc_plugin.conversion.topology import LEAKY_SLOPE, NORM_EPSILON, NetworkClass, Topology
from orthanc_plugin.errors import ModelError

_PACKAGE = "dynamic_network_architectures."
_BLOCKS = {NetworkClass.PLAIN: "n_conv_per_stage", NetworkClass.RESIDUAL: "n_blocks_per_stage"}
_SIZES = ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder")


def topology_of(values: Mapping[str, Any], channels: int, heads: int, file: Path) -> Topology:
    """Read the network of one configuration.

    Parameters
    ----------
    values : mapping
        The configuration in plans.json, with inheritance resolved.
    channels, heads : int
        Channels of input and output.
    file : Path
        The plans, for errors.

    Raises
    ------
    ModelError
        Naming the architecture or the layer that `network.UNet` cannot build.

    Source
    ------
    nnU-Net 2.8 plans_handler (old plans); dynamic-network-architectures 0.4 (decoder: kernels of the skip's stage).
    """
    dimensions = len(values["patch_size"])
    network, arguments = _architecture(values, file) if "architecture" in values else _old_architecture(values, file)
    _refuse_other_layers(network, arguments, dimensions, file)
    stages = stages_of(int(arguments["n_stages"]))
    kernels = _shapes(arguments["kernel_sizes"], stages, dimensions)
    return Topology(
        network=network,
        dimensions=dimensions,
        input_channels=channels,
        heads=heads,
        features=_sizes(arguments["features_per_stage"], stages),
        kernels=kernels,
        strides=_shapes(arguments["strides"], stages, dimensions),
        encoder_blocks=_sizes(arguments[_BLOCKS[network]], stages),
        decoder_convs=_sizes(arguments["n_conv_per_stage_decoder"], stages - 1),
        decoder_kernels=kernels[-2::-1],
        upsampling_bias=True,
        head_bias=True,
    )


def _network_class(name: str, file: Path) -> NetworkClass:
    short = name.rpartition(".")[2] if name.startswith(_PACKAGE) else name
    if short not in list(NetworkClass):
        raise ModelError(f"{file}: architecture {name} is not supported; {' and '.join(NetworkClass)} are")
    return NetworkClass(short)


def _architecture(values: Mapping[str, Any], file: Path) -> tuple[NetworkClass, Mapping[str, Any]]:
    architecture = values["architecture"]
    return _network_class(str(architecture["network_class_name"]), file), architecture["arch_kwargs"]


def _old_architecture(values: Mapping[str, Any], file: Path) -> tuple[NetworkClass, Mapping[str, Any]]:
    """Read plans from before nnU-Net 2.4, which hold sizes only; everything else was fixed."""
    network = _network_class(str(values["UNet_class_name"]), file)
    blocks = values["n_conv_per_stage_encoder"]
    stages = stages_of(len(blocks))
    base, most = int(values["UNet_base_num_features"]), int(values["unet_max_num_features"])
    return network, {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
        "kernel_sizes": values["conv_kernel_sizes"],
        "strides": values["pool_op_kernel_sizes"],
        _BLOCKS[network]: blocks,
        "n_conv_per_stage_decoder": values["n_conv_per_stage_decoder"],
        "conv_op": _layer("conv.Conv", len(values["patch_size"])),
        "norm_op": _layer("instancenorm.InstanceNorm", len(values["patch_size"])),
        "nonlin": "torch.nn.LeakyReLU",
        "conv_bias": True,
        "norm_op_kwargs": {"affine": True},
    }


def _layer(name: str, dimensions: int) -> str:
    return f"torch.nn.modules.{name}{dimensions}d"


def _refuse_other_layers(network: NetworkClass, arguments: Mapping[str, Any], dimensions: int, file: Path) -> None:
    """Refuse layers that neither published network has; dropout has no effect after training."""
    norm, nonlin = arguments.get("norm_op_kwargs") or {}, arguments.get("nonlin_kwargs") or {}
    expected = {
        "conv_op": (_short(arguments["conv_op"]), f"Conv{dimensions}d"),
        "conv_bias": (arguments.get("conv_bias", False), True),
        "norm_op": (_short(arguments["norm_op"]), f"InstanceNorm{dimensions}d"),
        "norm_op_kwargs.eps": (norm.get("eps", NORM_EPSILON), NORM_EPSILON),
        "norm_op_kwargs.affine": (norm.get("affine", False), True),
        "norm_op_kwargs.track_running_stats": (norm.get("track_running_stats", False), False),
        "nonlin": (_short(arguments["nonlin"]), "LeakyReLU"),
        "nonlin_kwargs.negative_slope": (nonlin.get("negative_slope", LEAKY_SLOPE), LEAKY_SLOPE),
    }
    for key, (found, only) in expected.items():
        if found != only:
            raise ModelError(f"{file}: {key} is {found!r}; only networks with {only!r} are supported")
    if not _short(arguments.get("dropout_op")).startswith(("None", "Dropout")):
        raise ModelError(f"{file}: dropout_op is {arguments['dropout_op']!r}; only torch's Dropout is known")
    known = {*expected, *_SIZES, _BLOCKS[network], "norm_op_kwargs", "nonlin_kwargs", "dropout_op", "dropout_op_kwargs"}
    unknown = [key for key, value in arguments.items() if key not in known and value]
    if unknown:
        raise ModelError(f"{file}: {network} with {', '.join(unknown)} is not supported")


def _short(name: object) -> str:
    """Strip torch's modules from a class name; a name from another package stays whole and is refused later."""
    text = str(name)
    return text.rpartition(".")[2] if text.startswith("torch.nn.") else text


def _sizes(value: Any, count: int) -> tuple[int, ...]:
    """Read one number for all stages, or one for each."""
    return whole(_each(value, count))


def _shapes(value: Any, stages: int, dimensions: int) -> tuple[tuple[int, ...], ...]:
    """Read one number for all, one for each stage, or one for each stage and axis."""
    return tuple(_sizes(shape, dimensions) for shape in _each(value, stages))


def _each(value: Any, count: int) -> list[Any]:
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ValueError(f"{value} does not have {count} values")
    return values
