"""Raw files -> blocks of raw columns -> records with the feature job's columns. Records that break a
rule are set aside.

Events of earlier days in the day's folder are late: they are used in the histories of later days.
Events from before `source.late_days` and events of future days are counted and ignored.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest.columns import RAW, Column, WrongType, read_as
from beam_jobs.ingest.day_files import SourceFile
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.forgotten_users import NOBODY, WITHHELD, ForgottenUsers
from twinspire_core.errors import BadData
from twinspire_core.records.json_lines import JSON_TYPES, JsonObject, first_keys
from twinspire_core.records.raw_files import Unreadable, readable
from twinspire_core.records.record_file import RecordFile

KEPT_PER_FILE = 10_000
"""Rejected records of one file that are written down; all are counted."""
VALUE_LENGTH = 300
"""Characters of the value of a rejected record that are written down."""
BLOCK_ROWS = 20_000
"""Rows of a block of Parquet."""
ORDER = "_order"
"""Column: place of a record among all of its table, by number of the file, then of the record."""
FILE_BITS = 40  # leaves 23 bits for files, and 2 ** 40 records in each
_RECORD_MASK = (1 << FILE_BITS) - 1
_RULE = "_rule"
# Types of values of JSON by kind of column, and of the elements of lists.
_SCALARS = (str, int, float, bool)
_TYPES: dict[str, tuple[type, ...]] = {"key": (str, int), "categories": (str,), "vector": ()}
_ELEMENTS: dict[str, tuple[type, ...]] = {
    "categories": (str, int, type(None)),
    "vector": (int, float),
    "words": _SCALARS,
    "raw": _SCALARS,
}


class Rejected(NamedTuple):
    """A record that breaks a rule.

    Attributes:
      day: the date in the name of its folder.
      file: URI of the file.
      row: number of the record (see twinspire_core/records/record_file.py).
      reason: the rule that it breaks.
      value: the value that breaks it.
    """

    table: str
    day: str
    file: str
    row: int
    reason: str
    value: str

    @classmethod
    def of(cls, file: SourceFile, row: int, reason: str, value: str) -> "Rejected":
        """A record of a file, with its value cut to `VALUE_LENGTH`."""
        return cls(file.table, str(file.day), file.uri, row, reason, value[:VALUE_LENGTH])


def to_json_lines(records: Iterable[Rejected]) -> bytes:
    """One JSON object a line, in the order of file and row."""
    lines = [json.dumps(record._asdict(), ensure_ascii=False) + "\n" for record in sorted(records)]
    return "".join(lines).encode()


class Block(NamedTuple):
    """Some consecutive records.

    Attributes:
      rows: raw columns, named `RAW` + their name; JSON Lines may lack some.
      numbers: [N] int64, of the records in the file.
      text: whether numbers may be written as text.
    """

    rows: pl.DataFrame
    numbers: np.ndarray
    text: bool


def _read_blocks(
    given: str, file: SourceFile, part: int | None, columns: Sequence[Column]
) -> Iterator[Block | Rejected]:
    """Reads a part of a file as it is written.

    A key that no line of a block of JSON Lines has gives no column. A line is rejected if a value has a
    type that the column's use does not allow; other mixed types become text.
    """
    raw = RecordFile.of(file.uri, given)

    def check_names(names: Sequence[str]) -> None:
        if raw.kind == "csv" and not names:
            return  # a file of no bytes has no columns, and no records either
        absent = [column for column in columns if column.source not in names]
        if absent:
            raise _missing(file, absent, names)

    # JSON values are checked one by one, before they become columns: in a column, a single value of
    # another type would turn all others into text.
    blocks = raw.blocks(
        list(dict.fromkeys(column.source for column in columns)),
        part=part,
        check_names=check_names,
        prepare=partial(_fitting, columns),
        block_rows=BLOCK_ROWS,
    )
    with readable(file.uri, raw.kind):
        for block in blocks:
            if isinstance(block, Unreadable):
                value = f"{block.why}: {block.text}" if block.why else block.text
                yield Rejected.of(file, block.number, block.reason, value)
            elif len(block.numbers):
                frame = pl.DataFrame(pl.from_arrow(block.rows))
                frame = frame.rename({name: RAW + name for name in frame.columns})
                yield Block(frame, block.numbers, text=raw.kind != "parquet")


def _missing(file: SourceFile, columns: Sequence[Column], names: Sequence[str]) -> BadData:
    """The error about columns that a file does not have."""
    listed = ", ".join(f"{c.source!r} ({c.use})" for c in columns)
    return BadData(
        f"The pipeline file names columns of {file.table} that {file.uri} does not have: {listed}."
        f" The file has: {', '.join(names)}. Correct the name in the pipeline file, or deliver the"
        " file again with the column."
    )


def _fitting(columns: Sequence[Column], record: JsonObject) -> JsonObject | str:
    """The record; or a message, if a value has a type that the column's use does not allow."""
    for column in columns:
        value = record.get(column.source)
        if value is not None and not _fits(value, column):
            return f"{column.use} is {JSON_TYPES[type(value)]}"
    return record


def _fits(value: Any, column: Column) -> bool:
    # Compared by type, not isinstance: in Python, True is an int.
    if type(value) is list:
        elements = None if column.separator else _ELEMENTS.get(column.kind)
        return elements is not None and all(type(x) in elements for x in value)
    if column.kind == "categories" and not column.separator:
        return False
    return type(value) in _TYPES.get(column.kind, _SCALARS)


