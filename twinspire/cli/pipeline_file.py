"""A pipeline file: drafted from logs (`init`), checked against a day (`validate`), shown (`config`)."""

import re
import shlex
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from twinspire.cli import raw_logs
from twinspire.cli.shared import (
    MARKS,
    AsJson,
    PipelineFile,
    open_pipeline,
    pipeline_path,
    print_json,
    resolve_day,
    terminal_table,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import (
    SCHEMA_FILE,
    SCHEMA_LINE,
    Setting,
    duration_text,
    schema_text,
    settings,
    toml_text,
)
from twinspire_core.config.tables.deployment import PipelineConfig
from twinspire_core.config.validation_errors import explain
from twinspire_core.display.table import Cell, Table
from twinspire_core.errors import BadData, UsageError, with_full_stop
from twinspire_core.terminal import console, doing, out

if TYPE_CHECKING:
    from beam_jobs.scaffold.roles import Role
    from beam_jobs.scaffold.validate import CheckedColumn


UserColumn = Annotated[
    str | None, typer.Option("--user", metavar="COLUMN", help="The column with the user's id.")
]


ItemColumn = Annotated[
    str | None, typer.Option("--item", metavar="COLUMN", help="The column with the item's id.")
]


TimeColumn = Annotated[
    str | None, typer.Option("--time", metavar="COLUMN", help="The column with the time.")
]


EventColumn = Annotated[
    str | None,
    typer.Option(
        "--event",
        metavar="COLUMN",
        help="The column with the event's type, or the word none.",
    ),
]


def init(
    events: Annotated[
        Path,
        typer.Argument(help="A file of events, or a folder that `twinspire partition` wrote."),
    ],
    items: Annotated[Path | None, typer.Option(help="A file or folder of items.")] = None,
    users: Annotated[Path | None, typer.Option(help="A file or folder of users.")] = None,
    name: Annotated[str, typer.Option(help="The recommender's name.")] = "recommender",
    time_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="The time zone of the days.")
    ] = "UTC",
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The new file. Default: standard output."),
    ] = None,
    user: UserColumn = None,
    item: ItemColumn = None,
    time: TimeColumn = None,
    event: EventColumn = None,
) -> None:
    """Draft a pipeline file from the logs, for you to finish.

    The command reads the whole log. It chooses the window, the history and the training settings
    by how users behave. A comment on each line gives the reason. It recognises columns by their
    names and values. If a column is not clear, it asks you; in a script, name the column. It also
    writes a JSON Schema, so that editors can complete keys (VS Code: Even Better TOML).
    """
    from beam_jobs.ingest import day_files
    from beam_jobs.scaffold import draft

    for place in (events, items, users, to):
        if place:
            check_local(place)
    if to is not None and to.exists():
        raise UsageError(f"--out must be a new file; {to} exists. Name another file, or delete it.")
    check_names(name, time_zone)
    text = draft.draft(
        name,
        events,
        items,
        users,
        time_zone,
        to.parent if to else None,
        given_columns(user, item, time, event),
        raw_logs.ask_column if raw_logs.is_terminal() else None,
    )
    if to is None:
        typer.echo(text, nl=False)
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(SCHEMA_LINE + text)  # by this line editors find the schema
    (to.parent / SCHEMA_FILE).write_text(schema_text())
    opened = open_pipeline(str(to))
    days = day_files.folder_days(opened, "events")
    step = f"twinspire validate {to} --date {days[-1] if days else 'DAY'}"
    if not days and events.is_file():
        step = f"lay the log out by day: {_partition_command(opened, events)}"
    console.print(f"Wrote {to}. Read it and finish it. Next: {step}", soft_wrap=True)


def _partition_command(pipeline: Pipeline, events: Path) -> str:
    """The command that lays a file of events out as the drafted pipeline file reads it."""
    columns, zone = pipeline.columns, pipeline.pipeline.time_zone
    options = {
        "time": columns.time,
        "time-unit": columns.time_unit if "time_unit" in columns.model_fields_set else None,
        "time-zone": None if zone == PipelineConfig.model_fields["time_zone"].default else zone,
        "out": pipeline.source.events,
    }
    return shlex.join(["twinspire", "partition", str(events), *raw_logs.flags(options)])


