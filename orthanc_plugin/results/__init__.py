"""Results: arrays and numbers in, DICOM SEG and SR out."""
