"""Stand-ins for what exists only elsewhere: Orthanc's Python module, the service's side of the process protocol."""
