"""Drafts a pipeline file from logs, for a person to finish.

Columns and features follow from samples; window, history and training from figures of the whole log.
"""

import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from beam_jobs.ingest.timestamps import forms_of
from beam_jobs.partitioning.log_tables import (
    files_below,
    flat,
    format_of,
    read,
    with_numbers,
)
from beam_jobs.partitioning.set_aside import Malformed
from beam_jobs.scaffold import column_names, event_types, feature_draft, item_table, log_figures
from beam_jobs.scaffold.roles import Ask, Role, choose_columns, key_of
from twinspire_core.config.source_registry import NEIGHBOURS
from twinspire_core.config.tables.data import ColumnsConfig, SourceConfig
from twinspire_core.config.tables.quality import SourcesConfig
from twinspire_core.errors import BadData, UsageError
from twinspire_core.records.csv_lines import CsvOptions
from twinspire_core.records.raw_files import kind_of
from twinspire_core.records.record_file import sniff

_SAMPLE_ROWS = 200_000
_SAMPLED_FILES = 8
_ENOUGH_SAMPLED = 20_000
# A table that was made from the log lists items that are gone, and none that comes later
_CORPUS_OF_EVENTS = (
    "days = 7  # only items with an event in this many days: the table of items is made of the events",
    "unlisted = true  # also items that it does not list yet",
)
_USER_STORE = (
    "user_store = true  # personal data: versions hold users' last items; false: requests bring"
    " histories"
)


def draft(
    name: str,
    events: Path,
    items: Path | None = None,
    users: Path | None = None,
    zone: str = "UTC",
    home: Path | None = None,
    given: Mapping[Role, str | None] | None = None,
    ask: Ask | None = None,
) -> str:
    """The text of a pipeline file for tables like these.

    Args:
      name: name of the recommender.
      events: a file or folder of events.
      items: a file or folder of items, if there is one.
      users: a file or folder of users, if there is one.
      zone: IANA name of the time zone whose calendar days count.
      home: folder that the pipeline file will lie in, which its paths are relative to; None for
        absolute paths.
      given: columns of the events by role; None for an event type that the log lacks.
      ask: asks a person for the column of a role that the sample leaves open; None to raise an error.

    Raises:
      UsageError: a sample cannot be read, or leaves the column of a role open and `ask` is None.
    """
    log = sample_table(events, "events", home)
    columns = choose_columns(log.rows, events, given or {}, ask)
    event = columns["event"]
    keys: dict[Role, str] = {
        role: column for role, column in columns.items() if role != "event" and column
    }
    unit = _unit(log.rows[keys["time"]], events)
    paths = {"items": items, "users": users}
    tables = {kind: sample_table(path, kind, home) for kind, path in paths.items() if path}
    own_keys = {kind: _own_key(table.rows, kind, keys, log.rows) for kind, table in tables.items()}
    config = ColumnsConfig.model_validate({**keys, "time_unit": unit or "s"})
    figures = log_figures.figures_of(log_files(events), config, zone)
    samples = {kind: table.rows for kind, table in tables.items()}
    lines = [
        log_figures.about(figures),
        "",
        "[pipeline]",
        f'name = "{name}"',
        f'time_zone = "{zone}"',
        "",
        "[source]",
        f'events = "{log.where}"',
        *(f'{kind} = "{table.where}"' for kind, table in tables.items()),
        *_max_rejected(log.rows, keys.values(), figures),
        "",
        "[columns]",
        *_columns(log.rows, keys, unit, event, own_keys),
        "",
        "[window]",
        *log_figures.window_lines(figures),
        *(_corpus(samples["items"], own_keys["items"], log.rows) if "items" in samples else ()),
        "",
        "[serving]",
        log_figures.exclude_seen_line(figures),
        _USER_STORE,
        *log_figures.length_of_lists_lines(figures),
        "",
        "# Where recommended items come from; a ranker that is fitted each day orders them. A source",
        "# that is left out costs nothing; neighbours need serving.user_store.",
        "[sources]",
        f"use = {json.dumps([*SourcesConfig().use, NEIGHBOURS])}",
        "",
        "# What the two towers see. Delete what should not matter. Of the events, only columns",
        "# whose value is known before the click may be features: not what the user did, gave or",
        "# paid then.",
        *feature_draft.feature_lines(
            log.rows, {*keys.values(), event}, keys["item"], samples, own_keys, figures
        ),
    ]
    return "\n".join(lines) + "\n"


