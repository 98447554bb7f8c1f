"""The sliding window and the way back on a GPU: one upload of the prepared CT, one download of labels per row of tiles.

Tiles are cut out, mirrored copies turned, results weighted, summed and decided on the device, by the graphs of
`recipes`. It is the same computation as `window` and `restore`, with the CPU as a device too, which is how tests
run it. Networks of slices and averages of several configurations keep to those modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.catalog.nnunet import Configuration, Framework
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.grid import Field
from orthanc_plugin.inference.memory import memory_errors
from orthanc_plugin.inference.nnunet import recipes
from orthanc_plugin.inference.nnunet.members import Members
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.resample import across_weights, axis_weights
from orthanc_plugin.inference.nnunet.restore import Taps
from orthanc_plugin.inference.nnunet.tiles import Tile, axis_tiles, mirrorings, padding
from orthanc_plugin.inference.providers import device_options

_BATCH_VOXELS = 4 * 2**20
"""Tiles of one row run together up to so many voxels; larger patches fill a GPU alone."""
_OUTPUT_VOXELS = 2**25
"""Voxels that are decided at once."""

Array = NDArray[Any]
Values = Mapping[str, Any]


class Device:
    """Runs recipes where their inputs lie. kind: `cuda`, or `cpu`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._sessions: dict[tuple[Any, ...], Any] = {}

    def put(self, array: Array) -> Any:
        """Copy an array onto the device."""
        import onnxruntime

        with self._errors("the image"):
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.kind, 0)

    def zeros(self, *shape: int, kind: type = np.float32) -> Any:
        """Make an array of zeros on the device."""
        return self.put(np.zeros(shape, kind))

    def run(
        self, recipe: Callable[..., bytes], *settings: Any, feed: Values, into: Values | None = None
    ) -> dict[str, Any]:
        """Run a recipe; its outputs stay on the device.

        Parameters
        ----------
        recipe : callable
            Makes the graph, of the settings.
        feed : mapping
            Inputs: arrays, or values on the device.
        into : mapping, optional
            Values on the device that some outputs overwrite.
        """
        session = self._session(recipe, *settings)
        binding = session.io_binding()
        for name, value in feed.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
            else:
                binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            if into and output.name in into:
                binding.bind_ortvalue_output(output.name, into[output.name])
            else:
                binding.bind_output(output.name, self.kind)
        with self._errors(recipe.__name__):
            session.run_with_iobinding(binding)
        return dict(zip((output.name for output in session.get_outputs()), binding.get_outputs(), strict=True))

    def _session(self, recipe: Callable[..., bytes], *settings: Any) -> Any:
        key = (recipe.__name__, *settings)
        if key not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            graph, providers = recipe(*settings), device_options(self.kind)
            with self._errors(recipe.__name__):
                self._sessions[key] = onnxruntime.InferenceSession(graph, options, providers=providers)
        return self._sessions[key]

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, NotImplemented
        from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OfRuntime

        try:
            with memory_errors(what, self.kind):
                yield
        except (EPFail, Fail, InvalidArgument, NotImplemented, OfRuntime, RuntimeError) as error:
            raise ModelError(f"{what} fails on {self.kind}: {type(error).__name__}") from error

    def resample(
        self, image: Field, shape: Sequence[int], *, order: int, order_z: int = 0, separate: int | None = None
    ) -> Field:
        """Do what `resample_image` does, in float32."""
        if image.shape == tuple(shape):
            return np.asarray(image, np.float32)
        if separate is None:
            sizes = zip(("z", "y", "x"), image.shape, shape, strict=True)
            weights = {name: _f32(axis_weights(old, new, order)) for name, old, new in sizes}
            ends = {"low": _f32(image.min()), "high": _f32(image.max())}
            return _array(self.run(recipes.spline, feed={"image": self.put(image), **weights, **ends})["out"])
        planes = np.moveaxis(image, separate, 0)
        z, y, x = (shape[separate], *(side for axis, side in enumerate(shape) if axis != separate))
        feed = {
            "image": self.put(planes),
            "z": _f32(across_weights(len(planes), z, order_z)),
            "y": _f32(axis_weights(planes.shape[1], y, order)),
            "x": _f32(axis_weights(planes.shape[2], x, order)),
        }
        return np.moveaxis(_array(self.run(recipes.planes_apart, feed=feed)["out"]), 0, separate)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """Tiles next to each other along x, which run together."""

    z: Tile
    y: Tile
    x: tuple[Tile, ...]


