"""The command `models try`: run one model on a folder and draw what it finds, before any rule names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, models_option
from orthanc_plugin.errors import ConfigError, InputError


def add_commands(commands: Commands) -> None:
    """Add `try`."""
    trial = commands.add("try", try_model, "run a model on a folder and draw what it finds; no DICOM is written")
    trial.add_argument("name", help="name of the model")
    trial.add_argument("directory", type=Path, help="folder of CT files, at any depth")
    trial.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder of the pictures (default: here)")
    models_option(trial)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What a model found in one series. picture: empty if it found nothing, or the series cannot be read."""

    series_instance_uid: str
    picture: str
    volumes_ml: dict[str, float]
    notes: tuple[str, ...]


def try_model(desk: Desk) -> int:
    """Print what the model finds in each CT series; fail if it finds nothing in any."""
    tried = []
    for one in _tried(desk):
        tried.append(one)
        found = ", ".join(f"{key} {ml:.1f} mL" for key, ml in one.volumes_ml.items()) or "nothing was found"
        picture = [f"picture: {one.picture}"] if one.picture else []
        lines = [f"{one.series_instance_uid}: {found}", *one.notes, *picture]
        for line in lines if not desk.options.json else ():
            desk.console.print(line, soft_wrap=True, markup=False, highlight=False)
    if desk.options.json:
        desk.print_json([asdict(one) for one in tried])
    return EXIT_DONE if any(one.picture for one in tried) else EXIT_FAILED


def _tried(desk: Desk) -> Iterator[_Tried]:
    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.catalog.shelf import find_model
    from orthanc_plugin.domain.reading import ReadSettings
    from orthanc_plugin.inference.engine import open_engine
    from orthanc_plugin.inference.providers import Provider
    from orthanc_plugin.results.sc.preview import preview_png
    from orthanc_plugin.series.read import read_series

    options = desk.options
    if not options.directory.is_dir():
        raise ConfigError(f"{options.directory} is not a folder; name one that holds DICOM files")
    archive = FolderArchive(options.directory, options.directory)
    engine = open_engine(find_model(options.name, desk.models_directory), Provider(desk.configuration.provider))
    options.out.mkdir(parents=True, exist_ok=True)
    for one in archive.series:
        uid = one.series_instance_uid
        try:
            series = read_series(archive.retrieve(one.study_instance_uid, uid), ReadSettings())
            found = engine.segment(series.volume)
        except InputError as error:
            yield _Tried(uid, "", {}, (str(error),))
            continue
        notes = (*series.notes, *series.marks, *found.notes)
        if not found.segments:
            yield _Tried(uid, "", {}, notes)
            continue
        picture = options.out / f"{uid}.{options.name}.png"
        picture.write_bytes(preview_png(series, found, engine.card))
        voxels = zip(found.segments, found.voxels(), strict=True)
        volumes_ml = {segment.key: round(count * series.volume.voxel_ml, 3) for segment, count in voxels}
        yield _Tried(uid, str(picture), volumes_ml, notes)
