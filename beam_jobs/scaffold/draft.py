"""Drafts a pipeline file from samples of the logs (columns, features) and from figures of the whole log
(window, history, training), for a person to finish.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from beam_jobs.ingest.timestamps import forms_of
from beam_jobs.scaffold import column_names, feature_draft, log_figures
from beam_jobs.scaffold.log_figures import figures_of
from beam_jobs.scaffold.roles import Ask, Role, choose_columns, key_of
from beam_jobs.scaffold.samples import LogSample, log_files, sample_table
from twinspire_core.config.source_names import NEIGHBOURS
from twinspire_core.config.tables.data import ColumnsConfig
from twinspire_core.config.tables.quality import SourcesConfig
from twinspire_core.errors import UsageError

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
    paths = {kind: path for kind, path in {"items": items, "users": users}.items() if path}
    tables = {kind: sample_table(path, kind, home) for kind, path in paths.items()}
    own_keys = {
        kind: _own_key(table.rows, kind, keys, log.rows, paths[kind])
        for kind, table in tables.items()
    }
    read = ColumnsConfig.model_validate({**keys, "time_unit": unit or "s"})
    figures = figures_of(log_files(events), read, zone)
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
        "",
        "[columns]",
        *_columns(log.rows, keys, unit, event, own_keys),
        "",
        "[window]",
        *log_figures.window_lines(figures),
        *(_corpus(tables["items"], own_keys["items"]) if "items" in tables else ()),
        "",
        "[serving]",
        log_figures.exclude_seen_line(figures),
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
    """The unit of times that are numbers, else None.

    Raises:
      UsageError: no stage reads times in this form.
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
    """The message that a column holds no times."""
    return (
        "A time is a timestamp, ISO 8601 text or a number since 1970;"
        f" {values.name!r} holds {values.drop_nulls().head(1).to_list()}."
    )


def _own_key(
    rows: pl.DataFrame, kind: str, keys: Mapping[Role, str], events: pl.DataFrame, path: Path
) -> str:
    """The column of ids in `items` or `users`: by the name that it has in the events, or by its values and
    name.
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
        counts = rows[event].cast(pl.String).drop_nulls().value_counts().sort("count", event)
        types = [_quoted(event_type) for event_type in counts[event]]
        yield f"event = {_quoted(event)}"
        yield f"positives = [{', '.join(sorted(types))}]  # keep those that recommendations should lead to"
        # As a rule, the rarest type is worth most: purchases, for example, compared with views.
        yield f"# weights = {{ {types[0]} = 3.0 }}  # how much more than another event one of this type counts"
    for column in rows.columns:
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


def _corpus(items: LogSample, key: str) -> list[str]:
    rows = items.rows
    shown = [c for c in rows.columns if column_names.is_shown(c, rows[c])]
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
