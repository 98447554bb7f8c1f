"""Masks as DICOM Segmentation objects: write them, and read stored ones back."""

from orthanc_plugin.results.seg.choice import describe, is_binary
from orthanc_plugin.results.seg.fractional import FRACTIONAL_SETTINGS, encode_fractional
from orthanc_plugin.results.seg.reader import decode_seg
from orthanc_plugin.results.seg.writer import MOST_SEGMENTS, SETTINGS, encode_seg, highdicom_seg

__all__ = [
    "FRACTIONAL_SETTINGS",
    "MOST_SEGMENTS",
    "SETTINGS",
    "decode_seg",
    "describe",
    "encode_fractional",
    "encode_seg",
    "highdicom_seg",
    "is_binary",
]
