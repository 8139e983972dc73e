"""Arguments and options that several commands share, and how their values are read."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.errors import UsageError, did_you_mean, name_pipeline, with_full_stop

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
        help="auto: live if the gate accepts it and no later day is live; yes: also for an older day; no:"
        " not live.",
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
        help="End with a line of JSON on a terminal, too. In a pipe or a file it always comes.",
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
    # First, so that messages about the file itself name commands that can be typed as they are
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
    """The day that is given, or the day of an instant in the pipeline's time zone, or yesterday there.

    Raises:
      UsageError: both are given, or the instant has no offset.
    """
    if day and instant:
        raise UsageError("A run has one day: give --date or --instant, not both.")
    if day:
        return parse_date(day)
    if not instant:
        return datetime.now(pipeline.zone).date() - timedelta(days=1)
    # A scheduler's interval begins at an instant; its day depends on the pipeline's time zone
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
