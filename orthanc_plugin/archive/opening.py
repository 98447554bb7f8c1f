"""Open an archive of the configuration, whatever its kind."""

from __future__ import annotations

from orthanc_plugin.archive.dicomweb import open_dicomweb
from orthanc_plugin.archive.dimse import open_dimse
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.archive.tree import open_tree
from orthanc_plugin.config.archives import ArchiveSettings


def open_archive(name: str, settings: ArchiveSettings) -> Archive:
    """Open the archive of that name.

    Raises
    ------
    ConfigError
        If a file that the settings name cannot be used.
    """
    if settings.dimse is not None:
        return open_dimse(name, settings, settings.dimse)
    if settings.folder is not None:
        return open_tree(name, settings.folder)
    return open_dicomweb(name, settings)
