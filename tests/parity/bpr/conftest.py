"""bpreg in its own process, and a model folder of random weights in the layout it reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity.bpr.peers import Peer
from tests.parity.bpr.public_folder import random_weights, write_public_folder


@pytest.fixture(scope="session")
def bpreg() -> Iterator[Peer]:
    """The original framework."""
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def public_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full-size random weights in the public layout."""
    return write_public_folder(tmp_path_factory.mktemp("bpr") / "public_bpr_model", random_weights(20))
