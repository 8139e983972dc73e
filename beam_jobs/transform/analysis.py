"""What the transform graph has to know of the vocabulary window, gathered from Arrow batches.

For each value of an id or a category, its events; for each number, count, mean and variance. Both are
partial results that any runner may add up in any order. Both are computed a batch at a time: TFT's own
analysers handle one Python object for each distinct value and stage, 20 times slower. Values are added
up in parts, by a hash of each, and only those that may be in a vocabulary go on to the worker that
ranks them all. The result is one row, which the graph is made from (preprocessing.py).
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

from beam_jobs import hashing
from beam_jobs.beam import batches
from twinspire_core import storage
from twinspire_core.config.feature_kinds import IdFeature, ScaledFeature, VocabularyFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.metrics.intervals import Moments

COMPACT_ROWS = 1 << 20
"""Rows of partial counts that are kept side by side before they are added up."""
MOST_IDS = 1_000_000
"""Most ids with rows of their own. A table of this many rows of 64 numbers takes 256 MB, and Adagrad's
state as much again; `vocabulary.min_events` gives fewer.
"""
MOST_VALUES = 10_000
"""Most values of a category with rows of their own: rarer ones come too seldom to be learned."""
COUNTS = pa.schema([("value", pa.string()), ("events", pa.int64())])
"""A value and its events."""
SUMMARY = "summary.arrow"
"""Where the summary row waits, below the stage's output, for the graph to be made."""
PARTS = 16
"""Parts that the distinct values are cut into."""
_DIGITS = 9
_NOISE = 1e-7  # what float32 does not tell apart is no spread


class Summary(NamedTuple):
    """A partial result: tables of counts by feature, to be added up, and moments by feature."""

    counts: dict[str, list[pa.Table]]
    moments: dict[str, Moments]


def write_summary(rows: PCollection, p: Pipeline, out: str) -> None:
    """Writes the summary row of the vocabulary window to a file below `out`, the stage's output.

    `rows` have `feature_schema.analysis_schema` of either tower.
    """
    uri = storage.join(out, SUMMARY)
    summarise_all = beam.CombineGlobally(Summarise(p)).without_defaults()
    _ = (
        rows
        | "Count values" >> beam.FlatMap(in_parts, p).with_output_types(tuple[int, Any])
        | "Add up parts" >> beam.CombinePerKey(AddUp(p))
        | "Parts of the summary" >> beam.Values()
        | "Summarise" >> summarise_all
        | "Write summary"
        >> beam.Map(lambda row: storage.write_bytes(uri, batches.BatchCoder().encode(row)))
    )


def in_parts(batch: pa.RecordBatch, p: Pipeline) -> Iterator[tuple[int, Summary]]:
    """A batch's summary, cut by a hash of the values; the first part has the moments too."""
    whole = summarise(p, batch)
    counts: list[dict[str, list[pa.Table]]] = [{} for _ in range(PARTS)]
    for name, [table] in whole.counts.items():
        # A missing value gets no row of a table, however often it comes.
        rows = pl.DataFrame(pl.from_arrow(table)).drop_nulls("value")
        for number, some in batches.slices(hashing.shards(rows["value"], PARTS), rows):
            counts[number][name] = [some.to_arrow().cast(table.schema)]
    for number, of_part in enumerate(counts):
        yield number, Summary(of_part, {} if number else whole.moments)


