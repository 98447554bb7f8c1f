"""The section "Enrichment" of orthanc.json: its schema, and the one way to read it."""
