"""Check that the values of a card's `nnunet` section fit together; pydantic checks each value alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from orthanc_plugin.catalog.graph import GraphShape
from orthanc_plugin.catalog.nnunet import Configuration, NnunetModel, Part, Scheme


def problems(model: NnunetModel, graphs: Collection[str], numbers: Collection[int]) -> Iterator[str]:
    """Find contradictions within the `nnunet` section of a card, and between it and the rest of the card.

    Parameters
    ----------
    model : NnunetModel
        The section.
    graphs : collection of str
        Files that the card lists.
    numbers : collection of int
        Numbers of the card's labels.

    Yields
    ------
    str
        The key and what is wrong with it.
    """
    used = {file for _, _, configuration in configurations(model) for file in configuration.graphs}
    if used != set(graphs):
        yield f"nnunet: its graphs are {', '.join(sorted(used))}; the card must list exactly these"
    painted = {number for part in model.parts for number in part.numbers} - {0}
    if painted != set(numbers):
        yield f"nnunet.parts: numbers are {sorted(painted)}; labels has {sorted(numbers)}; they must be the same"
    if model.frame and not _positive(model.frame.spacing_mm):
        yield f"nnunet.frame.spacing_mm: {model.frame.spacing_mm} is not a spacing"
    for number, part in enumerate(model.parts):
        if not part.configurations:
            yield f"nnunet.parts.{number}: configurations is empty; a part needs one"
    for key, part, configuration in configurations(model):
        for why in (*_of_part(part, configuration), *_of_grid(configuration), *_of_values(configuration)):
            yield f"{key}: {why}"


def configurations(model: NnunetModel) -> Iterator[tuple[str, Part, Configuration]]:
    """Yield every configuration with its key and its part, including the first stages of cascades."""
    waiting = [(f"nnunet.parts.{number}", part) for number, part in enumerate(model.parts)]
    while waiting:
        key, part = waiting.pop(0)
        for number, configuration in enumerate(part.configurations):
            name = f"{key}.configurations.{number}"
            yield name, part, configuration
            if configuration.previous:
                waiting.append((f"{name}.previous.part", configuration.previous.part))


def expected_shape(configuration: Configuration) -> GraphShape:
    """Return the shape of a configuration's graphs; a cascade takes the first stage's labels beside the CT."""
    before = configuration.previous and configuration.previous.part
    labels = len(before.numbers) - (not before.regions) if before else 0
    return GraphShape(1 + labels, configuration.heads, configuration.patch_size)


def _of_part(part: Part, configuration: Configuration) -> Iterator[str]:
    if configuration.heads != len(part.numbers):
        yield f"heads is {configuration.heads}, but the part has {len(part.numbers)} numbers"
    if not part.regions and part.numbers[:1] != (0,):
        yield "the part's first number must be 0, the background (or regions must be true)"
    given = [number for number in part.numbers if number]
    if len(set(given)) < len(given):
        yield f"the part's numbers {list(part.numbers)} name a label twice"
    cleaned = {number for rule in part.postprocessing for number in rule.numbers}
    if not cleaned <= set(range(1, configuration.heads + part.regions)):
        yield f"the part's postprocessing names {sorted(cleaned)}, which the network does not have"
    before = configuration.previous and configuration.previous.part.configurations
    if before is not None and (not before or any(stage.previous for stage in before)):
        yield "previous.part needs a configuration, and a cascade has two stages at most"
    if not configuration.graphs or len(set(configuration.graphs)) < len(configuration.graphs):
        yield "graphs must name one file for each fold, each once"


def _of_grid(configuration: Configuration) -> Iterator[str]:
    forward, backward = configuration.transpose_forward, configuration.transpose_backward
    if (
        sorted(forward) != [0, 1, 2]
        or sorted(backward) != [0, 1, 2]
        or any(forward[backward[i]] != i for i in range(3))
    ):
        yield "transpose_forward and transpose_backward must be permutations of 0, 1, 2 that undo each other"
    patch = configuration.patch_size
    if len(patch) not in (2, 3) or min(patch) < 1:
        yield f"patch_size is {list(patch)}; it must have two or three sizes above 0"
    first, *others = configuration.spacing_mm
    if (first is None) != configuration.planar or not all(
        map(_positive, [mm for mm in (first, *others) if mm is not None])
    ):
        yield f"spacing_mm is {list(configuration.spacing_mm)}; the first is null for 2d, all others must be above 0"
    if configuration.mirrored_heads and sorted(configuration.mirrored_heads) != list(range(configuration.heads)):
        said = f"mirrored_heads is {list(configuration.mirrored_heads)}"
        yield f"{said}; it must name each of the {configuration.heads} heads once"
    if not set(configuration.mirror_axes) <= set(range(len(patch))) or _repeats(configuration.mirror_axes):
        yield f"mirror_axes is {list(configuration.mirror_axes)}; it must name axes of the patch, each once"
    if not 0 < configuration.tile_step <= 1:
        yield f"tile_step is {configuration.tile_step}; it must be above 0 and at most 1"


def _of_values(configuration: Configuration) -> Iterator[str]:
    normalisation = configuration.normalisation
    values = (normalisation.low_hu, normalisation.high_hu, normalisation.mean_hu, normalisation.sd_hu)
    if not all(map(math.isfinite, values)):
        yield "normalisation must hold finite numbers"
    elif normalisation.scheme is Scheme.CT and not (
        normalisation.low_hu < normalisation.high_hu and normalisation.sd_hu > 0
    ):
        yield "normalisation: low_hu must be below high_hu, and sd_hu above 0"
    for name, resampling in (("data", configuration.data_resampling), ("output", configuration.output_resampling)):
        if not {resampling.order, resampling.order_z} <= set(range(6)):
            yield f"{name}_resampling: orders are {resampling.order} and {resampling.order_z}; allowed are 0 to 5"


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _repeats(values: tuple[int, ...]) -> bool:
    return len(set(values)) < len(values)
