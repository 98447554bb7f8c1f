"""Encode numbers, levels and checks as DICOM Structured Reports."""
