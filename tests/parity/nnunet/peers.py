"""The original frameworks, run as they are: models saved by their trainers, volumes segmented by their predictors.

Everything here runs in a process of its own (`Peer`): the frameworks read their folders from the environment when they
are imported, print, fork and warn. Their functions are called, none of their code is replaced; a spy notes what enters
the network.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from orthanc_plugin.catalog.nnunet import Framework
from tests.parity.nnunet import fixtures
from tests.parity.nnunet.cts import voxels_of
from tests.parity.nnunet.fixtures import Model, Net

CHECKPOINT_V1, CHECKPOINT_V2 = "model_final_checkpoint", "checkpoint_final.pth"
_OPERATORS: list[Any] = []  # they live as long as the object that declares them
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result of a framework for a volume.

    labels: (z, y, x) as SimpleITK reads the file it wrote, its own label numbers.
    entered: (channels, z, y, x) float32 in network axes, what the network was given, one a configuration.
    seconds: of the framework's own prediction, NIfTI read and written, weights loaded.
    """

    labels: np.ndarray
    entered: tuple[np.ndarray, ...]
    seconds: float


class Peer:
    """A process that runs the frameworks; `call` runs a function there.

    One thread is enough for small networks, and faster where other tests run at the same time.
    """

    def __init__(self, root: Path, threads: int = 1) -> None:
        names = ("RESULTS_FOLDER", "nnUNet_raw_data_base", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        folders = {name: str(root / name) for name in names}
        environment = folders | {"nnUNet_compile": "f", "MPLBACKEND": "agg", "OMP_NUM_THREADS": str(threads)}
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (environment,))

    def call(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return what `function` returns there."""
        return self._pool.submit(_quietly, function, args, kwargs).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _prepare(environment: dict[str, str]) -> None:
    """Before torch is first imported: it counts its threads then. v1 hands its own processes what only a fork can."""
    os.environ.update(environment)
    set_start_method("fork", force=True)
    _let_torchvision_be_imported()


def _let_torchvision_be_imported() -> None:
    """v2 searches its trainers by importing them all; some reach torchvision, whose operators none of them runs.

    A torchvision built for CUDA does not load beside a torch without, and then misses what it wants to refine.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _OPERATORS.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _OPERATORS[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _quietly(function: Callable[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        return function(*args, **kwargs)


def write_model(model: Model, root: Path) -> Path:
    """Save a model of random weights in its framework's layout by its framework's trainer; the folder of the task."""
    return _write_v1(model, root) if model.framework is Framework.V1 else _write_v2(model, root)


def _disturb(network: Any, seed: int) -> None:
    """Random weights where nothing is zero or one: those would hide a tensor that was mapped wrongly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * (2 / parameter[0].numel()) ** 0.5 * (2.0 if "seg_" in name else 1.0))
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(0.2 * noise)


def _write_v1(model: Model, root: Path) -> Path:
    for nets in (tuple(n for n in model.nets if n.name == "2d"), tuple(n for n in model.nets if n.name != "2d")):
        for net in nets:
            _write_v1_configuration(model, net, fixtures.plans_v1(model, nets), root)
    return root


def folder_v1(model: Model, net: Net, root: Path) -> Path:
    """Where v1 keeps a configuration below its RESULTS_FOLDER."""
    trainer = "nnUNetTrainerV2CascadeFullRes" if net.previous else "nnUNetTrainerV2"
    return root / "nnUNet" / net.name / model.name / f"{trainer}__nnUNetPlansv2.1"


def _write_v1_configuration(model: Model, net: Net, plans: dict[str, Any], root: Path) -> None:
    import torch
    from nnunet.training.network_training.nnUNetTrainerV2 import nnUNetTrainerV2
    from nnunet.training.network_training.nnUNetTrainerV2_CascadeFullRes import nnUNetTrainerV2CascadeFullRes

    folder = folder_v1(model, net, root)
    folder.mkdir(parents=True)
    with (folder / "plans.pkl").open("wb") as file:
        pickle.dump(plans, file)
    if model.postprocessing:
        (folder / "postprocessing.json").write_text(model.postprocessing)
    for fold in range(model.folds):
        torch.manual_seed(model.seed)
        trainer_class = nnUNetTrainerV2CascadeFullRes if net.previous else nnUNetTrainerV2
        trainer = trainer_class(
            str(folder / "plans.pkl"), fold, str(folder), str(root / "nowhere"), stage=fixtures.stage_v1(net), fp16=True
        )
        trainer.initialize(training=False)
        trainer.initialize_optimizer_and_scheduler()
        _disturb(trainer.network, 100 * model.seed + fold)
        trainer.save_checkpoint(str(folder / f"fold_{fold}" / f"{CHECKPOINT_V1}.model"))


def folder_v2(model: Model, net: Net, root: Path) -> Path:
    """Where v2 keeps a configuration below its nnUNet_results."""
    return root / model.name / f"{model.trainer}__nnUNetPlans__{net.name}"


def _write_v2(model: Model, root: Path) -> Path:
    for net in model.nets:
        _write_v2_configuration(model, net, root)
    return root / model.name


def _write_v2_configuration(model: Model, net: Net, root: Path) -> None:
    import torch
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    os.environ["nnUNet_results"] = str(root)  # noqa: SIM112
    plans, dataset = fixtures.plans_v2(model), fixtures.dataset_v2(model)
    folder = folder_v2(model, net, root)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold in range(model.folds):
        trainer_class = recursive_find_trainer_class_by_name(model.trainer)
        given = json.loads(json.dumps(plans)) | {"continue_training": False}
        # It looks there for the format of the training data, of which there are none.
        nowhere = Path(os.environ["nnUNet_preprocessed"])  # noqa: SIM112
        cases = nowhere / model.name / f"nnUNetPlans_{net.name}"
        cases.mkdir(parents=True, exist_ok=True)
        (cases / "none.b2nd").touch()
        trainer = trainer_class(given, net.name, fold, dataset, torch.device("cpu"))
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        _disturb(trainer.network, 100 * model.seed + fold)
        trainer.save_checkpoint(str(folder / f"fold_{fold}" / CHECKPOINT_V2))


@contextmanager
def spied(owner: Any, method: str) -> Iterator[list[np.ndarray]]:
    """The first argument of each call of a method, which runs as it is; folds get the same array, noted once."""
    original, noted = getattr(owner, method), []

    def spy(self: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        array = np.array(data, np.float32)
        if not noted or noted[-1].shape != array.shape or not np.array_equal(noted[-1], array):
            noted.append(array)
        return original(self, data, *args, **kwargs)

    setattr(owner, method, spy)
    try:
        yield noted
    finally:
        setattr(owner, method, original)


def predict(
    model: Model, root: Path, names: Sequence[str], image: Path, out: Path, mirroring: bool, first: Path | None = None
) -> Prediction:
    """Segment a NIfTI by the named configurations; several are an ensemble. first: labels of a first stage."""
    start = time.perf_counter()
    entered: list[np.ndarray] = []
    for name in names:
        net = model.net(name)
        folder = (folder_v1 if model.framework is Framework.V1 else folder_v2)(model, net, root)
        entered += run_folder(folder, range(model.folds), image, out / name, mirroring, first, len(names) > 1)
    folder = _merged(model, [out / name for name in names], out / "ensemble") if len(names) > 1 else out / names[0]
    return Prediction(voxels_of(folder / "case.nii.gz"), tuple(entered), time.perf_counter() - start)


def predict_folder(folder: Path, image: Path, out: Path) -> Prediction:
    """Segment a NIfTI by fold 0 of one trained configuration, without mirroring."""
    start = time.perf_counter()
    entered = run_folder(folder, [0], image, out, False, None, False)
    return Prediction(voxels_of(out / "case.nii.gz"), tuple(entered), time.perf_counter() - start)


def run_folder(
    folder: Path, folds: Sequence[int], image: Path, out: Path, mirroring: bool, before: Path | None, keep: bool
) -> list[np.ndarray]:
    """One trained configuration by its own framework; before: the first stage's labels; keep: its probabilities."""
    run = _run_v1 if (folder / "plans.pkl").exists() else _run_v2
    return run(
        str(folder), list(folds), str(image.parent), out, mirroring, None if before is None else str(before), keep
    )


def _run_v1(
    folder: str, folds: list[int], images: str, out: Path, mirroring: bool, before: str | None, keep: bool
) -> list[np.ndarray]:
    from nnunet.inference.predict import predict_from_folder
    from nnunet.training.network_training.nnUNetTrainerV2 import nnUNetTrainerV2

    with spied(nnUNetTrainerV2, "predict_preprocessed_data_return_seg_and_softmax") as noted:
        predict_from_folder(
            folder,
            images,
            str(out),
            folds,
            save_npz=keep,
            num_threads_preprocessing=1,
            num_threads_nifti_save=1,
            lowres_segmentations=before,
            part_id=0,
            num_parts=1,
            tta=mirroring,
        )
    return noted


def _run_v2(
    folder: str, folds: list[int], images: str, out: Path, mirroring: bool, before: str | None, keep: bool
) -> list[np.ndarray]:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, tuple(folds), CHECKPOINT_V2)
    out.mkdir(parents=True)
    with spied(nnUNetPredictor, "predict_logits_from_preprocessed_data") as noted:
        # The sequential form runs the same steps as `predict_from_files` without its pools of processes.
        predictor.predict_from_files_sequential(
            images, str(out), save_probabilities=keep, folder_with_segs_from_prev_stage=before
        )
    return noted


def _merged(model: Model, folders: list[Path], out: Path) -> Path:
    """The frameworks' own ensembling of predictions kept as probabilities."""
    out.mkdir()
    if model.framework is Framework.V1:
        from nnunet.inference.ensemble_predictions import merge

        merge([str(folder) for folder in folders], str(out), 1)
        return out
    from nnunetv2.ensembling.ensemble import merge_files
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(fixtures.plans_v2(model))
    labels = plans.get_label_manager(fixtures.dataset_v2(model))
    files = [str(folder / "case.npz") for folder in folders]
    merge_files(files, str(out / "case"), ".nii.gz", plans.image_reader_writer_class(), labels)
    return out
