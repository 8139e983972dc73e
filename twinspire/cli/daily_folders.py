"""`partition`: lays the rows of files or of a query out as one folder per day."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from twinspire.cli.raw_logs import CsvColumns, CsvDelimiter, TimeFormat
from twinspire.cli.shared import JsonLine, end_with_json, parse_date, say
from twinspire_core.display.table import counted
from twinspire_core.errors import NothingToDo, UsageError
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:
    from beam_jobs.partitioning.calendar_days import Layout
    from beam_jobs.partitioning.day_folders import Summary


_SHOWN_GAPS = 3


def partition(
    to: Annotated[
        str,
        typer.Option(
            "--out", metavar="FOLDER", help="The folder of one day. {date} stands for its date."
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE…", help="Parquet, CSV or JSON Lines, or these with .gz."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Instead of files: 'select … where at >= {start} and at < {end}', run for each day from --from"
            " to --to (default: the day of --from).",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="TWINSPIRE_DATABASE",
            help="For --query: postgresql://USER@HOST/NAME, delta:FOLDER (of a table) or iceberg:CATALOG. The"
            " variable TWINSPIRE_DATABASE hides a password from process lists.",
        ),
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column with the time of a row.")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="For a table of items or users: write all rows to this day."
        ),
    ] = None,
    items_of: Annotated[
        str | None,
        typer.Option(
            metavar="ITEM,COLUMN,…",
            help="Instead of the events, write a table of their items, with these columns: a snapshot of the day"
            " before the first.",
        ),
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(metavar="s|ms|us", help="The unit of times that are numbers.")
    ] = None,
    time_format: TimeFormat = None,
    time_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="The time zone of the days.")
    ] = "UTC",
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="Leave out earlier days.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Leave out later days.")
    ] = None,
    file_format: Annotated[
        Literal["auto", "parquet", "jsonl", "csv"],
        typer.Option("--format", help="auto: by the file's ending."),
    ] = "auto",
    delimiter: CsvDelimiter = None,
    columns: CsvColumns = None,
    encoding: Annotated[
        str, typer.Option(help="CSV: the encoding, such as cp1252, latin-1 or utf-16.")
    ] = "utf-8",
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="CSV: keep the numbers of this column as text."),
    ] = None,
    done_marker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write an empty file of this name last."),
    ] = None,
    rejected: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write malformed records to this file.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace days even if they lose rows."),
    ] = False,
    as_json: JsonLine = False,
) -> None:
    """Write raw logs, or the rows of a query, into one folder per day, the layout that all stages read.
    Unchanged days are not rewritten.
    """
    # Imported here, because most commands do not read logs
    from beam_jobs.partitioning.calendar_days import Layout
    from twinspire_core.records.csv_lines import CsvOptions, split_names

    layout = Layout(
        time=time,
        time_unit=time_unit,
        time_format=time_format,
        time_zone=time_zone,
        snapshot=parse_date(snapshot) if snapshot else None,
        first=parse_date(first) if first else None,
        last=parse_date(last) if last else None,
        format=file_format,
        csv=CsvOptions(delimiter=delimiter, columns=split_names(columns or ""), encoding=encoding),
        items_of=split_names(items_of or ""),
        text=text or (),
        done_marker=done_marker,
    )
    if query is None:
        if not sources:
            raise UsageError("partition needs files, or --query and --database. Add one of them.")
        summary = lay_out(sources, to, layout, rejected=rejected, replace=replace)
    else:
        for_files = bool(sources or rejected or text or items_of or layout.csv != CsvOptions())
        if for_files or file_format != "auto" or not database:
            raise UsageError(
                "--query needs --database URL, or the variable TWINSPIRE_DATABASE, and goes without files and"
                " their options (--rejected, --items-of, --format, --delimiter, --columns, --encoding, --text)."
                " Correct the options."
            )
        summary = _lay_out_query(query, database, to, layout, replace=replace)
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
    """Lays files out by day with a progress line, and prints the result (`beam_jobs.partitioning`)."""
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
    return _report(summary)


def _lay_out_query(
    query: str, database: str, to: str, layout: "Layout", *, replace: bool
) -> "Summary":
    from beam_jobs.partitioning.queried_days import partition_query

    with doing("asking the database") as update:
        summary = partition_query(
            query,
            database,
            to,
            layout,
            replace=replace,
            progress=lambda day, rows: update(f"reading {day}: {rows:,} rows"),
        )
    return _report(summary)


def _report(summary: "Summary") -> "Summary":
    if not summary.rows and not summary.rejected:
        raise NothingToDo(
            "A log must hold rows; these files have none, and nothing was written. If there should be"
            " some, export them again."
        )
    if summary.warning:
        console.print(f"Warning: {summary.warning}", soft_wrap=True)
    say(_outcome(summary))
    return summary


def _outcome(summary: "Summary") -> str:
    """What was written, in sentences."""
    if not summary.days:
        return f"{summary.rows:,} rows were read, and none was written."
    written = (
        f"{counted(summary.written, 'day')} written",
        f"{summary.unchanged:,} unchanged",
        f"{summary.replaced:,} replaced" if summary.replaced else "",
    )
    sentences = (
        f"{summary.rows:,} rows, in {counted(summary.days, 'day')} from {summary.first} to"
        f" {summary.last}: {', '.join(filter(None, written))}.",
        f"{summary.outside:,} rows are of days outside of --from and --to."
        if summary.outside
        else "",
        f"{summary.rejected:,} malformed rows were rejected." if summary.rejected else "",
        _gaps(summary),
    )
    return " ".join(filter(None, sentences))


def _gaps(summary: "Summary") -> str:
    """How many days between the first and the last have no rows, and the first of them."""
    if not (summary.missing and summary.first and summary.last):
        return ""
    # Not their length: `missing` has only the first hundred
    number = max(len(summary.missing), (summary.last - summary.first).days + 1 - summary.days)
    shown = ", ".join(map(str, summary.missing[:_SHOWN_GAPS]))
    more = ", …" if number > _SHOWN_GAPS else ""
    return f"{counted(number, 'day')} between them without rows: {shown}{more}."
