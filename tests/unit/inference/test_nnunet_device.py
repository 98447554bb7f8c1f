"""The work around networks on a device: the CPU stands in for a GPU, and gives what `window` and `restore` give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Part, Previous
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference import providers
from orthanc_plugin.inference.nnunet import device, device_check, engine
from orthanc_plugin.inference.nnunet.device import Device, write_labels
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.nnunet.members import Members
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.resample import resample_image
from orthanc_plugin.inference.nnunet.restore import Member, restore, taps
from orthanc_plugin.inference.nnunet.window import passes_of, predict
from orthanc_plugin.inference.providers import Provider, engine_cache, open_session
from tests.support.cases import nnunet_case
from tests.support.cases.nnunet_case import CONFIGURATION

Field = NDArray[np.float32]
KERNEL = np.random.default_rng(7).normal(size=(3, 1, 3, 3, 3)).astype(np.float32)
CPU = Device("cpu")


def noise(*shape: int) -> Field:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def folds(directory: Path, configuration: Configuration, bias: Sequence[float] = (0.5, -0.5, 0.0)) -> list[Network]:
    for number, name in enumerate(configuration.graphs):
        nnunet_case.convolution(directory / name, KERNEL * (1 + number), bias, configuration.patch_size)
    return [Network(directory / name, configuration, 1, Provider.CPU) for name in configuration.graphs]


def both_ways(
    directory: Path, configuration: Configuration, shape: tuple[int, int, int], out: tuple[int, int, int], regions: bool
) -> tuple[NDArray[Any], NDArray[Any], Members, Members]:
    """Labels and agreement by the CPU's modules and by the device."""
    networks, data = folds(directory, configuration), noise(1, *shape)
    z, y, x = (taps(old, new, 1) for old, new in zip(shape, out, strict=True))
    logits = configuration.framework is Framework.V2
    theirs, ours = (Members(3, passes_of(configuration), regions=regions, logits=logits) for _ in range(2))
    expected, found = np.zeros(out, np.uint8), np.zeros(out, np.uint8)
    slabs = predict(data, configuration, networks, regions=regions, members=theirs)
    restore([Member(slabs, (z, y, x), configuration.framework)], expected, regions=regions)
    write_labels(CPU, data, configuration, networks, (z, y, x), found, regions=regions, members=ours)
    return expected, found, theirs, ours


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("framework", Framework)
@pytest.mark.parametrize(
    ("shape", "out"), [((13, 17, 35), (30, 25, 60)), ((8, 16, 16), (8, 16, 16)), ((5, 9, 40), (9, 9, 20))]
)
def test_labels_and_agreement_are_those_of_the_cpu(
    tmp_path: Path,
    framework: Framework,
    regions: bool,
    shape: tuple[int, int, int],
    out: tuple[int, int, int],
) -> None:
    configuration = replace(
        CONFIGURATION,
        framework=framework,
        mirror_axes=(2,),
        graphs=("fold_0.onnx", "fold_1.onnx"),
        mirrored_heads=(0, 2, 1),
    )
    expected, found, theirs, ours = both_ways(tmp_path, configuration, shape, out, regions)
    assert len(np.unique(expected)) == 3 + regions
    assert (expected == found).mean() > 0.9999  # float32 sums in another order, at near ties
    for head in range(1 - regions, 3):
        assert ours.dice(head) == pytest.approx(theirs.dice(head), rel=1e-4)
        assert ours.entropy(head) == pytest.approx(theirs.entropy(head), rel=1e-4)


def test_every_axis_is_mirrored_and_turned_back(tmp_path: Path) -> None:
    configuration = replace(CONFIGURATION, mirror_axes=(0, 1, 2))
    expected, found, *_ = both_ways(tmp_path, configuration, (9, 17, 18), (9, 17, 18), regions=False)
    assert (expected == found).mean() > 0.9999


def test_tiles_of_a_row_run_together_and_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Network.run_on_device
    monkeypatch.setattr(
        Network, "run_on_device", lambda self, kind, batch: (sizes.append(batch), run(self, kind, batch))[1]
    )
    together = both_ways(tmp_path, CONFIGURATION, (19, 30, 40), (19, 30, 40), regions=False)[1]
    assert set(sizes) == {4}
    sizes.clear()
    monkeypatch.setattr(device, "_BATCH_VOXELS", 1)
    alone = both_ways(tmp_path, CONFIGURATION, (19, 30, 40), (19, 30, 40), regions=False)[1]
    assert set(sizes) == {1}
    np.testing.assert_array_equal(together, alone)


