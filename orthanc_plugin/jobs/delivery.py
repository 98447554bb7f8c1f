"""Delivery: copy the results of a job by UID from the home archive to one further destination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import ConfigError, StoreError


@dataclass(frozen=True, slots=True)
class Delivery(JsonRecord):
    """The objects to copy; `home` and `destination` are names of archives."""

    home: str
    destination: str
    objects: tuple[StoredObject, ...]


def copy_objects(archives: Mapping[str, Archive], delivery: Delivery) -> int:
    """Copy the objects that the destination does not have yet.

    Returns
    -------
    int
        Number of objects copied.

    Raises
    ------
    StoreError
        If a result is gone from its home archive, or the destination refuses it.
    TransientError
        If one of the two archives is away.
    ConfigError
        If the configuration of this worker lacks one of the two archives.
    """
    try:
        home, destination = archives[delivery.home], archives[delivery.destination]
    except KeyError as missing:
        raise ConfigError(f"this worker's configuration has no archive {missing}") from None
    copied = 0
    for item in delivery.objects:
        place = (item.study_instance_uid, item.series_instance_uid, item.sop_instance_uid)
        if destination.find(*place) is not None:
            continue
        ds = home.find(*place)
        if ds is None:
            raise StoreError(f"{item.sop_instance_uid} is gone from archive {delivery.home}")
        destination.store(ds)
        copied += 1
    return copied
