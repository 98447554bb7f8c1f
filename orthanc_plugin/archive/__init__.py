"""Archives behind one protocol: DICOMweb servers and folders. Also the change feed that only Orthanc has."""
