"""`twinspire try`: from a file of events to recommendations in a browser, by the steps of other commands."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from index_builder.registry.registry import Registry
from twinspire.cli import daily_folders, pipeline_file, raw_logs, run_days, serve
from twinspire.cli.pipeline_file import EventColumn, ItemColumn, TimeColumn, UserColumn
from twinspire.cli.raw_logs import CsvColumns, CsvDelimiter, TimeFormat, echo, flags
from twinspire.cli.shared import JsonLine, end_with_json, open_pipeline, say
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.deployment import RegistryConfig
from twinspire_core.errors import BadData, GateRefused, LogsLate, NothingToDo, UsageError
from twinspire_core.terminal import doing

if TYPE_CHECKING:
    from beam_jobs.partitioning.calendar_days import Layout
    from beam_jobs.partitioning.day_folders import Summary
    from beam_jobs.scaffold.roles import Role

_REJECTED = "rejected.jsonl"
# The same as `source.max_rejected` in a drafted file
_MAX_REJECTED = 0.01


@dataclass(frozen=True, slots=True)
class _Home:
    """The folder of the pipeline file, and of its `logs`, `work` and `registry`."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.toml"

    def logs(self, table: str) -> Path:
        return self.folder / "logs" / table

    def day(self, table: str) -> str:
        return f"{self.logs(table)}/dt={{date}}/"


def try_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            help="Events: CSV, Parquet or JSON Lines, or these with .gz.",
        ),
    ],
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of items, if there is one.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of users, if there is one.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The recommender's name. Default: the name of the first file."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="The folder for all files. Default: ./NAME."),
    ] = None,
    user: UserColumn = None,
    item: ItemColumn = None,
    time: TimeColumn = None,
    event: EventColumn = None,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="The time zone of the days."),
    ] = None,
    time_format: TimeFormat = None,
    delimiter: CsvDelimiter = None,
    columns: CsvColumns = None,
    encoding: Annotated[
        str | None, typer.Option(help="CSV: the encoding. Default: UTF-8, else cp1252.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How many of the last days to run.")] = 3,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The server's port. Default: 8000, or a free one."),
    ] = None,
    serves: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Whether to start a server at the end.")
    ] = True,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing, and take the likeliest columns.")
    ] = False,
    as_json: JsonLine = False,
) -> None:
    """Try Twinspire with your own file of events, and see recommendations in a browser.

    The command writes the events into one folder per day, drafts a pipeline file, checks it, runs
    the last days and serves the result until Ctrl-C. It asks only what it cannot work out from
    the file. For each step it prints the command that does the same. To continue after an
    interruption, type the same command again. It keeps your edits of the pipeline file.
    """
    tables = {kind: file for kind, file in {"items": items, "users": users}.items() if file}
    _check_files([*files, *tables.values()])
    home = _home(files, name, to, time_zone or "UTC")
    address = f"http://127.0.0.1:{serve.free_port(port)}" if serves else None
    given: Mapping[Role, str | None] = pipeline_file.given_columns(user, item, time, event)
    drafted = open_pipeline(str(home.file)) if home.file.exists() else None
    if drafted:
        # It may hold what a person has edited since
        say(f"{home.file} exists: it is not changed.")
        given = _as_drafted(home, drafted, given, time_zone, tables)
        time_zone = drafted.pipeline.time_zone
    from beam_jobs.scaffold import draft, item_table

    raw_logs.foresee(files, yes=yes)
    csv = raw_logs.csv_of(files, delimiter, encoding, columns)
    roles, layout = raw_logs.look(files, csv, given, time_format, time_zone, yes=yes)
    if drafted:
        _lay_out(home, home, files, layout, tables)
        if "items" not in tables and drafted.corpus.days:
            described = item_table.columns_before(home.logs("items"))
            _lay_out_items(home, home, files, layout, described)
    else:
        # All or nothing, so that the command can be typed again, also after it was killed
        with _made_whole(home) as made:
            _lay_out(home, made, files, layout, tables)
            if "items" not in tables:
                described = draft.item_columns(made.logs("events"), roles)
                _lay_out_items(home, made, files, layout, described)
            _draft(home, made, roles, layout.time_zone)
    pipeline = open_pipeline(str(home.file))
    outcomes = _run(home, pipeline, days, as_json)
    example = _say_what_next(home, pipeline, address)
    result = {
        "pipeline": str(home.file),
        "user": example,
        "days": outcomes,
        "inspector": address and f"{address}/",
    }
    end_with_json(result, as_json)
    if address:
        echo("serve", str(home.file), "--port", address.rpartition(":")[2])
        serve.serve(str(home.file), port=int(address.rpartition(":")[2]))


