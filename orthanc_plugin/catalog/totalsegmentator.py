"""Tasks of TotalSegmentator v2: data sets, spacing, window step and class maps of those that can be installed.

TotalSegmentator turns the CT to canonical orientation, resamples it to an isotropic spacing (order 1, whole HU), runs
one nnU-Net v2 data set after the other (fold 0, no mirroring), and resamples labels back with order 0. Tasks that need
more (a crop around another task's result, their own clean-up, MR, a licence key) are listed with the reason for their
refusal. The tasks offered need no clean-up after the network, which TotalSegmentator does only on request. One step is
not reproduced: it cuts an image of more than 512 x 512 x 900 voxels in three before it runs `total`.

Source: TotalSegmentator 2.18, `map_tasks_config.py`, `map_to_binary.py`, `python_api.py`, `nnunet.py`. TotalSegmentator
writes spacings as x, y, z and plans.json as z, y, x; the tasks offered here are isotropic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

CONFIGURATION = "3d_fullres"
FOLDS = (0,)
IMAGE_ORDER = 1
"""Spline order of the resampling to `Task.spacing_mm`; labels return with order 0."""

LICENCE_KEY = "it is not open: TotalSegmentator gives its weights only to holders of a licence key"
MR = "it is for MR, and this project supports CT only"
_CROP = "it needs a crop around {}, which is not supported"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One published nnU-Net v2 data set. classes: names of its labels 1, 2, ...; release: tag on GitHub."""

    folder: str
    trainer: str
    classes: tuple[str, ...]
    release: str = "v2.0.0-weights"

    @property
    def model_folder(self) -> str:
        """Folder of the trained configuration inside `folder`."""
        return f"{self.trainer}__nnUNetPlans__{CONFIGURATION}"


@dataclass(frozen=True, slots=True)
class Task:
    """A task that can be installed.

    datasets: run one after the other; later labels replace earlier ones.
    spacing_mm: spacing of the networks' isotropic grid.
    tile_step: step of the sliding window as a fraction of the patch.
    """

    name: str
    datasets: tuple[Dataset, ...]
    spacing_mm: float
    tile_step: float

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the task's labels 1, 2, ...: those of its data sets in their order."""
        return tuple(dict.fromkeys(name for dataset in self.datasets for name in dataset.classes))

    def numbers(self, dataset: Dataset) -> tuple[int, ...]:
        """Return the task's label number of each head of one data set, background first."""
        return (0, *(1 + self.classes.index(name) for name in dataset.classes))


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


_ORGANS = (
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus", "trachea"),
    *("thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate"),
    *_both("kidney_cyst"),
)
_VERTEBRAE = (
    *("sacrum", "vertebrae_S1"),
    *(f"vertebrae_{part}{level}" for part, last in (("L", 5), ("T", 12), ("C", 7)) for level in range(last, 0, -1)),
)
_CARDIAC = (
    *("heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk"),
    *("subclavian_artery_right", "subclavian_artery_left"),
    *("common_carotid_artery_right", "common_carotid_artery_left"),
    *_both("brachiocephalic_vein"),
    *("atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein"),
    *_both("iliac_artery", "iliac_vena"),
)
_MUSCLES = (
    *_both("humerus", "scapula", "clavicula", "femur", "hip"),
    "spinal_cord",
    *_both("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"),
    *("brain", "skull"),
)
_RIBS = (
    *(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13)),
    *("sternum", "costal_cartilages"),
)
_TOTAL = (*_ORGANS, *_VERTEBRAE, *_CARDIAC, *_MUSCLES, *_RIBS)
_LONG = "nnUNetTrainer_4000epochs_NoMirroring"

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                "total",
                (
                    Dataset("Dataset291_TotalSegmentator_part1_organs_1559subj", "nnUNetTrainerNoMirroring", _ORGANS),
                    Dataset(
                        "Dataset292_TotalSegmentator_part2_vertebrae_1532subj", "nnUNetTrainerNoMirroring", _VERTEBRAE
                    ),
                    Dataset("Dataset293_TotalSegmentator_part3_cardiac_1559subj", "nnUNetTrainerNoMirroring", _CARDIAC),
                    Dataset("Dataset294_TotalSegmentator_part4_muscles_1559subj", "nnUNetTrainerNoMirroring", _MUSCLES),
                    Dataset("Dataset295_TotalSegmentator_part5_ribs_1559subj", "nnUNetTrainerNoMirroring", _RIBS),
                ),
                spacing_mm=1.5,
                tile_step=0.8,
            ),
            Task(
                "total_fast",
                (Dataset("Dataset297_TotalSegmentator_total_3mm_1559subj", _LONG, _TOTAL),),
                spacing_mm=3.0,
                tile_step=0.8,
            ),
            Task(
                "total_fastest",
                (Dataset("Dataset298_TotalSegmentator_total_6mm_1559subj", _LONG, _TOTAL),),
                spacing_mm=6.0,
                tile_step=0.8,
            ),
            Task(
                "breasts",
                (
                    Dataset(
                        "Dataset527_breasts_1559subj",
                        "nnUNetTrainer_DASegOrd0_NoMirroring",
                        ("breast",),
                        "v2.5.0-weights",
                    ),
                ),
                spacing_mm=1.5,
                tile_step=0.5,
            ),
            Task(
                "trunk_cavities",
                (
                    Dataset(
                        "Dataset343_mediastinum_1786subj",
                        "nnUNetTrainer",
                        ("abdominal_cavity", "thoracic_cavity", "pericardium", "mediastinum"),
                        "v2.5.0-weights",
                    ),
                ),
                spacing_mm=1.5,
                tile_step=0.5,
            ),
        )
    }
)
"""Tasks that can be installed. `total_fast` and `total_fastest` are TotalSegmentator's `--fast` and `--fastest`."""

