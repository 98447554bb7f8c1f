"""Memory that runs out while a model runs: smaller tiles, then the CPU, and what the result says of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.job import StageOutcome
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import PlannedModel
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError, OutOfMemoryError
from orthanc_plugin.inference import network
from orthanc_plugin.inference.memory import memory_errors
from orthanc_plugin.inference.network import End, Network
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.pipeline.location import Locator
from orthanc_plugin.pipeline.memory import Models
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD, ellipsoids
from tests.support.fakes.hand_job import ORGANS, SERIES, HandProcess, job, run_session

ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'c'"
    " Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void*"
    " onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool,"
    " onnxruntime::WaitNotificationFn) Failed to allocate memory for requested buffer of size 939524096"
)
CUDA = "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=node7"
CUDNN = "[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=node7"
CPU = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc"
OTHER = "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0"


@dataclass
class StubSession:
    """A session of ONNX Runtime that fails."""

    error: Exception

    def get_inputs(self) -> list[object]:
        return []

    get_outputs = get_inputs

    def run(self, outputs: list[str], values: dict[str, object]) -> list[object]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeException(ARENA), OutOfMemoryError),
        (Fail(CUDA), OutOfMemoryError),
        (Fail(CUDNN), OutOfMemoryError),
        (RuntimeException(CPU), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (Fail(OTHER), ModelError),
    ],
)
def test_what_onnx_runtime_says_when_memory_runs_out(
    error: Exception, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "open_session", lambda *arguments, **more: (StubSession(error), Provider.CUDA))
    monkeypatch.setattr(Network, "_check", lambda *arguments: None)
    opened = Network(Path("a.onnx"), End("image", (1,)), End("logits", (1,)), Provider.CUDA)
    with pytest.raises(raised, match=r"a\.onnx"):
        opened.run(np.zeros((1, 1), np.float32))


def test_the_text_of_the_runtime_is_not_kept() -> None:
    with pytest.raises(OutOfMemoryError) as caught, memory_errors("a.onnx", "cuda"):
        raise Fail(CUDA)
    assert str(caught.value) == "a.onnx: out of memory on cuda"


class Organs:
    """Finds the ellipsoids unless its memory is too small."""

    card: ModelCard = CARD

    def __init__(self, site: Site, provider: str, tiles: str) -> None:
        self._site, self.provider, self._tiles = site, provider, tiles

    def sparing(self) -> Organs | None:
        return Organs(self._site, self.provider, "small") if self._site.planar and self._tiles == "large" else None

    def segment(self, volume: Volume) -> Segmentation:
        self._site.tried.append((self.provider, self._tiles))
        if (self.provider, self._tiles) in self._site.too_large:
            raise self._site.error()
        found = ellipsoids(SERIES)
        return replace(found, labels=np.zeros_like(found.labels), segments=()) if self._site.finds_nothing else found


class Site(HandProcess):
    """A process whose GPU has too little memory for some ways to run."""

    def __init__(self, *too_large: tuple[str, str], planar: bool = True, gpu: bool = True) -> None:
        super().__init__(CHEST)
        self.too_large, self.planar, self.provider = too_large, planar, "cuda" if gpu else "cpu"
        self.tried: list[tuple[str, str]] = []
        self.error: Callable[[], Exception] = lambda: OutOfMemoryError(FULL)
        self.finds_nothing = False

    def segmenter(self, model: PlannedModel) -> Organs:
        return Organs(self, self.provider, "large")

    def on_cpu(self) -> Models | None:
        return None if self.provider == "cpu" else OnCpu(self)

    def run(self, deaths: int = 0) -> StageOutcome:
        with closing(self.sessions.open(job(None), deaths)) as session:
            return run_session(session)[f"segment {ORGANS.name}"]

    @property
    def seg(self) -> Dataset:
        (seg,) = (ds for ds in self.stored.values() if ds.Modality == "SEG")
        return seg


class OnCpu:
    """The same models on the CPU."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def card(self, model: PlannedModel) -> ModelCard:
        return CARD

    def segmenter(self, model: PlannedModel) -> Organs:
        return Organs(self._site, "cpu", "large")

    def locator(self, model: PlannedModel) -> Locator:
        raise NotImplementedError

    def on_cpu(self) -> Models | None:
        return None


FULL = "a.onnx: out of memory on cuda"
LARGE, SMALL, ON_CPU = ("cuda", "large"), ("cuda", "small"), ("cpu", "large")


def test_a_job_with_enough_memory_says_nothing_of_it() -> None:
    site = Site()
    assert (site.run().stage.provider, site.tried, site.run().stage.notes) == ("cuda", [LARGE], ())


def test_smaller_tiles_help_and_the_result_says_so() -> None:
    site = Site(LARGE)
    outcome = site.run()
    assert (site.tried, outcome.stage.provider) == ([LARGE, SMALL], "cuda")
    (note,) = outcome.stage.notes
    assert note == f"ran with fewer slices at once (labels may differ in single voxels): {FULL}"  # read from the SEG


@pytest.mark.parametrize("error", [OutOfMemoryError, MemoryError])
def test_the_cpu_is_the_last_resort_and_the_provenance_names_it(error: Callable[[], Exception]) -> None:
    site = Site(LARGE, SMALL)
    site.error = error
    outcome = site.run()
    assert (site.tried, outcome.stage.provider) == ([LARGE, SMALL, ON_CPU], "cpu")
    assert "ran on the CPU" in outcome.stage.notes[0]
    assert "provider=cpu" in str(site.seg)


def test_a_network_whose_patch_is_fixed_goes_to_the_cpu_at_once() -> None:
    site = Site(LARGE, planar=False)
    assert (site.run().stage.provider, site.tried) == ("cpu", [LARGE, ON_CPU])


def test_the_next_job_begins_on_the_gpu_again() -> None:
    site = Site(LARGE, planar=False)
    site.run()
    site.archive.instances.clear()
    site.too_large = ()
    assert site.run().stage.provider == "cuda"


@pytest.mark.parametrize("gpu", [True, False])
def test_what_fits_nowhere_fails_with_a_reason(gpu: bool) -> None:
    site = Site(LARGE, SMALL, ON_CPU, ("cpu", "small"), gpu=gpu)
    outcome = site.run()
    assert (outcome.state, outcome.detail.partition(":")[0]) == ("failed", "OutOfMemoryError")


def test_a_model_that_finds_nothing_still_says_so() -> None:
    site = Site(LARGE)
    site.finds_nothing = True
    assert site.run().stage.notes[0] == "no structure of the model was found"


@pytest.mark.parametrize(
    ("deaths", "planar", "tried"),
    [(1, True, SMALL), (1, False, LARGE), (2, True, ON_CPU), (2, False, ON_CPU)],
)
def test_after_a_worker_died_the_job_uses_less_memory(deaths: int, planar: bool, tried: tuple[str, str]) -> None:
    site = Site(planar=planar)
    outcome = site.run(deaths)
    assert site.tried == [tried]
    assert bool(outcome.stage.notes) == (tried != LARGE)