def test_output_is_decided_in_parts_where_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_OUTPUT_VOXELS", 1)
    expected, found, *_ = both_ways(tmp_path, CONFIGURATION, (19, 30, 35), (50, 30, 35), regions=False)
    np.testing.assert_array_equal(expected, found)


def test_no_array_of_a_patch_leaves_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that come back: the check of each row of tiles, its labels, and at the end four sums of each head."""
    back: list[list[int]] = []
    read = device._array
    monkeypatch.setattr(device, "_array", lambda value: (back.append(value.shape()), read(value))[1])
    both_ways(tmp_path, CONFIGURATION, (19, 30, 35), (19, 30, 35), regions=False)
    rows = 4
    assert len(back) == 2 * rows + 4
    assert sum(int(np.prod(shape)) for shape in back) == 19 * 30 * 35 + rows + 4 * CONFIGURATION.heads


@pytest.mark.parametrize("bias", [np.inf, np.nan])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bias: float) -> None:
    networks = folds(tmp_path, CONFIGURATION, (bias, 0, 0))
    steps = taps(19, 19, 1), taps(30, 30, 1), taps(35, 35, 1)
    with pytest.raises(ModelError, match="not finite"):
        write_labels(CPU, noise(1, 19, 30, 35), CONFIGURATION, networks, steps, np.zeros((19, 30, 35), np.uint8))


@pytest.mark.parametrize(
    "how",
    [
        {"order": 3},
        {"order": 1},
        {"order": 3, "order_z": 0, "separate": 0},
        {"order": 3, "order_z": 1, "separate": 2},
    ],
)
@pytest.mark.parametrize("shape", [(14, 40, 25), (30, 20, 60)])
def test_a_ct_is_resampled_as_on_the_cpu(how: dict[str, int], shape: tuple[int, int, int]) -> None:
    image = 1000 * noise(20, 31, 42)
    found = CPU.resample(image, shape, **how)
    np.testing.assert_allclose(found, resample_image(image, shape, **how), atol=5e-3)
    assert CPU.resample(image, image.shape, **how) is image


class TestEngine:
    """An engine whose networks run on a device."""

    @pytest.fixture(autouse=True)
    def on_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "open_device", lambda wanted: CPU if wanted is Provider.AUTO else None)
        monkeypatch.setattr(providers, "openvino_installed", lambda: False)

    def both(self, directory: Path, part: Part) -> tuple[NDArray[Any], NDArray[Any]]:
        voxels = np.round(800 * noise(12, 40, 36))
        voxels[:, :, 30:] = 0
        volume = Volume(voxels, (2.0, 1.0, 1.0), np.diag([1.0, 1.0, 2.0, 1.0]))
        card = nnunet_case.card(directory, part)
        here, there = (NnunetEngine(card, each).segment(volume).labels for each in (Provider.CPU, Provider.AUTO))
        return here, there

    @pytest.mark.parametrize("framework", Framework)
    def test_the_ct_is_resampled_cropped_and_turned(self, tmp_path: Path, framework: Framework) -> None:
        configuration = replace(
            CONFIGURATION,
            framework=framework,
            transpose_forward=(2, 1, 0),
            transpose_backward=(2, 1, 0),
            spacing_mm=(1.5, 1.5, 1.5),
        )
        folds(tmp_path, configuration)
        here, there = self.both(tmp_path, Part((configuration,), (0, 1, 2)))
        assert len(np.unique(here)) == 3
        assert (here == there).mean() > 0.9999

    def test_a_cascade_gets_the_labels_of_its_first_stage(self, tmp_path: Path) -> None:
        low = Part((replace(CONFIGURATION, graphs=("low.onnx",)),), (0, 1, 2))
        folds(tmp_path, low.configurations[0])
        weights = np.random.default_rng(1).normal(size=(3, 3, 1, 1, 1)).astype(np.float32)
        nnunet_case.convolution(tmp_path / "full.onnx", weights, (0.1, 0.0, 0.0), CONFIGURATION.patch_size)
        full = replace(CONFIGURATION, graphs=("full.onnx",), previous=Previous(low))
        here, there = self.both(tmp_path, Part((full,), (0, 1, 2)))
        assert (here == there).mean() > 0.9999

    def test_planar_networks_and_averages_of_configurations_stay_with_the_host(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "write_labels", None)
        flat = replace(nnunet_case.planar(CONFIGURATION), graphs=("flat.onnx",))
        nnunet_case.convolution(tmp_path / "flat.onnx", KERNEL[:, :, 1], (0, 0, 0), flat.patch_size)
        folds(tmp_path, CONFIGURATION)
        for part in (Part((flat,), (0, 1, 2)), Part((CONFIGURATION, flat), (0, 1, 2))):
            np.testing.assert_array_equal(*self.both(tmp_path, part))

    def test_only_what_runs_on_the_device_alone_is_recorded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A session that replays a CUDA graph reads its fixed buffers only, which the host's way does not fill."""
        flat = replace(nnunet_case.planar(CONFIGURATION), graphs=("flat.onnx",))
        nnunet_case.convolution(tmp_path / "flat.onnx", KERNEL[:, :, 1], (0, 0, 0), flat.patch_size)
        folds(tmp_path, CONFIGURATION)
        recorded: dict[str, bool] = {}
        real = engine.Network

        def network(graph: Path, *arguments: Any, replayed: bool) -> Network:
            recorded[graph.name] = replayed
            return real(graph, *arguments)

        monkeypatch.setattr(engine, "Network", network)
        NnunetEngine(nnunet_case.card(tmp_path, Part((CONFIGURATION,), (0, 1, 2))), Provider.AUTO)
        assert recorded == {"fold_0.onnx": True}
        NnunetEngine(nnunet_case.card(tmp_path, Part((CONFIGURATION, flat), (0, 1, 2))), Provider.AUTO)
        assert recorded == {"fold_0.onnx": False, "flat.onnx": False}
        NnunetEngine(nnunet_case.card(tmp_path, Part((CONFIGURATION,), (0, 1, 2))), Provider.CPU)
        assert recorded["fold_0.onnx"] is False


