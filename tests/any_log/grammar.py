"""Logs of any kind, drawn from a grammar with a seed, and what is right for each of them.

A log has users in clusters of taste, whose events are mostly on the items of their cluster. Everything else
is drawn: format, encoding and delimiter; the names of columns; how ids, times and event types are written;
columns that describe the item, the circumstances or the outcome of an event; damaged rows.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
CLUSTERS = 4
NAMES: dict[str, tuple[str, ...]] = {
    "user": (
        "user_id",
        "buyer_ref",
        "userId",
        "asiakas",
        "klient",
        "c1",
        "von_wem",
        "müşteri",
        "Q4",
    ),
    "item": ("item_id", "sku", "track", "tuote", "towar", "c2", "was", "ürün", "Q5", "bok"),
    "time": ("timestamp", "created_at", "when", "aika", "czas", "c3", "zaman", "Q1"),
    "event": ("event", "what_happened", "teko", "akcja", "c4", "eylem", "Q2"),
    "coarse": (
        "show_id",
        "artist",
        "ryhmä",
        "c5",
        "series_id",
        "seri",
        "folder_id",
        "product_state",
    ),
    "category": ("category", "laji", "rodzaj", "c6", "Warengruppe", "tür"),
    "name": ("title", "nimi", "Bezeichnung", "c7", "label"),
    "labels": ("tags", "tunnisteet", "etykiety", "c13"),
    "spent": ("ms_played", "kesto", "zapłacono", "c8", "amount_paid", "dwell", "skipped"),
    "rating": ("rating", "arvosana", "ocena", "c9", "stars"),
    "device": ("device", "laite", "urządzenie", "c10", "Gerät", "channel"),
    "row": ("id", "rivi", "event_uuid", "c11", "nr"),
    "session": ("session_id", "order_no", "istunto", "zamówienie", "c12"),
    "next": ("next_page", "next_item", "seuraava", "ship_to_state", "c14"),
}
"""Names by what a column holds: some that anybody understands, others that no list contains."""
EVENTS = (
    ("view", "cart", "remove_from_cart", "purchase"),
    ("ansehen", "warenkorb", "kauf", "retoure"),
    ("vue", "panier", "achat", "remboursement"),
    ("vista", "carrito", "compra", "devolución"),
    ("katselu", "kori", "osto", "palautus"),
)
"""Types by language: looking, choosing and taking, and giving back."""
GIVEN_BACK = {"remove_from_cart", "retoure", "remboursement", "devolución", "palautus"}


@dataclass(kw_only=True)
class Log:
    """A log, and what is right for it.

    Attributes:
      rows: its columns by name, as they are written.
      options: of `twinspire partition`, without those of columns.
      roles: by column name: `user`, `item`, `time`, `event`.
      outcomes: columns that are known only after the event: never features.
      of_item: columns that the item determines: never features of a query.
      good: number of rows that have a day after 1989 which is not in the future.
      late: a time of the future, and one of 1971, written as the log's times.
      header: whether the first line names the columns. If not, `--columns` has to.
      suffix: of the file.
    """

    rows: dict[str, list[Any]] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    outcomes: set[str] = field(default_factory=set)
    of_item: set[str] = field(default_factory=set)
    good: int = 0
    late: tuple[Any, ...] = ()
    header: bool = True
    suffix: str = ".csv"
    delimiter: str = ","
    encoding: str = "utf-8"

    def write(self, folder: Path) -> Path:
        """Writes the file."""
        file = folder / f"log{self.suffix}"
        if self.suffix == ".parquet":
            pl.DataFrame(_nested(self.rows), strict=False).write_parquet(file)
        elif self.suffix == ".jsonl":
            nested = _nested(self.rows)
            lines = (
                dict(zip(nested, row, strict=True)) for row in zip(*nested.values(), strict=True)
            )
            file.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
        else:
            columns = [*self.rows.values()]
            lines = [[_cell(v) for v in row] for row in zip(*columns, strict=True)]
            if self.header:
                lines.insert(0, list(self.rows))
            text = "\n".join(self.delimiter.join(line) for line in lines) + "\n"
            file.write_bytes(text.encode(self.encoding))
        return file


def draw(seed: int, *, small: bool = True) -> Log:
    """Draws a log: a small one of at most 3,000 events, or one of up to 45,000 users and 100,000 items."""
    rng = np.random.default_rng([51, seed])
    log = Log()
    users, items = int(rng.choice([20, 90, 300])), int(rng.choice([1, 8, 40, 200, 400]))
    events = int(rng.integers(600, 3000))
    if not small:
        users, items, events = users * 150, items * 250, events * 60
    user = rng.zipf(1.6, events) % users
    if rng.random() < 0.2:
        user[rng.random(events) < 0.3] = 0  # a bot
    liked = rng.integers(0, max(1, items // CLUSTERS), events) * CLUSTERS + user % CLUSTERS
    item = np.where(rng.random(events) < 0.85, liked % items, rng.integers(0, items, events))
    days = int(rng.choice([1, 3, 10, 40, 400]))
    end = TODAY - timedelta(days=int(rng.choice([1, 30, 4000])))
    second = np.sort(rng.integers(0, days * 86_400, events))
    at = [end - timedelta(days=days) + timedelta(seconds=int(s), milliseconds=250) for s in second]
    _write_roles(log, rng, user, item, at)
    _add_columns(log, rng, user, item, second)
    _damage(log, rng, at)
    _choose_file(log, rng)
    return log


def _pick(rng: np.random.Generator, what: str, log: Log) -> str:
    names = [name for name in NAMES[what] if name not in log.rows]
    return str(rng.choice(names))


def _ids(rng: np.random.Generator, numbers: np.ndarray, letter: str) -> list[Any]:
    """Ids in one of six forms."""
    forms: tuple[Callable[[int], Any], ...] = (
        lambda n: str(uuid.UUID(int=int(n) * 7919 + ord(letter))),
        lambda n: f"{letter}{n:04d}",
        lambda n: int(n) + 1000,
        lambda n: float(n) + 1000,
        lambda n: f"{n:05d}",
        lambda n: f"{letter} {n}/ä",
    )
    form = forms[rng.integers(len(forms))]
    return [form(n) for n in numbers]


_TIMES: tuple[Callable[[datetime], Any], ...] = (
    lambda t: t.isoformat(),
    lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
    lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    lambda t: t.strftime("%Y-%m-%d %H:%M:%S.%f"),
    lambda t: (t + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
    lambda t: int(t.timestamp()),
    lambda t: int(t.timestamp() * 1000),
    lambda t: int(t.timestamp() * 1_000_000),
    lambda t: t.timestamp(),
    lambda t: f"{t.timestamp():.9e}",
    lambda t: t.strftime("%Y-%m-%d %H:%M"),
    lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
)
"""Twelve forms of instants."""
_UNITS = {5: "s", 6: "ms", 7: "us", 8: "s", 9: "s"}
"""Units of the forms that are numbers."""


def _write_roles(
    log: Log, rng: np.random.Generator, user: np.ndarray, item: np.ndarray, at: list[datetime]
) -> None:
    """The columns of users, items, times and, in half of the logs, event types, in any order."""
    form = int(rng.integers(len(_TIMES)))
    years = (TODAY + timedelta(days=1500), datetime(1971, 2, 3, 4, 5, 6, tzinfo=UTC))
    log.late = tuple(map(_TIMES[form], years))
    log.options += ["--time-unit", _UNITS[form]] if form in _UNITS else []
    times = [_TIMES[form](t) for t in at]
    values = {"user": _ids(rng, user, "u"), "item": _ids(rng, item, "i"), "time": times}
    if rng.random() < 0.5:
        words = EVENTS[rng.integers(len(EVENTS))]
        kinds = rng.choice(len(words), len(at), p=[0.7, 0.15, 0.1, 0.05])
        values["event"] = [words[kind] for kind in kinds]
    for role in map(str, rng.permutation(list(values))):
        name = _pick(rng, role, log)
        log.roles[role] = name
        log.rows[name] = values[role]


def _add_columns(
    log: Log, rng: np.random.Generator, user: np.ndarray, item: np.ndarray, second: np.ndarray
) -> None:
    """Columns that the item determines, circumstances, outcomes, numbers of rows, sessions and leaks."""
    events = len(item)
    of_item: dict[str, list[Any]] = {
        "labels": [[f"t{n % 3}", f"t{n % 7}"] for n in item],
        "coarse": [f"g{n // 5}" for n in item],
        "category": [f"kind {n % CLUSTERS}" for n in item],
        "name": [f"Name of {n}" for n in item],
    }
    for what, values in of_item.items():
        if rng.random() < 0.4:
            name = _pick(rng, what, log)
            log.rows[name] = values
            log.of_item.add(name)
    outcomes = {
        "spent": np.round(rng.gamma(2.0, 60.0, events), 2).tolist(),
        "rating": rng.integers(1, 6, events).tolist(),
        "session": [f"s{u}-{s // 7200}" for u, s in zip(user, second, strict=True)],
        "next": [f"i{n}" for n in np.roll(item, -1)],
    }
    for what, values in outcomes.items():
        if rng.random() < 0.4:
            name = _pick(rng, what, log)
            log.rows[name] = values
            log.outcomes.add(name)
    if rng.random() < 0.4:
        log.rows[_pick(rng, "device", log)] = rng.choice(
            ["phone", "tablet", "web"], events
        ).tolist()
    if rng.random() < 0.3:
        name = _pick(rng, "row", log)
        log.rows[name] = [f"e{n:07d}" for n in rng.permutation(events)]
        log.outcomes.add(name)  # never a feature either


def _damage(log: Log, rng: np.random.Generator, at: list[datetime]) -> None:
    """Some rows lack the user are of the future or of 1971; some come twice."""
    log.good = len(at)
    user, time = log.roles["user"], log.roles["time"]
    if rng.random() < 0.3:
        for n in rng.choice(len(at), len(at) // 50, replace=False):
            log.rows[user][n] = None
    if rng.random() < 0.3:
        for n in rng.choice(len(at), 6, replace=False):
            log.rows[time][n] = log.late[n % 2]
        log.good -= 6
    if rng.random() < 0.3:
        for values in log.rows.values():
            values += values[:7]
        log.good += sum(value not in log.late for value in log.rows[time][:7])


def _choose_file(log: Log, rng: np.random.Generator) -> None:
    log.suffix = str(rng.choice([".csv", ".csv", ".csv", ".parquet", ".jsonl"]))
    if log.suffix != ".csv":
        if rng.random() < 0.4:
            _nest(log)
        return
    log.delimiter = str(rng.choice([",", ";", "\t", "|"]))
    log.encoding = str(rng.choice(["utf-8", "utf-8-sig", "cp1252"]))
    for name in log.of_item & {*NAMES["labels"]}:
        log.rows[name] = ["/".join(value) for value in log.rows[name]]
    if rng.random() < 0.15:
        log.header = False
    text = str(log.rows)
    if log.encoding == "cp1252":
        try:
            text.encode("cp1252")
        except UnicodeEncodeError:
            log.encoding = "utf-8"
    if log.delimiter != ",":
        log.options += ["--delimiter", log.delimiter]
    if log.encoding == "cp1252" and not text.isascii():
        log.options += ["--encoding", "cp1252"]


def _nest(log: Log) -> None:
    """Puts the item, and what it determines, into a struct `content`."""
    inside = {log.roles["item"], *log.of_item}
    log.rows = {
        (f"content.{name}" if name in inside else name): values for name, values in log.rows.items()
    }
    log.roles["item"] = f"content.{log.roles['item']}"
    log.of_item = {f"content.{name}" for name in log.of_item}


def _nested(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    inner = {name: values for name, values in rows.items() if name.startswith("content.")}
    outer = {name: values for name, values in rows.items() if name not in inner}
    if inner:
        keys = [name.removeprefix("content.") for name in inner]
        rows_of = zip(*inner.values(), strict=True)
        outer["content"] = [dict(zip(keys, row, strict=True)) for row in rows_of]
    return outer


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
