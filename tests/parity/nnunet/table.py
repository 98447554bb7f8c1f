"""Write docs/parity.md: the measurements of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.support.cases.realct import ROOT

PAGE = ROOT / "docs" / "parity.md"
PEERS = ("nnunet", "nnunetv2", "TotalSegmentator", "torch", "onnxruntime", "numpy", "scipy", "simpleitk")


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    weights: `random` or `trained`. trusted: part of the voxels compared (importance maps add up to more than 1e-4).
    disagreement: part of the trusted voxels whose labels differ; everywhere: of all voxels.
    input_difference: largest difference of the arrays that enter the networks.
    lowest_dice: of any label. seconds_ours, seconds_peer: volume in memory to labels; NIfTI to NIfTI.
    """

    peer: str
    configuration: str
    options: str
    weights: str
    ct: str
    voxels: int
    trusted: float
    disagreement: float
    everywhere: float
    input_difference: float
    lowest_dice: float
    seconds_ours: float
    seconds_peer: float

    def cells(self) -> list[str]:
        """Return the cells of the row, in the order of the heading."""
        return [
            self.peer,
            self.configuration,
            self.options,
            self.weights,
            self.ct,
            f"{self.voxels:,}".replace(",", " "),
            f"{100 * self.trusted:.1f} %",
            f"{100 * self.disagreement:.4f} %",
            f"{100 * self.everywhere:.4f} %",
            f"{self.input_difference:.1e}",
            f"{self.lowest_dice:.4f}",
            f"{self.seconds_ours:.1f}",
            f"{self.seconds_peer:.1f}",
        ]


_HEAD = """# Parity with the original frameworks

Written on {date} by {command}; every number comes from that run. Peers: {versions}.

This page shows how closely converted models repeat their original framework. Each line is one model, saved by the
framework's own trainer, converted by `models convert`, and run twice: by this project on the DICOM, and by the
framework's own predictor on the NIfTI that SimpleITK makes of the same DICOM. Networks are small, so that a case takes
seconds. Random weights are the hardest case for a label map, because most voxels are near a tie.

- **compared**: voxels whose importance maps add up to more than 1e-4. Below that, nnU-Net v2's half precision sums are
  too coarse; this project sums in single precision. Outside the crop both give background.
- A **cascade** has a line of its own for its first stage. On both sides, the second stage gets this project's labels of
  the first stage, because with random weights one voxel near a tie changes hundreds of voxels in the second stage.
- **differ**: fraction of the compared voxels; at most 0.1 % may differ. **everywhere**: fraction of all voxels, without
  a limit.
- **input**: largest difference of the network's input array, in its units; at most 1e-3.
- **Dice**: the lowest of any label, over the compared voxels; at least 0.999 for trained weights.
- **ours, peer**: seconds from the volume in memory to the label map, and from NIfTI to NIfTI with weights loaded.
  Networks this small say little about speed; the [figures](figures.md) do.

"""
_COLUMNS = (
    "peer", "configuration", "options and case", "weights", "CT", "voxels", "compared", "differ", "everywhere", "input",
    "Dice", "ours", "peer",
)  # fmt: skip


_WHOLE = "`make parity`, which runs every case"
_SMALL = "`make parity-small`, the cases that every CI run checks (`make parity` runs about three times as many)"


def write_page(rows: Sequence[Row], page: Path = PAGE, *, whole: bool) -> None:
    """Write the page, with rows by peer and then in the order of the run."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PEERS)
    today = datetime.now(UTC).date().isoformat()
    head = _HEAD.format(date=today, versions=versions, command=_WHOLE if whole else _SMALL)
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *(row.cells() for row in sorted(rows, key=lambda row: row.peer))]
    page.write_text(head + "".join(f"| {' | '.join(line)} |\n" for line in lines))
