"""Fakes of Orthanc's Python module, of the service process, of an archive and of a worker process."""
