"""Blocks of raw columns -> records with the feature job's columns. Records that break a rule are
set aside.

Events of earlier days that lie in the day's folder came late: they count in histories of later days.
Those of before `source.late_days`, and those of days to come, are counted and left out.

Of what one user has in a day beyond `source.max_user_events` (a crawler, or an id that many share),
the first events in the logs are kept. All events of a user meet in one worker's memory, so most of
the excess has to go before: each part of a file drops what is beyond the limit in that part, which
is never among the first events of all parts.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple, Self

import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest.column_values import Reading, WrongType, read_as
from beam_jobs.ingest.columns import RAW, Column
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.record_blocks import KEPT_PER_FILE, Block, Rejected, missing
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData
from twinspire_core.records.json_lines import first_keys

ORDER = "_order"
"""Place of a record among all of its table: number of the file, then of the record."""
FILE_BITS = 40  # leaves 23 bits for files, and 2 ** 40 records in each
_RECORD_MASK = (1 << FILE_BITS) - 1
_RULE = "_rule"

_USER_DAY = ("_user", "_day")
_BEFORE = "_before"
"""Events that the user had that day in earlier blocks. A feature may be called `before`."""
_WATCHED = 100
"""Events of a user in a block, above which a part of a file counts them."""


class DayBounds(NamedTuple):
    """Times between which events of a day's folder are used, in microseconds since 1970 UTC.

    Attributes:
      oldest: the first moment of the earliest day whose late events are used.
      start: the first moment of the day.
      end: the first moment of the next day.
    """

    oldest: int
    start: int
    end: int

    @classmethod
    def of(cls, pipeline: Pipeline, day: date) -> Self:
        """The bounds of a day, a calendar day of the pipeline's zone."""
        return cls(
            oldest=day_plan.start_of(
                day - timedelta(days=pipeline.source.late_days), pipeline.zone
            ),
            start=day_plan.start_of(day, pipeline.zone),
            end=day_plan.start_of(day_plan.after(day), pipeline.zone),
        )

    def allow(self, time: pl.Series) -> pl.Series:
        """Whether events of these times are used."""
        return time.is_between(self.oldest, self.end, closed="left")

    def count_misplaced(self, time: pl.Series) -> dict[str, int]:
        """Counts events whose time is of another day than their folder.

        Returns:
          `late`: of earlier days; `too late`: those among them that are left out; `early`: of later
          days, left out too. Without what there is none of.
        """
        counts = {
            "late": int((time < self.start).sum()),
            "too late": int((time < self.oldest).sum()),
            "early": int((time >= self.end).sum()),
        }
        return {what: n for what, n in counts.items() if n}


class _Rule(NamedTuple):
    """What a column's values have to be.

    Attributes:
      broken: whether a value breaks it.
      reason: in words.
      raw: the raw column.
    """

    broken: pl.Expr
    reason: str
    raw: str


