"""In a viewer's list, results of several CTs and models are told apart and come in the order in which people read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import Engine
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.listing import PLACES
from orthanc_plugin.results.provenance import Provenance
from tests.support.cases.results_case import CARD, CREATED, ellipsoids, encode, landmarks_report, small_series

OTHER = replace(CARD, name="chest_spheres", digest="cd" * 32)
LONGEST = 2_147_483_647
READ_IN_ORDER = (
    Output.SEG, Output.RADIOMICS, Output.LANDMARKS, Output.BODY_LANDMARKS, Output.BODY_REGIONS, Output.CHECKS,
    Output.RTSTRUCT, Output.PREVIEW,
)  # fmt: skip


def named(kind: Output, number: object = 3, kernel: object = "B70f", model: int = 0, **card: object) -> tuple[str, int]:
    series = small_series(SeriesNumber=number, ConvolutionKernel=kernel)
    of = replace(CARD, **card)  # type: ignore[arg-type]
    arguments = Provenance(series, of, "2.25.1", "CPU", CREATED, order=model).sop_arguments(kind)
    return arguments["series_description"], arguments["series_number"]


def test_what_tells_series_apart_comes_first() -> None:
    assert named(Output.SEG)[0] == "Segments S3 chest_ellipsoids 1.0.0 B70f, research"
    assert named(Output.RADIOMICS, 4, ["Br40d", "3"])[0] == "Radiomics S4 chest_ellipsoids 1.0.0 Br40d, research"
    assert named(Output.LANDMARKS, None, None)[0] == "Landmarks chest_ellipsoids 1.0.0, research"
    cut = {named(kind, n, kernel, name=m)[0][:20] for kind in PLACES for n, kernel in ((3, "B70f"), (4, "B30f"))
           for m in ("alpha", "beta")}  # fmt: skip
    assert len(cut) == len(PLACES) * 2 * 2


def test_a_name_never_loses_its_status() -> None:
    description, _ = named(Output.BODY_LANDMARKS, 12345, "BONEPLUS_2", name="m" * 60)
    assert description.startswith("Body landmarks S12345 mmm")
    assert description.endswith("m BONEPLUS, research")
    assert len(description) == 64
    assert named(Output.SEG, engine=Engine.NNUNET)[0].endswith(", AI research")
    assert named(Output.SEG, test_model=True)[0].endswith(", test model, not for patients")


def test_control_characters_of_a_kernel_are_left_out() -> None:
    assert named(Output.SEG, kernel="B7\n0f\x00")[0].endswith(" 1.0.0 B70f, research")


def test_no_two_series_of_a_study_share_a_number() -> None:
    numbers = [named(kind, source, model=model)[1] for kind in PLACES for source in (3, 4, 301) for model in (0, 1)]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("source", [None, "", 0, 1, 9999, 123456, LONGEST, -3])
def test_every_number_fits_its_type_and_lies_above_those_of_scanners(source: object) -> None:
    numbers = [named(kind, source, model=99)[1] for kind in PLACES]
    assert all(90_000_000 <= number <= LONGEST for number in numbers)


def test_numbers_rise_and_times_fall_in_the_order_of_reading() -> None:
    """Viewers sort by number; OHIF 3.13.2 sorts SEG and SR by date and time, the latest first."""
    assert set(PLACES) == set(Output)
    assert [PLACES[kind][0] for kind in READ_IN_ORDER] == sorted(PLACES[kind][0] for kind in READ_IN_ORDER)
    assert max(PLACES, key=lambda kind: PLACES[kind][0]) is Output.PREVIEW
    assert len({place for place, _ in PLACES.values()}) == len(PLACES)
    series = small_series()
    stored = encode(series, ellipsoids(series))
    report = landmarks_report(series, stored)
    moments = [(ds.SeriesDate, ds.SeriesTime) for ds in (stored, report)]
    assert moments == [("20260102", "030405.890000"), ("20260102", "030405.690000")]
    assert str(stored.ContentTime) == "030405.000000"


def test_the_time_of_a_series_is_that_of_its_job() -> None:
    """Results of one job are made in another order than they are read in."""
    from orthanc_plugin.results import seg
    from orthanc_plugin.results.provenance import Provenance

    series = small_series()
    late = Provenance(series, CARD, "2.25.1", "CPU", CREATED + timedelta(minutes=9), CREATED, 1)
    stored: Dataset = seg.encode_seg(late, ellipsoids(series))
    assert (stored.SeriesTime, stored.ContentTime) == ("030405.889000", "031305.000000")
