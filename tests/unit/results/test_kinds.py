"""Each kind of result is told by its SeriesNumber."""

from __future__ import annotations

from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.kinds import KIND_OF


def test_each_kind_has_a_series_number_of_its_own() -> None:
    assert sorted(KIND_OF.values()) == sorted(Output)
