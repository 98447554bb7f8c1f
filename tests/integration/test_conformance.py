"""Every kind of object by readers that are not ours: of small real CT, odd sizes and a phantom.

`make conformance` runs the matrix of all files test_conformance*.py whole and writes its table to docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.cases import SMALL, Case
from tests.conformance.kinds import KINDS
from tests.conformance.matrix import cell


@pytest.fixture(scope="module", params=SMALL)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, SMALL[request.param](), tmp_path_factory.mktemp("case"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_takes_every_object(case: Case, kind: str, record_property: Callable[[str, object], None]) -> None:
    cell(case, kind, record_property)
