"""Radiomics of a segmented volume."""
