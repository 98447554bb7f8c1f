"""Name in a report the earlier reports that it replaces and that stay in the archive (DICOM PS3.3 C.17.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import StoredObject


def name_predecessors(report: Dataset, earlier: Sequence[StoredObject]) -> None:
    """Write PredecessorDocumentsSequence; a report without predecessors stays as it is."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for document in earlier:
        series = studies.setdefault(document.study_instance_uid, {})
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = document.sop_class_uid, document.sop_instance_uid
        series.setdefault(document.series_instance_uid, []).append(item)
    if studies:
        report.PredecessorDocumentsSequence = [_study(uid, series) for uid, series in studies.items()]


def _study(uid: str, series: dict[str, list[Dataset]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = uid
    study.ReferencedSeriesSequence = [_series(series_uid, items) for series_uid, items in series.items()]
    return study


def _series(uid: str, items: list[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = uid, items
    return series
