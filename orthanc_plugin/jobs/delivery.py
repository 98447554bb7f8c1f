"""Delivery: copy the results of a job by UID from the home archive to one further destination.

What the destination has already is not sent again, so a retry sends what failed. What it does not support is replaced
by what its settings name, or else named at the end, after everything else was copied. Each try begins with the
originals, because a destination may learn to take them. While an object may still be replaced, what refers to it is
not sent: it would come twice, with different references.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pydicom.dataset import Dataset

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.archives import Fallback
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.errors import ConfigError, NotSupportedError, StoreError, UnclearRefusalError
from orthanc_plugin.results.substitute import made_of, referred_uids, repointed, substitute

_FORMS = {
    Fallback.RTSTRUCT: (Output.RTSTRUCT, "RTSTRUCT"),
    Fallback.SECONDARY_CAPTURE: (Output.SECONDARY_CAPTURE, "secondary capture"),
}
"""Outputs that show a segmentation in another form."""


@dataclass(frozen=True, slots=True)
class Delivery(JsonRecord):
    """The objects to copy; `home` and `destination` are names of archives."""

    home: str
    destination: str
    objects: tuple[StoredObject, ...]


@dataclass(slots=True)
class _Copies:
    """What became of the objects of one delivery.

    name: is told of each substitute before it is sent.
    stands_for: whether the delivery has an object of that kind that was made of a segmentation.
    instead: what was sent in place of an object, by its SOPInstanceUID; notes: the same in words.
    not_supported, refused: why objects were not copied.
    believes: whether an unclear refusal counts as "not supported".
    open: objects that were refused, but may still be replaced. stood_for: those for which another form stands.
    """

    name: Callable[[Dataset], None]
    stands_for: Callable[[Output, StoredObject], bool]
    believes: bool
    count: int = 0
    instead: dict[str, Dataset] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    not_supported: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    stood_for: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Copied:
    """What a delivery did: `notes` say it in words; `instead` are substitutes, by the SOPInstanceUID of the original.

    not_sent: originals in whose place something else stands.
    """

    notes: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)
    not_sent: frozenset[str] = frozenset()


def copy_objects(
    archives: Mapping[str, Archive],
    delivery: Delivery,
    fallbacks: Sequence[Fallback] = (),
    name: Callable[[Dataset], None] = lambda substitute: None,
    *,
    believes: bool = True,
) -> Copied:
    """Copy the objects that the destination does not have yet.

    Parameters
    ----------
    archives : mapping
        By name.
    delivery : Delivery
        What to copy, and where.
    fallbacks : sequence of Fallback
        What the destination may get in place of what it does not support, in this order.
    name : callable
        Is told of each substitute before it is sent.
    believes : bool
        Whether an unclear refusal counts as "not supported"; otherwise it is an error that is worth another try.

    Returns
    -------
    Copied
        How many objects were copied, and what was sent instead of what.

    Raises
    ------
    NotSupportedError
        If the destination does not support an object, nor a fallback. Everything else was copied.
    StoreError
        If a result is gone from its home archive, or the destination refuses it. Everything else was copied.
    TransientError
        If one of the two archives is away.
    ConfigError
        If the configuration of this worker lacks one of the two archives.
    """
    try:
        home, destination = archives[delivery.home], archives[delivery.destination]
    except KeyError as missing:
        raise ConfigError(f"this worker's configuration has no archive {missing}") from None
    copies = _Copies(name, partial(_stands_for, home, delivery), believes)
    for item in delivery.objects:
        try:
            _copy(home, destination, item, fallbacks, copies)
        except NotSupportedError as error:
            copies.not_supported.append(f"{item.kind} {item.sop_instance_uid} ({error})")
        except StoreError as error:
            copies.refused.append(str(error))
            if fallbacks:
                copies.open.add(item.sop_instance_uid)
    if copies.refused:
        raise StoreError("; ".join(dict.fromkeys((*copies.refused, *copies.not_supported, *copies.notes))))
    if copies.not_supported:
        raise NotSupportedError("; ".join(("not supported by destination", *copies.not_supported, *copies.notes)))
    instead = {uid: str(ds.SOPInstanceUID) for uid, ds in copies.instead.items()}
    return Copied((f"{copies.count} objects copied", *copies.notes), instead, frozenset(instead) | copies.stood_for)


def _stands_for(home: Archive, delivery: Delivery, kind: Output, seg: StoredObject) -> bool:
    """Tell whether an object of the delivery shows a segmentation in another form: it names what it was made of."""
    others = (item for item in delivery.objects if item.kind is kind)
    found = (home.find(o.study_instance_uid, o.series_instance_uid, o.sop_instance_uid) for o in others)
    return any(seg.sop_instance_uid in made_of(ds) for ds in found if ds is not None)


def _copy(
    home: Archive, destination: Archive, item: StoredObject, fallbacks: Sequence[Fallback], copies: _Copies
) -> None:
    place = (item.study_instance_uid, item.series_instance_uid, item.sop_instance_uid)
    refers_to_originals = not copies.instead
    if refers_to_originals and destination.holds(*place):
        return
    ds = home.find(*place)
    if ds is None:
        raise StoreError(f"{item.sop_instance_uid} is gone from archive {home.name}")
    if refers_to := sorted(referred_uids(ds) & copies.open):
        raise StoreError(f"{item.kind} {item.sop_instance_uid} waits for {', '.join(refers_to)}, to which it refers")
    sent = repointed(ds, copies.instead)
    if sent is not ds:
        copies.name(sent)
    try:
        copies.count += _store(destination, sent, copies, is_missing=refers_to_originals)
    except NotSupportedError:
        if not _sent_instead(destination, ds, sent, item, fallbacks, copies):
            raise
    else:
        if sent is not ds:
            copies.instead[item.sop_instance_uid] = sent
            copies.notes.append(f"{item.kind} {item.sop_instance_uid}: sent with changed references as {_uid(sent)}")


def _sent_instead(
    destination: Archive,
    original: Dataset,
    ds: Dataset,
    item: StoredObject,
    fallbacks: Sequence[Fallback],
    copies: _Copies,
) -> bool:
    """Send the first substitute that the destination supports; return whether there is one."""
    for fallback in fallbacks:
        form = _FORMS.get(fallback)
        if form is not None and item.kind is Output.SEG and copies.stands_for(form[0], item):
            copies.stood_for.add(item.sop_instance_uid)
            copies.notes.append(f"{item.kind} {item.sop_instance_uid}: not sent; the {form[1]} stands for it")
            return True
        made = substitute(ds, fallback, original)
        if made is None:
            continue
        copies.name(made)
        try:
            copies.count += _store(destination, made, copies)
        except NotSupportedError:
            continue
        copies.instead[item.sop_instance_uid] = made
        copies.notes.append(f"{item.kind} {item.sop_instance_uid}: sent instead as {fallback} {_uid(made)}")
        return True
    return False


def _store(destination: Archive, ds: Dataset, copies: _Copies, *, is_missing: bool = False) -> bool:
    """Store an object, and return whether the destination lacked it."""
    if not is_missing and destination.holds(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID):
        return False
    try:
        destination.store(ds)
    except UnclearRefusalError as error:
        if copies.believes:
            raise NotSupportedError(str(error)) from error
        raise
    return True


def _uid(ds: Dataset) -> str:
    return str(ds.SOPInstanceUID)
