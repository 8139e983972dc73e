"""What commands share: arguments and options, how their values are read, and how results are printed."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import rich.table
import typer
from rich.box import SIMPLE
from rich.text import Text

from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.display.table import Cell, Style, Table
from twinspire_core.errors import (
    TwinspireError,
    UsageError,
    did_you_mean,
    format_message,
    name_pipeline,
    with_full_stop,
)
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console

PipelineFile = Annotated[
    str,
    typer.Argument(metavar="PIPELINE", help="A pipeline file, or its name in ./pipelines."),
]


Date = Annotated[
    str,
    typer.Option(
        "--date", metavar="DATE", help="The day, such as 2017-10-16, in the pipeline's time zone."
    ),
]


ModeOption = Annotated[
    Literal["incremental", "full"],
    typer.Option(
        "--mode",
        help="incremental: continue training from the newest accepted version. full: train from scratch, on"
        " the whole training window.",
    ),
]


Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Run it again even if it is done. This does not overrule the gate."
    ),
]


Late = Annotated[
    bool,
    typer.Option(
        "--late",
        help="Run a day again if some of its events arrived after its run (source.late_days).",
    ),
]


PromoteOption = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(
        "--promote",
        help="auto: the version goes live if the gate accepts it and no later day is live. yes: also"
        " if a later day is live. no: it does not go live.",
    ),
]


Run = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="The run's name. Schedulers set it, so that later days wait for this run.",
    ),
]


Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="ATTRIBUTE=VALUE",
        help=(
            "Recommend only items with this value of an attribute in corpus.attributes. May"
            " be repeated: an item then needs one of the attribute's values."
        ),
    ),
]


Deny = Annotated[
    list[str] | None,
    typer.Option(
        "--deny",
        metavar="ATTRIBUTE=VALUE",
        help="Leave out items with this value. May be repeated.",
    ),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


JsonLine = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the last line of JSON also in a terminal. A pipe always gets it.",
    ),
]


OneVersion = Annotated[
    str | None,
    typer.Argument(
        metavar="[VERSION]",
        help="A version's id, its beginning, or a day. Default: the live version.",
    ),
]


VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="VERSION",
        help="A version's id, its beginning, or a day. Default: the live version.",
    ),
]


def open_pipeline(file: str) -> Pipeline:
    """Loads a pipeline file, given by its path or by its name in ./pipelines.

    Raises:
      UsageError: there is no such file, or it breaks a rule.
    """
    # First, so that messages about the file itself name commands that can be typed as they are
    name_pipeline(file)
    return load(pipeline_path(file))


def pipeline_path(file: str) -> Path:
    """The pipeline file of this path, or of this name in ./pipelines.

    Raises:
      UsageError: there is no such file.
    """
    path = Path(file)
    if path.suffix == ".toml" or path.exists():
        return path
    folder = Path("pipelines").absolute()
    names = sorted(file.stem for file in folder.glob("*.toml"))
    if file in names:
        return Path("pipelines") / f"{file}.toml"
    rule = f"{file!r} is neither a pipeline file nor the name of one in {folder}"
    if not names:
        raise UsageError(
            f"{rule}, which has no pipeline files. Go to the folder that contains `pipelines/`, or"
            " give the path of a file."
        )
    raise UsageError(
        with_full_stop(
            f"{rule}. Name one of these: {', '.join(names)}{did_you_mean(file, names, '; ')}"
        )
    )


def parse_date(text: str) -> date:
    """The date in `text`.

    Raises:
      UsageError: it is not written as 2017-10-16.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise UsageError(f"Write a day as 2017-10-16; found {text!r}.") from e


def days_between(
    first: str, last: str, options: str = "--from must not be after --to"
) -> list[date]:
    """All days from one to another, both included.

    Args:
      options: the rule that the two days have to keep, for the message.

    Raises:
      UsageError: the last day is before the first.
    """
    start, end = parse_date(first), parse_date(last)
    if end < start:
        raise UsageError(f"{options}; found {start} and {end}.")
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def resolve_day(pipeline: Pipeline, day: str | None, instant: str | None) -> date:
    """The given day, or the day of an instant in the pipeline's time zone, or yesterday there.

    Raises:
      UsageError: both are given, or the instant has no offset.
    """
    if day and instant:
        raise UsageError("Give either --date or --instant, not both.")
    if day:
        return parse_date(day)
    if not instant:
        return datetime.now(pipeline.zone).date() - timedelta(days=1)
    # A scheduler's interval begins at an instant, whose day depends on the time zone
    moment = datetime.fromisoformat(instant)
    if moment.tzinfo is None:
        raise UsageError(
            f"--instant needs a UTC offset, as in 2017-10-16T03:00:00+00:00; found {instant!r}."
        )
    return moment.astimezone(pipeline.zone).date()


