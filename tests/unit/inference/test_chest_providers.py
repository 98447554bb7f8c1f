"""Providers: exactly one ONNX Runtime, and the provider reported is the one that runs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.errors import ConfigError, ModelError
from orthanc_plugin.inference import providers
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider, choose_provider, ensure_one_runtime, open_session


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def distribution(name: str) -> None:
        if name not in names:
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(providers.metadata, "distribution", distribution)


def test_two_runtimes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    with pytest.raises(ConfigError, match="uninstall both"):
        ensure_one_runtime()


def test_no_runtime_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch)
    with pytest.raises(ConfigError, match=r"orthanc-enrichment\[cpu\]"):
        ensure_one_runtime()


def test_one_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, "onnxruntime-gpu")
    assert ensure_one_runtime() == "onnxruntime-gpu"


def test_a_provider_the_runtime_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="cuda"):
        open_engine(find_model("chest_structures", None), Provider.CUDA)


def test_tensorrt_falls_back_to_cuda_and_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert choose_provider(Provider.TENSORRT) == (Provider.CUDA, Provider.CPU)
    assert "tensorrt is not in" in caplog.text


def test_the_provider_that_runs_is_reported_if_tensorrt_was_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert open_engine(find_model("chest_structures", None), Provider.TENSORRT).provider == "cpu"


def test_the_engine_reports_what_runs() -> None:
    engine = open_engine(find_model("chest_structures", None), Provider.CPU)
    assert engine.provider == "cpu"
    assert engine.card.name == "chest_structures"


def test_a_graph_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    graph = tmp_path / "broken.onnx"
    graph.write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        open_session(graph, Provider.CPU)


def test_openvino_that_is_not_installed_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "openvino_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"orthanc-enrichment\[openvino\]"):
        open_session(find_model("chest_structures", None).directory / "chest_structures.onnx", Provider.OPENVINO)


def test_auto_does_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(providers, "openvino_installed", lambda: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert choose_provider(Provider.AUTO) == (Provider.CPU,)
