"""Drafts a pipeline file from a sample of the logs, for a person to finish."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from beam_jobs.partitioning.column_types import with_numbers
from beam_jobs.partitioning.log_tables import format_of, read
from beam_jobs.scaffold import feature_draft
from twinspire_core.config.source_names import PERSONAL, TRENDING
from twinspire_core.config.tables.quality import FusionConfig
from twinspire_core.errors import UsageError

_NAMES = {
    "user": (
        r"user|customer|household|visitor|member|client|account|uid|reader|viewer|listener|session"
    ),
    "item": r"item|product|article|movie|track|video|song|sku|asin|content|listing|book|news|offer",
    "time": r"time|date|_at$|^ts$|^at$",
    "event": r"event|action|behaviou?r|interaction|^type$",
}
_SAMPLE_ROWS = 200_000
DRAFTED = (*FusionConfig().sources, PERSONAL, TRENDING)
"""The sources of a new recommender: those that are there by default, and those that know the time,
which cost little where they are of no use (docs/decisions/0053-sources-that-know-the-time.md).
"""


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
) -> str:
    """The text of a pipeline file for tables that look like these samples.

    Args:
      name: of the recommender.
      events: a file or folder of events.
      items: the same of items.
      users: the same of users.
      zone: IANA name.
      home: folder that the file will lie in, which paths are relative to; without it they are
        absolute.

    Raises:
      UsageError: a sample cannot be read, or no column looks like the user, the item or the time.
    """
    log = _sample(events, "events", home)
    keys = {role: _pick(log.rows, role, events) for role in ("user", "item", "time")}
    event = _event_column(log.rows)
    given = {"items": items, "users": users}
    paths = {kind: path for kind, path in given.items() if path}
    tables = {kind: _sample(path, kind, home) for kind, path in paths.items()}
    own_keys = {
        kind: _own_key(table.rows, kind, keys, paths[kind]) for kind, table in tables.items()
    }
    samples = {kind: table.rows for kind, table in tables.items()}
    lines = [
        "[pipeline]",
        f'name = "{name}"',
        f'time_zone = "{zone}"',
        "",
        "[source]",
        f'events = "{log.where}"',
        *(f'{kind} = "{table.where}"' for kind, table in tables.items()),
        "",
        "[columns]",
        *_columns(log.rows, keys, event, own_keys),
        *(_display(tables["items"]) if "items" in tables else ()),
        *_mix(),
        "",
        "# What the two towers see. Delete what should not matter. Of the events, only columns",
        "# whose value is known before the click may be features: not what the user did, gave or",
        "# paid then.",
        *feature_draft.feature_lines(log.rows, {*keys.values(), event}, samples, own_keys),
    ]
    return "\n".join(lines) + "\n"


def _own_key(rows: pl.DataFrame, kind: str, keys: Mapping[str, str], path: Path) -> str:
    """The column of `items` or `users` that holds the id: named as in the events, or like an id."""
    role = kind.removesuffix("s")
    return keys[role] if keys[role] in rows.columns else _pick(rows, role, path)


def _columns(
    rows: pl.DataFrame, keys: Mapping[str, str], event: str | None, own_keys: Mapping[str, str]
) -> list[str]:
    """Lines that say what the columns are.

    Args:
      rows: a sample of events.
      keys: columns by role: `user`, `item` and `time`.
      event: column of the events' type, if there is one.
      own_keys: by `items` and `users`, the column there that holds the id.
    """
    lines = [f'{role} = "{column}"' for role, column in keys.items()]
    times = rows[keys["time"]]
    if times.dtype.is_integer():
        lines.append(f'time_unit = "{_unit(times)}"')
    if event:
        lines += _event_lines(rows, event)
    lines += _rewards(rows, set(keys.values()))
    for kind, own_key in own_keys.items():
        if own_key != keys[kind.removesuffix("s")]:
            lines.append(f'{kind}_key = "{own_key}"')
    return lines


def _mix() -> list[str]:
    names = ", ".join(f'"{name}"' for name in DRAFTED)
    return [
        "",
        "# Sources of a list, mixed by weights that are fitted each day: one that finds nothing gets",
        "# no weight. One that is left out costs nothing.",
        "[mix]",
        f"sources = [{names}]",
    ]


def _event_column(rows: pl.DataFrame) -> str | None:
    """The column that looks like the events' type, if there is one."""
    for column in rows.columns:
        named = re.search(_NAMES["event"], column, re.I)
        if named and feature_draft.is_category(rows[column]):
            return column
    return None