def by_attribute(given: list[str] | None) -> dict[str, list[str]] | None:
    """The values of `--allow` or `--deny`, by attribute; None if there are none.

    Raises:
      UsageError: one is not written as `ATTRIBUTE=VALUE`.
    """
    values = dict[str, list[str]]()
    for text in given or []:
        attribute, equals, value = text.partition("=")
        if not (attribute and equals):
            raise UsageError(
                "Write a filter as ATTRIBUTE=VALUE, such as --allow category=shoes; found"
                f" {text!r}."
            )
        values.setdefault(attribute, []).append(value)
    return values or None


def print_json(value: Any, *, ensure_ascii: bool = True) -> None:
    """One line on standard output."""
    # Flushed, so that a process that is killed while it ends has printed its result
    print(json.dumps(value, default=str, ensure_ascii=ensure_ascii), flush=True)


def end_with_json(value: Any, as_json: bool) -> None:
    """Ends a command with a line of JSON, for programs."""
    # At a terminal, people read the words on standard error
    if as_json or not sys.stdout.isatty():
        print_json(value)


def say(text: str) -> None:
    """Prints a line for people, on standard error."""
    # Never broken into lines, so that commands can be copied
    console.print(format_message(text), soft_wrap=True)


@contextmanager
def last_line(stage: str, as_json: bool) -> Iterator[dict[str, Any]]:
    """Ends a command with a line of JSON, also if it fails.

    Args:
      stage: name of the stage or command.
      as_json: whether to do so at a terminal, too.

    Yields:
      The fields of that line, to which the command adds.
    """
    line: dict[str, Any] = {"stage": stage}
    try:
        yield line
    except Exception as error:
        cause = error if isinstance(error, TwinspireError) else explain(error)
        if cause is None:
            raise
        line |= {
            "status": type(cause).__name__,
            "exit_code": cause.exit_code,
            "reason": format_message(cause),
            **cause.facts(),
        }
        end_with_json(line, as_json)
        if cause is not error:
            raise cause from error
        raise
    end_with_json(line, as_json)


LOOKS = {
    Style.STRONG: "bold",
    Style.GOOD: "green",
    Style.WARNING: "yellow",
    Style.BAD: "red",
    Style.DIM: "dim",
}
"""The look of each style in a terminal."""


STATES = {
    "live": Style.GOOD,
    "refused": Style.BAD,
    "failed": Style.BAD,
    "killed": Style.BAD,
    "missing": Style.WARNING,
    "stale": Style.WARNING,
    "late": Style.WARNING,
    "rolled back": Style.WARNING,
    "under way": Style.STRONG,
    "skipped": Style.DIM,
    "no logs": Style.DIM,
}
"""The style of days and versions, by their state."""


MARKS = {
    "ok": Cell("✓", Style.GOOD),
    "warning": Cell("!", Style.WARNING),
    "failure": Cell("✗", Style.BAD),
    "absent": Cell("–", Style.DIM),
}
"""What stands before the line of a check, by its outcome."""


def terminal_table(table: Table) -> rich.table.Table:
    """The table as Rich prints it."""
    # All cells are `Text`: names of items and users may look like markup
    drawn = rich.table.Table(
        title=Text(table.title, style="table.title") if table.title else None,
        caption=Text(table.note, style="table.caption") if table.note else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE if table.has_head else None,
        show_header=table.has_head,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for place, name in enumerate(table.head):
        prose = place in table.prose
        figures = not prose and place not in table.names
        # If there is no room and no prose, names are broken before figures lose digits
        folds = prose or not (table.prose or figures)
        drawn.add_column(
            # A line for each word of a heading, so that the column is no wider than its figures
            Text(name.replace(" ", "\n").replace("@", "\n@") if figures else name),
            justify="right" if figures else "left",
            no_wrap=not folds,
            # A word that is longer than its column goes on in the next line, so that paths can be copied
            overflow="fold" if folds else "ellipsis",
        )
    for number, part in enumerate(table.parts()):
        if number:
            drawn.add_section()
        for cells in part:
            drawn.add_row(
                *(Text(text, style=LOOKS[style] if style else "") for text, style in cells)
            )
    return drawn
