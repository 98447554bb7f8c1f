"""Each kind of result is told by its SeriesNumber."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.kinds import kind_of
from orthanc_plugin.results.listing import series_number


@pytest.mark.parametrize("kind", Output)
@pytest.mark.parametrize("source", [None, 0, 7, 1201, 99999])
def test_each_kind_is_told_by_its_series_number(kind: Output, source: int | None) -> None:
    header = Dataset()
    header.SeriesNumber = source
    for model in (0, 9, 12):
        assert kind_of(series_number(kind, header, model)) is kind


def test_results_of_earlier_releases_are_told_too() -> None:
    later = {Output.SECONDARY_CAPTURE, Output.SUMMARY_PDF, Output.KEY_OBJECTS, Output.PROBABILITIES}
    assert sorted(map(kind_of, range(9801, 9811))) == sorted(set(Output) - later)


def test_another_number_is_not_taken_for_a_result() -> None:
    with pytest.raises(KeyError):
        kind_of(3)
