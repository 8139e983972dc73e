"""The item tower's raw features at the start of a day, from the snapshot that is valid then and from the counts."""

from datetime import date

import polars as pl

from beam_jobs import counts, days, schema
from beam_jobs.job import Job, Kept
from beam_jobs.snapshot import Account, read_items

_snapshots = Kept(1 << 30)
_features = Kept(1 << 29)
_accounts: dict[tuple[str, date], Account] = {}
_MICROSECONDS_OF_A_DAY = 86_400_000_000


def snapshot(job: Job, at: date) -> pl.DataFrame:
    """The items snapshot of a day, read once per process."""
    key = (job.token, at)

    def read() -> pl.DataFrame:
        _accounts[key] = Account()
        return read_items(job.p, job.inputs.items[at], _accounts[key])

    return _snapshots.get(key, read)


def account(job: Job, at: date) -> Account:
    """What was found in the files of a snapshot."""
    snapshot(job, at)
    return _accounts[job.token, at]


def features_at(job: Job, day: date, at: date | None, table: pl.DataFrame) -> pl.DataFrame:
    """Raw item features as of the start of `day`.

    Args:
      job: the job.
      day: the moment.
      at: day of the snapshot to use; None if there is none.
      table: the count table.

    Returns:
      One row per item that has a row in the snapshot or events in the windows: `_item`, the item features but the id,
      and what `counts.as_of` counts.
    """
    return _features.get((job.token, day, at), lambda: _features_at(job, day, at, table))


def _features_at(job: Job, day: date, at: date | None, table: pl.DataFrame) -> pl.DataFrame:
    known = counts.as_of(job.p, table, day)
    listed = snapshot(job, at).select(_stored(job)) if at else pl.DataFrame(schema={"_item": pl.String})
    rows = pl.concat([listed.select("_item"), known.select("_item")]).unique(maintain_order=True)
    rows = counts.add(rows, known).join(listed, on="_item", how="left", maintain_order="left")
    return rows.with_columns(_ages(job, day, rows.columns))


def _stored(job: Job) -> list[str]:
    """Columns of the snapshot that features come from."""
    p = job.p
    named = [name for name, f in p.tower("item").items() if f.kind not in ("id", "count", "age")]
    return ["_item", *named, *(f"_born_{name}" for name, f in p.kinds("age").items() if f.column)]


def _ages(job: Job, day: date, there: list[str]) -> list[pl.Expr]:
    """Ages since a declared date. One that lies ahead, later on the day itself, is 0."""
    cut = days.start_of(day, job.p.zone)
    named = {name: f"_born_{name}" for name, f in job.p.kinds("age").items() if f.column}
    age = {n: (cut - pl.col(c)) / _MICROSECONDS_OF_A_DAY if c in there else pl.lit(None) for n, c in named.items()}
    return [value.cast(pl.Float32).clip(0).alias(name) for name, value in age.items()]


def dress(job: Job, rows: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Adds the item features to rows with `_item`; an item that `features` lacks has counts of 0, and nothing else."""
    p = job.p
    names = [column.name for column in schema.item_columns(p) if column.name != p.item_id]
    there = [name for name in names if name in features.columns]
    rows = rows.join(features.select("_item", *there), on="_item", how="left", maintain_order="left")
    if p.item_id:
        rows = rows.with_columns(pl.col("_item").alias(p.item_id))
    return rows.with_columns(pl.col(name).fill_null(0) for name in counts.computed(p))
