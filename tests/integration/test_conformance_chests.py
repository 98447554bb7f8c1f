"""As test_conformance.py, of real CT at 512 x 512: all slices where the matrix is asked for whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.cases import FEW, LARGE, WHOLE, Case
from tests.conformance.kinds import KINDS
from tests.conformance.matrix import cell


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    whole = WHOLE if metafunc.config.getoption("--matrix", False) else {}
    metafunc.parametrize("case", [*LARGE, *whole], indirect=True, scope="module")


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, (LARGE | WHOLE)[request.param](), tmp_path_factory.mktemp("case"), landmarks=FEW)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_takes_every_object(case: Case, kind: str, record_property: Callable[[str, object], None]) -> None:
    cell(case, kind, record_property)
