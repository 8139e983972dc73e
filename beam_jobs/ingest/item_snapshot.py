"""An items snapshot, read whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from beam_jobs.ingest import columns, record_blocks, records
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.record_blocks import Rejected
from twinspire_core.config.pipeline import Pipeline


@dataclass(slots=True)
class Account:
    """What was found in a table's files.

    Attributes:
      good: records that were not malformed.
      rejected: the first malformed ones of each file.
      reasons: how many malformed ones, by reason.
      doubles: records whose key comes again later.
    """

    good: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    doubles: int = 0

    def set_aside(self, rejected: Sequence[Rejected], reasons: dict[str, int]) -> None:
        """Adds malformed records."""
        self.rejected += rejected
        for reason, n in reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + n


def read_items(
    p: Pipeline, files: Sequence[SourceFile], account: Account | None = None
) -> pl.DataFrame:
    """Reads a snapshot of the items.

    Args:
      p: the pipeline.
      files: the snapshot's.
      account: filled, if given.

    Returns:
      One row per item, sorted: `_item` and the columns of `columns.items`. Of several the last in
      the files counts.

    Raises:
      BadData: a file cannot be read, or lacks a column.
    """
    account = account or Account()
    wanted = columns.items(p)
    frames = [
        frame
        for place, file in enumerate(files)
        for frame in _records(p, place, file, wanted, account)
    ]
    if not frames:
        return pl.DataFrame(schema={c.name: _TYPES.get(c.kind, pl.String) for c in wanted})
    rows = pl.concat(_alike(frames, wanted), rechunk=True).sort("_item", records.ORDER)
    last = rows.unique("_item", keep="last", maintain_order=True).drop(records.ORDER)
    account.doubles = len(rows) - len(last)
    return last.with_columns(_typed(last[c.name]) for c in wanted if c.kind == "raw")


_TYPES: dict[str, Any] = {
    "categories": pl.List(pl.String),
    "vector": pl.List(pl.Float32),
    "number": pl.Float32,
    "instant": pl.Int64,
}


def _records(
    p: Pipeline, place: int, file: SourceFile, wanted: Sequence[columns.Column], account: Account
) -> Iterator[pl.DataFrame]:
    judge = records.RecordChecker(p, file, place, wanted)
    for block in record_blocks.read(p.source.format, file, None, wanted, p.beam.batch_rows):
        if isinstance(block, Rejected):
            account.set_aside([block], {block.reason: 1})
            continue
        judged = judge.take(block)
        account.good += len(judged.good)
        account.set_aside(judged.rejected, judged.reasons)
        yield judged.good
    judge.close()


def _alike(frames: list[pl.DataFrame], wanted: Sequence[columns.Column]) -> list[pl.DataFrame]:
    """Gives columns that are taken as they are one type across files: text, where they differ."""
    mixed = [
        c.name for c in wanted if c.kind == "raw" and len({f.schema[c.name] for f in frames}) > 1
    ]
    return [f.with_columns(pl.col(mixed).cast(pl.String)) for f in frames]


def _typed(column: pl.Series) -> pl.Series:
    """Text that is true or false, or a number, throughout, as such; CSV has no types of its own."""
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    lower = column.str.to_lowercase()
    if lower.is_in(["true", "false"]).fill_null(True).all():
        return (lower == "true").alias(column.name)
    for kind in (pl.Int64, pl.Float64):
        number = column.cast(kind, strict=False)
        # 007 is no number.
        if number.null_count() == column.null_count() and not column.str.contains(r"^-?0\d").any():
            return number
    return column