def _max_rejected(
    rows: pl.DataFrame, keys: Collection[str], figures: log_figures.LogFigures
) -> Iterator[str]:
    """The line of `[source]` on rejected records, where a day may well have more than the default allows."""
    missing = float(rows.select(pl.any_horizontal(pl.col(*keys).is_null()).mean()).item())
    # Four standard deviations of a small day
    small = float(np.quantile([events for events in figures.daily if events], 0.1))
    limit = missing + 4 * math.sqrt(missing * (1 - missing) / small)
    if limit > SourceConfig.model_fields["max_rejected"].default:
        yield (
            f"max_rejected = {min(1.0, math.ceil(100 * limit) / 100):g}"
            f"  # {missing:.1%} of the sampled events lack a user, an item or a time"
        )


def _unit(times: pl.Series, path: Path) -> str | None:
    """The unit of times that are numbers, else None.

    Raises:
      UsageError: no stage reads times in this form.
    """
    form = next(iter(forms_of(times)), None)
    if form is None and not times.dtype.is_temporal():
        raise UsageError(
            f"{no_times(times)} Name another column with --time, or run"
            " `twinspire partition --time-format` and make the draft from its output folder."
        )
    if form and form.format:
        raise UsageError(
            f"Stages can only read timestamps, ISO 8601 and numbers; in {path}, a time of"
            f" {times.name!r} is {times.drop_nulls()[0]!r}. Partition the log with this format,"
            f" then make the draft from the folder: twinspire partition {path} --time {times.name}"
            f" --time-format '{form.format}' --out 'logs/events/dt={{date}}/'"
        )
    return form.unit if form else None


def no_times(values: pl.Series) -> str:
    """The message that a column holds no times."""
    return (
        "A time must be a timestamp, ISO 8601 text or a number since 1970; column"
        f" {values.name!r} contains {values.drop_nulls().head(1).to_list()}."
    )


def _own_key(rows: pl.DataFrame, kind: str, keys: Mapping[Role, str], events: pl.DataFrame) -> str:
    """The column of ids in `items` or `users`: by the name that it has in the events, or by its values and
    name.
    """
    role: Role = "item" if kind == "items" else "user"
    if keys[role] in rows.columns:
        return keys[role]
    column = key_of(rows, role, events[keys[role]])
    if column is None:
        raise UsageError(
            f"No column of the {kind} has the ids in {keys[role]!r} of the events. The columns are"
            f" {', '.join(rows.columns)}. Rename the one with the ids to {keys[role]!r}."
        )
    return column


def _columns(
    rows: pl.DataFrame,
    keys: Mapping[Role, str],
    unit: str | None,
    event: str | None,
    own_keys: Mapping[str, str],
) -> Iterator[str]:
    """Lines of `[columns]`.

    Args:
      rows: a sample of events.
      keys: columns by role: `user`, `item` and `time`.
      unit: unit of times that are numbers, else None.
      event: column of the events' type, if there is one.
      own_keys: the columns of ids in `items` and `users`.
    """
    yield from (f"{role} = {_quoted(column)}" for role, column in keys.items())
    if unit:
        yield f'time_unit = "{unit}"'
    if event:
        yield from event_types.lines(rows, event, keys)
    for column in rows.columns:
        # A rating or a price may weigh events, or be learned: only the owner of the log knows which.
        numbers = column_names.is_outcome(column) and rows[column].dtype.is_numeric()
        if numbers and column not in keys.values():
            name = _quoted(column)
            yield f"# reward = {name}  # weighs events by this number of 0 or more; without it all count 1"
            yield f"# label = {name}  # a number that train.auxiliary learns, once its weight is above 0"
    for kind, own_key in own_keys.items():
        if own_key != keys["item" if kind == "items" else "user"]:
            yield f"{kind}_key = {_quoted(own_key)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _corpus(rows: pl.DataFrame, key: str, events: pl.DataFrame) -> list[str]:
    shown = item_table.names(rows, key)
    lists = [c for c in rows.columns if isinstance(rows[c].dtype, pl.List)]
    kinds = [
        c
        for c in rows.columns
        if c not in (key, *shown) and (c in lists or feature_draft.is_category(rows[c]))
    ]
    return [
        "",
        "[corpus]",
        *(_CORPUS_OF_EVENTS if item_table.is_of_events(rows, events) else ()),
        f"display = {json.dumps(shown)}  # columns shown to people; the first is the name",
        f"attributes = {json.dumps(kinds)}  # columns that requests may filter by",
    ]


def item_columns(events: Path, columns: Mapping[Role, str | None]) -> list[str]:
    """The columns of a table of items that a folder of events holds, first the id; none if no column describes
    the item. `columns` have the roles of the events.
    """
    item = str(columns["item"])
    rows = sample_table(events, "events", None).rows
    described = item_table.columns_of_items(rows, item, columns.values())
    return [item, *described] if described else []