def _check_files(files: list[Path]) -> None:
    from twinspire_core.records.raw_files import kind_of

    for file in files:
        pipeline_file.check_local(file)
        if file.is_dir():
            raise UsageError(
                f"`twinspire try` takes files; {file} is a folder. Name its files, or, if it holds one folder"
                f" per day, draft a pipeline file for it: twinspire init {file}"
            )
        if not file.is_file():
            raise UsageError(f"There is no file at {file}. Check the path.")
        if kind_of(file.name) is None:
            raise UsageError(
                "A file's ending must say that it is CSV, Parquet or JSON Lines; found"
                f" {file}. Export it as CSV, or name it .csv if it is CSV."
            )


def _home(files: list[Path], name: str | None, to: Path | None, zone: str) -> _Home:
    """The folder for all files: a new one, or one that an earlier call has made.

    Raises:
      UsageError: the folder holds other things, or the name or the time zone is not valid.
    """
    stem = re.sub(r"[^a-z0-9_-]+", "-", files[0].name.partition(".")[0].lower())
    name = name or stem.lstrip("0123456789-_") or "trial"
    pipeline_file.check_names(name, zone)
    home = _Home(to or Path(name), name)
    folder = home.folder.resolve()
    if home.file.exists() or not folder.exists():
        return home
    if not folder.is_dir() or any(folder.iterdir()) or folder == Path.cwd():
        raise UsageError(
            f"`twinspire try` needs a new folder; {home.folder} exists, but has no"
            f" {home.file.name}. Name another folder: --out FOLDER or --name NAME."
        )
    return home


def _as_drafted(
    home: _Home,
    pipeline: Pipeline,
    given: "Mapping[Role, str | None]",
    zone: str | None,
    tables: Mapping[str, Path],
) -> "Mapping[Role, str | None]":
    """The columns that the pipeline file names.

    Raises:
      UsageError: an option names another column, another time zone or a table that the file lacks.
    """
    named = {"user", "item", "time", "event"}
    roles: dict[Any, str | None] = pipeline.columns.model_dump(include=named)
    others: list[str] = [role for role, column in given.items() if column != roles[role]]
    if zone not in (None, pipeline.pipeline.time_zone):
        others.append("time-zone")
    others += [kind for kind in tables if getattr(pipeline.source, kind) is None]
    if others:
        raise UsageError(
            f"--{others[0]} differs from {home.file}, which is not changed. Leave the option out, or start"
            " in another folder: --out FOLDER."
        )
    return roles


@contextmanager
def _made_whole(home: _Home) -> Iterator[_Home]:
    """A temporary folder that becomes the home if all goes well; otherwise it is deleted."""
    final = home.folder.resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent) as partial:
        # A folder inside, because a temporary folder is readable only by its owner
        made = Path(partial, final.name)
        made.mkdir()
        yield _Home(made, home.name)
        if final.exists() and any(final.iterdir()):
            raise UsageError(
                f"`twinspire try` needs a new folder; another command has just made {home.folder}."
                " Name another folder: --out FOLDER or --name NAME."
            )
        made.rename(final)


def _lay_out(
    home: _Home, made: _Home, files: list[Path], layout: "Layout", tables: Mapping[str, Path]
) -> None:
    """Lays out the events, and items and users as snapshots of the day before."""
    from beam_jobs.partitioning.calendar_days import Layout

    events = _partition(home, made, "events", files, layout)
    if events.first is None:
        raise BadData(f"There are no events in {', '.join(map(str, files))}. Give another file.")
    if events.rejected:
        say(f"Rejected rows are in {home.folder / _REJECTED}.")
    # Snapshots are of the day before, so that items and users are known at the first event
    before = events.first - timedelta(days=1)
    for kind, file in tables.items():
        csv = raw_logs.csv_of([file])
        echo("partition", str(file), "--out", home.day(kind), *flags({"snapshot": before}, csv))
        daily_folders.lay_out([str(file)], made.day(kind), Layout(snapshot=before, csv=csv))


def _partition(
    home: _Home, made: _Home, table: str, files: list[Path], layout: "Layout"
) -> "Summary":
    """Lays the files of events out, or the items that they describe."""
    from twinspire_core.records.csv_lines import join_names

    sources = [str(file) for file in files]
    options = {
        "items-of": join_names(layout.items_of) or None,
        "time": layout.time,
        "time-unit": layout.time_unit,
        "time-format": layout.time_format,
        "time-zone": layout.time_zone,
        "rejected": home.folder / _REJECTED,
    }
    echo("partition", *sources, "--out", home.day(table), *flags(options, layout.csv))
    return daily_folders.lay_out(
        sources,
        made.day(table),
        layout,
        rejected=str(made.folder / _REJECTED),
        max_rejected=_MAX_REJECTED,
    )


