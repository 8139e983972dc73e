"""How often items were taken, and since when, as of the start of some day.

A count table has one row per item and day with events: `_item`, `_day` (since 1970), `n` and `first`
(microseconds); for candidate sources decayed sums, and for the ranker `_REPEATS`. It is sorted by item
and day, and counts positives alone. Tables of parts of the users add up to the table of all.

A decayed sum of a day weighs each event as of the end of the day. Times the decay since then, it is the
sum as of any later moment, so one sum for each item, day and half-life serves all moments.

A user who takes an item on a day takes it for the first time or again. All such users without those who
take it again are the distinct ones, so sums over days count users, too. An earlier day counts only
within half of the days that any moment looks back, and only days of the other half are added up: so the
figures do not depend on how much more was read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from twinspire_core.config.feature_kinds import AgeFeature, CountFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import (
    AGAIN,
    AGAIN_DAYS,
    BUYERS,
    FIRST_SEEN,
    REPURCHASES,
    TRENDING_HALF_LIVES,
)

ITEM_NUMBER = "_item_number"
WEIGHT_OF_ONE = 1 << 32
"""Decayed counts add up weights of events: this one at the moment, half of it after one half-life, rounded.
Sums of whole numbers are the same in whatever order workers add them up, and what rounding takes away is
2^-33 of an event.
"""
PARTS = 16
"""Parts of the items whose counts are added up separately."""
LATELY_DAYS = 1
"""Days of `_lately`: yesterday says most about what sells or is read today."""
# Columns: users of the item on the day; those of them who had taken it before; the sum of the
# days since then.
_REPEATS = ("users", "again", "gaps")


def schema(p: Pipeline) -> pa.Schema:
    """Columns of a count table."""
    columns = [
        ("_item", pa.string()),
        ("_day", pa.int32()),
        ("n", pa.int64()),
        ("first", pa.int64()),
    ]
    return pa.schema([*columns, *((name, pa.int64()) for name in _sums(p))])


def _sums(p: Pipeline) -> list[str]:
    """Columns of a count table, besides `n`, that are added up."""
    return [*_trending_columns(p), *(_REPEATS if p.sources.several else ())]


def _trending_columns(p: Pipeline) -> Mapping[str, float]:
    """Half-lives in days by their column, if the pipeline counts them."""
    return TRENDING_HALF_LIVES if p.sources.several else {}


def numbered(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers strings so that numbers are in the order of the strings.

    Args:
      values: [N] String, without nulls.

    Returns: [M] String, the distinct ones, ascending; [N] Int64, the place of each value in it.

    Example:
      >>> distinct, numbers = numbered(pl.Series(["pear", "fig", "pear"]))
      >>> distinct.to_list(), numbers.to_list()
      (['fig', 'pear'], [1, 0, 1])
    """
    distinct = values.unique().sort()
    return distinct, values.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64)


def empty(p: Pipeline) -> pa.RecordBatch:
    """The count table of no events."""
    return pa.RecordBatch.from_pylist([], schema=schema(p))


