"""The items that can be recommended, and the item tower's raw features at some moment, from the snapshot
that is valid then and from the count table.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from datetime import date
from typing import TypeAlias, cast

import polars as pl
import pyarrow as pa

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.ingest.item_snapshot import Account, read_items
from beam_jobs.point_in_time import decayed_counts, item_counts
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.config.feature_kinds import AgeFeature
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData


class FrameCache:
    """Frames that are costly to make, up to a bound in bytes, the longest unused leaving first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._frames: OrderedDict[Hashable, pl.DataFrame] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The frame of this key; made now if it is not kept."""
        # The lock is held while a frame is made: other threads of the worker want the same one, and
        # wait for it rather than make it again.
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
            frame = make()
            self._frames[key] = frame
            while len(self._frames) > 1 and self._bytes() > self._most_bytes:
                self._frames.popitem(last=False)
            return frame

    def _bytes(self) -> float:
        return sum(frame.estimated_size() for frame in self._frames.values())


_snapshots = FrameCache(1 << 30)
_known = FrameCache(1 << 28)
_accounts: dict[tuple[str, date], Account] = {}
_windows: dict[str, item_counts.Windows] = {}
_windows_lock = threading.Lock()


def snapshot(job: FeatureJob, day: date) -> pl.DataFrame:
    """The items snapshot of a day, read once per process."""
    key = (job.token, day)

    def read() -> pl.DataFrame:
        _accounts[key] = Account()
        return read_items(job.p, job.inputs.items[day], _accounts[key])

    return _snapshots.get(key, read)


def account(job: FeatureJob, day: date) -> Account:
    """What was found in the files of a snapshot."""
    snapshot(job, day)
    return _accounts[job.token, day]


def known_at(job: FeatureJob, day: date, table: pl.DataFrame) -> pl.DataFrame:
    """What `item_counts.as_of` knows at the start of a day, worked out once per process."""

    def work_out() -> pl.DataFrame:
        return item_counts.as_of(job.p, _windows_of(job, table), day)

    return _known.get((job.token, day), work_out)


def _windows_of(job: FeatureJob, table: pl.DataFrame) -> item_counts.Windows:
    """The windows of the job's count table, made once per process: each day looks into them."""
    with _windows_lock:
        if job.token not in _windows:
            _windows.clear()
            _windows[job.token] = item_counts.Windows(table)
        return _windows[job.token]


def taken_on(job: FeatureJob, table: pl.DataFrame) -> pl.DataFrame:
    """The items that were taken on each vocabulary day: `_item`, `_day`, `n` events on it, `_time`
    of its start, and the `item_counts.computed` features as of then.

    Counts and ages are null on days before which not enough was read.
    """
    known = item_counts.on_days(job.p, _windows_of(job, table), job.plan.analysis)
    is_counted = pl.col("_day") >= day_plan.number(job.plan.counted_from)
    names = item_counts.computed(job.p)
    return known.with_columns(pl.when(is_counted).then(pl.col(name)).alias(name) for name in names)


def with_item_features(
    job: FeatureJob, rows: pl.DataFrame, snapshot_day: date | None, moment: date | pl.Expr
) -> pl.DataFrame:
    """Adds to rows with `_item` the item features that are not counted.

    Args:
      rows: in any order; it is kept.
      snapshot_day: of the snapshot to use, None if there is none. An item that it lacks has only
        its id.
      moment: ages from a declared date are those at the start of this day (a date, or days since
        1970).
    """
    if snapshot_day is not None:
        stored = snapshot(job, snapshot_day).select(_stored(job))
        rows = rows.join(stored, on="_item", how="left", maintain_order="left")
        rows = rows.with_columns(_ages(job, moment))
    if job.p.item_id:
        rows = rows.with_columns(pl.col("_item").alias(job.p.item_id))
    return rows


def _stored(job: FeatureJob) -> list[str]:
    """Columns of the snapshot that features come from."""
    p = job.p
    born = [f"_born_{name}" for name, f in p.of_kind(AgeFeature).items() if f.column]
    return ["_item", *p.columns_of("items"), *born]


def _ages(job: FeatureJob, moment: date | pl.Expr) -> list[pl.Expr]:
    """Ages since a declared date. One that lies ahead, later on the day itself, is 0."""
    if isinstance(moment, date):
        start = pl.lit(day_plan.start_of(moment, job.p.zone))
    else:
        starts = {day_plan.number(day): day_plan.start_of(day, job.p.zone) for day in job.plan.read}
        start = moment.replace_strict(starts, return_dtype=pl.Int64)
    ages = []
    for name, feature in job.p.of_kind(AgeFeature).items():
        if feature.column:
            age = (start - pl.col(f"_born_{name}")) / day_plan.MICROSECONDS_OF_A_DAY
            ages.append(age.cast(pl.Float32).clip(0).alias(name))
    return ages


FilterValues: TypeAlias = tuple[str | int | float | bool, ...]


