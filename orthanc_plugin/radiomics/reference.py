"""The access to pyradiomics: import it at the first measurement, silence it, and explain how to install it.

pyradiomics is an extra, because it does not build under pip's isolation. This room uses its C code (marching cubes,
texture matrices), its bin edges and its resampling. The other modules state the same definitions for whole organs.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress
from functools import cache
from types import ModuleType

from orthanc_plugin.errors import ConfigError

VERSION = "3.0.1"

_MISSING = (
    f"pyradiomics {VERSION} is not installed. With uv: install the extra `radiomics`. With pip: "
    '`pip install "setuptools<80" wheel versioneer cython numpy` and then '
    f"`pip install --no-build-isolation pyradiomics=={VERSION}` (needs a C compiler)"
)


def load_pyradiomics() -> None:
    """Import pyradiomics before the first organ needs it, if it is installed."""
    with suppress(ConfigError):
        pyradiomics()


@cache
def pyradiomics() -> ModuleType:
    """Import the module `radiomics` without its messages on stderr.

    Raises
    ------
    ConfigError
        If it is not installed. The message names the two ways to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import radiomics
    except ModuleNotFoundError as error:
        raise ConfigError(_MISSING) from error
    radiomics.setVerbosity(60)  # its own handler on stderr
    logging.getLogger("radiomics").setLevel(logging.ERROR)  # what it hands to our root logger
    module: ModuleType = radiomics
    return module
