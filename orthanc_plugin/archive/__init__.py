"""Archives behind one protocol: DICOMweb, folders, and what only Orthanc can tell."""