class CheckedRecords(NamedTuple):
    """A block taken apart.

    Attributes:
      good: records, with the columns' names and `_order`.
      rejected: the first of those that break a rule.
      reasons: how many of these there are, by reason.
      misplaced: how many events have a time of another day than their folder's, as
        `DayBounds.count_misplaced` says.
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
          place: its number among all files of its table.
        """
        self._file = file
        self._place = place
        self._columns = columns
        self._bounds = DayBounds.of(p, file.day) if file.table == "events" else None
        self._clip = p.columns.reward_clip
        self._kept = 0
        self._present: set[str] = set()
        self._rows = 0

    def take(self, block: Block) -> CheckedRecords:
        """Checks a block.

        Raises:
          BadData: a column's type cannot serve its use.
        """
        self._rows += len(block.numbers)
        self._present.update(block.rows.columns)
        order = pl.Series(ORDER, block.numbers) + (self._place << FILE_BITS)
        # A block without any of the columns has no height of its own.
        rows = pl.DataFrame([*block.rows, order])
        absent = {RAW + column.source for column in self._columns} - set(rows.columns)
        rows = rows.with_columns(pl.lit(None).alias(name) for name in absent)

        values = []
        rules = []
        for column in self._columns:
            raw = RAW + column.source
            reading = self._read_as(column, rows.schema[raw], block.text)
            values.append(reading.values)
            rules.append(_Rule(reading.nonsense, reading.reason, raw))
        # A record is set aside for the first rule that it breaks.
        first_broken = pl.coalesce(
            *(pl.when(rule.broken).then(pl.lit(i)) for i, rule in enumerate(rules)),
            pl.lit(None, pl.Int32),
        )
        # Rules look at the values that were read, so these have to be there before.
        checked = rows.with_columns(values).with_columns(first_broken.alias(_RULE))

        good = checked.filter(pl.col(_RULE).is_null())
        good = good.select(*(column.name for column in self._columns), ORDER)
        if "_reward" in good.columns:
            good = good.with_columns(pl.col("_reward").clip(*self._clip).cast(pl.Float32))
        misplaced: dict[str, int] = {}
        if self._bounds is not None:
            misplaced = self._bounds.count_misplaced(good["_time"])
            good = good.filter(self._bounds.allow(good["_time"]))
        bad = checked.filter(pl.col(_RULE).is_not_null())
        return CheckedRecords(good, self._explain(bad, rules), _tally(bad, rules), misplaced)

    def _read_as(self, column: Column, kind: pl.DataType, text: bool) -> Reading:
        try:
            return read_as(column, kind, text=text)
        except WrongType as e:
            raise BadData(
                f"{column.use} of {self._file.table} is {e}; in {self._file.uri} column"
                f" {column.source!r} is {kind}. Write the column with that type, or name another"
                " one in the pipeline file."
            ) from e

    def _explain(self, bad: pl.DataFrame, rules: Sequence[_Rule]) -> list[Rejected]:
        """The first bad records of the file, as they are written down."""
        shown = bad.head(max(0, KEPT_PER_FILE - self._kept))
        self._kept += len(shown)
        explained = []
        for row in shown.iter_rows(named=True):
            rule = rules[row[_RULE]]
            number = row[ORDER] & _RECORD_MASK
            explained.append(Rejected.of(self._file, number, rule.reason, repr(row[rule.raw])))
        return explained

    def close(self) -> list[Column]:
        """Ends the file.

        Returns:
          Columns that no record had, as can happen in JSON Lines.

        Raises:
          BadData: one of them is required.
        """
        if not self._rows:
            return []
        absent = [column for column in self._columns if RAW + column.source not in self._present]
        required = [column for column in absent if column.required]
        if required:
            raise missing(self._file, required, first_keys(self._file.uri))
        return absent


def _tally(bad: pl.DataFrame, rules: Sequence[_Rule]) -> dict[str, int]:
    """How many records break which rule. Several columns may have the same one."""
    counts: Counter[str] = Counter()
    for rule, n in bad.group_by(_RULE).len().iter_rows():
        counts[rules[rule].reason] += n
    return dict(counts)


class UserEventLimit:
    """Drops from the blocks of a part of a file, in their order, what is beyond the limit in that
    part.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[tuple[str, int]] = Counter()

    def take(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The block's rows that may be among the first, of events with `_user` and `_day`."""
        # Users with few events are not counted, so that blocks of ordinary users cost nothing.
        many = pl.col("n") > min(_WATCHED, self._most)
        counts = rows.group_by(_USER_DAY).len("n").filter(many)
        if counts.is_empty():
            return rows
        before = [self._counts[user_day] for user_day in counts.select(_USER_DAY).iter_rows()]
        self._counts.update({(user, day): n for user, day, n in counts.iter_rows()})
        known = rows.join(
            counts.with_columns(pl.Series(_BEFORE, before)),
            on=_USER_DAY,
            how="left",
            maintain_order="left",
        )
        place = pl.int_range(pl.len()).over(_USER_DAY) + pl.col(_BEFORE)
        return known.filter((place < self._most).fill_null(True)).select(rows.columns)


def within(events: pl.DataFrame, most: int, user: str = "_user") -> pl.DataFrame:
    """Each user's first `most` events of each day, by their place in the logs; in the frame's order.

    Args:
      events: with `_day`, `_order`, and a column that tells users.
    """
    user_day = (user, "_day")
    if not (events.group_by(user_day).len()["len"] > most).any():
        return events
    return events.filter(pl.col(ORDER).rank("ordinal").over(user_day) <= most)
