"""Encode arrays and numbers as DICOM SEG, SR, RT Structure Set and Secondary Capture objects."""
