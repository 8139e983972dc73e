"""Raw files of a log: how they are written, what their columns mean, and how `partition` lays them out by
day. What a look at the files does not show is asked at a terminal.
"""

import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import available_timezones

import typer
from rich.prompt import Prompt

from twinspire.cli.options import JsonLine, parse_date
from twinspire.cli.output import end_with_json, say
from twinspire_core.errors import UsageError, did_you_mean, with_full_stop
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:
    import polars as pl

    from beam_jobs.ingest.timestamps import TimeForm
    from beam_jobs.partitioning.calendar_days import Layout
    from beam_jobs.partitioning.partition import Summary
    from beam_jobs.scaffold.roles import Ask, Proposal, Role
    from twinspire_core.records.csv_lines import CsvOptions


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
    # Here and below: not every command has to load what reads logs
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
    """What was written, in a sentence or two."""
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


@dataclass(frozen=True, slots=True)
class Log:
    """Files of events, and how to read them.

    Attributes:
      columns: by role; None for the event if no column says what happened.
      form: how times are written.
      zone: the time zone of the days.
    """

    files: list[str]
    csv: "CsvOptions"
    columns: "Mapping[Role, str | None]"
    form: "TimeForm"
    zone: str

    def partition_flags(self) -> list[str]:
        """What `twinspire partition` has to be given."""
        return flags(
            {
                "time": self.columns["time"],
                "time-unit": self.form.unit,
                "time-format": self.form.format,
                "time-zone": self.zone,
            },
            self.csv,
        )


def is_terminal() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str) -> str:
    """Asks on the terminal."""
    # Once Polars is loaded, a read goes on after Ctrl-C, and Python would not see it before Enter
    signal.siginterrupt(signal.SIGINT, True)
    return Prompt.ask(question, console=console, default=default).strip()


def choose(question: str, choices: Sequence[tuple[str, str]], *, optional: bool = False) -> int:
    """Asks on the terminal for one of some choices.

    Args:
      question: what the choice is about.
      choices: each a name and what is shown after it.
      optional: whether `none` is an answer.

    Returns: the number of the choice, from 0; -1 for none.
    """
    console.print(question)
    for number, (name, shown) in enumerate(choices, 1):
        console.print(f"{number:3}  {name:24} {shown}", soft_wrap=True)
    names = [name for name, _ in choices]
    hint = "Number or name, or none" if optional else "Number or name"
    while True:
        answer = ask(hint, "1")
        if answer in names:
            return names.index(answer)
        if answer.isdecimal() and 1 <= int(answer) <= len(names):
            return int(answer) - 1
        if optional and answer == "none":
            return -1
        console.print(f"There is no {answer!r} in this list.")


def ask_column(proposal: "Proposal") -> str | None:
    """Asks on the terminal which column has a role; None if no column has it."""
    columns = [(one.column, one.example) for one in proposal.candidates]
    question = f"Which column is the {proposal.role}?"
    number = choose(question, columns, optional=proposal.role == "event")
    return columns[number][0] if number >= 0 else None


def flags(options: Mapping[str, object], csv: "CsvOptions | None" = None) -> list[str]:
    """Options as they are typed; those that are None are left out."""
    written = dict(options)
    if csv:
        written["delimiter"] = csv.delimiter
        written["encoding"] = None if csv.encoding == "utf-8" else csv.encoding
    return [
        text
        for name, value in written.items()
        if value is not None
        for text in (f"--{name}", str(value))
    ]


def echo(command: str, *arguments: str) -> None:
    """Shows a step as the command that it is."""
    text = shlex.join(["twinspire", command, *arguments])
    console.print(f"$ {text}", style="bold", markup=False, highlight=False, soft_wrap=True)