def corpus(job: FeatureJob, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The corpus as of a moment.

    Args:
      moment: counts are as of the start of this day: the job's, the one after, or a replayed one.

    Returns:
      One row per item, sorted: what `schema.corpus_schema` lists.

    Raises:
      BadData: there are items, and the filter lets none of them through.
    """
    # At the end of the job's day, the next day's snapshot is not there yet.
    snapshot_day = job.inputs.items_of.get(min(moment, job.plan.day))
    known = known_at(job, moment, table)
    if job.p.sources.several:
        # Its window may be longer than those of the other counts: it may know items alone.
        trending = decayed_counts.trending(job.p, table, moment)
        known = known.join(trending, on="_item", how="full", coalesce=True)
        for told in (item_counts.first_seen, item_counts.repurchases):
            known = known.join(told(job.p, table, moment), on="_item", how="left")
    recent = known.filter(pl.col("_recent") > 0)
    if snapshot_day is None:
        return _named(job, with_item_features(job, recent, None, moment))
    listed = snapshot(job, snapshot_day)
    kept = listed.filter(_passes(listed, job.p.corpus.filter))
    if kept.is_empty() and not listed.is_empty():
        raise BadData(
            "corpus.filter lets the items through that can be recommended; none of the"
            f" {len(listed):,} items of {snapshot_day} passes {job.p.corpus.filter}. Compare it with"
            " the values of these columns."
        )
    shown = [name for name in kept.columns if name.startswith(("_display_", "_attribute_"))]
    rows = item_counts.add(job.p, kept.select("_item", *shown), known)
    if job.p.corpus.unlisted:
        rows = pl.concat([rows, recent.join(listed, on="_item", how="anti")], how="diagonal")
    return _named(job, with_item_features(job, rows, snapshot_day, moment))


def taken_before(rows: pl.DataFrame, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The rows of items that anybody took before a moment: a catalogue may have many others, of which hardly
    one is ever listed.
    """
    taken = table.filter(pl.col("_day") < day_plan.number(moment)).select("_item")
    return rows.join(taken, on="_item", how="semi", maintain_order="left")


def _named(job: FeatureJob, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, sorted, with the first column shown to people as their name."""
    name = pl.lit(None, pl.String)
    if job.p.corpus.display:
        shown = feature_schema.display_name(job.p.corpus.display[0])
        if shown in rows.columns:
            name = pl.col(shown)
    return rows.with_columns(name.alias("_name")).sort("_item")


def schema_of(job: FeatureJob, rows: pl.DataFrame) -> pa.Schema:
    """The schema of a corpus: attributes have the types of the snapshot."""
    names = {column: feature_schema.attribute_name(column) for column in job.p.corpus.attributes}
    stored = rows.select(name for name in names.values() if name in rows.columns)
    schema = batches.to_batch(stored).schema
    types = {
        column: _plain(schema.field(name).type)
        for column, name in names.items()
        if name in schema.names
    }
    return feature_schema.corpus_schema(job.p, types)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with 32-bit offsets where Polars has 64; text for a column of nulls."""
    # Arrow reads no lists of one fixed length back from Parquet where some of them are null.
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return pa.string()
    return kind


def _passes(rows: pl.DataFrame, wanted: Mapping[str, FilterValues]) -> pl.Expr:
    """Whether each column holds one of its values."""
    holds = [_holds(rows[f"_filter_{column}"], values) for column, values in wanted.items()]
    return pl.all_horizontal(pl.lit(True), *holds)


def _holds(column: pl.Series, values: FilterValues) -> pl.Series:
    """Whether each row is one of the values; of lists, whether one of its elements is."""
    if isinstance(column.dtype, pl.List):
        inner = cast(pl.DataType, column.dtype.inner)
        any_equal = column.list.eval(_equal(pl.element(), inner, values).any())
        return any_equal.list.first().fill_null(False)
    equal = _equal(pl.col(column.name), column.dtype, values)
    return column.to_frame().select(equal.fill_null(False)).to_series()


def _equal(value: pl.Expr, kind: pl.DataType, wanted: FilterValues) -> pl.Expr:
    if kind.is_numeric() or kind == pl.Boolean:
        numbers = [float(w) for w in wanted if not isinstance(w, str)]
        return value.cast(pl.Float64).is_in(numbers)
    # A column of text spells true and false as JSON does.
    texts = [str(w).lower() if isinstance(w, bool) else str(w) for w in wanted]
    return value.cast(pl.String).is_in(texts)


def unlisted(job: FeatureJob, table: pl.DataFrame) -> pl.DataFrame:
    """Items with events on the job's day that the items snapshot lacks: `_item`, `n`."""
    snapshot_day = job.inputs.items_of.get(job.plan.day)
    taken = table.filter(pl.col("_day") == day_plan.number(job.plan.day)).select("_item", "n")
    if snapshot_day is None:
        return taken.clear()
    return taken.join(snapshot(job, snapshot_day), on="_item", how="anti")
