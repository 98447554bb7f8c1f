"""Enrichment of CT series that reach Orthanc: SEG and SR come back."""

__version__ = "0.1.0"

RESULTS_VERSION = 3
"""Raised only when stored outputs change: it enters every derived UID (see `identity`)."""