def in_parts(
    p: Pipeline, positives: pl.DataFrame, items: pl.Series
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The count table of all events of some users, cut into up to `PARTS` by a hash of the item.

    Args:
      positives: with `_code`, `_day`, `_time` and `_item_number`, the place of the item in `items`.

    Yields: number and content of each part.
    """
    events = _with_weights(p, positives)
    if p.sources.several:
        events = _with_repeats(p, events)
    counted = events.with_columns(pl.lit(1, pl.Int64).alias("n"), pl.col("_time").alias("first"))
    table = pl.DataFrame(pl.from_arrow(_added_up(p, counted, items, counted[ITEM_NUMBER])))
    # By a hash, so that all shards cut the items in the same way, without knowing each other's items.
    for number, rows in batches.slices(hashing.shards(table["_item"], PARTS), table):
        yield number, batches.to_batch(rows, schema(p))


def merge(p: Pipeline, partials: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The sum of count tables."""
    tables = [table for table in partials if table.num_rows]
    if len(tables) == 1:
        return tables[0]  # already a sum
    rows = batches.to_frame(tables or [empty(p)])
    return _added_up(p, rows, *numbered(rows["_item"]))


def _added_up(
    p: Pipeline, rows: pl.DataFrame, items: pl.Series, numbers: pl.Series
) -> pa.RecordBatch:
    """The count table of rows that have its other columns, in any order, and their items' places in
    `items`.
    """
    if rows.is_empty():
        return empty(p)
    # Item and day in one number, which is sorted and grouped by faster than two.
    first_day = rows.select(pl.col("_day").min()).item()
    days = rows.select(pl.col("_day").max()).item() - first_day + 1
    key = numbers * days + (rows["_day"] - first_day)
    sums = ["n", *_sums(p)]
    ordered = rows.select("first", *sums).with_columns(key.alias("_place")).sort("_place")
    by_place = ordered.group_by("_place", maintain_order=True)
    total = by_place.agg(pl.col(sums).sum(), pl.col("first").min())
    key = total["_place"]
    item = items.gather(key // days).alias("_item")
    day = (key % days + first_day).cast(pl.Int32).alias("_day")
    return batches.to_batch(total.with_columns(item, day), schema(p))


def _with_weights(p: Pipeline, events: pl.DataFrame) -> pl.DataFrame:
    """Adds a column for each half-life to events with `_day` and `_time`: their weights as of the end of
    their own day.
    """
    columns = _trending_columns(p)
    if not columns:
        return events
    ends = {
        number: day_plan.start_of(day_plan.date_of(number + 1), p.zone)
        for number in events["_day"].unique()
    }
    end = pl.col("_day").replace_strict(ends, return_dtype=pl.Int64)
    return events.with_columns(
        decayed_weight(end - pl.col("_time"), half_life).alias(name)
        for name, half_life in columns.items()
    )


def _with_repeats(p: Pipeline, events: pl.DataFrame) -> pl.DataFrame:
    """Adds `_REPEATS` to events: to the first one of a user, an item and a day, 0 to the others."""
    pair = ["_code", ITEM_NUMBER]
    ordered = events.sort(*pair, "_day", maintain_order=True)
    is_pair = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in pair)
    # Days since the same user's last event with the item; 0 for a second one on the same day.
    gap = pl.when(is_pair.fill_null(False)).then(pl.col("_day") - pl.col("_day").shift())
    ordered = ordered.with_columns(gap.fill_null(-1).alias("_gap"))
    again = pl.col("_gap").is_between(1, _repeat_days(p))
    return ordered.with_columns(
        (pl.col("_gap") != 0).cast(pl.Int64).alias("users"),
        again.cast(pl.Int64).alias("again"),
        pl.when(again).then(pl.col("_gap")).otherwise(0).cast(pl.Int64).alias("gaps"),
    ).drop("_gap")


def _repeat_days(p: Pipeline) -> int:
    return max(1, day_plan.known_days(p) // 2)


def computed(p: Pipeline) -> list[str]:
    """Features that come from the count table: counts, and ages since the first event."""
    ages = [name for name, f in p.of_kind(AgeFeature).items() if f.column is None]
    return [*p.of_kind(CountFeature), *ages]


def as_of(p: Pipeline, windows: "Windows", day: date) -> pl.DataFrame:
    """Counts and ages at the start of a day: one row per item with events in the windows before it.

    Args:
      p: says which features are counted.
      windows: of the run's count table.
      day: its own events do not count.

    Returns: `_item`; the `computed` features; `_popular`, `_lately`, `_recent`: events in
      `window.count_days`, the last day and `corpus.recent_days`.
    """
    lengths = _count_windows(p) | {
        "_popular": p.window.count_days,
        "_lately": LATELY_DAYS,
        "_recent": p.corpus.recent_days,
    }
    # Of every item at the same moment, where `on_days` asks for each at moments of its own.
    item = np.arange(len(windows.items))
    end = np.full(len(item), day_plan.number(day))
    counts = {name: windows.events(item, end, length) for name, length in lengths.items()}
    figures = pl.DataFrame({"_item": windows.items, **counts})
    # Of the window, not of all that was read: how much is read depends on the mode, an age must not.
    age = windows.age(item, end, p.window.count_days, day_plan.start_of(day, p.zone))
    figures = figures.with_columns(age.alias(name) for name in computed(p) if name not in lengths)
    is_known = windows.events(item, end, max(lengths.values())) > 0
    return figures.filter(is_known).with_columns(pl.col(computed(p)).cast(pl.Float32))


def on_days(p: Pipeline, windows: "Windows", days: Sequence[date]) -> pl.DataFrame:
    """What `as_of` computes, at the start of each of several days, for the items with events on it.

    Args:
      p: says which features are counted.
      windows: of the run's count table.
      days: consecutive days, oldest first.

    Returns: `_item`, `_day`, `n` of the day, `_time` of its start, and the `computed` features.
    """
    is_wanted = (windows.day >= day_plan.number(days[0])) & (
        windows.day <= day_plan.number(days[-1])
    )
    item = windows.item[is_wanted]
    end = windows.day[is_wanted]
    rows = windows.table.select("_item", "_day", "n").filter(is_wanted)
    start_of = {day_plan.number(at): day_plan.start_of(at, p.zone) for at in days}
    moments = rows["_day"].replace_strict(start_of, return_dtype=pl.Int64).alias("_time")
    lengths = _count_windows(p)
    age = windows.age(item, end, p.window.count_days, moments.to_numpy())
    figures = [
        pl.Series(name, windows.events(item, end, lengths[name]))
        if name in lengths
        else age.alias(name)
        for name in computed(p)
    ]
    return rows.with_columns(moments, *(feature.cast(pl.Float32) for feature in figures))


def _count_windows(p: Pipeline) -> dict[str, int]:
    """Days that each count looks back."""
    return {name: f.days for name, f in p.of_kind(CountFeature).items()}


class Windows:
    """Sums over the days before some day, for the items of a count table.

    Item and day are one ascending number, so that a window is a range of rows.

    Attributes:
      table: the count table.
      items: [N] String, the distinct items.
      item: [M] int64, the number of each row's item.
      day: [M] int64, of each row.
    """

    def __init__(self, table: pl.DataFrame) -> None:
        """Takes a count table, which is sorted by item and day."""
        self.table = table
        # The table is sorted by item, so runs of equal items number them in order.
        self.item = table["_item"].rle_id().to_numpy().astype(np.int64)
        self.items = table["_item"].filter(pl.Series(np.diff(self.item, prepend=-1) > 0))
        self.day = table["_day"].to_numpy().astype(np.int64)
        self._first_day = self.day.min(initial=day_plan.number(date.max))
        # One more than the days that there are, so that the end of an item's last day comes before the
        # next item.
        self._apart = max(0, self.day.max(initial=0) - self._first_day) + 2
        self._place = self._places(self.item, self.day)
        # Cumulative, so that the sum of a range of rows is one difference.
        self._events = np.concatenate([[0], np.cumsum(table["n"].to_numpy())])
        self._first = table["first"].to_numpy()

    def _places(self, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        return np.asarray(item * self._apart + np.clip(day - self._first_day, 0, self._apart - 1))

    def _rows(
        self, item: np.ndarray, end: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places low and high: rows low[i] up to, but without, high[i] are those of item i in the `length`
        days before end[i].
        """
        low = np.searchsorted(self._place, self._places(item, end - length))
        return low, np.searchsorted(self._place, self._places(item, end))

    def events(self, item: np.ndarray, end: np.ndarray, length: int) -> np.ndarray:
        """Events of item[i] in the `length` days before end[i], [K] int64."""
        low, high = self._rows(item, end, length)
        return np.asarray(self._events[high] - self._events[low])

    def age(
        self, item: np.ndarray, end: np.ndarray, length: int, moment: np.ndarray | int
    ) -> pl.Series:
        """Days from the first event of such a window to a moment in microseconds, [K] Float32; null
        where there is no event.
        """
        low, high = self._rows(item, end, length)
        # Rows of an item are in order of days, so the first row of a window has its first event.
        first = np.append(self._first, 0)[low]
        age = pl.Series((moment - first) / day_plan.MICROSECONDS_OF_A_DAY)
        return age.set(pl.Series(low == high), None).cast(pl.Float32)


def trending(p: Pipeline, table: pl.DataFrame, moment: date) -> pl.DataFrame:
    """Decayed counts of items at the start of a day, and since when they are taken.

    Args:
      p: says which half-lives are counted.
      table: a count table with decayed sums, sorted by item and day.
      moment: the day. Its own events do not count, nor those before the window: the longer one of
        `window.count_days` and `window.history_days`.

    Returns: `_item`; a float64 column for each half-life, as of the moment; `_first_seen`, days from the
      item's first event.
    """
    rows = table.filter(_window(max(p.window.count_days, p.window.history_days), moment))
    items = rows["_item"].unique(maintain_order=True)
    # First row of each item, for sums over the rows of an item.
    starts = np.flatnonzero(rows["_item"].rle_id().diff().fill_null(1).to_numpy())
    start = day_plan.start_of(moment, p.zone)
    # From the next day's start: the sum of a day is as of its end.
    since = {
        number: start - day_plan.start_of(day_plan.date_of(number + 1), p.zone)
        for number in rows["_day"].unique()
    }
    age = rows["_day"].replace_strict(since, return_dtype=pl.Int64).to_numpy()
    age = age / day_plan.MICROSECONDS_OF_A_DAY
    sums = []
    for name, half_life in _trending_columns(p).items():
        as_of_moment = rows[name].to_numpy() / WEIGHT_OF_ONE * 0.5 ** (age / half_life)
        sums.append(pl.Series(name, np.add.reduceat(as_of_moment, starts)))
    first = np.minimum.reduceat(rows["first"].to_numpy(), starts)
    first_seen = pl.Series(FIRST_SEEN, (start - first) / day_plan.MICROSECONDS_OF_A_DAY, pl.Float32)
    return pl.DataFrame([items, *sums, first_seen])


def repurchases(p: Pipeline, table: pl.DataFrame, day: date) -> pl.DataFrame:
    """How users take items again, as of the start of `day`: `_item` and `REPURCHASES`."""
    counted = (
        table.filter(_window(_repeat_days(p), day)).group_by("_item").agg(pl.col(_REPEATS).sum())
    )
    users, again, gaps = (pl.col(name) for name in _REPEATS)
    return counted.select(
        "_item",
        (users - again).cast(pl.Float32).alias(BUYERS),
        (again / users).cast(pl.Float32).alias(AGAIN),
        pl.when(again > 0).then(gaps / again).cast(pl.Float32).alias(AGAIN_DAYS),
    )


def add(p: Pipeline, rows: pl.DataFrame, figures: pl.DataFrame) -> pl.DataFrame:
    """Joins counts and ages to rows with `_item`.

    An item without events has counts of 0 and no age: an age of 0 would call it new.
    """
    joined = rows.join(figures, on="_item", how="left", maintain_order="left")
    not_counted = {"_item", FIRST_SEEN, *REPURCHASES, *p.of_kind(AgeFeature)}
    counted = [name for name in figures.columns if name not in not_counted]
    return joined.with_columns(pl.col(name).fill_null(0) for name in counted)


def _window(length: int, day: date) -> pl.Expr:
    """Whether a row is of the `length` days before `day`."""
    end = day_plan.number(day)
    return pl.col("_day").is_between(end - length, end, closed="left")


def decayed_weight(age: pl.Expr, half_life: float) -> pl.Expr:
    """The weights of events by their age in microseconds, for a half-life in days."""
    halvings = age / (half_life * day_plan.MICROSECONDS_OF_A_DAY)
    return (pl.lit(0.5).pow(halvings) * WEIGHT_OF_ONE).round().cast(pl.Int64)