class DayBounds(NamedTuple):
    """Bounds of the times of events in a day's folder, in microseconds since 1970 UTC.

    Attributes:
      oldest: start of the earliest day whose late events are used.
      start: start of the folder's day.
      end: start of the next day.
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

        Returns: counts above 0 of `late` events, of earlier days; of those among them that are left out
          as `too late`; and of `early` ones, of later days, which are left out too.
        """
        counts = {
            "late": int((time < self.start).sum()),
            "too late": int((time < self.oldest).sum()),
            "early": int((time >= self.end).sum()),
        }
        return {kind: n for kind, n in counts.items() if n}


@dataclass(slots=True)
class Account:
    """What became of the records of some files.

    Attributes:
      good: records that broke no rule.
      rejected: the first malformed ones of each file.
      reasons: how many malformed ones, by reason.
      misplaced: events of another day than their folder's (`DayBounds.count_misplaced`).
      absent: columns that no record of the last file had, as can happen in JSON Lines.
    """

    good: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    misplaced: Counter[str] = field(default_factory=Counter)
    absent: list[Column] = field(default_factory=list)


def read_records(
    p: Pipeline,
    file: SourceFile,
    columns: Sequence[Column],
    account: Account,
    *,
    number: int = 0,
    part: int | None = None,
    forgotten: ForgottenUsers = NOBODY,
) -> Iterator[pl.DataFrame]:
    """Reads a part of a file, and checks its records.

    Args:
      p: the parsed pipeline file.
      file: a file of events, items or users.
      columns: declarations of the columns to read.
      account: gets what becomes of the records.
      number: of the file among all files that are read together.
      part: one of `RecordFile.parts`, or None for all of it.
      forgotten: users whose records are dropped, after they were counted.

    Yields: records that break no rule, with the columns' names and `_order`.

    Raises:
      BadData: the file cannot be read, a column's type cannot serve its use, or a required column is
        missing.
    """
    bounds = DayBounds.of(p, file.day) if file.table == "events" else None
    absent = list(columns)
    has_rows = False
    room = KEPT_PER_FILE
    for block in _read_blocks(p.source.format, file, part, columns):
        if isinstance(block, Rejected):
            # A line that cannot be read names no user, so it may be about a forgotten one.
            rejected = [block._replace(value=WITHHELD) if forgotten else block]
            account.reasons[block.reason] += 1
        else:
            has_rows = True
            absent = [column for column in absent if RAW + column.source not in block.rows.columns]
            order = pl.Series(ORDER, block.numbers) + (number << FILE_BITS)
            good, bad, rules = _check(file, columns, block, order)
            if "_reward" in good.columns:
                clipped = pl.col("_reward").clip(*p.columns.reward_clip)
                good = good.with_columns(clipped.cast(pl.Float32))
            if bounds is not None:
                account.misplaced.update(bounds.count_misplaced(good["_time"]))
                good = good.filter(bounds.allow(good["_time"]))
            account.good += len(good)
            # Several rules may have the same reason.
            for rule, n in bad.group_by(_RULE).len().iter_rows():
                account.reasons[rules[rule]] += n
            rejected = _explain(file, columns, bad.head(room), rules)
            yield forgotten.drop(good)
        # Of the file, not of the block: a broken file would else be written down as a whole.
        account.rejected += rejected[:room]
        room = max(0, room - len(rejected))
    account.absent = absent if has_rows else []
    if required := [column for column in account.absent if column.required]:
        raise _missing(file, required, first_keys(file.uri))


def _check(
    file: SourceFile, columns: Sequence[Column], block: Block, order: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """The records of a block that break no rule; the raw ones that break one, with its number as
    `_RULE`; and by that number the reasons.
    """
    # With the order: a block without any of the columns would have no height.
    rows = pl.DataFrame([*block.rows, order])
    missing = {RAW + column.source for column in columns} - set(rows.columns)
    # A key that no line of the block has is null in all of them, and may be in the next block.
    rows = rows.with_columns(pl.lit(None).alias(name) for name in missing)
    readings = []
    for column in columns:
        kind = rows.schema[RAW + column.source]
        try:
            readings.append(read_as(column, kind, text=block.text))
        except WrongType as e:
            raise BadData(
                f"{column.use} of {file.table} must be {e}; column {column.source!r} of {file.uri} is"
                f" {kind}. Write the column with the right type, or name another column in the"
                " pipeline file."
            ) from e
    # A record counts for the first rule that it breaks: each column has one.
    first_broken = pl.coalesce(
        *(pl.when(reading.nonsense).then(pl.lit(i)) for i, reading in enumerate(readings)),
        pl.lit(None, pl.Int32),
    )
    # The rules refer to the converted values, so those must be columns before the rules run.
    converted = rows.with_columns(reading.values for reading in readings)
    checked = converted.with_columns(first_broken.alias(_RULE))
    is_good = pl.col(_RULE).is_null()
    good = checked.filter(is_good).select(*(column.name for column in columns), ORDER)
    return good, checked.filter(~is_good), [reading.reason for reading in readings]


def _explain(
    file: SourceFile, columns: Sequence[Column], bad: pl.DataFrame, rules: Sequence[str]
) -> list[Rejected]:
    """Bad records as they are written down."""
    explained = []
    for row in bad.iter_rows(named=True):
        rule = row[_RULE]
        value = repr(row[RAW + columns[rule].source])
        explained.append(Rejected.of(file, row[ORDER] & _RECORD_MASK, rules[rule], value))
    return explained
