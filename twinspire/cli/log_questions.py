"""How files of events are written, and which of their columns mean what: by a look at them, or by
asking.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from rich.prompt import Prompt

from twinspire.cli import prepare
from twinspire.cli.options import console, say
from twinspire_core.errors import UsageError
from twinspire_core.terminal import doing

if TYPE_CHECKING:
    import polars as pl

    from beam_jobs.partitioning.time_forms import TimeForm
    from beam_jobs.scaffold.roles import Ask, Proposal, Role
    from twinspire_core.records.csv_lines import CsvOptions


@dataclass(frozen=True, slots=True)
class Log:
    """Files of events, and how to read them.

    Attributes:
      columns: by role; the event's may be None.
      form: how times are written.
      zone: whose calendar days are meant.
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
    """How CSV files are written, as given or as they look: one way for all of them."""
    from twinspire_core.records.record_file import sniff

    ways = [sniff(str(file), delimiter, encoding) for file in files]
    return next((way for way in ways if way.encoding != "utf-8"), ways[0])


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
      files: of events.
      csv: how they are written.
      given: columns whose role is known.
      time_format: of text that holds times, if it is known.
      zone: whose calendar days are meant, if it is known.
      yes: whether the likeliest is taken where it would have to ask.

    Raises:
      UsageError: a sample does not tell, and there is nobody to ask.
    """
    with doing(f"looking at {files[0]}"):
        from beam_jobs.scaffold import draft
        from beam_jobs.scaffold.roles import propose

        rows = draft.sample_rows(files[0], csv=csv, nested=False)
        times = propose(rows, given)["time"].candidates
    # Of text with days and months it is clear which column it is; how it is read is asked below.
    if "time" not in given and len(times) == 1 and times[0].form.format:
        given = {**given, "time": times[0].column}
    ask: Ask | None = prepare.ask_column if prepare.is_terminal() else None
    columns = draft.choose_columns(rows, files[0], given, _likeliest if yes else ask)
    form = _form(rows, str(columns["time"]), time_format, yes=yes)
    zone = zone or _ask_zone(yes=yes)
    return Log([str(file) for file in files], csv, columns, form, zone)


def _likeliest(proposal: "Proposal") -> str | None:
    return proposal.column


def _form(rows: "pl.DataFrame", column: str, time_format: str | None, *, yes: bool) -> "TimeForm":
    """How the times of a column are written."""
    from beam_jobs.partitioning.time_forms import TimeForm, forms_of, is_sure

    if time_format:
        return TimeForm(format=time_format)
    times = rows[column].drop_nulls()
    forms = forms_of(times)
    if not forms:
        raise UsageError(
            f"A time is a timestamp, ISO 8601 text or a number since 1970; {column!r} holds"
            f" {times.head(1).to_list()}. Name another column by --time, or say how it is written:"
            " --time-format '%d.%m.%Y %H:%M:%S', say."
        )
    if yes or is_sure(times, forms):
        return forms[0]
    formats = [str(form.format) for form in forms]
    if not prepare.is_terminal():
        raise UsageError(
            f"Times are read in one way, and {times[0]!r} in {column!r} can be read in several."
            f" Say which: --time-format {' or '.join(map(repr, formats))}."
        )
    say(f"How is {times[0]!r} to be read?")
    return forms[formats.index(Prompt.ask("Format", console=console, choices=formats))]


def _ask_zone(*, yes: bool) -> str:
    """The time zone of the days: this machine's, unless a person answers something else."""
    if yes or not prepare.is_terminal():
        say("Days are those of UTC; --time-zone names another zone.")
        return "UTC"
    _, _, machine = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    zones = available_timezones()
    likely = machine if machine in zones and not machine.startswith("Etc/") else "UTC"
    while True:
        zone = Prompt.ask("Time zone of the days", console=console, default=likely)
        if zone in zones:
            return zone
        near = get_close_matches(zone, zones, 1)
        say(f"{zone!r} is no IANA time zone." + (f" Did you mean {near[0]!r}?" if near else ""))
