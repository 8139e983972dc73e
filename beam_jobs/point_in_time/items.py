"""Makes the corpus: the items that can be recommended at some moment, with the item tower's raw features.

They come from the snapshot that is valid then, which is read once per process, and from the count table.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import polars as pl
import pyarrow as pa

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.ingest.columns import EMPTY_TYPES, Column
from beam_jobs.ingest.records import ORDER, Account, read_records
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.config.feature_kinds import AgeFeature
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData

FilterValues: TypeAlias = tuple[str | int | float | bool, ...]


class Sized(Protocol):
    """A frame, or something with frames."""

    def estimated_size(self) -> float:
        """Its bytes."""


Kept = TypeVar("Kept", bound=Sized)


class FrameCache(Generic[Kept]):
    """Frames that are costly to make, up to a bound in bytes; the least recently used leaves first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._frames: OrderedDict[Hashable, Kept] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The frame of this key; made now if it is not kept."""
        # The lock is held while a frame is made: other threads of the worker want the same frame, and
        # should wait for it rather than make it again.
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
            frame = make()
            self._frames[key] = frame
            # The newest frame stays, however large it is: somebody asked for it just now.
            while len(self._frames) > 1 and self._most_bytes < sum(
                kept.estimated_size() for kept in self._frames.values()
            ):
                self._frames.popitem(last=False)
            return frame


@dataclass(slots=True)
class SnapshotAccount(Account):
    """What became of the records of a snapshot's files; `duplicates`: those whose item comes again later."""

    duplicates: int = 0


class Snapshot(NamedTuple):
    """The rows of a snapshot, and what became of the records of its files."""

    rows: pl.DataFrame
    account: SnapshotAccount

    def estimated_size(self) -> float:
        """The bytes of the rows."""
        return self.rows.estimated_size()


_snapshots = FrameCache[Snapshot](1 << 30)
_known = FrameCache[pl.DataFrame](1 << 28)
_windows: dict[str, item_counts.Windows] = {}
_windows_lock = threading.Lock()


def snapshot(job: FeatureJob, day: date) -> pl.DataFrame:
    """The items snapshot of a day, read once per process: one row per item, sorted, with `_item` and the
    columns of `columns.of_tables`. Of several records of an item, the last in the files counts.

    Raises:
      BadData: a file cannot be read, or lacks a column.
    """
    return _snapshot(job, day).rows


def account(job: FeatureJob, day: date) -> SnapshotAccount:
    """What became of the records of a snapshot's files."""
    return _snapshot(job, day).account


def _snapshot(job: FeatureJob, day: date) -> Snapshot:
    def read() -> Snapshot:
        account = SnapshotAccount()
        return Snapshot(_read(job, day, account), account)

    return _snapshots.get((job.token, day), read)


def _read(job: FeatureJob, day: date, account: SnapshotAccount) -> pl.DataFrame:
    wanted = job.columns["items"]
    frames = [
        frame
        for number, file in enumerate(job.inputs.items[day])
        for frame in read_records(job.p, file, wanted, account, number=number)
    ]
    if not frames:
        return pl.DataFrame(schema={c.name: EMPTY_TYPES.get(c.kind, pl.String) for c in wanted})
    rows = pl.concat(_alike(frames, wanted), rechunk=True).sort("_item", ORDER)
    # Sorted by the order in the files too: the last record of an item is the newest.
    last = rows.unique("_item", keep="last", maintain_order=True).drop(ORDER)
    account.duplicates = len(rows) - len(last)
    return last.with_columns(_typed(last[c.name]) for c in wanted if c.kind == "raw")


def _alike(frames: list[pl.DataFrame], wanted: Sequence[Column]) -> list[pl.DataFrame]:
    """Gives each raw column one type across files: text, where the files differ."""
    mixed = []
    for column in wanted:
        types = {frame.schema[column.name] for frame in frames}
        if column.kind == "raw" and len(types) > 1:
            mixed.append(column.name)
    return [frame.with_columns(pl.col(mixed).cast(pl.String)) for frame in frames]


