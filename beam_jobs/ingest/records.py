"""Blocks of raw columns -> records with the feature job's columns; those that break a rule are set
aside.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest import columns as cols
from beam_jobs.ingest.columns import RAW, Column, WrongType
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.record_blocks import Block, missing
from beam_jobs.ingest.rejected import KEPT_PER_FILE, Rejected
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData
from twinspire_core.records.json_lines import first_keys

ORDER = "_order"
"""Place of a record among all of its table: number of the file, then of the record."""
_FILE_BITS = 40
_RULE = "_rule"


class CheckedRecords(NamedTuple):
    """A block taken apart.

    Attributes:
      good: records, with the columns' names and `_order`.
      rejected: the first of those that break a rule.
      reasons: how many of these there are, by reason.
      misplaced: how many events have a time of another day than their folder's: `late`, those of
        earlier days; `too late`, those among them that came after `source.late_days` and are left
        out; `early`, those of later days, which are left out too.
    """

    good: pl.DataFrame
    rejected: list[Rejected]
    reasons: dict[str, int]
    misplaced: dict[str, int]


class RecordChecker:
    """Turns a file's blocks into records."""

    def __init__(
        self, p: Pipeline, file: SourceFile, place: int, columns: Sequence[Column]
    ) -> None:
        """Prepares for a file.

        Args:
          p: the pipeline.
          file: the file.
          place: its number among all files of its table.
          columns: what to read.
        """
        self._file, self._place, self._columns = file, place, columns
        oldest = file.day - timedelta(days=p.source.late_days)
        moments = [
            day_plan.start_of(day, p.zone) for day in (oldest, file.day, day_plan.after(file.day))
        ]
        self._moments = moments if file.table == "events" else None
        self._clip = p.columns.reward_clip
        self._kept = 0
        self._present: set[str] = set()
        self._rows = 0

    def take(self, block: Block) -> CheckedRecords:
        """Judges a block.

        Raises:
          BadData: a column's type cannot serve its use.
        """
        self._rows += len(block.rows)
        self._present.update(block.rows.columns)
        absent = {RAW + c.source for c in self._columns} - set(block.rows.columns)
        rows = block.rows.with_columns(pl.lit(None).alias(name) for name in absent)
        reads = [
            self._read_as(column, rows.schema[RAW + column.source], block.text)
            for column in self._columns
        ]
        rules = [
            (nonsense, reason, RAW + c.source)
            for (_, nonsense, reason), c in zip(reads, self._columns, strict=True)
        ]
        frame = rows.with_columns(values for values, _, _ in reads)
        broken = pl.coalesce(
            *(pl.when(n).then(pl.lit(i)) for i, (n, _, _) in enumerate(rules)),
            pl.lit(None, pl.Int32),
        )
        frame = frame.with_columns(
            broken.alias(_RULE), (pl.Series(ORDER, block.numbers) + (self._place << _FILE_BITS))
        )
        good = frame.filter(pl.col(_RULE).is_null()).select(*(c.name for c in self._columns), ORDER)
        if "_reward" in good.columns:
            good = good.with_columns(pl.col("_reward").clip(*self._clip).cast(pl.Float32))
        bad = frame.filter(pl.col(_RULE).is_not_null())
        good, misplaced = self._of_day(good)
        return CheckedRecords(good, self._explain(bad, rules), _tally(bad, rules), misplaced)

    def _of_day(self, good: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        """The events that may be used, and how many are of other days than their folder."""
        if not self._moments:
            return good, {}
        oldest, start, end = self._moments
        time = good["_time"]
        found = {"late": time < start, "too late": time < oldest, "early": time >= end}
        kept = good.filter(time.is_between(oldest, end, closed="left"))
        return kept, {what: n for what, of in found.items() if (n := int(of.sum()))}

    def _read_as(
        self, column: Column, kind: pl.DataType, text: bool
    ) -> tuple[pl.Expr, pl.Expr, str]:
        try:
            return cols.read_as(column, kind, text=text)
        except WrongType as e:
            raise BadData(
                f"{column.use} of {self._file.table} is {e}; in {self._file.uri} column"
                f" {column.source!r} is {kind}. Write the column with that type, or name another"
                " one in the pipeline file."
            ) from e

    def _explain(self, bad: pl.DataFrame, rules: list[tuple[pl.Expr, str, str]]) -> list[Rejected]:
        shown = bad.head(max(0, KEPT_PER_FILE - self._kept))
        self._kept += len(shown)
        mask = (1 << _FILE_BITS) - 1
        return [
            Rejected.of(
                self._file, row[ORDER] & mask, rules[row[_RULE]][1], repr(row[rules[row[_RULE]][2]])
            )
            for row in shown.iter_rows(named=True)
        ]

    def close(self) -> list[Column]:
        """Ends the file.

        Returns:
          Columns that no record had, as can happen in JSON Lines.

        Raises:
          BadData: one of them is required.
        """
        absent = [c for c in self._columns if self._rows and RAW + c.source not in self._present]
        if required := [c for c in absent if c.required]:
            raise missing(self._file, required, first_keys(self._file.uri))
        return absent


def _tally(bad: pl.DataFrame, rules: list[tuple[pl.Expr, str, str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rule, n in bad.group_by(_RULE).len().iter_rows():
        counts[rules[rule][1]] = counts.get(rules[rule][1], 0) + n
    return counts
