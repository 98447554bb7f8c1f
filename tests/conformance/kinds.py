"""Kinds of objects of the conformance matrix: how each is made from a case, and which readers must read it.

A kind that a case cannot have is None, such as BINARY if viewers would scramble it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.input_quality import InputLimits
from orthanc_plugin.domain.masks import Probability, Segmentation
from orthanc_plugin.domain.plan import Output, SegEncoding
from orthanc_plugin.domain.radiomics_settings import FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.quality.scan import measure_scan
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.results import seg
from orthanc_plugin.results.document.key_objects import encode_key_objects
from orthanc_plugin.results.document.summary import encode_summary
from orthanc_plugin.results.rt.structure_set import encode_rtstruct
from orthanc_plugin.results.sc.capture import encode_capture, pictures
from orthanc_plugin.results.sc.preview import encode_preview
from orthanc_plugin.results.sr.checks import encode_checks_sr
from orthanc_plugin.results.sr.input_quality import encode_input_sr, method_card
from orthanc_plugin.results.sr.radiomics import encode_radiomics_sr
from tests.conformance import readers
from tests.conformance.cases import Case
from tests.support.cases.body_results_case import body_report
from tests.support.cases.results_case import BODY, RADIOMICS_UID, SEG_UID, landmarks_report, provenance_of

Reader = Callable[[Case, Path], None]


@dataclass(frozen=True)
class Kind:
    """make: makes the object of a case; None if the case cannot have one."""

    output: Output
    make: Callable[[Case], Dataset | None]
    readers: tuple[Reader, ...]


def _reads_segments(case: Case, path: Path) -> None:
    stored = seg.decode_seg(pydicom.dcmread(path), case.series, case.card)
    with_body = any(segment.key.endswith("_remainder") for segment in stored.segments)
    assert (stored.labels > 0).sum() == (case.found.labels > (0 if with_body else BODY.number)).sum() > 0
    readers.dcmqi_reads_segments(path, case.series, stored)
    readers.highdicom_reads_segments(path, case.series, stored)


def _reads_probabilities(case: Case, path: Path) -> None:
    chances = {one.key: one.values for one in _probabilities(case)}
    stored = [segment for segment in case.kept.segments if segment.key in chances]
    readers.highdicom_reads_probabilities(path, case.series, [chances[segment.key] for segment in stored])
    readers.dcmqi_reads_probabilities(path, len(stored))


def _probabilities(case: Case) -> tuple[Probability, ...]:
    """Three quarters in a structure of the case, a quarter in its neighbours along a row."""
    found, made = case.found, []
    for segment in found.segments:
        mask = np.where(found.labels == segment.number, 191, 0).astype(np.uint8)
        made.append(Probability(segment.key, np.maximum(mask, np.roll(mask, 1, axis=2) // 3)))
    return tuple(made)


def _fractional(case: Case) -> Dataset:
    provenance = provenance_of(case.series, "2.25.1020", case.card)
    return seg.encode_fractional(provenance, SEG_UID, case.kept, _probabilities(case))


def _reads_report(title: str, case: Case, path: Path) -> None:
    readers.dcmtk_reads_report(path, title)
    readers.dcmqi_reads_report(path)
    readers.highdicom_reads_report(path)


def _radiomics(settings: RadiomicsSettings, encoding: SegEncoding, case: Case) -> Dataset | None:
    """Measure every class; in pyradiomics mode also filtered images, with an image library."""
    stored = case.stored_as(encoding)
    if stored is None:
        return None
    kept = seg.decode_seg(stored, case.series, case.card)
    keys = [label.key for label in case.card.labels if label.shape_features]
    volume, thinned = _thinned(case.series.volume, kept)
    return encode_radiomics_sr(
        provenance_of(case.series, RADIOMICS_UID, case.card), stored, kept,
        measure_segments(volume, thinned, keys, settings), title=REPORT_TITLE, settings=settings,
        image_library=settings.mode is RadiomicsMode.PYRADIOMICS,
    )  # fmt: skip


def _thinned(volume: Volume, kept: Segmentation) -> tuple[Volume, Segmentation]:
    """Keep about 64 columns: readers do not depend on the voxels behind a number, and textures take minutes."""
    step = max(1, volume.voxels_hu.shape[2] // 64)
    voxels = np.ascontiguousarray(volume.voxels_hu[:, ::step, ::step])
    labels = np.ascontiguousarray(kept.labels[:, ::step, ::step])
    return replace(volume, voxels_hu=voxels), replace(kept, labels=labels)


def _input_quality(case: Case) -> Dataset:
    limits = InputLimits()
    provenance = provenance_of(case.series, "2.25.1010", method_card(limits))
    return encode_input_sr(provenance, measure_scan(case.series, limits), limits, title=REPORT_TITLE)


def _checks(case: Case) -> Dataset:
    results = check_masks(case.series.volume, case.kept, case.card)
    models = [provenance_of(case.series, "2.25.1004", case.card)]
    return encode_checks_sr(models, [case.stored], results, title=REPORT_TITLE, notes=["a note"])


def _of_seg(encode: Callable[..., Dataset], case: Case) -> Dataset:
    return encode(provenance_of(case.series, "2.25.1006", case.card), case.stored, case.kept)


def _key_image(case: Case) -> Dataset:
    """Encode the second picture: a plane of the CT."""
    _, picture, *_ = pictures(case.series, case.kept, case.card)
    provenance = provenance_of(case.series, "2.25.1012", case.card)
    return encode_capture(provenance, case.stored, picture, 2, "2.25.1011")


def _summary(case: Case) -> Dataset:
    results = check_masks(case.series.volume, case.kept, case.card)
    provenance = provenance_of(case.series, "2.25.1013", case.card)
    return encode_summary(provenance, case.stored, case.kept, title=REPORT_TITLE, checks=results)


def _body(output: Output, title: str = "AI Enrichment Report") -> Kind:
    return Kind(
        output,
        lambda case: body_report(output, case.series, case.location, "a note", card=case.card),
        (partial(_reads_report, title),),
    )


_IBSI = RadiomicsSettings(classes=tuple(FeatureClass))
_PYRADIOMICS = replace(_IBSI, mode=RadiomicsMode.PYRADIOMICS, log_sigma_mm=(6.0,), deprecated=True)
_REPORT: tuple[Reader, ...] = (partial(_reads_report, "AI Enrichment Report"),)
_SEG: tuple[Reader, ...] = (_reads_segments,)

KINDS: dict[str, Kind] = {
    "SEG": Kind(Output.SEG, lambda case: case.stored_as(SegEncoding.AUTO), _SEG),
    "SEG, BINARY": Kind(Output.SEG, lambda case: case.stored_as(SegEncoding.BINARY), _SEG),
    "SEG, LABELMAP": Kind(Output.SEG, lambda case: case.stored_as(SegEncoding.LABELMAP), _SEG),
    "SEG, LABELMAP RLE": Kind(Output.SEG, lambda case: case.stored_as(SegEncoding.LABELMAP_RLE), _SEG),
    "radiomics, ibsi": Kind(Output.RADIOMICS, partial(_radiomics, _IBSI, SegEncoding.AUTO), _REPORT),
    "radiomics, pyradiomics, of BINARY": Kind(
        Output.RADIOMICS, partial(_radiomics, _PYRADIOMICS, SegEncoding.BINARY), _REPORT
    ),
    "landmarks": Kind(
        Output.LANDMARKS, lambda case: landmarks_report(case.series, case.stored, "a note", card=case.card), _REPORT
    ),
    "body landmarks": _body(Output.BODY_LANDMARKS),
    "body regions": _body(Output.BODY_REGIONS),
    "viewer landmarks": _body(Output.VIEWER_LANDMARKS, "Imaging Measurement Report"),
    "checks": Kind(Output.CHECKS, _checks, _REPORT),
    "RTSTRUCT": Kind(
        Output.RTSTRUCT,
        partial(_of_seg, encode_rtstruct),
        (lambda case, path: readers.dcmtk_reads_dataset(path),),
    ),
    "preview": Kind(
        Output.PREVIEW,
        partial(_of_seg, encode_preview),
        (lambda case, path: readers.dcmtk_reads_dataset(path), lambda case, path: readers.itk_reads_picture(path)),
    ),
    "input quality": Kind(Output.INPUT_QUALITY, _input_quality, _REPORT),
    "secondary capture": Kind(
        Output.SECONDARY_CAPTURE,
        _key_image,
        (lambda case, path: readers.dcmtk_reads_picture(path), lambda case, path: readers.itk_reads_picture(path)),
    ),
    "summary": Kind(Output.SUMMARY_PDF, _summary, (lambda case, path: readers.dcmtk_reads_pdf(path),)),
    "key objects": Kind(
        Output.KEY_OBJECTS,
        partial(_of_seg, encode_key_objects),
        (lambda case, path: readers.dcmtk_reads_key_objects(path, case.series),),
    ),
    "probabilities": Kind(Output.PROBABILITIES, _fractional, (_reads_probabilities,)),
}


def check(case: Case, kind: Kind, *, every_reader: bool = True) -> str:
    """Make an object and have it read.

    Parameters
    ----------
    every_reader : bool
        False runs dciodvfy only.

    Returns
    -------
    str
        Number of errors, with documented mistakes of dciodvfy in brackets; `-` if there is no such object.
    """
    ds = kind.make(case)
    if ds is None:
        return "-"
    path = case.folder / "object.dcm"
    ds.save_as(path, enforce_file_format=True)
    said = readers.complaints(path)
    assert {gap: sum(gap in line for line in said) for gap in case.gaps} == case.gaps, said
    assert len(said) == sum(case.gaps.values()), said
    for read in kind.readers if every_reader else ():
        read(case, path)
    return f"0 ({len(said)})" if said else "0"
