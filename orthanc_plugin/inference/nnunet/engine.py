"""The engine of converted nnU-Net models: turn the volume, prepare it, run the networks, restore the labels.

Every fold of every configuration is opened at the start and stays open. Parts run one after the other, and later labels
replace earlier ones. Within a part, the probabilities of all configurations are averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Configuration, Framework, NnunetModel, Part
from orthanc_plugin.domain.masks import Confidence, Labels, Segment, Segmentation
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.grid import Spacing
from orthanc_plugin.inference.nnunet.device import Device, write_labels
from orthanc_plugin.inference.nnunet.device_check import open_device
from orthanc_plugin.inference.nnunet.members import Members
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.orientation import network_turn
from orthanc_plugin.inference.nnunet.postprocess import keep_largest
from orthanc_plugin.inference.nnunet.preprocess import Box, Prepared, Resample, preprocess
from orthanc_plugin.inference.nnunet.resample import labels_from_frame, resample_image, resample_to_frame
from orthanc_plugin.inference.nnunet.restore import Member, restore, way_back
from orthanc_plugin.inference.nnunet.window import SLICES_AT_ONCE, passes_of, predict
from orthanc_plugin.inference.probabilities import Shares, of_segments, too_many
from orthanc_plugin.inference.providers import Provider, usable_threads
from orthanc_plugin.inference.segments import segments_present

_LOG = logging.getLogger(__name__)
_MOST_LABELS = 256  # of uint8, the background included


@dataclass(slots=True)
class _Record:
    """What a run leaves beside its labels.

    measured: agreement of the members of each part.
    shares: by label number, the probabilities (as the network lies); None if they are not asked for.
    """

    measured: list[tuple[Part, Members]] = field(default_factory=list)
    shares: dict[int, Shares] | None = None


class NnunetEngine:
    """Segments a volume like the original framework.

    Raises
    ------
    ModelError
        If the card and its graphs do not match; the message names the file.
    ConfigError
        If the provider does not start.
    """

    def __init__(self, card: ModelCard, wanted: Provider) -> None:
        self.card = card
        self._model = _model(card)
        self._threads = usable_threads()
        self._slices_at_once = SLICES_AT_ONCE
        # A graph may have two uses: a low-resolution model averaged with the cascade that starts with it.
        users = {graph: user for user in _configurations(self._model.parts) for graph in user.graphs}
        self._wanted, self._device = wanted, open_device(wanted)
        on_host = {graph for part in _all_parts(self._model.parts) if not self._fits(part) for graph in _graphs(part)}
        self._networks = {
            graph: Network(card.directory / graph, user, _channels(user), wanted, replayed=graph not in on_host)
            for graph, user in users.items()
        }
        self._for_host = {graph: network for graph, network in self._networks.items() if graph in on_host}
        # Networks of one model usually run on one provider; name all of them if they do not (a GPU that is full).
        self.provider = "+".join(sorted({network.provider.value for network in self._networks.values()}))

    def sparing(self) -> NnunetEngine | None:
        """Return the same engine with one slice at once; None if its networks are 3-D, whose patch is fixed."""
        if self._slices_at_once == 1 or not any(c.planar for c in _configurations(self._model.parts)):
            return None
        spared = copy(self)
        spared._slices_at_once = 1
        return spared

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a CT (see `SegmentationEngine`).

        Raises
        ------
        InputError
            If the volume is too oblique, or empty.
        OutOfMemoryError
            If memory runs out.
        ModelError
            If a graph fails.
        """
        return self._segmented(volume, _Record())

    def segment_with_probabilities(self, volume: Volume) -> Segmentation:
        """Segment a CT and keep the probabilities; raises as `segment`, gives the same labels."""
        why = too_many(len(self.card.labels) + 1, volume.voxels_hu.shape)
        found = self._segmented(volume, _Record() if why else _Record(shares={}))
        return replace(found, notes=(*found.notes, why)) if why else found

    def _segmented(self, volume: Volume, record: _Record) -> Segmentation:
        turn = network_turn(volume, self.card.axes)
        z, y, x = (volume.spacing_mm[axis] for axis in turn.axes)
        labels = self._labels(turn.forward(volume.voxels_hu), (z, y, x), record)
        labels = np.ascontiguousarray(turn.backward(labels))
        present = segments_present(labels, self.card.labels)
        return Segmentation(
            labels,
            present,
            confidence=tuple(_confidence(record.measured, present)),
            probabilities=of_segments(record.shares or {}, present, turn),
        )

    def _labels(self, voxels_hu: Voxels, spacing_mm: Spacing, record: _Record) -> Labels:
        """Compute the card's labels in the card's axes, and note the agreement of the members of each part."""
        frame = self._model.frame
        if frame is None:
            return self._parts(voxels_hu, spacing_mm, record)
        framed = resample_to_frame(voxels_hu, spacing_mm, frame.spacing_mm, frame.order)
        labels = self._parts(framed, (frame.spacing_mm, frame.spacing_mm, frame.spacing_mm), record)
        if record.shares:
            back = {number: labels_from_frame(each, voxels_hu.shape) for number, each in record.shares.items()}
            record.shares = {number: each.astype(np.uint8, copy=False) for number, each in back.items()}
        return labels_from_frame(labels, voxels_hu.shape).astype(np.uint8, copy=False)

    def _parts(self, voxels_hu: Voxels, spacing_mm: Spacing, record: _Record) -> Labels:
        labels = np.zeros(voxels_hu.shape, np.uint8)
        for part in self._model.parts:
            agreements = [_members(part, configuration) for configuration in part.configurations]
            shares = None if record.shares is None else np.zeros((len(part.numbers), *voxels_hu.shape), np.uint8)
            found = _card_numbers(part)[self._part(part, voxels_hu, spacing_mm, agreements, shares)]
            np.copyto(labels, found, where=found > 0)
            if record.shares is not None and shares is not None:
                record.shares |= {number: each for number, each in zip(part.numbers, shares, strict=True) if number}
            record.measured += [(part, each) for each in agreements if each is not None]
        return labels

    def _part(
        self,
        part: Part,
        voxels_hu: Voxels,
        spacing_mm: Spacing,
        agreements: Sequence[Members | None] = (),
        shares: Shares | None = None,
    ) -> Labels:
        """Compute postprocessed head numbers (plus 1 for regions) in the card's axes."""
        labels = np.zeros(voxels_hu.shape, np.uint8)
        of_each = agreements or [None] * len(part.configurations)
        if self._device is not None and shares is None and self._fits(part):  # probabilities come by the host
            self._on_device(self._device, part, voxels_hu, spacing_mm, of_each[0], labels)
            keep_largest(labels, part.postprocessing, float(np.prod(spacing_mm)))
            return labels
        members, boxes = zip(
            *(
                self._member(part, configuration, voxels_hu, spacing_mm, agreement)
                for configuration, agreement in zip(part.configurations, of_each, strict=True)
            ),
            strict=True,
        )
        forward = part.configurations[0].transpose_forward
        if shares is not None:
            shares = shares[(slice(None), *boxes[0])].transpose(0, *(1 + axis for axis in forward))
        out = labels[boxes[0]].transpose(forward)
        restore(members, out, regions=part.regions, threads=self._threads, shares=shares)
        keep_largest(labels, part.postprocessing, float(np.prod(spacing_mm)))
        return labels

    def _fits(self, part: Part) -> bool:
        """Tell whether a part runs on the device as a whole."""
        return self._device is not None and len(part.configurations) == 1 and not part.configurations[0].planar

    def _on_device(
        self,
        device: Device,
        part: Part,
        voxels_hu: Voxels,
        spacing_mm: Spacing,
        agreement: Members | None,
        labels: Labels,
    ) -> None:
        (configuration,) = part.configurations
        prepared = self._prepared(configuration, voxels_hu, spacing_mm, device.resample)
        networks = [self._networks[graph] for graph in configuration.graphs]
        out = labels[prepared.box].transpose(configuration.transpose_forward)
        taps = way_back(configuration, prepared)
        write_labels(device, prepared.data, configuration, networks, taps, out, regions=part.regions, members=agreement)

    def _prepared(
        self, configuration: Configuration, voxels_hu: Voxels, spacing_mm: Spacing, resample: Resample
    ) -> Prepared:
        previous = configuration.previous
        earlier = None if previous is None else self._part(previous.part, voxels_hu, spacing_mm)
        prepared = preprocess(voxels_hu, spacing_mm, configuration, earlier, resample)
        _LOG.info("model %s: %s on %s voxels", self.card.name, configuration.name, prepared.data.shape)
        return prepared

    def _host_network(self, graph: str, configuration: Configuration) -> Network:
        """Give a network that takes its input from the host: a session that replays its run on the GPU cannot."""
        if self._device is None:
            return self._networks[graph]
        if graph not in self._for_host:
            path, channels = self.card.directory / graph, _channels(configuration)
            self._for_host[graph] = Network(path, configuration, channels, self._wanted)
        return self._for_host[graph]

    def _member(
        self,
        part: Part,
        configuration: Configuration,
        voxels_hu: Voxels,
        spacing_mm: Spacing,
        agreement: Members | None,
    ) -> tuple[Member, Box]:
        prepared = self._prepared(configuration, voxels_hu, spacing_mm, resample_image)
        networks = [self._host_network(graph, configuration) for graph in configuration.graphs]
        slabs = predict(
            prepared.data,
            configuration,
            networks,
            regions=part.regions,
            threads=self._threads,
            slices_at_once=self._slices_at_once,
            members=agreement,
        )
        return Member(slabs, way_back(configuration, prepared), configuration.framework), prepared.box


