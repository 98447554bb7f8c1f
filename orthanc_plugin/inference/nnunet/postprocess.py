"""Postprocess like nnU-Net v1: keep the largest component of a label, or of several labels together."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np

from orthanc_plugin.catalog.nnunet import LargestComponent
from orthanc_plugin.domain.masks import Labels, box_of


def keep_largest(labels: Labels, rules: Sequence[LargestComponent], voxel_mm3: float) -> None:
    """Apply rules one after the other, in place; removed components become background.

    Parameters
    ----------
    labels : (z, y, x) uint8
        Numbers of the network's heads.
    rules : sequence of LargestComponent
        Labels to join, and the size in mm^3 from which other components stay.
    voxel_mm3 : float
        Volume of a voxel.

    Notes
    -----
    Voxels of a component touch by faces (scipy's default). All components of the largest size stay. This needs one
    labelling pass and a count, while the original scans the volume once for each component.

    Source
    ------
    nnU-Net v1 `remove_all_but_the_largest_connected_component`.
    """
    for rule in rules:
        _keep_largest(labels, rule, voxel_mm3)


def _keep_largest(labels: Labels, rule: LargestComponent, voxel_mm3: float) -> None:
    chosen = labels == rule.numbers[0] if len(rule.numbers) == 1 else np.isin(labels, rule.numbers)
    box = box_of(chosen)
    if box is None:
        return
    part = labels[box]
    components, count = cc3d.connected_components(chosen[box], connectivity=6, return_N=True)
    if count == 1:
        return
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    goes = sizes < sizes.max()
    if rule.smaller_than_mm3 is not None:
        goes &= sizes * voxel_mm3 < rule.smaller_than_mm3
    goes[0] = False
    if goes.any():
        part[goes[components]] = 0
