"""Measures what the users of a log do, and drafts the lines that follow from it.

These lines set window, history, training and seen items; the comment of each gives its figure.

The figures are counted over the whole log, block by block, and for a sample of its users. They put a log
into one of three kinds. For news, whose catalogue turns over, the last days matter. Where users repeat
what they took before, habits matter. Elsewhere, as with films, all that a user took matters, in order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs.ingest.timestamps import to_instants
from beam_jobs.partitioning.log_tables import format_of
from twinspire_core.config.tables.data import ColumnsConfig, WindowConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.display.table import counted
from twinspire_core.errors import UsageError
from twinspire_core.records.raw_files import Unreadable, readable
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console, doing

_MOST_ROWS = 2_000_000
_NEW_DAYS = 7
# The year 2100: later times are in another unit than those of the sample.
_LATEST = 4_102_444_800_000_000
_EVENT = {"user": pl.UInt64, "item": pl.UInt64, "at": pl.Int64, "day": pl.Date}
# Share of events on new items: 0.93 on news, at most 0.1 on groceries and films.
_TURNS_OVER = 0.3
# Share of repeats: 0.29 and more on groceries, none on films and news.
_REPEATS = 0.1
_AT_ONCE = 0.5
# Visits in a window of habits: groceries are bought every third day, and 60 days are enough.
_VISITS = 20
_MANY_EXAMPLES = 1_000_000
# Examples of all passes together; there are at most six passes.
_ALL_PASSES = 2_000_000
# The same for habits. More passes learn by heart who bought what once (docs/measurements.md). A
# shop of 600 households has 59,000 examples.
_HABIT_PASSES = 60_000
_LENGTHS = (20, 50, 100, 200)
_SEQUENCE = 20
_LONGEST = 365
# Items of the log for each place of the measured lists: chance alone finds one taken item in ten.
_ITEMS_PER_PLACE = 10


class _NoColumn(Exception):
    """A file lacks a column of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFigures:
    """Figures of a log. Shares and medians are those of the sampled users.

    Attributes:
      events: number of events with a user, an item and a time.
      daily: events of each day from the first to the last, estimated from the sampled users.
      items: number of distinct items.
      days_between: median number of days from a day of a user to the user's next; None if nobody comes
        again.
      earlier: median number of events that the user of an event had before it.
      repeats: share of a user's items on a day that the user took on an earlier day.
      at_once: share of events with another event of the same user and moment.
      new_days: days for which an item counts as new.
      turnover: share of events in the second half of the days whose item is new.
    """

    events: int
    daily: Sequence[int]
    items: int
    days_between: float | None
    earlier: int
    repeats: float
    at_once: float
    new_days: int
    turnover: float

    @property
    def days(self) -> int:
        """Number of days from the first to the last."""
        return len(self.daily)


def figures_of(files: Sequence[Path], columns: ColumnsConfig, zone: str) -> LogFigures:
    """Reads all files, and shows the progress at a terminal.

    Files without one of the columns are left out, with a message that names one of them.

    Args:
      files: all files of the log, in any order.
      columns: user, item and time of the events are read.
      zone: IANA name of the zone whose calendar days count.

    Raises:
      UsageError: no event has a user, an item and a time.
    """
    taken = pl.DataFrame(schema=_EVENT)
    firsts = taken.select("item", "day")
    events = 0
    one_in = 1  # one user in this many is kept, so that the rows fit
    left_out: list[str] = []
    with doing("reading the log") as report:
        for n, file in enumerate(files, 1):
            try:
                for rows in _blocks(file, columns, zone):
                    events += len(rows)
                    report(f"reading the log: file {n:,} of {len(files):,}, {events:,} events")
                    both = pl.concat([firsts, rows.select("item", "day")])
                    firsts = both.group_by("item").agg(pl.col("day").min())
                    # Ids are hashes, so the remainder draws users by chance, and all of a user's rows.
                    taken = taken.vstack(rows.filter(pl.col("user") % one_in == 0))
                    while len(taken) > _MOST_ROWS:
                        fewer = taken.filter(pl.col("user") % (2 * one_in) == 0)
                        if fewer.is_empty():  # few users, with very many events each
                            break
                        taken, one_in = fewer, 2 * one_in
            except _NoColumn as e:
                left_out.append(f"{file} has no {e}")
    if left_out:
        console.print(
            f"The draft leaves out {len(left_out)} of {len(files)} files: {left_out[0]}.",
            soft_wrap=True,
        )
    if taken.is_empty():
        raise UsageError(
            f"A log needs events with a user, an item and a time; {files[0].parent} has none. Name"
            " other columns with --user, --item and --time."
        )
    return _measure(taken, firsts, events)


