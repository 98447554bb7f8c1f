"""Read the weights of BodyPartRegression safely, write the network as ONNX and compare it with torch.

The network has VGG16's features on one channel, a 1 x 1 convolution, the mean over the plane and one output. Names of
the weights are those of the published file; the channels may be fewer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from orthanc_plugin.conversion.checkpoint import checked_tensors, read_checkpoint, unwrapped
from orthanc_plugin.conversion.graph_writer import End, onnx_bytes, session_of, write_whole
from orthanc_plugin.errors import ModelError

CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Positions of VGG16's convolutions, by block; a ReLU follows each convolution, max pooling each block."""

PUBLISHED_BACKGROUND = (110.83, 6.14, 108.92, 6.22)
"""Raw scores of empty slices with the published weights, to two decimals. Source: bpreg 1.1.0, scores.py."""

MOST_CHANNELS = 1024
TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-5
"""Largest difference of a raw score from torch's."""

_SAYS = "the layers of BodyPartRegression"
_SEED = 20


class BodyPartRegression(nn.Module):
    """The network: slices (N, 1, size, size) to raw scores (N, 1).

    Parameters
    ----------
    channels : sequence of int
        Outputs of the convolutions in the order of `CONVOLUTIONS`, then of `conv6`.

    Source
    ------
    BodyPartRegression @e6c686c, bpreg/network_architecture/bpr_model.py; VGG16: Simonyan and Zisserman,
    arXiv:1409.1556, table 1, column D.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        *widths, last = channels
        outputs = iter(widths)
        before = 1
        for block in CONVOLUTIONS:
            for number in block:
                after = next(outputs)
                layers += [nn.Conv2d(before, after, 3, padding=1, bias=number > 0), nn.ReLU()]
                before = after
            layers.append(nn.MaxPool2d(2, 2))
        self.model = nn.Sequential(*layers)
        self.conv6 = nn.Conv2d(before, last, 1)
        self.relu = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten(1)
        self.fc7 = nn.Linear(last, 1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return raw scores."""
        features = self.mean(self.relu(self.conv6(self.model(slices))))
        scores: Tensor = self.fc7(self.flat(features))
        return scores


def export_bpr(checkpoint: Path, size: int, out: Path) -> tuple[float, ...]:
    """Write the network of a `model.pt` as ONNX.

    Parameters
    ----------
    checkpoint : Path
        A state dict, written by torch.save.
    size : int
        Side of the slices in pixels.
    out : Path
        The file to write: input `slices` (N, 1, size, size), output `scores` (N, 1), both float32, any N. It is
        written only when it is complete and checked.

    Returns
    -------
    tuple of float
        `PUBLISHED_BACKGROUND` if these weights give an empty slice one of its scores, as only the published weights do;
        otherwise empty.

    Raises
    ------
    ModelError
        If the checkpoint cannot be read safely, does not hold exactly the finite tensors of this network, or ONNX
        Runtime's scores differ from torch's by more than the tolerance.
    """
    network = read_network(checkpoint)
    slices, scores = End("slices", ("batch", 1, size, size)), End("scores", ("batch", 1))
    graph = onnx_bytes(network, "bpr", slices, scores)
    answers = _checked_scores(network, graph, size, checkpoint)
    write_whole(graph, out)
    return PUBLISHED_BACKGROUND if {round(score, 2) for score in answers} & set(PUBLISHED_BACKGROUND) else ()


def read_network(checkpoint: Path) -> BodyPartRegression:
    """Build the network with the weights of a file, and as many channels as its tensors have.

    Raises
    ------
    ModelError
        See `export_bpr`.
    """
    state = read_checkpoint(checkpoint)
    found = unwrapped(state)
    if len(found) < len(state):
        raise ModelError(
            f"{checkpoint.name} is not a state dict of BodyPartRegression; get it again from its publisher"
        )
    # On the device `meta`, the network takes no memory before its shapes are checked.
    with torch.device("meta"):
        network = BodyPartRegression(_channels(checkpoint, found))
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(checked_tensors(checkpoint, found, wanted, _SAYS), assign=True)
    network.eval()
    return network


def _channels(checkpoint: Path, found: dict[str, object]) -> tuple[int, ...]:
    """Count the outputs of each convolution; the comparison that follows names missing and wrong tensors."""
    names = [f"model.{number}.weight" for block in CONVOLUTIONS for number in block]
    channels = []
    for name in (*names, "conv6.weight"):
        tensor = found.get(name)
        outputs = len(tensor) if isinstance(tensor, Tensor) and tensor.ndim == 4 else 1
        if not 1 <= outputs <= MOST_CHANNELS:
            raise ModelError(f"{checkpoint.name}: {name} has {outputs} outputs, allowed are 1 to {MOST_CHANNELS}")
        channels.append(outputs)
    return tuple(channels)


def _checked_scores(network: BodyPartRegression, graph: bytes, size: int, checkpoint: Path) -> list[float]:
    """Return raw scores of empty slices (air, 0 HU), after comparing them and those of noise with torch."""
    empty = np.array([-1.0, -0.2], np.float32)[:, None, None, None] * np.ones((1, 1, size, size), np.float32)
    noise = np.random.default_rng(_SEED).uniform(-1, 1, (1, 1, size, size)).astype(np.float32)
    slices = np.concatenate([empty, noise])
    (scores,) = session_of(graph).run(["scores"], {"slices": slices})
    with torch.inference_mode():
        expected = network(torch.from_numpy(slices)).numpy()
    if not np.allclose(scores, expected, RELATIVE_TOLERANCE, TOLERANCE):
        most = float(np.abs(scores - expected).max())
        raise ModelError(
            f"{checkpoint.name}: scores of the graph differ from torch's by {most:.2g}; please report this"
        )
    return [float(score) for score in expected[:2, 0]]