class Summarise(beam.CombineFn):
    """Summaries -> the summary row, a `pa.RecordBatch`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def create_accumulator(self) -> Summary:
        """Nothing."""
        return Summary({}, {})

    def add_input(self, summary: Summary, part: Summary) -> Summary:
        """Adds a partial result."""
        return self.merge_accumulators([summary, part])

    def merge_accumulators(self, summaries: Iterable[Summary]) -> Summary:
        """Adds partial results."""
        total = self.create_accumulator()
        for part in summaries:
            for name, tables in part.counts.items():
                total.counts[name] = _compacted([*total.counts.get(name, []), *tables])
            for name, moments in part.moments.items():
                total.moments[name] = total.moments.get(name, Moments()).merged(moments)
        return total

    def compact(self, summary: Summary) -> Summary:
        """Makes a partial result small before it is sent."""
        counts = {name: [added_up(tables)] for name, tables in summary.counts.items()}
        return summary._replace(counts=counts)

    def extract_output(self, summary: Summary) -> Any:
        """The row."""
        return summary_row(self._pipeline, summary)


class AddUp(Summarise):
    """Summaries of a part of the values -> one, of those that may be in a vocabulary."""

    def extract_output(self, summary: Summary) -> Summary:
        """The summary, small."""
        counts = {
            name: [ranked(self._pipeline, name, added_up(tables))]
            for name, tables in summary.counts.items()
        }
        return summary._replace(counts=counts)


def summarise(p: Pipeline, batch: pa.RecordBatch | pa.Table) -> Summary:
    """The partial result of one batch, of the raw feature columns that it has."""
    table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    names = set(table.column_names)
    return Summary(
        {name: [counts(table[name])] for name in features(p) if name in names},
        {n: _moments_of(table[n], log=log) for n, log in scaled_features(p).items() if n in names},
    )


def features(p: Pipeline) -> dict[str, VocabularyFeature]:
    """Features that keep a vocabulary, which is named like the feature."""
    return {name: f for name, f in p.features.items() if isinstance(f, VocabularyFeature)}


def scaled_features(p: Pipeline) -> dict[str, bool]:
    """For each feature that is scaled, whether its logarithm is."""
    return {name: f.log for name, f in p.features.items() if isinstance(f, ScaledFeature)}


def counts(column: pa.ChunkedArray) -> pa.Table:
    """Events of each value; lists count each of their values."""
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    rows = pa.table({"value": column.cast(pa.string())})
    counted = rows.group_by("value", use_threads=False).aggregate([("value", "count")])
    return _in_one_piece(counted.rename_columns(COUNTS.names).cast(COUNTS))


def _moments_of(column: pa.ChunkedArray, *, log: bool) -> Moments:
    """Of the finite values of a column."""
    x = column.cast(pa.float64()).to_numpy()
    x = x[np.isfinite(x)]
    if log:
        x = logged(x)
    return Moments.of(x)


def logged(x: np.ndarray) -> np.ndarray:
    """Returns sign(x) log(1 + |x|), [N] float64; the graph computes the same."""
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


def _compacted(tables: list[pa.Table]) -> list[pa.Table]:
    """The same counts, added up once there are many."""
    # The first table holds what was added up before. Waiting until as many rows have come again keeps
    # the work linear.
    waiting = sum(map(len, tables[1:]))
    if waiting > max([COMPACT_ROWS, *map(len, tables[:1])]):
        return [added_up(tables)]
    return tables


def added_up(tables: list[pa.Table]) -> pa.Table:
    """One row per value."""
    rows = pa.concat_tables([COUNTS.empty_table(), *tables])
    total = rows.group_by("value", use_threads=False).aggregate([("events", "sum")])
    return _in_one_piece(total.rename_columns(COUNTS.names))


def _in_one_piece(grouped: pa.Table) -> pa.Table:
    # Grouping returns slices of 32,768 rows, each of which travels with the buffers of all: with a
    # million values that is more than Beam can send.
    return grouped.combine_chunks()


def ranked(p: Pipeline, name: str, counts: pa.Table) -> pa.Table:
    """The counts of values that get rows of their own, most frequent first, ties in reverse byte
    order as in TFT. Given a part of the values, those that may get any.
    """
    feature = features(p)[name]
    # "" is a missing value, and a line of the vocabulary's file holds one value.
    is_line = pc.invert(pc.match_substring_regex(counts["value"], r"[\r\n]"))
    is_kept = pc.and_(pc.not_equal(counts["value"], ""), is_line)
    # Rare ids share the rows of unknown values.
    if isinstance(feature, IdFeature):
        is_kept = pc.and_(is_kept, pc.greater_equal(counts["events"], p.vocabulary.min_events))
        size = MOST_IDS
    else:
        size = MOST_VALUES
    rows = counts.filter(is_kept)
    order = pc.sort_indices(rows, [("events", "descending"), ("value", "descending")])
    return rows.take(order[:size])


def summary_row(p: Pipeline, summary: Summary) -> pa.RecordBatch:
    """What the graph is made from."""
    columns: dict[str, pa.Array] = {}
    for name in features(p):
        counts = added_up(summary.counts.get(name, []))
        values = ranked(p, name, counts)["value"].combine_chunks()
        one_list = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
        columns[vocabulary_column(name)] = one_list
    for name in scaled_features(p):
        moments = summary.moments.get(name, Moments())
        spread = moments.spread if moments.spread > _NOISE * abs(moments.mean) else 0.0
        # The last bits depend on the order of adding; without them every run and runner gives the
        # same graph.
        both = pa.array([rounded(moments.mean), rounded(spread)], pa.float64())
        columns[moments_column(name)] = pa.FixedSizeListArray.from_arrays(both, 2)
    return pa.RecordBatch.from_pydict(columns)


def vocabulary_column(name: str) -> str:
    """Column of the summary row that holds a feature's vocabulary, list<string>."""
    return f"_vocabulary_{name}"


def moments_column(name: str) -> str:
    """Column of the summary row that holds a number's mean and standard deviation, [2] float64."""
    return f"_moments_{name}"


def rounded(x: float) -> float:
    """The number without its last digits, which depend on the order of adding."""
    return float(f"{x:.{_DIGITS}g}")