def csv_of(files: Sequence[Path], delimiter: str | None, encoding: str | None) -> "CsvOptions":
    """How CSV files are written, as given or as they look: one way for all of them.

    Raises:
      UsageError: they are written in several ways.
    """
    from twinspire_core.records.csv_lines import CsvOptions, first_bytes
    from twinspire_core.records.raw_files import kind_of
    from twinspire_core.records.record_file import delimiter_of, sniff

    texts = [file for file in files if kind_of(file.name) == "csv"]
    ways = {file: sniff(str(file), delimiter, encoding) for file in texts}
    one = next((way for way in ways.values() if way.encoding != "utf-8"), None)
    if one and "a".encode(one.encoding) == b"a":  # ASCII can be read in that encoding too
        plain = [file for file in texts if first_bytes(str(file)).isascii()]
        ways |= {file: replace(ways[file], encoding=one.encoding) for file in plain}
    if len(set(ways.values())) > 1:
        found = "; ".join(
            f"{file} is {way.encoding}, cut at {way.delimiter or delimiter_of(str(file))!r}"
            for file, way in ways.items()
        )
        raise UsageError(
            f"CSV files of one log have one encoding and one delimiter; {found}. Write them again in"
            " one way, or say by --encoding and --delimiter what all of them have."
        )
    return next(iter(ways.values()), CsvOptions())


def look(
    files: Sequence[Path],
    csv: "CsvOptions",
    given: "Mapping[Role, str | None]",
    time_format: str | None,
    zone: str | None,
    *,
    yes: bool,
) -> Log:
    """Finds out which columns mean what and how times are written, by a sample or by asking.

    Args:
      csv: how the files are written.
      given: columns whose role is known.
      time_format: the format of times that are text, if it is known.
      zone: the time zone of the days, if it is known.
      yes: whether to take the likeliest answer instead of asking.

    Raises:
      UsageError: a sample does not show it, and there is nobody to ask.
    """
    with doing(f"looking at {files[0]}"):
        from beam_jobs.scaffold.draft import sample_rows
        from beam_jobs.scaffold.roles import choose_columns, propose

        rows = sample_rows(files[0], csv=csv, nested=False)
        times = propose(rows, given)["time"].candidates
    # Text with days and months is clearly the time; which is the day and which the month is asked below
    if "time" not in given and len(times) == 1 and times[0].form.format:
        given = {**given, "time": times[0].column}
    asked: Ask | None = ask_column if is_terminal() else None
    columns = choose_columns(rows, files[0], given, _likeliest if yes else asked)
    form = _form(rows, str(columns["time"]), time_format, yes=yes)
    zone = zone or _ask_zone(yes=yes)
    return Log([str(file) for file in files], csv, columns, form, zone)


def _likeliest(proposal: "Proposal") -> str | None:
    return proposal.column


def _form(rows: "pl.DataFrame", column: str, time_format: str | None, *, yes: bool) -> "TimeForm":
    """How the times of a column are written."""
    from beam_jobs.ingest.timestamps import TimeForm, forms_of, is_sure
    from beam_jobs.scaffold.draft import no_times

    if time_format:
        return TimeForm(format=time_format)
    times = rows[column].drop_nulls()
    forms = forms_of(times)
    if not forms:
        raise UsageError(
            f"{no_times(times)} Name another column by --time, or say how it is written:"
            " --time-format '%d.%m.%Y %H:%M:%S', say."
        )
    if yes or is_sure(times, forms):
        return forms[0]
    if not is_terminal():
        formats = [str(form.format) for form in forms]
        raise UsageError(
            f"Times are read in one way, and {times[0]!r} in {column!r} can be read in several."
            f" Say which: --time-format {' or '.join(map(repr, formats))}."
        )
    return forms[choose(*_readings(times, [str(form.format) for form in forms]))]


def _readings(times: "pl.Series", formats: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """A question about a time that the formats read as different days, and the answers."""
    import polars as pl

    from beam_jobs.ingest.timestamps import to_clock

    text = times.cast(pl.String)
    days = [to_clock(text, form).dt.date() for form in formats]
    row = (days[0] != days[1]).fill_null(value=False).arg_max() or 0
    answers = [
        (f"{day[row]:%-d %B %Y}" if day[row] else "no day", form)
        for day, form in zip(days, formats, strict=True)
    ]
    return f"Which day is {times[row]!r}?", answers


def _ask_zone(*, yes: bool) -> str:
    """The time zone of the days: this machine's, unless a person answers something else."""
    if yes or not is_terminal():
        say("Days are those of UTC; --time-zone names another zone.")
        return "UTC"
    _, _, machine = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    zones = available_timezones()
    likely = machine if machine in zones and not machine.startswith("Etc/") else "UTC"
    while True:
        zone = ask("Time zone of the days", likely)
        if zone in zones:
            return zone
        say(with_full_stop(f"{zone!r} is no IANA time zone{did_you_mean(zone, zones, '; ')}"))