_LUNG_LOBES = _CROP.format("the lung lobes of total")
_SKULL = _CROP.format("the skull of total")
_LIVER = _CROP.format("the liver of total")
_BONES_OF_NECK = _CROP.format("clavicles and vertebrae of total")
_CLEAN_UP = "it needs its own clean-up after the network, which is not supported"
_NOT_PUBLISHED = "its weights are not published"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "total_v3": "it belongs to version 3 (its class vertebrae_L6 has no code here); use total",
        "total_highres_test": _NOT_PUBLISHED,
        "test": _NOT_PUBLISHED,
        "body": "it removes small components by its own rule after the network, which is not supported",
        "vertebrae_body": "its class intervertebral_discs has no code in the table",
        "vertebrae_pp": _CLEAN_UP,
        "vertebrae_pp_refined": _CLEAN_UP,
        "lung_vessels": _LUNG_LOBES,
        "lung_vessels_LEGACY": _LUNG_LOBES,
        "lung_nodules": _LUNG_LOBES,
        "pleural_pericard_effusion": _LUNG_LOBES,
        "cerebral_bleed": _CROP.format("the brain of total"),
        "ventricle_parts": _CROP.format("the brain of total"),
        "hip_implant": _CROP.format("femurs and hips of total"),
        "liver_vessels": _LIVER,
        "liver_segments": _LIVER,
        "liver_lesions": _LIVER,
        "kidney_cysts": _CROP.format("kidneys, liver, spleen and colon of total"),
        "abdominal_muscles": _CROP.format("the trunk of body"),
        "head_glands_cavities": _SKULL,
        "head_muscles": _SKULL,
        "oculomotor_muscles": _SKULL,
        "craniofacial_structures": _SKULL,
        "headneck_bones_vessels": _BONES_OF_NECK,
        "headneck_muscles": _BONES_OF_NECK,
        "teeth": _CROP.format("the teeth of craniofacial_structures"),
        **dict.fromkeys(("total_mr", "body_mr", "vertebrae_mr", "liver_segments_mr", "liver_lesions_mr"), MR),
        "brain_aneurysm": MR,
        **dict.fromkeys(
            (
                *("heartchambers_highres", "appendicular_bones", "appendicular_bones_mr", "tissue_types"),
                *("tissue_types_mr", "tissue_4_types", "face", "face_mr", "brain_structures"),
                *("thigh_shoulder_muscles", "thigh_shoulder_muscles_mr", "coronary_arteries"),
                *("coronary_arteries_LEGACY", "aortic_sinuses", "renal_arteries", "aorta_annulus"),
                *("aortic_dissection", "pulmonary_artery_landmarks"),
            ),
            LICENCE_KEY,
        ),
    }
)
"""Every other task, with the reason why it is refused."""


def task_of(folders: Collection[str]) -> tuple[Task, tuple[Dataset, ...]] | None:
    """Find the task whose data sets are among these folder names, and those data sets; None if there is none."""
    for task in TASKS.values():
        present = tuple(dataset for dataset in task.datasets if dataset.folder in folders)
        if present:
            return task, present
    return None