def write_labels(
    device: Device,
    data: Field,
    configuration: Configuration,
    networks: Sequence[Network],
    taps: tuple[Taps, Taps, Taps],
    out: Labels,
    *,
    regions: bool = False,
    members: Members | None = None,
) -> None:
    """Run a configuration over a preprocessed volume, and write its labels.

    Parameters
    ----------
    device : Device
        Where the networks run.
    data : (C, z, y, x) float32
        As `predict` takes it.
    configuration : Configuration
        Of a 3-D network.
    networks : sequence of Network
        One for each fold.
    taps : three Taps
        The way back, of each network axis.
    out : (z, y, x) uint8
        As `restore` writes it.
    regions : bool
        Whether heads are independent masks.
    members : Members, optional
        Measures the agreement of the passes.

    Raises
    ------
    OutOfMemoryError
        If memory of the device runs out.
    ModelError
        If a graph fails, or gives NaN or infinite values.
    """
    _Window(device, data, configuration, networks, regions, members).write(taps, out)


class _Window:
    def __init__(
        self,
        device: Device,
        data: Field,
        configuration: Configuration,
        networks: Sequence[Network],
        regions: bool,
        members: Members | None,
    ) -> None:
        self._device, self._networks, self._regions = device, networks, regions
        self._patch, self._heads = configuration.patch_size, configuration.heads
        self._pads = [padding(size, length) for size, length in zip(data.shape[1:], self._patch, strict=True)]
        padded = np.pad(data, [(0, 0), *self._pads]) if any(after for _, after in self._pads) else data
        self._sides, self._step = padded.shape[1:], configuration.tile_step
        self._volume = device.put(padded)
        self._channels = len(data)
        self._mirrorings = mirrorings(configuration.mirror_axes)
        self._exchanged = np.array(configuration.mirrored_heads or range(self._heads))
        self._logits = configuration.framework is Framework.V2
        self._activation = "" if self._logits else "Sigmoid" if regions else "Softmax"
        self._count = len(networks) * len(self._mirrorings)
        self._sums = _Sums(device, self._heads, self._count, regions, self._logits) if members else None
        self._members = members
        self._nothing: dict[int, Any] = {}

    def write(self, taps: tuple[Taps, Taps, Taps], out: Labels) -> None:
        """Run all rows, and write labels as soon as no later tile touches them."""
        z, y, x = (axis_tiles(*sizes, self._step) for sizes in zip(self._sides, self._patch, strict=True))
        together = _together(len(x), int(np.prod(self._patch)))
        total = self._device.zeros(self._heads, self._patch[0], *self._sides[1:])
        carry = self._device.zeros(self._heads, 1, *self._sides[1:])
        writer = _Writer(self._device, taps, [before for before, _ in self._pads], out, self._threshold)
        for row, following in zip(z, (*z[1:], None), strict=True):
            for along_y in y:
                for first in range(0, len(x), together):
                    self._add(total, _Row(row, along_y, x[first : first + together]))
            done = (following.start if following else row.stop) - row.start
            slid = self._device.run(
                recipes.slide, feed={"total": total, "carry": carry, "done": np.array([done], np.int64)}
            )
            if not np.isfinite(_array(slid["check"])):
                raise ModelError(
                    "the network gives values that are not finite numbers; convert the model again, as fp32"
                )
            writer.take(slid["planes"], row.start - 1, done + 1)
            total, carry = slid["rest"], slid["last"]
        if self._members is not None and self._sums is not None:
            self._sums.give(self._members)

    @property
    def _threshold(self) -> float | None:
        return (0.0 if self._logits else 0.5) if self._regions else None

    def _add(self, total: Any, row: _Row) -> None:
        """Run all passes over a row, and add their weighted sum to `total`."""
        if len(row.x) not in self._nothing:
            self._nothing[len(row.x)] = self._device.zeros(len(row.x), self._heads, *self._patch)
        joint, decided = self._nothing[len(row.x)], []
        for network in self._networks:
            for axes in self._mirrorings:
                found = self._pass(network, row, axes, joint)
                joint = found["total"]
                decided.append(found.get("decided"))
        rest = (self._patch[0], *self._sides[1:])
        pads = [(0, 0, row.y.start, x.start, 0, 0, rest[1] - row.y.stop, rest[2] - x.stop) for x in row.x]
        count = np.array(self._count, np.float32)
        shares = {"z": row.z.share, "y": row.y.share, "x": np.stack([x.share for x in row.x])}
        feed = {"total": total, "joint": joint, "count": count, "pads": np.array(pads, np.int64), **shares}
        added = self._device.run(recipes.add, len(row.x), feed=feed, into={"sum": total})
        if self._sums is not None:
            self._sums.add(joint, decided, added["share"], count)

    def _pass(self, network: Network, row: _Row, axes: tuple[int, ...], joint: Any) -> dict[str, Any]:
        """Run one fold over one mirrored copy of a row."""
        spans = [np.arange(row.z.start, row.z.stop), np.arange(row.y.start, row.y.stop)]
        spans.append(np.stack([np.arange(x.start, x.stop) for x in row.x]))
        turned = [span[..., ::-1] if axis in axes else span for axis, span in enumerate(spans)]
        start, end = network.buffers(self._device.kind, len(row.x))
        feed = dict(zip(("z", "y", "x"), turned, strict=True))
        self._device.run(recipes.pick, feed={"volume": self._volume, **feed}, into={"tiles": start})
        network.run_on_device(self._device.kind, len(row.x))
        back = [np.arange(n)[::-1] if axis in axes else np.arange(n) for axis, n in enumerate(self._patch)]
        heads = self._exchanged if 2 in axes else np.arange(self._heads)
        how = "" if self._sums is None else "regions" if self._regions else "labels"
        feed = {"joint": joint, "values": end, "heads": heads, **dict(zip(("z", "y", "x"), back, strict=True))}
        return self._device.run(recipes.gather_pass, self._activation, how, feed=feed)


