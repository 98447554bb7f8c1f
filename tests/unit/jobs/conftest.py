"""The places in which jobs are tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dbos import DBOS

from tests.support.cases.results_place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(f"sqlite:///{tmp_path}/jobs.db")
    with closing(made.queue):
        try:
            yield made
        finally:
            DBOS.destroy(destroy_registry=True)
