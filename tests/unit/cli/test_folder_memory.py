"""Small files that claim to be large are refused within bounded memory, on the way that `run` and `inspect` go."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.hostile_folders import HOSTILE, Inspected, encoded, inspected, written

LARGEST_PEAK_MIB = 400
"""Beyond a small series. Deflated content may grow to 256 MiB, and is copied once."""

LARGEST_OF_OTHERS_MIB = 100


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Inspected, float]]:
    """What came of each folder, and by how much it raised the peak of the process."""
    root = tmp_path_factory.mktemp("hostile")
    small = root / "small"
    small.mkdir()
    for number, ds in enumerate(encode_phantom(make_phantom((24, 24, 24), (5, 14, 14)))):
        (small / f"{number:03}.dcm").write_bytes(encoded(ds))
    names = sorted(HOSTILE, key=lambda name: "bomb" in name)  # a peak never falls
    found = inspected([small, *(written(name, root / f"{number}") for number, name in enumerate(names))])
    raised = [after.peak_mib - before.peak_mib for before, after in pairwise(found)]
    return dict(zip(names, zip(found[1:], raised, strict=True), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_claims_to_be_large_is_refused_within_bounded_memory(
    name: str, peaks: dict[str, tuple[Inspected, float]]
) -> None:
    found, raised = peaks[name]
    assert found.code == 1
    assert set(found.reasons) & HOSTILE[name][1], found.reasons
    assert raised <= (LARGEST_PEAK_MIB if "bomb" in name else LARGEST_OF_OTHERS_MIB)
