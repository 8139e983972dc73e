"""Blocks of raw columns -> records with the feature job's columns; those that break a rule are set
aside.

Of what one user has in a day beyond `source.max_user_events` (of a crawler, or of an id that many share), the first
events in the logs are kept. All events of a user meet in one worker's memory, so most of what goes has to go before:
each part of a file drops what is beyond the limit in it already, which is never among the first of all parts.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest import columns as cols
from beam_jobs.ingest.columns import RAW, Column, WrongType
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.record_blocks import KEPT_PER_FILE, Block, Rejected, missing
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


_KEY = ("_user", "_day")
_WATCHED = 100
"""Events of a user in a block, above which a part of a file counts them."""


class UserEventLimit:
    """Drops from the blocks of a part of a file, in their order, what is beyond the limit in that
    part.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[tuple[str, int]] = Counter()

    def take(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The block's rows that may be among the first, of events with `_user` and `_day`."""
        counts = (
            rows.group_by(_KEY).len("found").filter(pl.col("found") > min(_WATCHED, self._most))
        )
        if counts.is_empty():
            return rows
        before = [self._taken[key] for key in counts.select(_KEY).iter_rows()]
        self._taken.update({(user, day): n for user, day, n in counts.iter_rows()})
        known = rows.join(
            counts.with_columns(pl.Series("before", before)),
            on=_KEY,
            how="left",
            maintain_order="left",
        )
        place = pl.int_range(pl.len()).over(_KEY) + pl.col("before")
        return known.filter((place < self._most).fill_null(True)).select(rows.columns)


def within(events: pl.DataFrame, most: int) -> pl.DataFrame:
    """Each user's first `most` events of each day, by their place in the logs; in the frame's
    order.
    """
    if not (events.group_by(_KEY).len()["len"] > most).any():
        return events
    return events.filter(pl.col(ORDER).rank("ordinal").over(_KEY) <= most)
