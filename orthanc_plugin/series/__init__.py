"""DICOM instances in, a CT volume that can be vouched for out."""
