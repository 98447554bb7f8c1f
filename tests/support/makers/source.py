"""Write the CT and the masks that `write_masks.py` takes, into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.support.makers import chest, masks


def main(folder: Path) -> None:
    """Write `ct/*.dcm` and `masks.npy`."""
    instances, series = chest()
    (folder / "ct").mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(instances):
        ds.save_as(folder / "ct" / f"{number}.dcm", enforce_file_format=True)
    np.save(folder / "masks.npy", np.stack(masks(series)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
