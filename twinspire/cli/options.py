"""Arguments that several commands share, and how commands end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.errors import (
    TwinspireError,
    UsageError,
    did_you_mean,
    format_message,
    name_pipeline,
    with_full_stop,
)
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console as console

PipelineFile = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="A pipeline file, or its name in ./pipelines.")
]
Date = Annotated[
    str,
    typer.Option("--date", metavar="DATE", help="The day, as 2017-10-16, in the pipeline's zone."),
]
ModeOption = Annotated[
    Literal["incremental", "full"],
    typer.Option(
        "--mode",
        help="incremental: train on from the newest accepted version; full: from scratch, on the"
        " training window.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Redo what is done. It does not overrule the gate.")
]
NoReuse = Annotated[
    bool,
    typer.Option(
        "--no-reuse",
        help="Read the logs of the whole window again, not the caches of earlier runs. The result is"
        " the same. What is done stays done without --force.",
    ),
]
Late = Annotated[
    bool,
    typer.Option(
        "--late",
        help="Run a day again if events of it came after its run (source.late_days).",
    ),
]
PromoteOption = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(
        "--promote",
        help="auto: live if gate and date allow; yes: also for an older day; no: not at all.",
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Name of the run. Schedulers set it, so that later days wait for it.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="ATTRIBUTE=VALUE",
        help=(
            "Only items with this value (corpus.attributes). May be repeated: values of one attribute"
            " are alternatives."
        ),
    ),
]
Deny = Annotated[
    list[str] | None,
    typer.Option(
        "--deny", metavar="ATTRIBUTE=VALUE", help="No item with this value. May be repeated."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
JsonLine = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Also end with a line of JSON on a terminal, as everywhere else: in a pipe, a file.",
    ),
]
OneVersion = Annotated[
    str | None,
    typer.Argument(
        metavar="[VERSION]", help="Id, a beginning of it, or day; by default the live one."
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="VERSION",
        help="Id, a beginning of it, or day; by default the live one.",
    ),
]


def open_pipeline(file: str) -> Pipeline:
    """Loads a pipeline file given by its path, or by its name in ./pipelines.

    Raises:
      UsageError: there is none, or it breaks a rule.
    """
    # First of all, so that also messages about the file itself hold commands as they can be typed.
    name_pipeline(file)
    return load(pipeline_path(file))


def pipeline_path(file: str) -> Path:
    """The pipeline file of this path, or of this name in ./pipelines.

    Raises:
      UsageError: there is none.
    """
    path = Path(file)
    if path.suffix != ".toml" and not path.exists():
        path = Path("pipelines") / f"{file}.toml"
        if not path.exists():
            raise UsageError(_no_such_pipeline(file, Path("pipelines").absolute()))
    return path


def _no_such_pipeline(name: str, folder: Path) -> str:
    rule = f"A pipeline is named by its file, or by its name in {folder}; {name!r} is neither"
    known = sorted(file.stem for file in folder.glob("*.toml"))
    if not known:
        return (
            f"{rule}: there are no pipeline files. Go to the folder above `pipelines/`, or give the"
            " path of a file."
        )
    return with_full_stop(f"{rule}. There are: {', '.join(known)}{did_you_mean(name, known, '; ')}")


def parse_date(text: str) -> date:
    """The date in `text`.

    Raises:
      UsageError: it is not written as 2017-10-16.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise UsageError(f"A day is written as 2017-10-16, found {text!r}.") from e


def resolve_day(pipeline: Pipeline, day: str | None, instant: str | None) -> date:
    """The day asked for: given, or that of an instant in the pipeline's zone, or yesterday there.

    Raises:
      UsageError: both are given, or the instant has no offset.
    """
    if day and instant:
        raise UsageError("A run has one day: give --date or --instant, not both.")
    if day:
        return parse_date(day)
    if not instant:
        return datetime.now(pipeline.zone).date() - timedelta(days=1)
    # A scheduler's interval begins at an instant; which day that is, the pipeline's zone says.
    moment = datetime.fromisoformat(instant)
    if moment.tzinfo is None:
        raise UsageError(
            f"An instant needs its offset, as in 2017-10-16T03:00:00+00:00; found {instant!r}."
        )
    return moment.astimezone(pipeline.zone).date()


def by_attribute(given: list[str] | None) -> dict[str, list[str]] | None:
    """The values of `--allow` or `--deny` by attribute; None if there are none.

    Raises:
      UsageError: one is not written as `ATTRIBUTE=VALUE`.
    """
    values = dict[str, list[str]]()
    for text in given or []:
        attribute, equals, value = text.partition("=")
        if not (attribute and equals):
            raise UsageError(
                "A filter is written as ATTRIBUTE=VALUE, such as --allow category=shoes; found"
                f" {text!r}."
            )
        values.setdefault(attribute, []).append(value)
    return values or None


def print_json(value: Any) -> None:
    """One line on standard output."""
    print(json.dumps(value, default=str), flush=True)


def end_with_json(value: Any, as_json: bool) -> None:
    """A command that does something ends with a line for whoever reads it by a program. At a terminal
    people read what it did in words, which go to standard error.
    """
    if as_json or not sys.stdout.isatty():
        print_json(value)


def say(text: str) -> None:
    """A line for people: a long one is not broken, so that commands and paths can be copied."""
    console.print(format_message(text), soft_wrap=True)


@contextmanager
def json_on_error(stage: str, as_json: bool) -> Iterator[dict[str, Any]]:
    """A command's standard output ends with a JSON line, also when it fails.

    Args:
      stage: name of the stage or command.
      as_json: whether it does so at a terminal, too.

    Yields:
      What the line holds if it fails, for the command to add to.
    """
    known: dict[str, Any] = {"stage": stage}
    try:
        yield known
    except Exception as error:
        told = error if isinstance(error, TwinspireError) else explain(error)
        if told is None:
            raise
        known |= {
            "status": type(told).__name__,
            "exit_code": told.exit_code,
            "reason": format_message(told),
            **told.facts(),
        }
        end_with_json(known, as_json)
        if told is not error:
            raise told from error
        raise
