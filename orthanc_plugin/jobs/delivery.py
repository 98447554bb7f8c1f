"""Delivery: a job's results, copied by UID from the home archive to one further destination."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import ConfigError, StoreError
from orthanc_plugin.jobs.record import stored_object


@dataclass(frozen=True, slots=True)
class Delivery:
    """What goes where; `home` and `destination` are names of archives."""

    home: str
    destination: str
    objects: tuple[StoredObject, ...]

    def to_json(self) -> str:
        """The delivery as the one argument of its workflow."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Delivery:
        """The delivery of a workflow's argument."""
        raw = json.loads(text)
        return cls(raw["home"], raw["destination"], tuple(map(stored_object, raw["objects"])))


def copy_objects(archives: Mapping[str, Archive], delivery: Delivery) -> int:
    """Copy what the destination does not have yet.

    Returns
    -------
    int
        Number of objects copied.

    Raises
    ------
    StoreError
        A result is gone from its home, or the destination refused it.
    TransientError
        One of the two archives is away.
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
