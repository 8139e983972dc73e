"""The stages of a day as commands, and the refresh between two days."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from index_builder.registry.registry import Registry
from twinspire.cli.options import (
    Date,
    Force,
    JsonLine,
    Late,
    ModeOption,
    NoReuse,
    PipelineFile,
    PromoteOption,
    Run,
    console,
    end_with_json,
    json_on_error,
    open_pipeline,
    parse_date,
    say,
)
from twinspire.runs import live_catalogue, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import STAGES
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.artifact import REPORT
from twinspire_core.errors import GateRefused
from twinspire_core.library_loading import never_import


def features(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    late: Late = False,
    no_reuse: NoReuse = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Make the day's examples, corpus, queries, transform graph and statistics (Beam).

    What is read of a day's logs is kept (WORK_ROOT/PIPELINE/partials), by the digest of the files and
    the settings it depends on, so that the days after it read no logs but their own.
    """
    options = {"mode": mode, "force": force, "late": late, "reuse": not no_reuse}
    _stage("features", pipeline, date, as_json, run=run, **options)


def train(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Train on the day; write both towers, and vectors of what is to be measured."""
    _stage("train", pipeline, date, as_json, mode=mode, force=force, run=run)


def measure(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Measure the parent and the day's version on the day; fit what orders candidates."""
    _stage("measure", pipeline, date, as_json, force=force, run=run)


def embed(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Embed the corpus and a sample of users (Beam)."""
    _stage("embed", pipeline, date, as_json, force=force, run=run)


def index(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Build the nearest-neighbour index, with the settings of the day before while these reach the
    recall asked for; measure its recall.
    """
    _stage("index", pipeline, date, as_json, force=force, run=run)


def publish(
    pipeline: PipelineFile,
    date: Date,
    promote: PromoteOption = "auto",
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Judge the day's version by the gate and publish it; exit 4 when refused."""
    _stage("publish", pipeline, date, as_json, promote=promote, force=force, run=run)


def refresh(
    pipeline: PipelineFile,
    date: Date,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="Whose towers to take; by default the live version's.",
        ),
    ] = None,
    promote: PromoteOption = "auto",
    force: Force = False,
    no_reuse: NoReuse = False,
    as_json: JsonLine = False,
) -> None:
    """Publish the live version's towers with the catalogue as of the end of a day, without
    training.

    New and changed items of the newest snapshot are embedded, the others keep their vectors, and
    withdrawn ones are gone. Popularity, co-occurrence and stored users include the day's events. The
    gate judges the index and how much of the catalogue changed; exit 4 when refused. A day with
    neither logs nor a newer snapshot is refused, unless --promote yes.
    """
    with json_on_error("refresh", as_json) as known:
        known["day"] = date
        day_run = DayRun(open_pipeline(pipeline), parse_date(date))
        with _with_addresses_of_refused(day_run, known):
            result = live_catalogue.refresh(
                day_run, force=force, promote=promote, version=version, reuse=not no_reuse
            )
        tell_stage(result)
        _tell_version(result)
        end_with_json(result | addresses_of(day_run.pipeline, result["version"]), as_json)


def _stage(
    name: str, file: str, date: str, as_json: bool, *, run: str | None, **options: Any
) -> None:
    # Arrow, Beam and Matplotlib would load it for nothing. Not so in `run`, where all stages are
    # one process.
    if not STAGES[name].needs_pandas:
        never_import("pandas")
    with json_on_error(name, as_json) as known:
        known["day"] = date  # as typed: it may turn out to be no date
        # A named run is a scheduler's: one that waited here would keep a slot from earlier days.
        gives_way = run is not None
        day_run = DayRun(open_pipeline(file), parse_date(date), lease=run, gives_way=gives_way)
        with _with_addresses_of_refused(day_run, known):
            result = runner.run_stage(day_run, name, **options)
        if STAGES[name].publishes:
            result |= addresses_of(day_run.pipeline, result["version"])
        tell_stage(result)
        if STAGES[name].publishes:
            _tell_version(result)
        end_with_json(result, as_json)


def tell_stage(result: dict[str, Any]) -> None:
    """Says that a stage is done, and how long it took."""
    day, stage, status = (result[key] for key in ("day", "stage", "status"))
    console.print(
        f"[bold]{day}[/] {stage} [green]{status}[/] in {result['seconds']} s", markup=True
    )


def _tell_version(result: dict[str, Any]) -> None:
    """Says whether the version is live, and what the gate noted."""
    for note in result.get("notes", []):
        say(f"{result['day']} gate: {note}")
    say(f"{result['version']} is {'' if result['live'] else 'published, and not '}live.")


def addresses_of(pipeline: Pipeline, version: str) -> dict[str, str]:
    """The `folder` of a version's files, and the `report` where a browser finds it.

    Without a server, a report on this machine's disk has no address: a page that came over HTTP, as
    Airflow's do, may not lead to a file.
    """
    registry = Registry(pipeline.registry.root, pipeline.name)
    addresses = {"folder": registry.folder(version)}
    report = registry.place(version, REPORT)
    if server := pipeline.registry.server:
        addresses["report"] = f"{server.rstrip('/')}/report?version={version}"
    elif storage.is_remote(report):
        addresses["report"] = f"https://storage.cloud.google.com/{report.removeprefix('gs://')}"
    return addresses


@contextmanager
def _with_addresses_of_refused(run: DayRun, known: dict[str, Any]) -> Iterator[None]:
    """Where the gate refuses a version: the last line says where that and its report are."""
    try:
        yield
    except GateRefused as error:
        if error.version:
            known |= addresses_of(run.pipeline, error.version)
        raise
