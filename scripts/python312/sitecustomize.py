"""Gives back to Python 3.12 and newer what the setup of pyradiomics 3.0.1 asks of it; for that build only.

Its copy of versioneer reads setup.cfg by two names of configparser that Python 3.12 removed. Put this folder on
PYTHONPATH where pyradiomics is built (docs/install.md); nothing that runs later needs it.
"""

import configparser

if not hasattr(configparser, "SafeConfigParser"):
    configparser.SafeConfigParser = configparser.ConfigParser  # type: ignore[attr-defined]
    configparser.ConfigParser.readfp = configparser.ConfigParser.read_file  # type: ignore[attr-defined]
