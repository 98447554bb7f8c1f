"""Enriches a folder of CT once, in the foreground: without PACS and queue, by the same stages as a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from orthanc_plugin import identity
from orthanc_plugin.archive.folder import FolderArchive, FolderSeries
from orthanc_plugin.cli.study import Studies, by_rank, rank_studies, without
from orthanc_plugin.cli.unread import UnreadFiles, unread_files
from orthanc_plugin.config.rule import Rule
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import EnrichJob, Found, JobState, StageOutcome, StageView, ending
from orthanc_plugin.domain.plan import Output, Plan
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.domain.told_apart import told_apart
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import ConfigError, InputError, Refusal
from orthanc_plugin.jobs.inspection import Inspection, inspect_series
from orthanc_plugin.jobs.numbers import as_png
from orthanc_plugin.jobs.pseudonym import patient_column
from orthanc_plugin.jobs.sessions import Sessions, warm_sessions
from orthanc_plugin.jobs.stage import run_stage
from orthanc_plugin.pipeline.order import stages_of
from orthanc_plugin.results.document.summary import pdf_of
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr, write_tables
from orthanc_plugin.rules.best import Candidate, skip_for_better
from orthanc_plugin.rules.decide import RuleVerdict, Skip, decide, explain
from orthanc_plugin.rules.installed import Installed, installed_models
from orthanc_plugin.rules.installed import check_rules as check_models
from orthanc_plugin.rules.tags import SeriesTags, series_tags
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.read import read_series

ARCHIVE = "folder"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one series.

    volumes_ml, files: by structure and by kind; the model follows in parentheses where several models made the same.
    unread: files of the folder that were not read.
    """

    study_instance_uid: str
    series_instance_uid: str
    state: JobState
    rule: str
    reason: str
    detail: str
    provider: str
    volumes_ml: Mapping[str, float]
    notes: tuple[str, ...]
    stages: tuple[StageView, ...]
    files: Mapping[str, str]
    unread: UnreadFiles = field(default_factory=UnreadFiles)


@dataclass(frozen=True, slots=True)
class SeriesVerdict:
    """What the rules say of one series; `takes` names the first rule that matches.

    reason, detail: why the rules cannot be asked, or why another series of the study is better; otherwise empty.
    unread: files of the folder that were not read.
    study: where the rule enriches only the best series of a study, those that it takes, best first; otherwise empty.
    """

    series_instance_uid: str
    description: str
    takes: str
    rules: tuple[RuleVerdict, ...]
    reason: str = ""
    detail: str = ""
    unread: UnreadFiles = field(default_factory=UnreadFiles)
    study: tuple[Candidate, ...] = ()


def enrich_folder(directory: Path, out: Path, configuration: Configuration, messages: Console) -> tuple[Outcome, ...]:
    """Enrich every series of a folder. A series that cannot be used gets a reason and does not stop the others.

    Raises
    ------
    ConfigError
        If there is no such folder or series, or a rule names a model that is not installed.
    """
    archive, installed = _open(directory, out), _installed(configuration)
    studies = rank_studies(archive, configuration.rules, installed.test_models)
    sessions = warm_sessions(configuration, {ARCHIVE: archive})
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    outcomes: dict[FolderSeries, Outcome] = {}
    with Progress(*columns, console=messages) as progress:
        for number, series in enumerate(by_rank(archive.series, studies), start=1):
            name = f"series {number} of {len(archive.series)}"
            task = progress.add_task(name, total=1)

            def show(stage: str, task: TaskID = task, name: str = name) -> None:
                progress.update(task, description=f"{name}: {stage}")

            end = outcomes[series] = _enrich(series, archive, sessions, configuration, installed, studies, show)
            progress.update(task, description=f"{name}: {end.state}", completed=1)
            if end.state is JobState.SKIPPED and end.reason != Refusal.BETTER_SERIES:
                studies = without(studies, series)
    return tuple(outcomes[series] for series in archive.series)