def _measure(taken: pl.DataFrame, firsts: pl.DataFrame, events: int) -> LogFigures:
    """The figures of a log.

    Args:
      taken: events of the sampled users.
      firsts: the first day of each item.
      events: number of events of all users.
    """
    first: date = firsts["day"].min()  # type: ignore[assignment]
    since = (pl.col("day") - first).dt.total_days()
    daily = np.bincount(taken.select(since).to_series().to_numpy()) * events // len(taken)
    # Logs repeat events; a copy is neither a visit nor a habit.
    taken = taken.unique().sort("user", "at", "item")
    visits = taken.select("user", "day").unique().sort("user", "day")
    between = visits.select(pl.col("day").diff().over("user").dt.total_days())["day"].drop_nulls()
    by_day = taken.select("user", "item", "day").unique()
    days = len(daily)
    new_days = min(_NEW_DAYS, max(1, days // 4))
    age = (pl.col("day") - pl.col("first")).dt.total_days()
    late = taken.join(firsts.rename({"day": "first"}), on="item").filter(since >= days // 2)
    return LogFigures(
        events=events,
        daily=daily.tolist(),
        items=len(firsts),
        days_between=between.median(),  # type: ignore[arg-type]
        earlier=int(taken.select(pl.int_range(pl.len()).over("user").median()).item()),
        repeats=1 - by_day.select("user", "item").n_unique() / len(by_day),
        at_once=_mean(taken, pl.len().over("user", "at") > 1),
        new_days=new_days,
        turnover=_mean(late, age < new_days),
    )


def _mean(rows: pl.DataFrame, condition: pl.Expr) -> float:
    return float(rows.select(condition.mean().fill_null(0.0)).item())


def _blocks(file: Path, columns: ColumnsConfig, zone: str) -> Iterator[pl.DataFrame]:
    """Hashes of user and item, time and day of each event that has all of them."""
    kind = format_of(file)
    wanted = [columns.user, columns.item, columns.time]

    def check(names: Sequence[str]) -> None:
        for name in wanted:
            if name not in names:
                raise _NoColumn(repr(name))

    clock = pl.from_epoch("at", "us").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    with readable(str(file), kind):
        for block in RecordFile(str(file), kind).blocks(wanted, check_names=check):
            if isinstance(block, Unreadable):
                continue  # figures do not change by a line that nobody can read
            # JSON Lines declare no columns: one that is missing in a block is null throughout.
            check([field.name for field in block.rows.schema if not pa.types.is_null(field.type)])
            rows = pl.DataFrame(block.rows)
            ids = {"user": columns.user, "item": columns.item}
            hashed = (pl.col(c).cast(pl.String).hash(seed=0).alias(id) for id, c in ids.items())
            at = to_instants(rows[columns.time], columns.time_unit, ZoneInfo(zone)).alias("at")
            events = rows.select(*hashed, at).filter(pl.col("at").is_between(-_LATEST, _LATEST))
            yield events.with_columns(day=clock.dt.date()).drop_nulls()


def _kind(log: LogFigures) -> str:
    if log.turnover >= _TURNS_OVER:
        return "news"
    return "habits" if log.repeats >= _REPEATS else "films"


def about(log: LogFigures) -> str:
    """The comment that heads the file, with the figures of the log."""
    between = log.days_between
    returns = f"; users come back after {counted(between, 'day')} (median)" if between else ""
    return (
        f"# The log: {counted(log.events, 'event')} on {counted(log.items, 'item')} in"
        f" {counted(log.days, 'day')}{returns}."
    )


def window_lines(log: LogFigures) -> Iterator[str]:
    """Lines of `[window]`."""
    days = _train_days(log)
    all_days = min(_LONGEST, log.days) if _kind(log) == "habits" else 0
    history = max(days, all_days, WindowConfig().history_days)
    yield f"train_days = {days}  # {counted(_examples(log), 'event')}; {_new(log)}"
    yield f"history_days = {history}  # {_repeated(log)}"


def _train_days(log: LogFigures) -> int:
    enough = int(np.searchsorted(np.cumsum(log.daily[::-1]), _MANY_EXAMPLES)) + 1
    days = {
        "news": 7,
        "habits": max(60, round(_VISITS * (log.days_between or 1))),
        "films": max(30, enough),
    }
    return min(log.days, days[_kind(log)])


def _examples(log: LogFigures) -> int:
    return sum(log.daily[-_train_days(log) :])


def _new(log: LogFigures) -> str:
    return f"{log.turnover:.0%} of events are on items less than {counted(log.new_days, 'day')} old"


def _repeated(log: LogFigures) -> str:
    return f"{log.repeats:.0%} of events repeat one of an earlier day"


def length_line(log: LogFigures) -> str:
    """The line of the history feature that gives its length."""
    length = next((length for length in _LENGTHS if length >= log.earlier), _LENGTHS[-1])
    return f"length = {length}  # the median event has {log.earlier} earlier ones of its user"


def why_left_out(log: LogFigures, feature: str) -> str:
    """Why counts of the last days, or ages, are left out as features; empty if they are not.

    `feature` is the kind of the feature. On films, recall@50 of the next days is 0.378 with counts and
    ages and 0.430 without; for shoppers who come once a week it is 0.210 and 0.206.
    """
    if _kind(log) == "news" and feature == "count":
        return f"{_new(log)}, so counts of earlier days mislead"
    if _kind(log) == "films" and feature in ("count", "age"):
        return (
            f"{_repeated(log)}; on such a log, of films, recall@50 fell from 0.430 to 0.378 with it"
        )
    return ""


def train_lines(log: LogFigures) -> Iterator[str]:
    """Lines of `[train]`."""
    kind = _kind(log)
    examples = _examples(log)
    if kind == "habits":
        yield f'history = {{ pooling = "sqrtn" }}  # {_repeated(log)}: order hardly matters'
    elif kind == "films" and log.earlier >= _SEQUENCE:
        yield f'history = {{ pooling = "attention" }}  # {_repeated(log)}: the newest items count most'
    if kind != "news":
        yield f'order = "shuffled"  # {_new(log)}: tastes hardly change'
        yield "learning_rate = 0.03"
    most = TrainConfig().epochs if kind == "news" else 6
    passes = _HABIT_PASSES if kind == "habits" else _ALL_PASSES
    yield f"epochs = {max(1, min(most, passes // examples))}  # {counted(examples, 'example')}"
    if examples >= _MANY_EXAMPLES:
        yield "batch_size = 1024"
    if kind != "habits":
        yield f"negatives = {{ uniform = {min(1000, log.items)} }}  # {_repeated(log)}"
    elif log.at_once >= _AT_ONCE:
        share = f"{log.at_once:.0%} of events belong to a basket"
        yield f"negatives = {{ mask_positives = true }}  # {share}"


def length_of_lists_lines(log: LogFigures) -> Iterator[str]:
    """Lines of `[evaluation]` and `[gate]` for a small catalogue, of which a long list holds most items."""
    usual = int(GateConfig.model_fields["metric"].default.partition("@")[2])
    k = next((k for k in (usual, 20, 10, 5, 2) if _ITEMS_PER_PLACE * k <= log.items), 1)
    if k < usual:
        yield from ("", "[evaluation]")
        yield f"ks = [{k}]  # a list of {usual} would hold most of {counted(log.items, 'item')}"
        yield from ("", "[gate]", f'metric = "recall@{k}"')


def exclude_seen_line(log: LogFigures) -> str:
    """The line of `[serving]` on items that a user has seen."""
    stay = log.repeats >= _REPEATS
    what = "lists keep seen items" if stay else "lists leave seen items out"
    return f"exclude_seen = {str(not stay).lower()}  # {_repeated(log)}: {what}"
