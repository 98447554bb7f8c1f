"""The patients that the training of head_neck_oar held out, each as a DICOM series."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from tests.parity.nnunet.cts import Ct, load, to_nifti
from tests.support.cases.realct import ROOT, real_ct

KEPT = ROOT / "models" / "head_neck_oar"
WEIGHTS = KEPT / "head_neck_oar_v2.zip"


def held_out() -> list[Path]:
    """The files of the patients of fold 0, which the kept weights never saw."""
    files = {path.stem: path for path in _script("head_neck_data").patient_files(real_ct("open_kbp"))}
    return [files[name] for name in _script("head_neck_data").held_out(list(files), 0)]


def patient_ct(file: Path, out: Path, *, surroundings: bool) -> Ct:
    """One patient as published, or in air on a drawn couch."""
    data = _script("head_neck_data")
    patient = data.read_patient(file)
    patient = data.with_surroundings(patient, data.SEED) if surroundings else data.framed(patient, margin=False)
    folder = out / "dicom"
    _script("open_kbp_to_dicom").write_instances(folder, _script("open_kbp_to_dicom").encode_patient(patient))
    name = f"{file.stem}{', couch' if surroundings else ''}"
    return Ct(name, folder, load(folder), to_nifti(folder, out / "nifti" / "case_0000.nii.gz"))


def _script(name: str) -> Any:
    if (folder := str(ROOT / "scripts")) not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