def check_local(path: Path) -> None:
    """Refuses a path that is not on this machine.

    Raises:
      UsageError: it is an address such as `gs://…`.
    """
    # `Path` has left only one slash of an address
    uri = re.sub(r"^([a-z][a-z0-9]*):/", r"\1://", str(path))
    if "://" in uri:
        raise UsageError(
            f"`init` and `try` read files on this machine; found {uri}. Copy or mount the files, and give"
            " their path."
        )


def given_columns(
    user: str | None, item: str | None, time: str | None, event: str | None
) -> "dict[Role, str | None]":
    """The columns that the options name, by role; None for `--event none`."""
    named: dict[Role, str | None] = {"user": user, "item": item, "time": time, "event": event}
    given = {role: column for role, column in named.items() if column is not None}
    return given | ({"event": None} if event == "none" else {})


def check_names(name: str, time_zone: str) -> None:
    """Refuses a name or a time zone that no pipeline file may have."""
    try:
        PipelineConfig(name=name, time_zone=time_zone)
    except ValidationError as e:
        problems = "; --".join(explain(one, PipelineConfig) for one in e.errors())
        problems = problems.replace("time_zone:", "time-zone:")
        raise UsageError(with_full_stop(f"The draft would not be valid: --{problems}")) from e


def validate(
    pipeline: PipelineFile,
    of_day: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day. Default: yesterday.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a pipeline file against the data of a day. It takes seconds.

    If a table has more than 300,000 rows, the command reads only the first rows of each file.

    Exit code: 3 if a column does not fit the pipeline file.
    """
    p = open_pipeline(pipeline)
    day = resolve_day(p, of_day, None)
    with doing(f"reading {day}"):
        from beam_jobs.scaffold import validate as checks

        checked = checks.validate(p, day)
    columns = checked.columns
    if as_json:
        print_json([{slot: getattr(one, slot) for slot in one.__slots__} for one in columns])
    else:
        table = Table(
            head=["", "table", "column", "used as", "found"],
            rows=[[_mark(one), one.table, one.column, one.use, one.found] for one in columns],
            title=f"{pipeline} against {day}",
            names=(0, 1, 2),
            prose=(3, 4),
        )
        out.print(terminal_table(table))
    bad = [one for one in columns if not one.ok]
    if bad:
        raise BadData(
            f"{len(bad)} of {len(columns)} columns cannot be used; the first:"
            f" {bad[0].table}.{bad[0].column}: {bad[0].found}. Correct the pipeline file or the logs,"
            " then validate again."
        )
    doubts = sum(one.doubt for one in columns)
    how = f"; check the rows marked ! ({doubts})" if doubts else " without a problem"
    sampled = f" It read {checked.sampled}." if checked.sampled else ""
    console.print(
        f"{p.pipeline.name} reads {day}{how}.{sampled} Next: twinspire run {pipeline} --date {day}",
        soft_wrap=True,
    )


def _mark(column: "CheckedColumn") -> Cell:
    return MARKS["failure" if not column.ok else "warning" if column.doubt else "ok"]


def config(
    pipeline: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE]", help="A pipeline file, or its name.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of pipeline files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print each key's value, and whether it comes from the file, the environment or the default.

    A value with `${NAME}` is printed as the file has it, because it may be a secret. docs/pipeline-file.md
    explains each key. Editors complete keys if the file's first line names a schema:
    `#:schema ./twinspire.schema.json`.
    """
    if schema:
        typer.echo(schema_text(), nl=False)
        return
    if pipeline is None:
        raise UsageError("Name a pipeline file to see its values, or type --schema.")
    all_settings = list(settings(open_pipeline(pipeline), pipeline_path(pipeline)))
    if as_json:
        print_json({f"{one.table}.{one.key}": _as_json(one) for one in all_settings})
        return
    for table, of_table in groupby(all_settings, lambda one: one.table):
        keys = list(of_table)
        width = max(len(one.key) for one in keys)
        out.print(f"[{table}]", markup=False, highlight=False, style="bold")
        for one in keys:
            style = "dim" if one.source == "default" else None
            out.print(_line(one, width), markup=False, highlight=False, soft_wrap=True, style=style)
        out.print()


def _line(one: Setting, width: int) -> str:
    if one.value is None:
        return f"# {one.key} is not set"
    return f"{one.key:<{width}} = {toml_text(one.value)}  # {one.source}"


def _as_json(one: Setting) -> dict[str, object]:
    value = duration_text(one.value) if isinstance(one.value, timedelta) else one.value
    return {"value": value, "from": one.source}
