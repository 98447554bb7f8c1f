"""Write one OpenKBP patient as a DICOM CT series for the demo.

The voxels are the patient's. OpenKBP publishes no DICOM headers, so every header here is synthetic, and the series says
so. Nothing of the data belongs in the repository.

Usage: .venv/bin/python scripts/open_kbp_to_dicom.py DATA/pt_4.npz OUT [--surroundings]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from head_neck_data import SEED, Patient, read_patient, with_surroundings
from pydicom.dataset import FileDataset

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms.dicom import encode_phantom, write_instances
from orthanc_plugin.phantoms.phantom import Phantom


def encode_patient(patient: Patient) -> list[FileDataset]:
    """Encode the patient as CT Image Storage instances, head first and supine, with synthetic headers."""
    _, rows, columns = patient.voxels_hu.shape
    z, y, x = patient.spacing_mm
    affine = np.diag([x, y, z, 1.0])
    affine[:2, 3] = -x * (columns - 1) / 2, -y * (rows - 1) / 2
    volume = Volume(np.rint(patient.voxels_hu).astype(np.float32), patient.spacing_mm, affine)
    drawn = Phantom(volume, patient.labels, {}, 0, "open_kbp")
    instances = encode_phantom(drawn, uid_seed=patient.name)
    for ds in instances:
        _say_what_it_is(ds, patient.name)
    return instances


def _say_what_it_is(ds: FileDataset, name: str) -> None:
    """Replace the headers of the phantom by those of a de-identified patient."""
    del ds.QualityControlImage, ds.PatientBirthDate, ds.PatientAge
    ds.PatientName, ds.PatientID = f"OpenKBP^{name}", f"OPENKBP-{name}"
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "OpenKBP; synthetic header"
    ds.StudyDescription = "OpenKBP head and neck, synthetic header"
    ds.SeriesDescription, ds.ProtocolName = f"OpenKBP {name}, synthetic header", "Head and neck"
    ds.ImageType, ds.BodyPartExamined = ["DERIVED", "SECONDARY", "AXIAL"], "HEADNECK"
    ds.Manufacturer, ds.ManufacturerModelName, ds.StationName = "Orthanc Enrichment", "Synthetic header", "OPENKBP"
    ds.WindowCenter, ds.WindowWidth = 40, 400


def main() -> None:
    """Write the series."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("patient", type=Path, help="a pt_*.npz file of OpenKBP")
    parser.add_argument("out", type=Path, help="folder for the DICOM files")
    parser.add_argument("--surroundings", action="store_true", help="draw air, a couch and a mask around the patient")
    asked = parser.parse_args()
    patient = read_patient(asked.patient)
    write_instances(asked.out, encode_patient(with_surroundings(patient, SEED) if asked.surroundings else patient))


if __name__ == "__main__":
    main()