class _Sums:
    """The agreement of the passes, summed on the device (see `members`)."""

    def __init__(self, device: Device, heads: int, count: int, regions: bool, logits: bool) -> None:
        self._device, self._heads, self._regions, self._logits = device, heads, regions, logits
        self._both, self._sizes = ([device.zeros(heads, kind=np.float64) for _ in range(count)] for _ in range(2))
        self._doubt, self._border = (device.zeros(heads, kind=np.float64) for _ in range(2))

    def add(self, total: Any, decided: Sequence[Any], share: Any, count: Array) -> None:
        """Count the tiles of a row; `total`: sum of the passes."""
        feed = {"total": total, "count": count, "share": share, "doubt": self._doubt, "border": self._border}
        found = self._device.run(recipes.doubt, self._heads, self._regions, self._logits, feed=feed)
        self._doubt, self._border = found["doubt_sum"], found["border_sum"]
        for number, member in enumerate(decided):
            feed = {"decided": member, "joint": found["joint"], "share": share}
            feed |= {"both": self._both[number], "sizes": self._sizes[number]}
            counted = self._device.run(recipes.agree, self._heads, self._regions, feed=feed)
            self._both[number], self._sizes[number] = counted["both_sum"], counted["sizes_sum"]

    def give(self, members: Members) -> None:
        """Hand the sums over."""
        both, sizes = (np.stack([_array(each) for each in values]) for values in (self._both, self._sizes))
        members.take(both, sizes, _array(self._doubt), _array(self._border))


class _Writer:
    """Writes the labels of output slices whose inputs are finished."""

    def __init__(
        self, device: Device, taps: tuple[Taps, Taps, Taps], before: Sequence[int], out: Labels, threshold: float | None
    ) -> None:
        self._device, self._out, self._threshold = device, out, threshold
        # Zeros around a volume that is smaller than the patch are skipped by the indices.
        self._taps = [Taps(axis.low + n, axis.high + n, axis.weight) for axis, n in zip(taps, before, strict=True)]
        self._next = 0

    def take(self, planes: Any, first: int, count: int) -> None:
        """Write what `planes` (heads, count, y, x), which begin at slice `first`, suffice for."""
        z = self._taps[0]
        stop = int(np.searchsorted(z.high, first + count))
        step = max(1, _OUTPUT_VOXELS // int(np.prod(self._out.shape[1:])))
        for start in range(self._next, stop, step):
            self._write(planes, first, slice(start, min(start + step, stop)))
        self._next = max(self._next, stop)

    def _write(self, planes: Any, first: int, span: slice) -> None:
        z, y, x = self._taps
        feed: dict[str, Any] = {"planes": planes}
        for name, low, high, weight in (
            ("z", z.low[span] - first, z.high[span] - first, z.weight[span]),
            ("y", y.low, y.high, y.weight),
            ("x", x.low, x.high, x.weight),
        ):
            feed |= {f"{name}_low": low, f"{name}_high": high, f"{name}_weight": weight}
        heads = planes.shape()[0]
        self._out[span] = _array(self._device.run(recipes.decide, heads, self._threshold, feed=feed)["labels"])


def _together(tiles: int, voxels: int) -> int:
    """Choose how many of a row's tiles run at once: a divisor of their number."""
    most = max(1, _BATCH_VOXELS // voxels)
    return max(n for n in range(1, tiles + 1) if tiles % n == 0 and n <= most)


def _array(value: Any) -> Array:
    return np.asarray(value.numpy())


def _f32(values: Any) -> Field:
    return np.asarray(values, np.float32)
