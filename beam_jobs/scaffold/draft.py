"""Drafts a pipeline file from a sample of the logs, for a person to finish."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from beam_jobs.partitioning.log_tables import format_of, read
from beam_jobs.scaffold import column_guess
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
    event = next(
        (
            c
            for c in log.rows.columns
            if re.search(_NAMES["event"], c, re.I) and column_guess.is_category(log.rows[c])
        ),
        None,
    )
    given = {"items": items, "users": users}
    tables = {kind: _sample(path, kind, home) for kind, path in given.items() if path}
    lines = [
        "[pipeline]",
        f'name = "{name}"',
        f'time_zone = "{zone}"',
        "",
        "[source]",
        f'events = "{log.where}"',
    ]
    lines += [f'{kind} = "{table.where}"' for kind, table in tables.items()]
    lines += ["", "[columns]", *(f'{role} = "{column}"' for role, column in keys.items())]
    lines += (
        [f'time_unit = "{_unit(log.rows[keys["time"]])}"']
        if log.rows[keys["time"]].dtype.is_integer()
        else []
    )
    lines += _event_lines(log.rows, event) if event else []
    lines += _rewards(log.rows, set(keys.values()))
    own = {}
    for kind, table in tables.items():
        role = kind.removesuffix("s")
        own[kind] = (
            keys[role]
            if keys[role] in table.rows.columns
            else _pick(table.rows, role, given[kind] or events)
        )
        lines += [f'{kind}_key = "{own[kind]}"'] if own[kind] != keys[role] else []
    lines += _display(tables["items"]) if "items" in tables else []
    lines += [
        "",
        (
            "# What the two towers see. Delete what should not matter. Of the events, only columns"
            " whose value is known"
        ),
        "# before the click may be features: not what the user did, gave or paid then.",
        *_features(log.rows, {*keys.values(), event}, tables, own),
    ]
    return "\n".join(lines) + "\n"


def _sample(path: Path, kind: str, home: Path | None) -> Table:
    file = (
        next((f for f in sorted(path.rglob("*")) if f.is_file() and f.name[0] not in "._"), None)
        if path.is_dir()
        else path
    )
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
    where, found = re.subn(r"\d{4}-\d\d-\d\d", "{date}", _place(file.resolve().parent, home) + "/")
    return Table(
        where if found else f"{kind}/dt={{date}}/",
        pl.DataFrame(next(read(file, lambda malformed: None)).slice(0, _SAMPLE_ROWS)),
    )


def _place(folder: Path, home: Path | None) -> str:
    shared = home and os.path.commonpath([folder, home.resolve()])
    return os.path.relpath(folder, home.resolve()) if home and shared != os.sep else str(folder)


def _pick(rows: pl.DataFrame, role: str, path: Path) -> str:
    named = [c for c in rows.columns if re.search(_NAMES[role], c, re.I)]
    if role == "time":
        named = [c for c in named if not rows[c].dtype.is_float()] or [
            c for c in rows.columns if rows[c].dtype.is_temporal()
        ]
        named.sort(key=lambda c: (not rows[c].dtype.is_temporal(), "start" in c))
    else:
        named.sort(key=lambda c: (not re.search(r"id$|key$", c, re.I), "session" in c, len(c)))
    if not named:
        raise UsageError(
            f"No column of {path} looks like the {role}; its columns: {', '.join(rows.columns)}."
        )
    return named[0]


def _unit(times: pl.Series) -> str:
    largest = times.drop_nulls().to_numpy().max(initial=0)
    return "us" if largest > 10**14 else "ms" if largest > 10**11 else "s"


def _event_lines(rows: pl.DataFrame, event: str) -> list[str]:
    types = [f'"{t}"' for t in rows[event].cast(pl.String).drop_nulls().unique().sort()]
    return [
        f'event = "{event}"',
        f"positives = [{', '.join(types)}]  # keep those that a recommendation should lead to",
        (
            f"# weights = {{ {types[-1]} = 3.0 }}  # how much more than another event one of this"
            " type counts"
        ),
    ]


def _rewards(rows: pl.DataFrame, used: set[str]) -> list[str]:
    found = [
        c
        for c in rows.columns
        if c not in used and column_guess.is_outcome(c) and rows[c].dtype.is_numeric()
    ]
    uses = {
        "reward": "weighs events by this number of 0 or more; without it all count 1",
        "label": "a number that train.auxiliary learns beside, once its weight is above 0",
    }
    return [f"# {key} = {json.dumps(c)}  # {what}" for c in found for key, what in uses.items()]


def _display(items: Table) -> list[str]:
    shown = [c for c in items.rows.columns if column_guess.is_shown(c)]
    return [
        "",
        "[corpus]",
        f"display = {json.dumps(shown)}  # columns shown to people; the first is the name",
    ]


def _features(
    rows: pl.DataFrame, used: set[str | None], tables: dict[str, Table], own: dict[str, str]
) -> list[str]:
    blocks: dict[str, dict[str, object]] = {
        "user": {"tower": "query", "kind": "id"},
        "history": {"kind": "history", "length": 20},
        "when": {"kind": "time"},
        "item": {"tower": "item", "kind": "id"},
        "clicks_1d": {"kind": "count", "days": 1},
        "clicks_7d": {"kind": "count", "days": 7},
        "item_age": {"kind": "age"},
    }
    lines = [line for name, keys in blocks.items() for line in _feature(name, **keys)]
    taken = set(blocks)
    found = [("events", *column) for column in _context(rows, used)]
    found += [
        (k, *column) for k, table in tables.items() for column in _snapshot(table.rows, own[k])
    ]
    for table, column, kind, reason in found:
        side = {"tower": "item"} if table == "items" else {"tower": "query"}
        side |= {"from": "users"} if table == "users" else {}
        name = column_guess.snake(column)
        name = f"{table}_{name}" if name in taken else name
        block = _feature(name, **side, column=column, **kind)
        taken.add(name)
        lines += (
            ["", f"# Left out: {reason}.", *(f"# {line}" for line in block[1:])]
            if reason
            else block
        )
    return lines


def _context(
    rows: pl.DataFrame, used: set[str | None]
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Columns of the events: name, keys of a feature, and why it is left out, if it is."""
    for column in (c for c in rows.columns if c not in used):
        found = column_guess.kind(column, rows[column])
        keys, reason = (found, "") if isinstance(found, dict) else ({"kind": "category"}, found)
        if column_guess.is_outcome(column):
            reason = "looks like an outcome of the event, not known before it"
        elif not reason and keys["kind"] != "category":
            reason = f"of kind {keys['kind']}; make sure that it is known before the click"
        yield column, keys, reason


def _snapshot(rows: pl.DataFrame, key: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The same of items or users."""
    for column in (c for c in rows.columns if c != key):
        found = column_guess.kind(column, rows[column])
        keys, reason = (found, "") if isinstance(found, dict) else ({"kind": "category"}, found)
        yield (
            column,
            keys,
            "looks like an id" if not reason and re.search(r"id$", column, re.I) else reason,
        )


def _feature(name: str, **keys: object) -> list[str]:
    values = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return ["", f"[features.{name}]", *values]
