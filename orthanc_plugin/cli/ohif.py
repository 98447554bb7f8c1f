"""The command `orthanc-enrich ohif install`: the viewer that the service serves."""

from __future__ import annotations

import os
from pathlib import Path

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk
from orthanc_plugin.cli.weights import download_bar

REGISTRY_VARIABLE = "npm_config_registry"
"""Where npm reads the address of its registry, too."""


def add_commands(commands: Commands) -> None:
    """Add `install`."""
    install = commands.add("install", install_ohif, "download the OHIF viewer (MIT) and unpack it for the service")
    text = "package that you downloaded yourself (npm pack @ohif/app@VERSION); the command then uses no network"
    install.add_argument("--file", type=Path, metavar="TARBALL", help=text)
    text = "where OHIF lies (default: Viewer.Directory, or the environment of this program)"
    install.add_argument("--directory", type=Path, metavar="DIR", help=text)
    text = "do nothing if this release is installed already"
    install.add_argument("--if-missing", action="store_true", help=text)


def install_ohif(desk: Desk) -> None:
    """Install the release of OHIF that this project was tested with."""
    from orthanc_plugin.service import ohif_package as package

    options = desk.options
    directory = options.directory or desk.configuration.viewer.directory or package.default_directory()
    directory = directory.resolve()
    desk.acts(What.SETTINGS)
    if not (options.if_missing and package.installed_version(directory) == package.VERSION):
        registry = os.environ.get(REGISTRY_VARIABLE) or package.REGISTRY
        with download_bar(desk.messages) as progress:
            if options.file:
                package.install(options.file, directory, progress)
            else:
                package.download_and_install(registry, directory, progress)
    facts = {"installed": "OHIF", "version": package.VERSION, "licence": "MIT", "directory": str(directory)}
    desk.say(facts)
