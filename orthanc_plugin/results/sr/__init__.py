"""Numbers, levels and checks as DICOM Structured Reports."""
