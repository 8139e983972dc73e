"""Before the first day: the installation, the layout of the logs, and a pipeline file that fits
them.
"""

import re
import shlex
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError

from twinspire.cli import doctor as diagnosis
from twinspire.cli import log_questions
from twinspire.cli.doctor import checks_table
from twinspire.cli.options import (
    AsJson,
    JsonLine,
    PipelineFile,
    console,
    end_with_json,
    open_pipeline,
    parse_date,
    print_json,
    resolve_day,
    say,
)
from twinspire.cli.terminal_tables import terminal_table
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import SCHEMA_FILE, SCHEMA_LINE, schema_text
from twinspire_core.config.tables.deployment import PipelineConfig
from twinspire_core.display.table import Cell, Style, Table
from twinspire_core.errors import BadData, UsageError, with_full_stop
from twinspire_core.terminal import doing, out

if TYPE_CHECKING:
    from beam_jobs.partitioning.calendar_days import Layout
    from beam_jobs.partitioning.partition import Summary
    from beam_jobs.scaffold.roles import Role
    from beam_jobs.scaffold.validate import CheckedColumn


UserColumn = Annotated[
    str | None, typer.Option("--user", metavar="COLUMN", help="Column of the user.")
]
ItemColumn = Annotated[
    str | None, typer.Option("--item", metavar="COLUMN", help="Column of the item.")
]
TimeColumn = Annotated[
    str | None, typer.Option("--time", metavar="COLUMN", help="Column of the time.")
]
EventColumn = Annotated[
    str | None,
    typer.Option(
        "--event", metavar="COLUMN", help="Column of the event's type; none: there is none."
    ),
]


