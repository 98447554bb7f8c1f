"""The command `orthanc-enrich phantom`: a procedural chest CT as DICOM files."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from orthanc_plugin.cli.desk import Commands, Desk


def add_commands(commands: Commands) -> None:
    """Add `phantom`."""
    sub = commands.add("phantom", write, "write a procedural chest CT as DICOM files")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    sub.add_argument("--seed", type=int, default=0, help="number from which the noise is made (default: 0)")


def write(desk: Desk) -> None:
    """Write a phantom and print the true volumes of its structures."""
    from orthanc_plugin.phantoms.dicom import write_phantom
    from orthanc_plugin.phantoms.phantom import make_phantom

    out, phantom = desk.options.out, make_phantom(seed=desk.options.seed)
    files = write_phantom(out, phantom)
    if desk.options.json:
        desk.print_json({"directory": str(out), "files": len(files), "volumes_ml": dict(phantom.volumes_ml)})
        return
    table = Table("structure", "mL", title=f"phantom: {len(files)} slices in {out}")
    for key, volume_ml in phantom.volumes_ml.items():
        table.add_row(key, f"{volume_ml:.0f}")
    desk.console.print(table)
