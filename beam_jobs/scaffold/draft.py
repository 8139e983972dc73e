"""Drafts a pipeline file from a sample of the logs, for a person to finish."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from beam_jobs.partitioning.column_types import flat, with_numbers
from beam_jobs.partitioning.log_tables import Format, format_of, read
from beam_jobs.partitioning.time_forms import forms_of
from beam_jobs.scaffold import draft_rules, feature_draft
from beam_jobs.scaffold.day_sample import stack
from beam_jobs.scaffold.log_figures import figures_of
from beam_jobs.scaffold.roles import Ask, Role, choose_columns, key_of
from twinspire_core.config.source_names import NEIGHBOURS
from twinspire_core.config.tables.data import ColumnsConfig
from twinspire_core.config.tables.quality import SourcesConfig
from twinspire_core.errors import UsageError
from twinspire_core.records.csv_lines import CsvOptions
from twinspire_core.records.record_file import sniff

_SAMPLE_ROWS = 200_000
_SAMPLED_FILES = 8
_USER_STORE = (
    "user_store = true  # personal data: versions hold users' last items; false: requests bring"
    " histories"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A sample of one table and where its days lie."""

    where: str
    rows: pl.DataFrame


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
    """The text of a pipeline file for tables that look like these samples.

    Args:
      events: a file or folder of events.
      items: the same of items.
      users: the same of users.
      home: folder that the file will lie in, which paths are relative to; without it they are
        absolute.
      given: columns of the events by role; None for an event that there is not.
      ask: called for each other role of which the sample does not tell the column for sure.

    Raises:
      UsageError: a sample cannot be read, or it does not tell the column of a role and there is
        nobody to ask.
    """
    log = _sample(events, "events", home)
    columns = choose_columns(log.rows, events, given or {}, ask)
    event = columns["event"]
    keys: dict[Role, str] = {
        role: column for role, column in columns.items() if role != "event" and column
    }
    unit = _unit(log.rows[keys["time"]], events)
    paths = {kind: path for kind, path in {"items": items, "users": users}.items() if path}
    tables = {kind: _sample(path, kind, home) for kind, path in paths.items()}
    own_keys = {
        kind: _own_key(table.rows, kind, keys, log.rows, paths[kind])
        for kind, table in tables.items()
    }
    read = ColumnsConfig.model_validate({**keys, "time_unit": unit or "s"})
    figures = figures_of(_files(events), read, zone)
    samples = {kind: table.rows for kind, table in tables.items()}
    lines = [
        draft_rules.about(figures),
        "",
        "[pipeline]",
        f'name = "{name}"',
        f'time_zone = "{zone}"',
        "",
        "[source]",
        f'events = "{log.where}"',
        *(f'{kind} = "{table.where}"' for kind, table in tables.items()),
        "",
        "[columns]",
        *_columns(log.rows, keys, unit, event, own_keys),
        "",
        "[window]",
        *draft_rules.window_lines(figures),
        *(_corpus(tables["items"], own_keys["items"]) if "items" in tables else ()),
        "",
        "[serving]",
        draft_rules.exclude_seen_line(figures),
        _USER_STORE,
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


def _unit(times: pl.Series, path: Path) -> str | None:
    """The unit of times that are numbers.

    Raises:
      UsageError: no stage reads such times.
    """
    form = next(iter(forms_of(times)), None)
    if form is None and not times.dtype.is_temporal():
        raise UsageError(
            f"{no_times(times)} Name another column by --time, or lay the log out with"
            " `twinspire partition --time-format`, then draft from the folder."
        )
    if form and form.format:
        raise UsageError(
            f"Stages read timestamps, ISO 8601 and numbers; in {path}, {times.name!r} is written as"
            f" {times.drop_nulls()[0]!r}. Lay the log out with its format, then draft from the"
            f" folder: twinspire partition {path} --time {times.name}"
            f" --time-format '{form.format}' --out 'logs/events/dt={{date}}/'"
        )
    return form.unit if form else None


def no_times(values: pl.Series) -> str:
    """Says that a column holds no times."""
    return (
        "A time is a timestamp, ISO 8601 text or a number since 1970;"
        f" {values.name!r} holds {values.drop_nulls().head(1).to_list()}."
    )


def _own_key(
    rows: pl.DataFrame, kind: str, keys: Mapping[Role, str], events: pl.DataFrame, path: Path
) -> str:
    """The column of `items` or `users` that holds the id: named as in the events, or found by its
    values or its name.
    """
    role: Role = "item" if kind == "items" else "user"
    if keys[role] in rows.columns:
        return keys[role]
    column = key_of(rows, role, events[keys[role]])
    if column is None:
        raise UsageError(
            f"No column of {path} holds ids of the events' {keys[role]}; its columns:"
            f" {', '.join(rows.columns)}. Rename one to {keys[role]!r} there."
        )
    return column


def _columns(
    rows: pl.DataFrame,
    keys: Mapping[Role, str],
    unit: str | None,
    event: str | None,
    own_keys: Mapping[str, str],
) -> Iterator[str]:
    """Lines that say what the columns are.

    Args:
      rows: a sample of events.
      keys: columns by role: `user`, `item` and `time`.
      unit: of times that are numbers.
      event: column of the events' type, if there is one.
      own_keys: by `items` and `users`, the column there that holds the id.
    """
    yield from (f"{role} = {_quoted(column)}" for role, column in keys.items())
    if unit:
        yield f'time_unit = "{unit}"'
    if event:
        found = rows[event].cast(pl.String).drop_nulls().value_counts().sort("count", event)[event]
        types = [_quoted(one) for one in found]
        yield f"event = {_quoted(event)}"
        yield f"positives = [{', '.join(sorted(types))}]  # keep those that recommendations should lead to"
        # What is rare is worth more, as a rule: purchases beside views.
        yield f"# weights = {{ {types[0]} = 3.0 }}  # how much more than another event one of this type counts"
    for column in rows.columns:
        numbers = feature_draft.is_outcome(column) and rows[column].dtype.is_numeric()
        if numbers and column not in keys.values():
            name = _quoted(column)
            yield f"# reward = {name}  # weighs events by this number of 0 or more; without it all count 1"
            yield f"# label = {name}  # a number that train.auxiliary learns, once its weight is above 0"
    for kind, own_key in own_keys.items():
        if own_key != keys["item" if kind == "items" else "user"]:
            yield f"{kind}_key = {_quoted(own_key)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _sample(path: Path, kind: str, home: Path | None) -> Table:
    """The first rows of the last file; of events, those of some files from the first to the last,
    as what is rare is not there on each day.
    """
    files = _files(path)
    file = files[-1] if files else None
    if file is None or not file.exists():
        raise UsageError(
            f"A sample of {kind} is a file or a folder with files; found nothing at {path}."
        )
    try:
        format_of(file)
    except UsageError as e:
        raise UsageError(
            f"A draft is made from Parquet, JSON Lines or CSV, told by the ending; {file} has none"
            " of these. Lay the file out first, then draft from the folder: twinspire partition"
            f" {file} --format csv --out 'logs/{kind}/dt={{date}}/' {_day_option(kind)}"
        ) from e
    _refuse_other_csv(file, kind)
    folder = _place(file.resolve().parent, home) + "/"
    where, dates = re.subn(r"\d{4}-\d\d-\d\d", "{date}", folder)
    if not dates:
        where = f"{kind}/dt={{date}}/"
    chosen = files[:: max(1, len(files) // _SAMPLED_FILES)] if kind == "events" else [file]
    rows = [sample_rows(one).head(_SAMPLE_ROWS // len(chosen)) for one in chosen]
    return Table(where, stack(rows))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = (f for f in sorted(path.rglob("*")) if f.is_file() and f.name[0] not in "._")
    return [file for file in files if file.stat().st_size]


def _refuse_other_csv(file: Path, kind: str) -> None:
    """Stages read a CSV as it is only with the ending's delimiter, and in UTF-8."""
    if format_of(file) != "csv":
        return
    likely = sniff(str(file))
    options = []
    if likely.delimiter:
        options.append(f"--delimiter '{likely.delimiter}'")
    if likely.encoding != "utf-8":
        options.append(f"--encoding {likely.encoding}")
    if options:
        raise UsageError(
            f"A CSV is cut at commas (tabs in .tsv) and is UTF-8; {file} is not. Lay it out first,"
            f" then draft from the folder: twinspire partition {file} {' '.join(options)} --out"
            f" 'logs/{kind}/dt={{date}}/' {_day_option(kind)}"
        )


def _day_option(kind: str) -> str:
    return "--time COLUMN" if kind == "events" else "--snapshot DATE"


def sample_rows(
    file: Path, format: Format = "auto", csv: CsvOptions | None = None, *, nested: bool = True
) -> pl.DataFrame:
    """The first rows of a file, at most 200,000.

    Args:
      csv: what a CSV does not say about itself.
      nested: whether nested columns stay as they are; else each field is a column, as
        `twinspire partition` writes them.
    """
    rows = next(read(file, lambda malformed: None, format, csv)).slice(0, _SAMPLE_ROWS)
    if format_of(file, format) == "csv":
        rows = with_numbers(rows)  # its text is read as numbers, where they are asked for
    return pl.DataFrame(rows if nested else flat(rows))


def _place(folder: Path, home: Path | None) -> str:
    """A folder as the pipeline file names it: relative to its home, if they share anything."""
    if home is None or os.path.commonpath([folder, home.resolve()]) == os.sep:
        return str(folder)
    return os.path.relpath(folder, home.resolve())


def _corpus(items: Table, key: str) -> list[str]:
    rows = items.rows
    shown = [c for c in rows.columns if feature_draft.is_shown(c, rows[c])]
    lists = [c for c in rows.columns if isinstance(rows[c].dtype, pl.List)]
    kinds = [
        c
        for c in rows.columns
        if c not in (key, *shown) and (c in lists or feature_draft.is_category(rows[c]))
    ]
    return [
        "",
        "[corpus]",
        f"display = {json.dumps(shown)}  # columns shown to people; the first is the name",
        f"attributes = {json.dumps(kinds)}  # columns that requests may filter by",
    ]
