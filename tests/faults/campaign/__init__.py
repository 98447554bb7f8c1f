"""A campaign of faults against the whole system: Orthanc, plugin, service and workers, with a model that only waits."""
