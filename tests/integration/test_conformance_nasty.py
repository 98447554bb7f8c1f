"""Nasty headers and cards: dciodvfy takes every kind of object, every reader where the matrix is asked for whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.domain.masks import Segmentation
from tests.conformance.cases import FEW, LONG_CARD, NASTY, Case
from tests.conformance.kinds import KINDS
from tests.conformance.matrix import cell
from tests.conformance.readers import BYTES_ERROR
from tests.support.cases.results_case import LUNG_LEFT, ellipsoids, small_series

Record = Callable[[str, object], None]


@pytest.fixture(scope="module", params=NASTY)
def nasty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    header = NASTY[request.param]
    gaps = {BYTES_ERROR: header.bytes_gap} if header.bytes_gap else {}
    return Case(request.param, header.series(), tmp_path_factory.mktemp("nasty"), gaps=gaps, landmarks=FEW)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nasty_header_gives_valid_objects(nasty: Case, kind: str, full: bool, record_property: Record) -> None:
    cell(nasty, kind, record_property, every_reader=full)


def test_the_name_of_the_patient_survives_a_nasty_header(nasty: Case) -> None:
    assert str(nasty.stored.PatientName) == NASTY[nasty.name].patient_name


@pytest.fixture(scope="module")
def long_words(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(
        "labels and model over 64 characters", small_series(), tmp_path_factory.mktemp("long"), LONG_CARD, landmarks=FEW
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_of_long_words_gives_valid_objects(long_words: Case, kind: str, record_property: Record) -> None:
    cell(long_words, kind, record_property)


@pytest.mark.parametrize("kind", KINDS)
def test_one_segment_alone_gives_valid_objects(kind: str, tmp_path: Path, record_property: Record) -> None:
    cell(_Alone("one segment", small_series(), tmp_path, landmarks=FEW), kind, record_property)


class _Alone(Case):
    """highdicom puts the number of a single segment elsewhere in a BINARY SEG."""

    @property
    def found(self) -> Segmentation:
        """The left lung."""
        found = ellipsoids(self.series)
        alone = np.where(found.labels == LUNG_LEFT.number, found.labels, np.uint8(0))
        return Segmentation(alone, tuple(segment for segment in found.segments if segment.key == LUNG_LEFT.key))
