"""MIRP 2.7.0 as the peer of filters: `pip install --no-deps`, without ITK, with which it would read files."""

from __future__ import annotations

import logging
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mirp_response(image: NDArray[np.float64], settings: dict[str, Any]) -> NDArray[np.float64]:
    """Filter an image (z, y, x) of voxels of 1 mm by MIRP's public function."""
    sys.modules.setdefault("itk", ModuleType("itk"))
    import mirp

    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, and where a Riesz transform divides by no frequency
            ((images, _),) = mirp.extract_images(
                image=image,
                mask=np.ones(image.shape, np.uint8),
                write_images=False,
                export_images=True,
                image_export_format="dict",
                response_map_feature_families="none",
                **settings,
            )
    finally:
        logging.disable(logging.NOTSET)
    return np.asarray(images[-1]["image"], np.float64)
