"""The item tower's raw features at some moment, from the snapshot that is valid then and from the
count table.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import date

import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest.item_snapshot import Account, read_items
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.config.feature_kinds import AgeFeature


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
      job: the job.
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
