"""Masks as DICOM Segmentation objects."""
