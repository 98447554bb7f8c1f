"""Procedural bodies whose structures are known, as volumes and as DICOM series."""