def doctor(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="[PIPELINE]", help="Also try its logs, work and registry."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check versions, what each stage can import, and whether the stores can be reached.

    Where `beam.options` of the pipeline file name a runner, its job service is asked, and one of its
    workers: a job of one element tells whether both see `work_root`, and compares versions.
    """
    checks = diagnosis.examine(open_pipeline(pipeline) if pipeline else None)
    is_healthy = all(check.state != "failure" for check in checks)
    if as_json:
        print_json({"healthy": is_healthy, "checks": [asdict(check) for check in checks]})
    else:
        out.print(terminal_table(checks_table(checks)))
    if not is_healthy:
        raise typer.Exit(1)


def partition(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="Parquet, CSV or JSON Lines; .gz is read."),
    ],
    to: Annotated[
        str, typer.Option("--out", metavar="FOLDER", help="A day's folder, with {date} in it.")
    ],
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the time that says a row's day.")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Write all rows to this day: a table of items or users."),
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(metavar="s|ms|us", help="Unit of times that are numbers.")
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Format of other times, such as '%d.%m.%Y %H:%M:%S'.",
        ),
    ] = None,
    time_zone: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of the days.")] = "UTC",
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="Leave earlier days out.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Leave later days out.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Rename a column.")
    ] = None,
    file_format: Annotated[
        Literal["auto", "parquet", "jsonl", "csv"],
        typer.Option("--format", help="auto: by the file's ending."),
    ] = "auto",
    delimiter: Annotated[str | None, typer.Option(help="CSV: what stands between columns.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="CSV without a header line: its columns' names."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="CSV: cp1252, latin-1, utf-16.")] = "utf-8",
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: keep this column's numbers as text."),
    ] = None,
    done_marker: Annotated[
        str | None, typer.Option(metavar="NAME", help="An empty file written last.")
    ] = None,
    rejected: Annotated[
        str | None, typer.Option(metavar="FILE", help="Set malformed records aside here.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace days even if they lose rows."),
    ] = False,
    as_json: JsonLine = False,
) -> None:
    """Lay raw logs out as one folder per day, as every stage reads them. Unchanged days are left
    alone.
    """
    # Here and below: what reads logs is not for every command to load.
    from beam_jobs.partitioning.calendar_days import Layout
    from twinspire_core.records.csv_lines import CsvOptions

    renamed: dict[str, str] = {}
    for pair in rename or []:
        old, _, new = pair.partition("=")
        if not new:
            raise UsageError(f"--rename is written OLD=NEW, found {old!r}.")
        renamed[old] = new
    layout = Layout(
        time=time,
        time_unit=time_unit,
        time_format=time_format,
        time_zone=time_zone,
        snapshot=_optional_date(snapshot),
        first=_optional_date(first),
        last=_optional_date(last),
        rename=renamed,
        format=file_format,
        csv=CsvOptions(
            delimiter=delimiter, columns=columns.split(",") if columns else (), encoding=encoding
        ),
        text=text or (),
        done_marker=done_marker,
    )
    summary = lay_out(sources, to, layout, rejected=rejected, replace=replace)
    end_with_json(asdict(summary), as_json)


def lay_out(
    sources: list[str],
    to: str,
    layout: "Layout",
    *,
    rejected: str | None = None,
    max_rejected: float = 1.0,
    replace: bool = False,
) -> "Summary":
    """Lays files out by day, and shows how far it is; see `beam_jobs.partitioning`."""
    from beam_jobs.partitioning import partition as logs

    with doing("reading the files") as update:
        summary = logs.partition(
            sources,
            to,
            layout,
            rejected=rejected,
            max_rejected=max_rejected,
            replace=replace,
            progress=lambda done, total: update(f"reading the files: {done / max(1, total):.0%}"),
        )
    if summary.warning:
        console.print(f"Warning: {summary.warning}", soft_wrap=True)
    say(_outcome(summary))
    return summary


def _outcome(summary: "Summary") -> str:
    """What became of the input, in a sentence or two."""
    if not summary.days:
        return f"{summary.rows:,} rows were read, and none was written."
    text = f"{summary.rows:,} rows, in {summary.days:,} days from {summary.first} to {summary.last}"
    text += f": {summary.written:,} written, {summary.unchanged:,} as before"
    text += f", {summary.replaced:,} replaced." if summary.replaced else "."
    if summary.outside:
        text += f" {summary.outside:,} rows are of days outside of --from and --to."
    if summary.rejected:
        text += f" {summary.rejected:,} malformed rows were set aside."
    if summary.missing:
        text += f" Days without rows: {', '.join(map(str, summary.missing[:5]))}"
        text += f", and {len(summary.missing) - 5:,} more." if len(summary.missing) > 5 else "."
    return text


def _optional_date(text: str | None) -> date | None:
    return parse_date(text) if text else None


def init(
    events: Annotated[
        Path,
        typer.Argument(help="A file of events, or a folder laid out by `twinspire partition`."),
    ],
    items: Annotated[Path | None, typer.Option(help="A file or folder of items.")] = None,
    users: Annotated[Path | None, typer.Option(help="A file or folder of users.")] = None,
    name: Annotated[str, typer.Option(help="Name of the recommender.")] = "recommender",
    time_zone: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of the days.")] = "UTC",
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write here; else to standard output."),
    ] = None,
    user: UserColumn = None,
    item: ItemColumn = None,
    time: TimeColumn = None,
    event: EventColumn = None,
) -> None:
    """Draft a pipeline file from the logs, for you to finish.

    The whole log is read. Window, history and training follow from how its users behave; a comment
    at each line gives the figure. Next to the file comes a JSON Schema, by which editors complete
    keys (VS Code: Even Better TOML). Columns are recognised by their names and values. A terminal
    is asked about those that are not clear; a script names them.
    """
    from beam_jobs.ingest import day_files
    from beam_jobs.scaffold import draft

    for place in (events, items, users, to):
        if place:
            check_local(place)
    if to is not None and to.exists():
        raise UsageError(f"A draft is a new file, and {to} is there. Name another, or delete it.")
    check_names(name, time_zone)
    text = draft.draft(
        name,
        events,
        items,
        users,
        time_zone,
        to.parent if to else None,
        given_columns(user, item, time, event),
        log_questions.ask_column if log_questions.is_terminal() else None,
    )
    if to is None:
        typer.echo(text, nl=False)
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(SCHEMA_LINE + text)
    (to.parent / SCHEMA_FILE).write_text(schema_text())
    opened = open_pipeline(str(to))
    days = day_files.folder_days(opened, "events")
    step = f"twinspire validate {to} --date {days[-1] if days else 'DAY'}"
    if not days and events.is_file():
        step = f"lay the log out by day: {_partition_command(opened, events)}"
    console.print(f"Wrote {to}. Read and finish it. Next: {step}", soft_wrap=True)


def _partition_command(pipeline: Pipeline, events: Path) -> str:
    """What lays a file of events out as a drafted pipeline file reads it."""
    columns, zone = pipeline.columns, pipeline.pipeline.time_zone
    words = ["twinspire", "partition", str(events), "--time", columns.time]
    if "time_unit" in columns.model_fields_set:
        words += ["--time-unit", columns.time_unit]
    if zone != PipelineConfig.model_fields["time_zone"].default:
        words += ["--time-zone", zone]
    return shlex.join([*words, "--out", pipeline.source.events])


def check_local(path: Path) -> None:
    """Refuses a place that is no path.

    Raises:
      UsageError: it is `gs://`, say, of which `Path` has left one slash.
    """
    uri = re.sub(r"^([a-z][a-z0-9]*):/", r"\1://", str(path))
    if storage.has_scheme(uri):
        raise UsageError(
            f"`init` and `try` use files of this machine, named by their paths; found {uri}. Copy or"
            " mount what is elsewhere, and write its path alone."
        )


def given_columns(
    user: str | None, item: str | None, time: str | None, event: str | None
) -> "dict[Role, str | None]":
    """The columns that the options name, by role; None for `--event none`."""
    named: dict[Role, str | None] = {"user": user, "item": item, "time": time, "event": event}
    given = {role: column for role, column in named.items() if column is not None}
    return given | ({"event": None} if event == "none" else {})


def check_names(name: str, time_zone: str) -> None:
    """Refuses what no pipeline file may hold, before a draft holds it."""
    try:
        PipelineConfig(name=name, time_zone=time_zone)
    except ValidationError as e:
        problems = "; ".join(
            f"--{str(one['loc'][0]).replace('_', '-')} {one['input']!r}: {one['msg']}"
            for one in e.errors()
        )
        raise UsageError(with_full_stop(f"A draft would not be valid. {problems}")) from e


def validate(
    pipeline: PipelineFile,
    of_day: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="A day; yesterday by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a pipeline file against a day's data, in seconds; exit 3 when something does not fit.

    Of tables with more than 300,000 rows the first ones are read, the same number of each file.
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
            f" {bad[0].table}.{bad[0].column}: {bad[0].found}. Mend the pipeline file or the logs,"
            " then validate again."
        )
    doubts = sum(one.doubt for one in columns)
    how = f"; look at what is marked ! ({doubts})" if doubts else " without a problem"
    sampled = f" It read {checked.sampled}." if checked.sampled else ""
    console.print(
        f"{p.pipeline.name} reads {day}{how}.{sampled} Next: twinspire run {pipeline} --date {day}",
        soft_wrap=True,
    )


def _mark(column: "CheckedColumn") -> Cell:
    if not column.ok:
        return Cell("✗", Style.BAD)
    return Cell("!", Style.WARNING) if column.doubt else Cell("✓", Style.GOOD)
