"""Raw files of a log: their format and the meaning of their columns. A terminal is asked for what the
files do not show.
"""

import math
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import available_timezones

import typer
from rich.prompt import Prompt

from twinspire.cli.shared import say
from twinspire_core.display.table import counted
from twinspire_core.errors import UsageError, with_full_stop, zone_hint
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:
    import polars as pl

    from beam_jobs.ingest.timestamps import TimeForm
    from beam_jobs.partitioning.calendar_days import Layout
    from beam_jobs.scaffold.roles import Ask, Proposal, Role
    from twinspire_core.records.csv_lines import CsvOptions


TimeFormat = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORMAT",
        help="The format of times that are text, such as '%d.%m.%Y %H:%M:%S'.",
    ),
]
CsvDelimiter = Annotated[
    str | None, typer.Option("--delimiter", help="CSV: the character between columns.")
]
CsvColumns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="A,B,…",
        help="CSV without a header line: the names of the columns.",
    ),
]


_MANY_ROWS = 500_000
# Measured on two cores with 3 million rows on 20,000 items: partition, draft and three days
_ROWS_PER_MINUTE = 500_000
_HUGE = 20_000_000_000  # bytes of text


def is_terminal() -> bool:
    """Whether a person can answer questions."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, default: str, choices: list[str] | None = None) -> str:
    """Asks on the terminal, until the answer is one of the choices, if there are any."""
    # Polars changes how signals are handled: without this, Python sees Ctrl-C only after Enter
    signal.siginterrupt(signal.SIGINT, True)
    return Prompt.ask(
        question, console=console, default=default, choices=choices, show_choices=False
    ).strip()


def choose(question: str, choices: Sequence[tuple[str, str]], *, optional: bool = False) -> int:
    """Asks on the terminal for one of several choices.

    Args:
      choices: names, each with the text that is shown after it.
      optional: whether `none` is an answer, too.

    Returns: the number of the choice, from 0; -1 for none.
    """
    console.print(question)
    for number, (name, shown) in enumerate(choices, 1):
        console.print(f"{number:3}  {name:24} {shown}", soft_wrap=True)
    names = [name for name, _ in choices]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    others = ["none"] if optional else []
    hint = "Number or name, or none" if optional else "Number or name"
    answer = ask(hint, "1", [*names, *numbers, *others])
    # Names first: a column may be called 2, or none
    given = next(answers for answers in (names, numbers, others) if answer in answers)
    return -1 if given is others else given.index(answer)


def ask_column(proposal: "Proposal") -> str | None:
    """Asks on the terminal which column has a role. None if no column has it."""
    columns = [(one.column, one.example) for one in proposal.candidates]
    question = f"Which column is the {proposal.role}?"
    number = choose(question, columns, optional=proposal.role == "event")
    return columns[number][0] if number >= 0 else None


def flags(options: Mapping[str, object], csv: "CsvOptions | None" = None) -> list[str]:
    """Options as they are typed, without those that are None."""
    from twinspire_core.records.csv_lines import join_names

    written = dict(options)
    if csv:
        written["delimiter"] = csv.delimiter
        written["columns"] = join_names(csv.columns) or None
        written["encoding"] = None if csv.encoding == "utf-8" else csv.encoding
    return [
        text
        for name, value in written.items()
        if value is not None
        for text in (f"--{name}", str(value))
    ]


def echo(command: str, *arguments: str) -> None:
    """Prints a step as the command that does the same."""
    text = shlex.join(["twinspire", command, *arguments])
    console.print(f"$ {text}", style="bold", markup=False, highlight=False, soft_wrap=True)


def csv_of(
    files: Sequence[Path],
    delimiter: str | None = None,
    encoding: str | None = None,
    columns: str | None = None,
) -> "CsvOptions":
    """The format of CSV files, as given or as a sample shows it.

    Args:
      columns: names with commas between, for files without a header line.

    Raises:
      UsageError: the files have several formats.
    """
    from twinspire_core.records.csv_lines import CsvOptions, first_bytes, split_names
    from twinspire_core.records.raw_files import kind_of
    from twinspire_core.records.record_file import delimiter_of, sniff

    csv_files = [file for file in files if kind_of(file.name) == "csv"]
    formats = {file: sniff(str(file), delimiter, encoding) for file in csv_files}
    other = next((one.encoding for one in formats.values() if one.encoding != "utf-8"), None)
    if other and "a".encode(other) == b"a":  # an ASCII file can be read in that encoding, too
        ascii_files = [file for file in csv_files if first_bytes(str(file)).isascii()]
        formats |= {file: replace(formats[file], encoding=other) for file in ascii_files}
    if len(set(formats.values())) > 1:
        different = "; ".join(
            f"{file} has {one.encoding} and {one.delimiter or delimiter_of(str(file))!r}"
            for file, one in formats.items()
        )
        raise UsageError(
            f"All CSV files of a log must have the same encoding and the same delimiter; {different}."
            " Write them again in one format, or give the format of all of them with --encoding and"
            " --delimiter."
        )
    found = next(iter(formats.values()), CsvOptions())
    return replace(found, columns=split_names(columns or ""))


def foresee(files: Sequence[Path], *, yes: bool) -> None:
    """Says how long a large log takes, and asks before a huge one.

    Args:
      yes: whether to go on without asking.

    Raises:
      UsageError: nobody agrees.
    """
    from twinspire_core.records.record_file import RecordFile

    sizes = [RecordFile.of(str(file), "auto").estimated() for file in files]
    rows, size = (sum(numbers) for numbers in zip(*sizes, strict=True))
    if rows >= _MANY_ROWS:
        minutes = math.ceil(rows / _ROWS_PER_MINUTE)
        say(f"About {rows:,} rows: on two cores, it takes about {counted(minutes, 'minute')}.")
    if size <= _HUGE or yes:
        return
    found = f"The files hold about {size / 1e9:,.0f} GB of text, unzipped"
    if is_terminal() and ask(f"{found}. Go on?", "no", ["yes", "no"]) == "yes":
        return
    raise UsageError(
        f"`try` asks before it reads more than {_HUGE / 1e9:.0f} GB. {found}. Give the files of fewer"
        " days, or --yes to go on."
    )


def look(
    files: Sequence[Path],
    csv: "CsvOptions",
    given: "Mapping[Role, str | None]",
    time_format: str | None,
    zone: str | None,
    *,
    yes: bool,
) -> "tuple[Mapping[Role, str | None], Layout]":
    """Finds out which column has which role and how times are written, from a sample or by asking.

    Args:
      csv: the format of the files.
      given: columns whose role is known.
      time_format: the format of times that are text, if it is known.
      zone: the time zone of the days, if it is known.
      yes: whether to take the likeliest answer instead of asking.

    Returns: columns by role (None for the event if no column says what happened), and how events are laid out
      by day.

    Raises:
      UsageError: a sample does not show it, and nobody can be asked.
    """
    with doing(f"looking at {files[0]}"):
        from beam_jobs.partitioning.calendar_days import Layout
        from beam_jobs.scaffold.draft import sample_rows
        from beam_jobs.scaffold.roles import choose_columns, propose

        rows = sample_rows(files[0], csv=csv, nested=False)
        times = propose(rows, given)["time"].candidates
    # Text with days and months is clearly the time. Which is the day, and which the month, is asked later
    if "time" not in given and len(times) == 1 and times[0].form.format:
        given = {**given, "time": times[0].column}
    answer: Ask | None = ask_column if is_terminal() else None
    if yes:
        answer = _take_likeliest
    columns = choose_columns(rows, files[0], given, answer)
    form = _form(rows, str(columns["time"]), time_format, yes=yes)
    layout = Layout(
        time=columns["time"],
        time_unit=form.unit,
        time_format=form.format,
        time_zone=zone or _ask_zone(yes=yes),
        csv=csv,
    )
    return columns, layout


def _take_likeliest(proposal: "Proposal") -> str | None:
    """The likeliest column, which is said: nobody was asked."""
    role, column, best = proposal.role, proposal.column, proposal.candidates[0]
    if column:
        say(f"{column} ({best.example}) is taken as the {role}. --{role} names another column.")
    elif role == "event":
        say(
            f"No column is taken as the event. If {best.column} ({best.example}) is, give --event {best.column}."
        )
    return column


def _form(rows: "pl.DataFrame", column: str, time_format: str | None, *, yes: bool) -> "TimeForm":
    """The format of the times of a column."""
    from beam_jobs.ingest.timestamps import TimeForm, forms_of, is_sure
    from beam_jobs.scaffold.draft import no_times

    if time_format:
        return TimeForm(format=time_format)
    times = rows[column].drop_nulls()
    forms = forms_of(times)
    if not forms:
        raise UsageError(
            f"{no_times(times)} Name another column with --time, or give the format of this one, for"
            " example --time-format '%d.%m.%Y %H:%M:%S'."
        )
    if yes or is_sure(times, forms):
        return forms[0]
    formats = [str(form.format) for form in forms]
    if not is_terminal():
        raise UsageError(
            f"{times[0]!r} in column {column!r} could mean several dates. Give the format:"
            f" --time-format {' or '.join(map(repr, formats))}."
        )
    return forms[choose(*_readings(times, formats))]


def _readings(times: "pl.Series", formats: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """A question about a time that the formats read as different days, with its possible answers."""
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
    """Asks for the time zone of the days. Proposes this machine's."""
    if yes or not is_terminal():
        say("Days begin at midnight UTC. --time-zone sets another zone.")
        return "UTC"
    _, _, machine = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    zones = available_timezones()
    likely = machine if machine in zones and not machine.startswith("Etc/") else "UTC"
    while True:
        zone = ask("Time zone of the days", likely)
        if zone in zones:
            return zone
        say(with_full_stop(f"{zone!r} is not an IANA time zone{zone_hint(zone, zones)}"))
