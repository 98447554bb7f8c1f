"""The section "Enrichment" of orthanc.json: what may be written there, and how it is read."""
