"""Days on their way to their folders: none is touched before it is known that nothing is lost."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from beam_jobs.partitioning.spill import Spill
from twinspire_core import storage
from twinspire_core.errors import UsageError

PART = "part-0.parquet"


class Changes(NamedTuple):
    """How many days were not there, were there with other rows, or with the same bytes."""

    written: int
    replaced: int
    unchanged: int


class _Loss(NamedTuple):
    """A day that would lose rows.

    Attributes:
      file: which holds them.
      rows: how many it holds.
      lost: how many of these the new rows of the day lack.
      has_time: whether they have the column of the time.
    """

    file: str
    rows: int
    lost: int
    has_time: bool = True


def put_days(
    spill: Spill,
    scratch: Path,
    template: str,
    *,
    time: str | None,
    replace: bool = False,
    marker: str | None = None,
) -> Changes:
    """Writes the days' files, those that are not there yet with the same bytes.

    Args:
      spill: holds the rows of each day.
      scratch: folder for files on their way.
      template: folder of a day, with `{date}`. Local or `gs://`.
      time: column of the time; without it a day is one snapshot, which takes the place of another.
      replace: also where rows that are there would be lost.
      marker: name of an empty file written after the rows.

    Raises:
      UsageError: a day is there with rows that the new ones lack, and `replace` is not given.
    """
    days = spill.days()
    there = [day for day in days if storage.exists(_part(template, day))]
    unchanged = {day for day in there if _is_unchanged(spill, scratch, template, day)}
    others = [day for day in there if day not in unchanged]
    if time is not None and not replace:
        losses = [_loss(scratch, template, day, time) for day in others]
        _refuse([loss for loss in losses if loss.lost], time)
    for day in days:
        if day not in unchanged:
            folder = _staged(spill, scratch, day)
            storage.upload_tree(folder, template.replace("{date}", str(day)))
            (folder / PART).unlink()
        # After the rows: with the marker a day is complete.
        done = storage.join(template.replace("{date}", str(day)), marker) if marker else None
        if done and not storage.exists(done):
            storage.write_bytes(done, b"")
    return Changes(len(days) - len(there), len(others), len(unchanged))


def _part(template: str, day: date) -> str:
    return storage.join(template.replace("{date}", str(day)), PART)


def _staged(spill: Spill, scratch: Path, day: date) -> Path:
    """The folder that holds the day's new file."""
    folder = scratch / str(day)
    if not (folder / PART).exists():
        folder.mkdir(parents=True, exist_ok=True)
        spill.write(day, folder / PART)
    return folder


def _is_unchanged(spill: Spill, scratch: Path, template: str, day: date) -> bool:
    """Whether the day is there with the same bytes; where it is not, its new file stays staged."""
    staged = _staged(spill, scratch, day) / PART
    same = storage.file_digest(_part(template, day)) == storage.file_digest(str(staged))
    if same:
        staged.unlink()
    return same


def _loss(scratch: Path, template: str, day: date, time: str) -> _Loss:
    """How many rows the day would lose, told by their times.

    A row that was mended in another column is no loss; the rest of a day, of which a later export
    holds the last hours, is one.
    """
    there = _part(template, day)
    try:
        old = _times(storage.localize(there, scratch / "there" / str(day)), time)
    except pl.exceptions.ComputeError:
        return _Loss(there, 0, 0)  # no Parquet: nobody can read what it held
    has_time = bool(old["time"].is_not_null().any())
    new = _times(scratch / str(day) / PART, time)
    both = old.join(new, on="time", how="left", suffix="_new", nulls_equal=True)
    missing = both["len"].cast(pl.Int64) - both["len_new"].fill_null(0).cast(pl.Int64)
    lost = int(missing.clip(0).sum())
    return _Loss(there, int(old["len"].sum()), lost, has_time)


def _times(file: Path, time: str) -> pl.DataFrame:
    """How many rows of a file have which time, as text: its type may differ from call to call."""
    rows = pl.scan_parquet(file, hive_partitioning=False)
    known = time in rows.collect_schema().names()
    value = pl.col(time).cast(pl.String) if known else pl.lit(None, pl.String)
    return rows.group_by(value.alias("time")).len().collect()


def _refuse(losses: Sequence[_Loss], time: str) -> None:
    if not losses:
        return
    first = losses[0]
    if not first.has_time:
        raise UsageError(
            f"A day takes the place of the one that is there; {first.file} holds {first.rows:,} rows"
            f" without a column {time!r} to compare by. If that is a new name of the column, say"
            " --replace; else choose another --out. Nothing was written."
        )
    more = f" So would {len(losses) - 1} more days." if len(losses) > 1 else ""
    raise UsageError(
        f"A day takes the place of the one that is there; {first.file} holds {first.rows:,} rows,"
        f" and would lose {first.lost:,} that these files do not have.{more} Give all files that"
        " hold rows of a day together, leave such days out (--from, --to), or say --replace if"
        " these files are right. Nothing was written."
    )
