"""Drafts a pipeline file from a sample of the logs, for a person to finish."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from beam_jobs.rawfiles import read
from twinspire.errors import UsageError

_NAMES = {
    "user": r"user|customer|household|visitor|member|client|account|uid|reader|viewer|listener|session",
    "item": r"item|product|article|movie|track|video|song|sku|asin|content|listing|book|news|offer",
    "time": r"time|date|_at$|^ts$|^at$",
    "event": r"event|action|behaviou?r|interaction|^type$",
}
_SAMPLE_ROWS = 200_000
_CATEGORY_SIZE = 5_000


@dataclass(frozen=True, slots=True)
class Table:
    """A sample of one table and where its days lie."""

    where: str
    rows: pl.DataFrame


def draft(name: str, events: Path, items: Path | None = None, users: Path | None = None, zone: str = "UTC") -> str:
    """The text of a pipeline file for tables that look like these samples.

    Raises:
      UsageError: a sample cannot be read, or no column looks like the user, the item or the time.
    """
    log = _sample(events, "events")
    keys = {role: _pick(log.rows, role, events) for role in ("user", "item", "time")}
    event = next(
        (c for c in log.rows.columns if re.search(_NAMES["event"], c, re.I) and _is_category(log.rows[c])), None
    )
    tables = {"items": _sample(items, "items") if items else None, "users": _sample(users, "users") if users else None}
    lines = ["[pipeline]", f'name = "{name}"', f'time_zone = "{zone}"', "", "[source]", f'events = "{log.where}"']
    lines += [f'{kind} = "{table.where}"' for kind, table in tables.items() if table]
    lines += ["", "[columns]", *(f'{role} = "{column}"' for role, column in keys.items())]
    lines += [f'time_unit = "{_unit(log.rows[keys["time"]])}"'] if log.rows[keys["time"]].dtype.is_integer() else []
    lines += _event_lines(log.rows, event) if event else []
    for kind, table in tables.items():
        key = keys[kind.removesuffix("s")]
        if table and key not in table.rows.columns:
            lines.append(f'{kind}_key = "{_pick(table.rows, kind.removesuffix("s"), items or events)}"')
    lines += _display(tables["items"]) if tables["items"] else []
    lines += [
        "",
        "# What the two towers see. Delete what should not matter.",
        *_features(log.rows, keys, event, tables),
    ]
    return "\n".join(lines) + "\n"


def _sample(path: Path, kind: str) -> Table:
    file = (
        next((f for f in sorted(path.rglob("*")) if f.is_file() and f.name[0] not in "._"), None)
        if path.is_dir()
        else path
    )
    if file is None or not file.exists():
        raise UsageError(f"A sample of {kind} is a file or a folder with files; found nothing at {path}.")
    where, found = re.subn(r"\d{4}-\d\d-\d\d", "{date}", str(file.resolve().parent) + "/")
    return Table(
        where if found else f"{kind}/dt={{date}}/",
        pl.DataFrame(next(read(file, lambda malformed: None)).slice(0, _SAMPLE_ROWS)),
    )


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
        raise UsageError(f"No column of {path} looks like the {role}; its columns: {', '.join(rows.columns)}.")
    return named[0]


def _unit(times: pl.Series) -> str:
    largest = times.drop_nulls().to_numpy().max(initial=0)
    return "us" if largest > 10**14 else "ms" if largest > 10**11 else "s"


def _event_lines(rows: pl.DataFrame, event: str) -> list[str]:
    types = ", ".join(f'"{t}"' for t in rows[event].cast(pl.String).drop_nulls().unique().sort())
    return [f'event = "{event}"', f"positives = [{types}]  # keep those that a recommendation should lead to"]


def _display(items: Table) -> list[str]:
    shown = [c for c in items.rows.columns if re.search(r"title|name|description|headline", c, re.I)]
    return ["", "[corpus]", f"display = {json.dumps(shown)}  # columns shown to people; the first is the name"]


def _features(
    rows: pl.DataFrame, keys: dict[str, str], event: str | None, tables: dict[str, Table | None]
) -> list[str]:
    lines = _feature("user", tower="query", kind="id") + _feature("history", kind="history", length=20)
    lines += _feature("when", kind="time") + _feature("item", tower="item", kind="id")
    lines += _feature("clicks_1d", kind="count", days=1) + _feature("clicks_7d", kind="count", days=7)
    lines += _feature("item_age", kind="age")
    used = {*keys.values(), event}
    for column in rows.columns:
        if column not in used and _is_category(rows[column]):
            lines += _feature(_name(column), tower="query", kind="category", column=column)
    for kind, table in tables.items():
        for column in table.rows.columns if table else ():
            found = _kind(table.rows[column])
            if found and column not in used and not re.search(r"id$", column, re.I):
                side = {"tower": "item"} if kind == "items" else {"tower": "query", "from": "users"}
                name = _name(column)
                taken = f"[features.{name}]" in lines
                lines += _feature(f"{kind}_{name}" if taken else name, **side, column=column, **found)
    return lines


def _kind(values: pl.Series) -> dict | None:
    present = values.drop_nulls()
    if present.is_empty():
        return None
    if isinstance(values.dtype, pl.List):
        lengths = present.list.len()
        fixed = values.dtype.inner.is_float() and lengths.n_unique() == 1
        return {"kind": "vector", "size": int(lengths[0])} if fixed else {"kind": "categories"}
    if values.dtype.is_float() or (values.dtype.is_integer() and present.n_unique() > 100):
        return {"kind": "number", "log": bool((present >= 0).all())}
    if values.dtype == pl.String and present.n_unique() > min(_CATEGORY_SIZE, 0.5 * len(present)):
        return {"kind": "text"}
    return {"kind": "category"} if _is_category(values) else None


def _is_category(values: pl.Series) -> bool:
    if values.dtype.is_float() or values.dtype.is_temporal() or values.dtype.is_nested():
        return False
    return 1 < values.drop_nulls().n_unique() <= min(_CATEGORY_SIZE, max(2, len(values) // 20))


def _feature(name: str, **keys: object) -> list[str]:
    values = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return ["", f"[features.{name}]", *values]


def _name(column: str) -> str:
    name = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)).strip("_").lower()
    return name if name[:1].isalpha() else f"c_{name}"
