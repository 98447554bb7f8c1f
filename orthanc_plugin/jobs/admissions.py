"""Open the admission of a service.

An Orthanc answers from its index at once. Any other archive may take minutes for one look: a DICOM node sends a whole
series for it, on a port that workers use in turn. Each of these therefore has an admission of its own, which the
service runs in a thread of its own, so that it delays nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.orthanc import open_feed
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.jobs.admission import Admission
from orthanc_plugin.jobs.backfill import Share
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.rules.installed import installed_models


def open_admissions(configuration: Configuration, queue: JobQueue) -> tuple[Admission, ...]:
    """Open one admission on all Orthancs of the configuration, which leads, and one on each other archive."""
    every = frozenset(configuration.archives)
    quick = frozenset(name for name, settings in configuration.archives.items() if settings.orthanc_url)
    on_the_way: list[Callable[[], Mapping[str, int]]] = []
    share = partial(Share, on_the_way=on_the_way)
    slow = (
        open_admission(configuration, queue, {name}, share(leads=False, elsewhere=every - {name}))
        for name in configuration.archives
        if name not in quick
    )
    return open_admission(configuration, queue, quick, share(elsewhere=every - quick)), *slow


def open_admission(
    configuration: Configuration, queue: JobQueue, names: Collection[str] | None = None, share: Share | None = None
) -> Admission:
    """Open one admission on the archives of the configuration, or on some of them, and on the installed models."""
    chosen = {name: s for name, s in configuration.archives.items() if names is None or name in names}
    archives = {name: open_archive(name, settings) for name, settings in chosen.items()}
    feeds = {name: feed for name, settings in chosen.items() if (feed := open_feed(name, settings)) is not None}
    found = installed_models(configuration.models_directory)
    admission = Admission(
        configuration, queue, archives, feeds, found.digests, test_models=found.test_models, share=share
    )
    for close in (*(archive.close for archive in archives.values()), *(feed.close for feed in feeds.values())):
        admission.closing.callback(close)
    return admission


def hint_to(admissions: tuple[Admission, ...]) -> Callable[[Hint], None]:
    """Return what gives a hint to the admission of its archive; it raises EnrichError for an unknown archive."""

    def hint(hint: Hint) -> None:
        next((one for one in admissions if one.takes(hint.archive)), admissions[0]).hint(hint)

    return hint