def _lay_out_items(
    home: _Home, made: _Home, files: list[Path], layout: "Layout", described: list[str]
) -> None:
    """Makes a table of items from what the events say about them."""
    if described:
        say(f"Columns that describe the item become a table of items: {', '.join(described[1:])}")
        _partition(home, made, "items", files, replace(layout, items_of=described))


def _draft(home: _Home, made: _Home, columns: "Mapping[Role, str | None]", zone: str) -> None:
    """Writes the pipeline file."""
    from beam_jobs.scaffold import draft

    tables = {kind: made.logs(kind) for kind in ("items", "users") if made.logs(kind).exists()}
    options: dict[str, object] = {kind: home.logs(kind) for kind in tables}
    options |= {role: column or "none" for role, column in columns.items()}
    options |= {"name": home.name, "time-zone": zone, "out": home.file}
    echo("init", str(home.logs("events")), *flags(options))
    text = draft.draft(
        home.name,
        made.logs("events"),
        tables.get("items"),
        tables.get("users"),
        zone,
        made.folder,
        columns,
    )
    newest = date.fromisoformat(max(made.logs("events").iterdir()).name.removeprefix("dt="))
    if date.today() - newest > RegistryConfig.model_fields["max_age"].default:
        text += f'\n[registry]\nmax_age = "0d"  # the log ends on {newest}: delete this line once days are new\n'
    made.file.write_text(text)
    say(f"Wrote {home.file}")


def _run(home: _Home, pipeline: Pipeline, most: int, as_json: bool) -> list[dict[str, Any]]:
    """Checks the pipeline file and runs the last days.

    Raises:
      GateRefused: no version is live after them.
    """
    days = _last_days(pipeline, most)
    echo("validate", str(home.file), "--date", str(days[-1]))
    with doing(f"checking {days[-1]}"):
        from beam_jobs.scaffold import validate as checks

        findings = checks.validate(pipeline, days[-1]).columns
    if not all(finding.ok for finding in findings):
        pipeline_file.validate(str(home.file), str(days[-1]))  # shows them, and raises
    for one in findings:
        if one.doubt:
            say(f"Check {one.table}.{one.column} ({one.use}): {one.found}")
    say(f"The pipeline file fits the data: {len(findings)} columns checked.")
    for day in days:
        echo("run", str(home.file), "--date", str(day))
    outcomes = run_days.run_each(pipeline, days, as_json)
    if Registry(pipeline.registry.root, pipeline.name).live() is None:
        raise GateRefused(
            f"No version of {home.file} is live. The messages above say why. Edit the file, or run more"
            " days (--days), and type the same command again."
        )
    return outcomes


def _last_days(pipeline: Pipeline, most: int) -> list[date]:
    """The last days that have enough logs to be run; the export may end in the middle of a day."""
    from beam_jobs.ingest import day_files

    days: list[date] = []
    for day in reversed(day_files.folder_days(pipeline, "events")):
        if len(days) == most:
            break
        try:
            day_files.check(pipeline, day)
        except (BadData, LogsLate, NothingToDo) as e:
            say(f"{day} is left out. {e}")
        else:
            days.append(day)
    if not days:
        raise BadData(f"No day in {pipeline.source.events} has enough logs. Give a larger file.")
    return days[::-1]


def _say_what_next(home: _Home, pipeline: Pipeline, address: str | None) -> str:
    """Prints the commands to go on with, and the page to look at.

    Returns: a user to look at.
    """
    user = _busy_user(pipeline)
    say(
        f"\nAll files are in {home.folder}. You can edit {home.file} and type the same command again."
        " Other commands:"
    )
    for command, *arguments in (
        ("recommend", "--user", user),
        ("versions",),
        ("report", "--open"),
    ):
        say("  " + shlex.join(["twinspire", command, str(home.file), *arguments]))
    if address:
        say(f"\nLists of a user: {address}/?{urlencode({'user': user})}   Ctrl-C ends the server.")
    return user


def _busy_user(pipeline: Pipeline) -> str:
    """The user with the most events on the live version's day."""
    from beam_jobs.ingest import day_files
    from beam_jobs.partitioning.log_tables import read

    registry = Registry(pipeline.registry.root, pipeline.name)
    day = registry.manifest(registry.find()).date
    file = Path(day_files.files(pipeline, "events", day)[0].uri)
    # The first rows of the first file are enough to find a user with many events
    rows = next(read(file, lambda malformed: None, pipeline.source.format))
    users = rows[pipeline.columns.user].cast("string").value_counts().to_pylist()
    return str(max(users, key=lambda user: (user["values"] is not None, user["counts"]))["values"])