def _typed(column: pl.Series) -> pl.Series:
    """A text column of true and false alone, or of numbers alone, as these: CSV has no types."""
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    lower = column.str.to_lowercase()
    if lower.is_in(["true", "false"]).fill_null(True).all():
        return (lower == "true").alias(column.name)
    # Integers before decimals, since every integer is a decimal as well.
    for kind in (pl.Int64, pl.Float64):
        number = column.cast(kind, strict=False)
        # 007 is no number: its zeros would be lost.
        if number.null_count() == column.null_count() and not column.str.contains(r"^-?0\d").any():
            return number
    return column


def corpus(job: FeatureJob, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The corpus as of a moment.

    Args:
      moment: counts are as of the start of this day: the run's day, the day after it, or a replayed
        day.

    Returns:
      One row per item, sorted, with the columns of `feature_schema.corpus_schema`.

    Raises:
      BadData: there are items, and the filter lets none of them through.
    """
    # At the end of the run's day, the next day's snapshot does not exist yet.
    snapshot_day = job.inputs.items_of.get(min(moment, job.plan.day))
    figures_of_items = known_at(job, moment, table)
    if job.p.sources.several:
        # Joined in full: its window may be longer than those of the other counts.
        trending = item_counts.trending(job.p, table, moment)
        figures_of_items = figures_of_items.join(trending, on="_item", how="full", coalesce=True)
        repurchases = item_counts.repurchases(job.p, table, moment)
        figures_of_items = figures_of_items.join(repurchases, on="_item", how="left")
    recent = figures_of_items.filter(pl.col("_recent") > 0)
    if snapshot_day is None:
        return _named(job, with_item_features(job, recent, None, moment))
    listed = snapshot(job, snapshot_day)
    holds = (
        _holds(listed[f"_filter_{column}"], values)
        for column, values in job.p.corpus.filter.items()
    )
    passing = listed.filter(pl.all_horizontal(pl.lit(True), *holds))
    if passing.is_empty() and not listed.is_empty():
        raise BadData(
            "corpus.filter selects the items that can be recommended, but none of the"
            f" {len(listed):,} items of {snapshot_day} passes {job.p.corpus.filter}. Compare the filter"
            " with the values of these columns."
        )
    shown = [name for name in passing.columns if name.startswith(("_display_", "_attribute_"))]
    rows = item_counts.add(job.p, passing.select("_item", *shown), figures_of_items)
    if job.p.corpus.days:
        rows = rows.join(recent, on="_item", how="semi", maintain_order="left")
    if job.p.corpus.unlisted:
        rows = pl.concat([rows, recent.join(listed, on="_item", how="anti")], how="diagonal")
    return _named(job, with_item_features(job, rows, snapshot_day, moment))


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
        return value.cast(pl.Float64).is_in([float(w) for w in wanted if not isinstance(w, str)])
    # Text columns spell true and false as JSON does.
    texts = [str(w).lower() if isinstance(w, bool) else str(w) for w in wanted]
    return value.cast(pl.String).is_in(texts)


def taken_before(rows: pl.DataFrame, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The rows of items that anybody took before a moment. A catalogue may have many others, which hardly
    ever enter a list.
    """
    taken = table.filter(pl.col("_day") < day_plan.number(moment)).select("_item")
    return rows.join(taken, on="_item", how="semi", maintain_order="left")


def _named(job: FeatureJob, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, sorted, with the first displayed column as `_name`."""
    shown = [feature_schema.display_name(column) for column in job.p.corpus.display[:1]]
    # Without a snapshot, no column is there.
    name = pl.col(shown[0]) if {*shown} & {*rows.columns} else pl.lit(None, pl.String)
    return rows.with_columns(name.alias("_name")).sort("_item")


def schema_of(job: FeatureJob, rows: pl.DataFrame) -> pa.Schema:
    """The schema of a corpus, whose attributes have the types of the snapshot."""
    names = {column: feature_schema.attribute_name(column) for column in job.p.corpus.attributes}
    schema = batches.to_batch(
        rows.select(name for name in names.values() if name in rows.columns)
    ).schema
    types = {
        column: _plain(schema.field(name).type)
        for column, name in names.items()
        if name in schema.names
    }
    return feature_schema.corpus_schema(job.p, types)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with 32-bit offsets where Polars has 64; text for a column of nulls."""
    # Arrow cannot read fixed-size lists back from Parquet where some of them are null.
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_null(kind) else kind


def unlisted(job: FeatureJob, table: pl.DataFrame) -> pl.DataFrame:
    """Items with events on the job's day that the items snapshot lacks: `_item`, `n`."""
    snapshot_day = job.inputs.items_of.get(job.plan.day)
    taken = table.filter(pl.col("_day") == day_plan.number(job.plan.day)).select("_item", "n")
    if snapshot_day is None:
        return taken.clear()
    return taken.join(snapshot(job, snapshot_day), on="_item", how="anti")


def with_features_of(
    job: FeatureJob, rows: pl.DataFrame, day: date, table: pl.DataFrame
) -> pl.DataFrame:
    """Adds to rows with `_item` all item features as of the start of a day; `table` is the count table."""
    rows = item_counts.add(job.p, rows, known_at(job, day, table))
    return with_item_features(job, rows, job.inputs.items_of.get(day), day)


def with_item_features(
    job: FeatureJob, rows: pl.DataFrame, snapshot_day: date | None, moment: date | pl.Expr
) -> pl.DataFrame:
    """Adds to rows with `_item` the item features that are not counted.

    Args:
      rows: in any order, which is kept.
      snapshot_day: of the snapshot to use, None if there is none. An item that it lacks has only
        its id.
      moment: ages from a declared date are those at the start of this day (a date, or days since
        1970).
    """
    if snapshot_day is not None:
        born = [f"_born_{name}" for name, f in job.p.of_kind(AgeFeature).items() if f.column]
        stored = ["_item", *job.p.columns_of("items"), *born]
        listed = snapshot(job, snapshot_day).select(stored)
        rows = rows.join(listed, on="_item", how="left", maintain_order="left")
        rows = rows.with_columns(_ages(job, moment))
    if job.p.item_id:
        rows = rows.with_columns(pl.col("_item").alias(job.p.item_id))
    return rows


def _ages(job: FeatureJob, moment: date | pl.Expr) -> list[pl.Expr]:
    """Ages since a declared date; 0 for a date that lies ahead, later on the day itself."""
    if isinstance(moment, date):
        start = pl.lit(day_plan.start_of(moment, job.p.zone))
    else:
        starts = {day_plan.number(day): day_plan.start_of(day, job.p.zone) for day in job.plan.read}
        start = moment.replace_strict(starts, return_dtype=pl.Int64)
    ages = []
    for name, feature in job.p.of_kind(AgeFeature).items():
        if feature.column:
            # In days of 24 hours, also across a change of clocks.
            age = (start - pl.col(f"_born_{name}")) / day_plan.MICROSECONDS_OF_A_DAY
            ages.append(age.cast(pl.Float32).clip(0).alias(name))
    return ages


def known_at(job: FeatureJob, day: date, table: pl.DataFrame) -> pl.DataFrame:
    """`item_counts.as_of` the start of a day, worked out once per process."""
    return _known.get(
        (job.token, day), lambda: item_counts.as_of(job.p, _windows_of(job, table), day)
    )


def taken_on(job: FeatureJob, table: pl.DataFrame) -> pl.DataFrame:
    """The items that were taken on each vocabulary day: `_item`, `_day`, `n` events on it, `_time`
    of its start, and the `item_counts.computed` features as of then.

    Counts and ages are null on days whose windows begin before the first day that was read.
    """
    figures = item_counts.on_days(job.p, _windows_of(job, table), job.plan.analysis)
    is_counted = pl.col("_day") >= day_plan.number(job.plan.counted_from)
    names = item_counts.computed(job.p)
    return figures.with_columns(
        pl.when(is_counted).then(pl.col(name)).alias(name) for name in names
    )


def _windows_of(job: FeatureJob, table: pl.DataFrame) -> item_counts.Windows:
    """The windows of the job's count table, made once per process, as every day needs them."""
    with _windows_lock:
        if job.token not in _windows:
            # Those of an earlier job in this process are of no more use.
            _windows.clear()
            _windows[job.token] = item_counts.Windows(table)
        return _windows[job.token]