def check_rules(directory: Path, configuration: Configuration) -> tuple[SeriesVerdict, ...]:
    """Return what each rule says about each series of a folder.

    Raises
    ------
    ConfigError
        If there is no such folder or series, or a rule names a model that is not installed.
    """
    archive, installed = _open(directory, directory), _installed(configuration)
    studies = rank_studies(archive, configuration.rules, installed.test_models)
    return tuple(_verdict(series, archive, configuration.rules, installed, studies) for series in archive.series)


def _verdict(
    series: FolderSeries, archive: FolderArchive, rules: Sequence[Rule], installed: Installed, studies: Studies
) -> SeriesVerdict:
    uid, description = series.series_instance_uid, series.description
    try:
        told = explain(rules, _tags(series, archive), installed.test_models)
    except InputError as error:
        return SeriesVerdict(uid, description, "", (), error.reason, str(error), unread_files(series, archive))
    takes = next((verdict.rule for verdict in told if verdict.matches), "")
    study = studies.get((series.study_instance_uid, takes), ())
    better = skip_for_better(uid, study)
    reason, detail = (better.reason, better.sentence) if better else ("", "")
    return SeriesVerdict(uid, description, takes, told, reason, detail, unread_files(series, archive), study)


def inspect_folder(
    directory: Path, configuration: Configuration, series_uid: str | None = None
) -> Iterator[tuple[Inspection, CtSeries | None, UnreadFiles]]:
    """Inspect each series of a folder, or the one of that UID; the volume comes along where it could be read.

    The files of the folder that were not read come along too.

    Raises
    ------
    ConfigError
        If there is no such folder or series, or a rule names a model that is not installed.
    """
    archive, installed = _open(directory, directory), _installed(configuration)
    studies = rank_studies(archive, configuration.rules, installed.test_models)
    chosen = [s for s in by_rank(archive.series, studies) if series_uid in (None, s.series_instance_uid)]
    if not chosen:
        raise ConfigError(f"{directory} holds no series {series_uid}")
    for series in chosen:
        uids = series.study_instance_uid, series.series_instance_uid
        inspected = inspect_series(
            uids[1],
            configuration.rules,
            partial(_tags, series, archive),
            partial(archive.headers, *uids),
            partial(_read, archive, *uids),
            partial(_better, series, studies),
            installed.test_models,
        )
        if inspected[0].reason not in ("", Refusal.BETTER_SERIES):
            studies = without(studies, series)
        yield *inspected, unread_files(series, archive)


def _read(archive: FolderArchive, study_uid: str, series_uid: str, reading: ReadSettings) -> CtSeries:
    return read_series(archive.retrieve(study_uid, series_uid), reading)


def _better(series: FolderSeries, studies: Studies, rule: str) -> Skip | None:
    return skip_for_better(series.series_instance_uid, studies.get((series.study_instance_uid, rule), ()))


def _open(directory: Path, out: Path) -> FolderArchive:
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a folder; name one that holds DICOM files")
    archive = FolderArchive(directory, out, ARCHIVE)
    if not archive.series:
        lost, others = len(archive.damaged), len(archive.skipped) - len(archive.damaged)
        told = [f"{lost} DICOM file(s) are empty or cannot be read"] * bool(lost)
        told += [f"{others} file(s) are not DICOM instances"] * bool(others)
        raise ConfigError("; ".join([f"{directory} holds no DICOM series", *told]))
    return archive


def _tags(series: FolderSeries, archive: FolderArchive) -> SeriesTags:
    headers = archive.headers(series.study_instance_uid, series.series_instance_uid)
    return series_tags(headers, None, archive=ARCHIVE, today=date.today())


def _installed(configuration: Configuration) -> Installed:
    installed = installed_models(configuration.models_directory)
    check_models(configuration, installed)
    return installed


