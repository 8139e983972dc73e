"""What the transform graph has to know of the vocabulary window, gathered from Arrow batches.

Per value of an id or a category: its events and the last day it was seen on; per number: count,
mean and variance. Both are mergeable partial results, so that any runner may add them up in any
order, and both are computed whole batches at a time: TFT's own analysers handle one Python object
per distinct value and stage, 20 times slower. The result is one row, which TFT's analysis phase
reads (preprocessing.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

from beam_jobs.beam.batches import BatchCoder
from twinspire_core import storage
from twinspire_core.config.feature_kinds import (
    IdFeature,
    ScaledFeature,
    VocabularyFeature,
)
from twinspire_core.config.pipeline import Pipeline

SUMMARY = "summary.arrow"
"""Where the summary row waits, below the stage's output, for the graph to be made."""
COMPACT_ROWS = 1 << 20
"""Rows of partial counts that are kept side by side before they are added up."""

_COUNTS = pa.schema([("value", pa.string()), ("events", pa.int64()), ("last", pa.date32())])
_DIGITS = 9
_NOISE = 1e-7  # what float32 does not tell apart is no spread


class Moments(NamedTuple):
    """Of the known values of a number: how many, their mean, and the sum of squared deviations from
    it.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0


class Summary(NamedTuple):
    """A partial result: tables of counts by feature, to be added up, and moments by feature."""

    counts: dict[str, list[pa.Table]]
    moments: dict[str, Moments]


def vocabulary_features(p: Pipeline) -> dict[str, VocabularyFeature]:
    """Features that keep a vocabulary, which is named like the feature."""
    return {
        name: f
        for name, f in p.features.items()
        if isinstance(f, VocabularyFeature) and f.keeps_vocabulary
    }


def scaled_features(p: Pipeline) -> dict[str, bool]:
    """Features that are scaled; whether their logarithm is."""
    return {name: f.log for name, f in p.features.items() if isinstance(f, ScaledFeature)}


def vocabulary_column(name: str) -> str:
    """Column of the summary row that holds a feature's vocabulary, list<string>."""
    return f"_vocabulary_{name}"


def moments_column(name: str) -> str:
    """Column of the summary row that holds a number's mean and standard deviation, [2] float64."""
    return f"_moments_{name}"


def summary_fields(p: Pipeline) -> list[pa.Field]:
    """Columns of the summary row."""
    vocabularies = [
        pa.field(vocabulary_column(name), pa.list_(pa.string())) for name in vocabulary_features(p)
    ]
    return vocabularies + [
        pa.field(moments_column(name), pa.list_(pa.float64(), 2)) for name in scaled_features(p)
    ]


@dataclass
class WriteSummary(beam.PTransform):
    """Rows of the vocabulary window, `schema.analysis_schema`, -> a file with the summary row."""

    p: Pipeline
    day: date
    out: str

    def expand(self, rows: PCollection) -> PCollection:
        """Adds up and writes."""
        row = (
            rows
            | "Summarise" >> beam.CombineGlobally(Summarise(self.p, self.day)).without_defaults()
        )
        return row | "Write summary" >> beam.Map(write_summary, storage.join(self.out, SUMMARY))


def write_summary(row: pa.RecordBatch, uri: str) -> None:
    """Writes a summary row."""
    storage.write_bytes(uri, BatchCoder().encode(row))


def read_summary(uri: str) -> pa.RecordBatch:
    """Reads a summary row."""
    return BatchCoder().decode(storage.read_bytes(uri))


class Summarise(beam.CombineFn):
    """Batches -> the summary row, a `pa.RecordBatch`.

    Batches hold any of the raw feature columns (what is there is counted) and, where
    `vocabulary.keep_days` is declared, `_time`.
    """

    def __init__(self, pipeline: Pipeline, day: date) -> None:
        self._pipeline, self._day = pipeline, day

    def create_accumulator(self) -> Summary:
        """Nothing."""
        return Summary({}, {})

    def add_input(self, summary: Summary, batch: pa.RecordBatch | pa.Table) -> Summary:
        """Adds a batch."""
        return self.merge_accumulators([summary, summarise(self._pipeline, batch)])

    def merge_accumulators(self, summaries: Iterable[Summary]) -> Summary:
        """Adds partial results."""
        total = self.create_accumulator()
        for part in summaries:
            for name, tables in part.counts.items():
                total.counts[name] = compacted([*total.counts.get(name, []), *tables])
            for name, moments in part.moments.items():
                total.moments[name] = merged(total.moments.get(name, Moments()), moments)
        return total

    def compact(self, summary: Summary) -> Summary:
        """Makes a partial result small before it is sent."""
        return summary._replace(
            counts={name: [added_up(tables)] for name, tables in summary.counts.items()}
        )

    def extract_output(self, summary: Summary) -> pa.RecordBatch:
        """The row."""
        return summary_row(self._pipeline, self._day, summary)