def _members(part: Part, configuration: Configuration) -> Members | None:
    """Make what measures the agreement of a configuration; None if it has one pass only."""
    count = passes_of(configuration)
    logits = configuration.framework is Framework.V2
    return Members(configuration.heads, count, regions=part.regions, logits=logits) if count > 1 else None


def _confidence(measured: Sequence[tuple[Part, Members]], present: Sequence[Segment]) -> Iterator[Confidence]:
    """Yield the confidence in each structure that was found; of several configurations, the one that agrees least."""
    for segment in present:
        of_segment = [
            Confidence(segment.key, members.count, dice, entropy)
            for part, members in measured
            for head, number in enumerate(part.numbers)
            if number == segment.number
            and (dice := members.dice(head)) is not None
            and (entropy := members.entropy(head)) is not None
        ]
        if of_segment:
            yield min(of_segment, key=lambda one: one.dice)


def _model(card: ModelCard) -> NnunetModel:
    """Check the card's `nnunet` section and return it."""
    if card.nnunet is None:
        raise ModelError(f"{card.directory / 'card.json'} has no nnunet section; convert the model again")
    for configuration in _configurations(card.nnunet.parts):
        if not configuration.graphs or not set(configuration.graphs) <= {graph.file for graph in card.graphs}:
            raise _wrong(card, f"{configuration.name} names graphs that the card does not list")
        if {configuration.output_resampling.order, configuration.output_resampling.order_z} - {0, 1}:
            raise _wrong(card, f"{configuration.name} resamples its output with an order other than 0 or 1")
    for part in _all_parts(card.nnunet.parts):
        first = part.configurations[0]
        heads = {configuration.heads for configuration in part.configurations}
        if {len(part.numbers)} != heads or first.heads + part.regions > _MOST_LABELS:
            raise _wrong(card, f"{first.name} has {first.heads} heads and {len(part.numbers)} numbers (at most 255)")
        if len({configuration.transpose_forward for configuration in part.configurations}) > 1:
            raise _wrong(card, "configurations that are averaged transpose their axes differently")
    return card.nnunet


def _wrong(card: ModelCard, what: str) -> ModelError:
    return ModelError(f"{card.directory / 'card.json'}: {what}; convert the model again")


def _all_parts(parts: tuple[Part, ...]) -> Iterator[Part]:
    """Yield parts and the first stages of their cascades."""
    for part in parts:
        yield part
        yield from _all_parts(tuple(c.previous.part for c in part.configurations if c.previous))


def _configurations(parts: tuple[Part, ...]) -> Iterator[Configuration]:
    for part in _all_parts(parts):
        yield from part.configurations


def _graphs(part: Part) -> Iterator[str]:
    for configuration in part.configurations:
        yield from configuration.graphs


def _channels(configuration: Configuration) -> int:
    """Count input channels: the CT, and a mask for each label of the previous stage (its labels include background)."""
    if configuration.previous is None:
        return 1
    return len(_card_numbers(configuration.previous.part))


def _card_numbers(part: Part) -> Labels:
    """Make an array with the card's number of each label of the network."""
    numbers = (0, *part.numbers) if part.regions else part.numbers
    return np.array(numbers, np.uint8)