def _plan(
    series: FolderSeries, archive: FolderArchive, rules: Sequence[Rule], installed: Installed, studies: Studies
) -> Plan | Skip:
    """Plan by the rules, with the folder as home archive."""
    plan = decide(rules, _tags(series, archive), installed.digests, installed.test_models)
    if isinstance(plan, Skip):
        return plan
    better = _better(series, studies, plan.rule)
    return better or replace(plan, home_archive=ARCHIVE, destinations=())


def _enrich(
    series: FolderSeries,
    archive: FolderArchive,
    sessions: Sessions,
    configuration: Configuration,
    installed: Installed,
    studies: Studies,
    show: Callable[[str], None],
) -> Outcome:
    study_uid, series_uid = series.study_instance_uid, series.series_instance_uid
    try:
        plan = _plan(series, archive, configuration.rules, installed, studies)
        if isinstance(plan, Skip):
            return _outcome(series, archive, JobState.SKIPPED, plan.reason, plan.sentence)
        fingerprint = identity.fingerprint(identity_of(archive.headers(study_uid, series_uid)), generation=0)
    except InputError as error:
        return _outcome(series, archive, JobState.SKIPPED, error.reason, str(error))

    def run(name: str, body: Callable[[], Found]) -> StageOutcome:
        show(name)
        return run_stage(name, body, last_try=True)

    job = EnrichJob(ARCHIVE, study_uid, series_uid, fingerprint, 0, plan)
    with closing(sessions.open(job)) as session:
        outcomes = tuple(stages_of(session, run))
    _write_beside(archive, outcomes, patient_column(configuration))
    end = ending(outcomes)
    return _outcome(series, archive, end.state, end.reason, end.detail, plan.rule, outcomes)


def _write_beside(archive: FolderArchive, outcomes: Sequence[StageOutcome], patient: Callable[[str], str]) -> None:
    """Write beside the objects what other programs open: tables of radiomics reports, pictures, and summaries."""
    for stored in (stored for outcome in outcomes for stored in outcome.objects):
        file = archive.stored_file(stored.sop_instance_uid)
        if file is None or stored.adopted:
            continue
        if stored.kind is Output.RADIOMICS:
            write_tables(file, read_radiomics_sr(dcmread(file), patient))
        elif stored.kind in (Output.PREVIEW, Output.SECONDARY_CAPTURE):
            file.with_suffix(".png").write_bytes(as_png(dcmread(file)))
        elif stored.kind is Output.SUMMARY_PDF:
            file.with_suffix(".pdf").write_bytes(pdf_of(dcmread(file)))


def _outcome(
    series: FolderSeries,
    archive: FolderArchive,
    state: JobState,
    reason: str,
    detail: str,
    rule: str = "",
    outcomes: tuple[StageOutcome, ...] = (),
) -> Outcome:
    stored = [(outcome.stored, _model(outcome.stage)) for outcome in outcomes if outcome.stored is not None]
    stages = tuple(outcome.stage for outcome in outcomes)
    volumes = [(key, _model(stage), volume_ml) for stage in stages for key, volume_ml in stage.volumes_ml.items()]
    structures = told_apart([(key, model) for key, model, _ in volumes])
    kinds = told_apart([(str(item.kind), model) for item, model in stored])
    return Outcome(
        study_instance_uid=series.study_instance_uid,
        series_instance_uid=series.series_instance_uid,
        state=state,
        rule=rule,
        reason=reason,
        detail=detail,
        provider=next((stage.provider for stage in stages if stage.provider), ""),
        volumes_ml={name: volume_ml for name, (_, _, volume_ml) in zip(structures, volumes, strict=True)},
        notes=tuple(dict.fromkeys(note for stage in stages for note in stage.notes)),
        stages=stages,
        files={
            name: str(archive.stored_file(item.sop_instance_uid)) for name, (item, _) in zip(kinds, stored, strict=True)
        },
        unread=unread_files(series, archive),
    )


def _model(stage: StageView) -> str:
    """Name the model of a stage, as in `segment MODEL`; empty for a stage of the whole job."""
    return stage.name.partition(" ")[2]
