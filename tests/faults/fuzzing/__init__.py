"""Seeded mutations of CT series, read as `orthanc-enrich run` reads a folder (docs/input-quality.md)."""