class TestCheck:
    """A GPU has to show that it computes what the CPU does."""

    @pytest.fixture(autouse=True)
    def a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        device_check.proved.cache_clear()
        monkeypatch.setattr(device_check, "choose_provider", lambda wanted: (wanted,))

    def test_the_cpu_agrees_with_itself(self) -> None:
        assert device_check.proved(Provider.CPU)

    def test_the_cpu_is_no_device(self) -> None:
        assert device_check.open_device(Provider.CPU) is None

    def test_a_gpu_that_agrees_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device_check, "agreements", lambda *_: (1.0, 0.9995))
        found = device_check.open_device(Provider.CUDA)
        assert found is not None
        assert found.kind == "cuda"

    def test_one_that_does_not_runs_networks_only(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(device_check, "agreements", lambda *_: (1.0, 0.9))
        assert device_check.open_device(Provider.TENSORRT) is None
        assert "90.00 % of the CPU's labels" in caplog.text

    def test_so_does_one_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        """This machine has no CUDA: the check itself fails."""
        assert device_check.open_device(Provider.CUDA) is None
        assert "nothing but networks" in caplog.text

    def test_so_does_one_without_onnx(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(device_check, "find_spec", lambda name: None)
        assert device_check.open_device(Provider.CUDA) is None
        assert "orthanc-enrichment[gpu]" in caplog.text


class TestSessions:
    """Options of sessions on a GPU."""

    def test_engines_of_graphs_of_one_shape_are_kept_apart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """TensorRT tells engines apart by shape: weights of another fold would give its results."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        folds(tmp_path, replace(CONFIGURATION, graphs=("a.onnx", "b.onnx")))
        one, other = (engine_cache(tmp_path / name)["trt_engine_cache_path"] for name in ("a.onnx", "b.onnx"))
        assert one != other
        assert Path(one).is_dir()
        assert engine_cache(tmp_path / "a.onnx")["trt_engine_cache_path"] == one

    def test_without_a_folder_engines_are_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        folds(tmp_path, CONFIGURATION)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fold_0.onnx"))
        assert engine_cache(tmp_path / "fold_0.onnx") == {}
        assert "not kept" in caplog.text

    @pytest.mark.parametrize(
        ("wanted", "option"),
        [(Provider.CUDA, "enable_cuda_graph"), (Provider.TENSORRT, "trt_cuda_graph_enable")],
    )
    def test_a_graph_that_cannot_be_recorded_runs_without(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        wanted: Provider,
        option: str,
    ) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail

        asked: list[dict[str, str]] = []

        class Session:
            def __init__(self, graph: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> None:
                self._providers = [name for name, _ in providers]
                asked.append(providers[0][1])
                if option in providers[0][1]:
                    raise Fail("graph capture")

            def get_providers(self) -> list[str]:
                return self._providers

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(providers, "choose_provider", lambda wanted: (wanted,))
        folds_of = tmp_path / "fold_0.onnx"
        nnunet_case.convolution(folds_of, KERNEL, (0, 0, 0), CONFIGURATION.patch_size)
        assert open_session(folds_of, wanted, replayed=True)[1] is wanted
        assert [each.get(option) for each in asked] == ["1", None]
        assert "cannot be recorded" in caplog.text
        asked.clear()
        open_session(folds_of, wanted)
        assert [each.get(option) for each in asked] == [None]
