"""An items snapshot, read whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from beam_jobs.ingest import columns, record_blocks, records
from beam_jobs.ingest.column_values import EMPTY_TYPES
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
      duplicates: records whose key comes again later.
    """

    good: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0

    def set_aside(self, rejected: Sequence[Rejected], reasons: dict[str, int]) -> None:
        """Adds malformed records."""
        self.rejected += rejected
        for reason, n in reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + n


def read_items(
    p: Pipeline, files: Sequence[SourceFile], account: Account | None = None
) -> pl.DataFrame:
    """Reads a snapshot of the items.

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
        return pl.DataFrame(schema={c.name: EMPTY_TYPES.get(c.kind, pl.String) for c in wanted})
    rows = pl.concat(_alike(frames, wanted), rechunk=True).sort("_item", records.ORDER)
    # Sorted by the order in the files too: the last record of an item is the newest.
    last = rows.unique("_item", keep="last", maintain_order=True).drop(records.ORDER)
    account.duplicates = len(rows) - len(last)
    return last.with_columns(_typed(last[c.name]) for c in wanted if c.kind == "raw")


def _records(
    p: Pipeline, place: int, file: SourceFile, wanted: Sequence[columns.Column], account: Account
) -> Iterator[pl.DataFrame]:
    checker = records.RecordChecker(p, file, place, wanted)
    for block in record_blocks.read(p.source.format, file, None, wanted):
        if isinstance(block, Rejected):
            account.set_aside([block], {block.reason: 1})
            continue
        checked = checker.take(block)
        account.good += len(checked.good)
        account.set_aside(checked.rejected, checked.reasons)
        yield checked.good
    checker.close()


def _alike(frames: list[pl.DataFrame], wanted: Sequence[columns.Column]) -> list[pl.DataFrame]:
    """Gives columns that are taken as they are one type across files: text, where they differ."""
    mixed = []
    for column in wanted:
        types = {frame.schema[column.name] for frame in frames}
        if column.kind == "raw" and len(types) > 1:
            mixed.append(column.name)
    return [frame.with_columns(pl.col(mixed).cast(pl.String)) for frame in frames]


def _typed(column: pl.Series) -> pl.Series:
    """Text columns that hold true or false, or numbers, throughout, as such; CSV has no types of
    its own.
    """
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    lower = column.str.to_lowercase()
    if lower.is_in(["true", "false"]).fill_null(True).all():
        return (lower == "true").alias(column.name)
    # Integers before decimals, since every integer is a decimal as well.
    for kind in (pl.Int64, pl.Float64):
        number = column.cast(kind, strict=False)
        # 007 is no number.
        if number.null_count() == column.null_count() and not column.str.contains(r"^-?0\d").any():
            return number
    return column