def summarise(p: Pipeline, batch: pa.RecordBatch | pa.Table) -> Summary:
    """The partial result of one batch."""
    table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    found = set(table.column_names)
    days = _days(p, table)
    counts = {
        name: [_counts(table[name], days)] for name in vocabulary_features(p) if name in found
    }
    return Summary(
        counts,
        {n: moments_of(table[n], log=log) for n, log in scaled_features(p).items() if n in found},
    )


def _days(p: Pipeline, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    if p.vocabulary.keep_days is None:
        return pa.nulls(len(table), pa.date32())
    zoned = table["_time"].cast(pa.timestamp("us", tz=p.pipeline.time_zone))
    return pc.local_timestamp(zoned).cast(pa.date32())


def _counts(column: pa.ChunkedArray, days: pa.ChunkedArray | pa.Array) -> pa.Table:
    """Events and last day of each value; lists count each of their values."""
    if pa.types.is_list(column.type):
        days = days.take(pc.list_parent_indices(column))
        column = pc.list_flatten(column)
    rows = pa.table({"value": column.cast(pa.string()), "last": days})
    counted = rows.group_by("value", use_threads=False).aggregate(
        [("value", "count"), ("last", "max")]
    )
    return (
        counted.select(["value", "value_count", "last_max"])
        .rename_columns(_COUNTS.names)
        .cast(_COUNTS)
    )


def compacted(tables: list[pa.Table]) -> list[pa.Table]:
    """The same counts, added up once there are many."""
    # What was added up before stands first: waiting until as many rows have come again keeps the
    # work linear.
    if len(tables) > 1 and sum(map(len, tables[1:])) > max(COMPACT_ROWS, len(tables[0])):
        return [added_up(tables)]
    return tables


def added_up(tables: list[pa.Table]) -> pa.Table:
    """One row per value."""
    rows = pa.concat_tables([_COUNTS.empty_table(), *tables])
    total = rows.group_by("value", use_threads=False).aggregate(
        [("events", "sum"), ("last", "max")]
    )
    return total.select(["value", "events_sum", "last_max"]).rename_columns(_COUNTS.names)


def logged(x: np.ndarray) -> np.ndarray:
    """Returns sign(x) log(1 + |x|), [N] float64; the graph computes the same."""
    scaled: np.ndarray = np.sign(x) * np.log1p(np.abs(x))
    return scaled


def moments_of(column: pa.ChunkedArray, *, log: bool) -> Moments:
    """Of the finite values of a column."""
    x = column.cast(pa.float64()).to_numpy()
    x = x[np.isfinite(x)]
    x = logged(x) if log else x
    if not len(x):
        return Moments()
    mean = float(x.mean())
    return Moments(len(x), mean, float(np.square(x - mean).sum()))


def merged(a: Moments, b: Moments) -> Moments:
    """Of the values of both (Chan, Golub, LeVeque 1979)."""
    n = a.n + b.n
    if n == 0:
        return a
    step = b.mean - a.mean
    return Moments(n, a.mean + step * b.n / n, a.squares + b.squares + step**2 * a.n * b.n / n)


def summary_row(p: Pipeline, day: date, summary: Summary) -> pa.RecordBatch:
    """What the graph is made from."""
    columns: list[pa.Array] = []
    for name in vocabulary_features(p):
        values = ranked(p, name, day, added_up(summary.counts.get(name, [])))
        columns.append(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values))
    for name in scaled_features(p):
        n, mean, squares = summary.moments.get(name, Moments())
        spread = (squares / n) ** 0.5 if n else 0.0
        # The last bits depend on the order of adding; without them every run and runner gives the
        # same graph.
        known = [_rounded(mean), _rounded(spread) if spread > _NOISE * abs(mean) else 0.0]
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(known, pa.float64()), 2))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(summary_fields(p)))


def ranked(p: Pipeline, name: str, day: date, counts: pa.Table) -> pa.StringArray:
    """The values that get rows of their own, most frequent first, ties in reverse byte order as TFT
    has it.
    """
    feature = vocabulary_features(p)[name]
    # A line of the vocabulary's file holds one value.
    kept = pc.and_(
        pc.not_equal(counts["value"], ""),
        pc.invert(pc.match_substring_regex(counts["value"], r"[\r\n]")),
    )
    if isinstance(feature, IdFeature):
        kept = pc.and_(kept, pc.greater_equal(counts["events"], p.vocabulary.min_events))
        if p.vocabulary.keep_days is not None:
            first = day - timedelta(days=p.vocabulary.keep_days - 1)
            kept = pc.and_(kept, pc.greater_equal(counts["last"], pa.scalar(first, pa.date32())))
        size = p.vocabulary.max_size
    else:
        size = feature.max_size
    rows = counts.filter(kept)
    order = pc.sort_indices(rows, [("events", "descending"), ("value", "descending")])
    return rows["value"].take(order[:size]).combine_chunks()


def _rounded(x: float) -> float:
    return float(f"{x:.{_DIGITS}g}")