def _sample(path: Path, kind: str, home: Path | None) -> Table:
    """The first rows of the first file."""
    file: Path | None = path
    if path.is_dir():
        files = (f for f in sorted(path.rglob("*")) if f.is_file() and f.name[0] not in "._")
        file = next(files, None)
    if file is None or not file.exists():
        raise UsageError(
            f"A sample of {kind} is a file or a folder with files; found nothing at {path}."
        )
    try:
        format_of(file)
    except UsageError as e:
        day = "--snapshot DATE" if kind != "events" else "--time COLUMN"
        raise UsageError(
            f"A draft is made from Parquet, JSON Lines or CSV, told by the ending; {file} has none"
            " of these. Lay the file out first, then draft from the folder: twinspire partition"
            f" {file} --format csv --out 'logs/{kind}/dt={{date}}/' {day}"
        ) from e
    folder = _place(file.resolve().parent, home) + "/"
    where, dates = re.subn(r"\d{4}-\d\d-\d\d", "{date}", folder)
    if not dates:
        where = f"{kind}/dt={{date}}/"
    rows = next(read(file, lambda malformed: None)).slice(0, _SAMPLE_ROWS)
    if format_of(file) == "csv":
        rows = with_numbers(rows)  # its text is read as numbers, where they are asked for
    return Table(where, pl.DataFrame(rows))


def _place(folder: Path, home: Path | None) -> str:
    """A folder as the pipeline file names it: relative to its home, if they share anything."""
    if home is None or os.path.commonpath([folder, home.resolve()]) == os.sep:
        return str(folder)
    return os.path.relpath(folder, home.resolve())


def _pick(rows: pl.DataFrame, role: str, path: Path) -> str:
    """The column that looks most like the user, the item or the time."""
    named = [c for c in rows.columns if re.search(_NAMES[role], c, re.I)]
    if role == "time":
        named = [c for c in named if not rows[c].dtype.is_float()]
        if not named:
            named = [c for c in rows.columns if rows[c].dtype.is_temporal()]
        named.sort(key=lambda c: (not rows[c].dtype.is_temporal(), "start" in c))
    else:
        named.sort(key=lambda c: (not re.search(r"id$|key$", c, re.I), "session" in c, len(c)))
    nested = [c for c in named if isinstance(rows[c].dtype, pl.Struct)]
    named = [c for c in named if c not in nested]
    if nested and not named:
        fields = ", ".join(f"{nested[0]}.{name}" for name in rows[nested[0]].struct.fields)
        raise UsageError(
            f"The {role} is a column of its own; in {path}, {nested[0]!r} looks like it and is"
            f" nested. `twinspire partition` makes a column of each of its fields ({fields}): lay"
            " the log out by it, then draft from the folder that it wrote."
        )
    if not named:
        raise UsageError(
            f"No column of {path} looks like the {role}; its columns: {', '.join(rows.columns)}."
        )
    return named[0]


def _unit(times: pl.Series) -> str:
    largest = times.drop_nulls().to_numpy().max(initial=0)
    if largest > 10**14:
        return "us"
    if largest > 10**11:
        return "ms"
    return "s"


def _event_lines(rows: pl.DataFrame, event: str) -> list[str]:
    found = rows[event].cast(pl.String).drop_nulls().value_counts().sort("count", event)[event]
    types = [json.dumps(one, ensure_ascii=False) for one in found]
    positives = ", ".join(sorted(types))
    # What is rare is worth more, as a rule: purchases beside views.
    weights = f"{{ {types[0]} = 3.0 }}"
    return [
        f'event = "{event}"',
        f"positives = [{positives}]  # keep those that a recommendation should lead to",
        f"# weights = {weights}  # how much more than another event one of this type counts",
    ]


def _rewards(rows: pl.DataFrame, used: set[str]) -> list[str]:
    found = [
        c
        for c in rows.columns
        if c not in used and feature_draft.is_outcome(c) and rows[c].dtype.is_numeric()
    ]
    uses = {
        "reward": "weighs events by this number of 0 or more; without it all count 1",
        "label": "a number that train.auxiliary learns beside, once its weight is above 0",
    }
    return [f"# {key} = {json.dumps(c)}  # {what}" for c in found for key, what in uses.items()]


def _display(items: Table) -> list[str]:
    shown = [c for c in items.rows.columns if feature_draft.is_shown(c, items.rows[c])]
    return [
        "",
        "[corpus]",
        f"display = {json.dumps(shown)}  # columns shown to people; the first is the name",
    ]