class LogSample(NamedTuple):
    """A sample of a table, and the folder of its days as the pipeline file names it, with `{date}`."""

    where: str
    rows: pl.DataFrame


def sample_table(path: Path, kind: str, home: Path | None) -> LogSample:
    """The first rows of the last file; for events, of several files from the first to the last, since rare
    values do not occur on every day.
    """
    files = log_files(path)
    file = files[-1] if files else None
    if file is None or not file.exists():
        raise UsageError(
            f"There is no file of {kind} at {path}. Give the path of a file, or of a folder with files."
        )
    if kind_of(file.name) is None:
        raise UsageError(
            "A file for a draft must have the ending of Parquet, JSON Lines or CSV; found"
            f" {file}. {_layout_command(file, kind, '--format csv')}"
        )
    _refuse_other_csv(file, kind)
    # The date in the folder's name becomes the placeholder; a log that is not laid out has none.
    folder = _place(file.resolve().parent, home) + "/"
    where, dates = re.subn(r"\d{4}-\d\d-\d\d", "{date}", folder)
    if not dates:
        where = f"{kind}/dt={{date}}/"
    step = max(1, len(files) // _SAMPLED_FILES)
    while True:
        chosen = files[::step] if kind == "events" else [file]
        rows = stack([sample_rows(path).head(_SAMPLE_ROWS // len(chosen)) for path in chosen])
        if len(rows) >= _ENOUGH_SAMPLED or step == 1 or kind != "events":
            return LogSample(where, rows)
        step = max(1, step // 4)  # days are small: read more of them


def log_files(path: Path) -> list[Path]:
    """The files below a folder that are not empty, sorted; a file itself."""
    return [file for file in files_below(path) if file == path or file.stat().st_size]


def _refuse_other_csv(file: Path, kind: str) -> None:
    """Refuses a CSV that stages cannot read: with another delimiter than its ending says, or not UTF-8."""
    if format_of(file) != "csv":
        return
    likely = sniff(str(file))
    options = [f"--delimiter '{likely.delimiter}'"] if likely.delimiter else []
    if likely.encoding != "utf-8":
        options.append(f"--encoding {likely.encoding}")
    if options:
        raise UsageError(
            f"A CSV file for a draft must be UTF-8 with commas (tabs in .tsv); {file} is not."
            f" {_layout_command(file, kind, ' '.join(options))}"
        )


def _layout_command(file: Path, kind: str, options: str) -> str:
    """Advice on the command that lays a file out by day."""
    day = "--time COLUMN" if kind == "events" else "--snapshot DATE"
    return (
        f"Lay it out first, then draft from the folder: twinspire partition {file} {options} --out"
        f" 'logs/{kind}/dt={{date}}/' {day}"
    )


def sample_rows(file: Path, csv: CsvOptions | None = None, *, nested: bool = True) -> pl.DataFrame:
    """The first rows of a local file, at most 200,000.

    Args:
      file: its ending says the format.
      csv: how a CSV file is written; by default with commas, in UTF-8.
      nested: whether nested columns stay as they are; else each field is a column, as
        `twinspire partition` writes them.

    Raises:
      BadData: the file has no record.
    """
    malformed: list[Malformed] = []
    rows = next(read(file, malformed.append, options=csv), None)
    if rows is None or not len(rows):
        raise BadData(_no_records(file, malformed))
    rows = rows.slice(0, _SAMPLE_ROWS)
    if format_of(file) == "csv":
        rows = with_numbers(rows)  # as stages do, where the pipeline file asks for numbers
    return pl.DataFrame(rows if nested else flat(rows))


def _no_records(file: Path, malformed: Sequence[Malformed]) -> str:
    """The message about a file without any record; `malformed` are its lines that hold none."""
    first = f": {malformed[0].place} is {malformed[0].reason}" if malformed else ""
    remedy = "Export it again, with its rows"
    if malformed and format_of(file) == "csv":
        remedy = "Delete lines before the header, if there are any. Else export it again"
    if malformed and format_of(file) == "jsonl":
        remedy = f"Write one JSON object a line; for an array: jq -c '.[]' {file} > lines.jsonl"
    return f"A file of a log must hold records; {file} has none{first}. {remedy}."


def _place(folder: Path, home: Path | None) -> str:
    """A folder as the pipeline file names it: relative to the file's home, if both share a folder."""
    # A path that climbs up to the root is longer than the absolute one, and breaks when moved.
    if home is None or os.path.commonpath([folder, home.resolve()]) == os.sep:
        return str(folder)
    return os.path.relpath(folder, home.resolve())


def stack(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts; only of the first, where a column has lists in some parts and not in others."""
    try:
        return pl.concat(parts, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        return parts[0]
