"""The statistics of a day's columns, taken batch by batch: the same bytes on every runner, in whatever
parts and order the rows come.

Counts and extremes are exact. All else comes from one kind of sketch, which keeps the entries
with the `LISTED` smallest hashes. A sketch by hashes of the values holds distinct values with exact
counts, and estimates how many there are (KMV). A sketch by hashes of the rows is a random sample, which
gives quantiles and top values where a column has more distinct values than are listed. With 10,000
rows, the rank of a quantile is off by less than 2% in 999 of 1,000 columns.

Source: Beyer, Haas, Reinwald, Sismanis, Gemulla, *On Synopses for Distinct-Value Estimation Under
Multiset Operations*, 2007.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import PCollection

from beam_jobs.hashing import row_hashes, string_hashes
from beam_jobs.validation.drift import Numbers, compared_features
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema, features_report
from twinspire_core.search.ragged import is_list, list_lengths, list_rows, value_type

LISTED = 10_000
"""Entries that a sketch keeps."""
_TOP = 20
_RANKS = np.arange(11) / 10
_ALL = np.uint64((1 << 64) - 1)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_NOT_DATA = ("_time", "_holdout")


def columns(p: Pipeline, schema: pa.Schema) -> list[str]:
    """Columns of the examples with statistics: features, reward, label, and ids that are no feature."""
    features = {"_user": p.user_id, "_item": p.item_id}
    return [name for name in schema.names if name not in _NOT_DATA and not features.get(name)]


class Smallest:
    """The entries with the `LISTED` smallest hashes, and how often each came. An entry is its hash."""

    def __init__(self) -> None:
        self._parts: list[_Entries] = []
        self._waiting = 0
        self._last = _ALL

    def add(self, hashes: np.ndarray, values: pa.Array, counts: np.ndarray | int = 1) -> None:
        """Adds entries: [N] uint64, [N] strings, coded ones or numbers, how often each comes."""
        chosen = np.flatnonzero(hashes <= self._last)
        some = values.take(pa.array(chosen))
        if pa.types.is_dictionary(some.type):
            some = some.dictionary_decode()
        counts = np.broadcast_to(counts, len(hashes))[chosen]
        self._take([_Entries(hashes[chosen], some, counts)])

    def merge(self, other: "Smallest") -> None:
        """Adds another part's entries."""
        self._take(other._parts)

    def _take(self, parts: list["_Entries"]) -> None:
        self._parts += parts
        self._waiting += sum(len(part.hashes) for part in parts)
        if self._waiting > 4 * LISTED:
            self.compact()

    def compact(self) -> None:
        """Drops entries beyond the `LISTED` smallest."""
        if len(self._parts) > 1 or self._waiting > LISTED:
            self.entries()

    def entries(self) -> "_Entries":
        """The entries, by hash; each once, with the sum of its counts."""
        # Entries with equal hashes are the same entry of several parts: their counts are added up.
        hashes = np.concatenate([part.hashes for part in self._parts])
        counts = np.concatenate([part.counts for part in self._parts])
        order = np.argsort(hashes)
        hashes = hashes[order]
        first = _first(hashes)
        counts = np.add.reduceat(counts[order], first) if len(first) else counts
        first = first[:LISTED]
        values = pa.concat_arrays([part.values for part in self._parts]).take(order[first])
        whole = _Entries(hashes[first], values, counts[:LISTED])
        self._parts = [whole]
        self._waiting = len(first)
        if len(first) == LISTED:
            self._last = hashes[first[-1]]
        return whole


def _first(ascending: np.ndarray) -> np.ndarray:
    """Places of the first of equal numbers."""
    return np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[: len(ascending)])


class _Entries(NamedTuple):
    """N entries: hashes, [N] uint64; values, [N] strings or float32; counts, [N] int64."""

    hashes: np.ndarray
    values: pa.Array
    counts: np.ndarray


@dataclass
class Sketch:
    """A column so far.

    Attributes:
      by_value: the different values.
      by_row: a sample of all values.
      For the others see `Column`.
    """

    rows: int = 0
    present: int = 0
    values: int = 0
    least: float = np.inf
    most: float = -np.inf
    by_value: Smallest = field(default_factory=Smallest)
    by_row: Smallest = field(default_factory=Smallest)

    def add(self, column: pa.Array, rows: np.ndarray) -> None:
        """Adds a batch.

        Args:
          column: [N] of one of the raw features' types.
          rows: [N] uint64, hashes that tell the rows apart.
        """
        hashes = rows
        if is_list(column.type):
            # An empty list counts as missing, as it gives no value.
            lengths = list_lengths(column)
            hashes = rows[list_rows(lengths)]
            self.present += int(np.count_nonzero(lengths))
            column = column.flatten()
        else:
            self.present += len(column) - column.null_count
        self.rows += len(rows)
        self.values += len(column) - column.null_count
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
        # Codes are dropped faster than strings.
        if column.null_count:
            hashes = hashes[column.is_valid().to_numpy(zero_copy_only=False)]
            column = column.drop_null()
        if pa.types.is_dictionary(column.type):
            self._add_strings(column, hashes)
        else:
            self._add_numbers(column.cast(pa.float32()), hashes)

    def _add_strings(self, column: pa.DictionaryArray, hashes: np.ndarray) -> None:
        codes = column.indices.to_numpy()
        of_values = string_hashes(column.dictionary)
        counts = np.bincount(codes, minlength=len(of_values))
        there = np.flatnonzero(counts)
        self.by_value.add(of_values[there], column.dictionary.take(there), counts[there])
        # A value that a row has twice is one entry.
        self.by_row.add(hashes + of_values[codes], column)

    def _add_numbers(self, column: pa.Array, hashes: np.ndarray) -> None:
        numbers = column.to_numpy(zero_copy_only=False)
        if not np.isfinite(numbers).all():
            hashes = hashes[np.isfinite(numbers)]
            numbers = numbers[np.isfinite(numbers)]
        numbers = numbers + np.float32(0)  # of both zeros the positive one
        self.least = min(self.least, float(numbers.min(initial=np.inf)))
        self.most = max(self.most, float(numbers.max(initial=-np.inf)))
        from pandas.util import hash_array  # late: a refresh does without pandas

        distinct, counts = np.unique(numbers, return_counts=True)
        self.by_value.add(hash_array(distinct), pa.array(distinct), counts)
        self.by_row.add(hashes + numbers.view(np.uint32) * _ODD, pa.array(numbers))

    def merge(self, other: "Sketch") -> None:
        """Adds another part."""
        self.rows += other.rows
        self.present += other.present
        self.values += other.values
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        self.by_value.merge(other.by_value)
        self.by_row.merge(other.by_row)

    def finish(self, kind: pa.DataType) -> features_report.Column:
        """The statistics of the column, which has this type in Arrow."""
        distinct = self.by_value.entries()
        exact = len(distinct.hashes) < LISTED
        entries = distinct if exact else self.by_row.entries()
        counted = pa.table({"value": entries.values, "n": entries.counts})
        if not exact:
            counted = counted.group_by("value").aggregate([("n", "sum")])
            counted = counted.rename_columns(["value", "n"])
        top = counted.sort_by([("n", "descending"), ("value", "ascending")])
        # A sample's counts are scaled up to all values.
        times = 1.0 if exact else self.values / entries.counts.sum()
        listed = top
        numbers: dict[str, Any] = {}
        if pa.types.is_floating(entries.values.type) and len(entries.values):
            listed = counted.sort_by("value")
            quantiles = Numbers.weighted(listed["value"], listed["n"]).quantiles(_RANKS)
            numbers["min"], numbers["max"] = _plain(pa.array([self.least, self.most], pa.float32()))
            numbers["quantiles"] = _plain(pa.array(quantiles))
        return features_report.Column(
            type=_type(kind),
            rows=self.rows,
            present=self.present,
            missing=self.rows - self.present,
            values=self.values,
            distinct=len(distinct.hashes)
            if exact
            else (LISTED - 1) * int(_ALL) // int(distinct.hashes[-1]),
            exact=exact,
            top=[
                (value, round(n * times))
                for value, n in zip(
                    _plain(top["value"][:_TOP]), top["n"][:_TOP].to_pylist(), strict=True
                )
            ],
            listed=_plain(listed["value"]),
            counts=listed["n"].to_pylist(),
            **numbers,
        )


Sketches = dict[str, Sketch]


class Collect(beam.CombineFn):
    """Batches, which may lack some of the columns, -> a sketch of each column."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)

    def create_accumulator(self) -> Sketches:
        """Nothing."""
        return {}

    def add_input(self, sketches: Sketches, batch: pa.RecordBatch) -> Sketches:
        """Adds a batch."""
        # Rows of the two towers come in batches of their own, with different columns.
        names = [name for name in self._names if name in batch.schema.names]
        if not names:
            return sketches
        rows = row_hashes(batch)
        for name in names:
            sketches.setdefault(name, Sketch()).add(batch[name], rows)
        return sketches

    def merge_accumulators(self, parts: Iterable[Sketches]) -> Sketches:
        """Adds parts."""
        total: Sketches = {}
        for part in parts:
            for name, sketch in part.items():
                total.setdefault(name, Sketch()).merge(sketch)
        return total

    def compact(self, sketches: Sketches) -> Sketches:
        """Makes parts small before they are sent."""
        for sketch in sketches.values():
            sketch.by_value.compact()
            sketch.by_row.compact()
        return sketches

    def extract_output(self, sketches: Sketches) -> Sketches:
        """The sketches."""
        return sketches


def write_statistics(examples: PCollection, training: PCollection, p: Pipeline, out: str) -> None:
    """Writes `statistics.json` below `out`, the stage's output.

    Args:
      examples: batches of the day's examples.
      training: batches with `feature_schema.analysis_schema` of either tower.
    """
    schema = feature_schema.example_schema(p)
    parts = []
    for part, batches, names in (
        ("examples", examples, columns(p, schema)),
        ("training", training, compared_features(p)),
    ):
        combine = beam.CombineGlobally(Collect(names)).without_defaults()
        sketches = batches | f"Summarise {part}" >> combine
        parts.append(sketches | f"Name {part}" >> beam.WithKeys(part))
    _ = (
        parts
        | "Statistics" >> beam.Flatten()
        | "Statistics by 0" >> beam.WithKeys(0)
        | "Statistics together" >> beam.GroupByKey()
        | "Write statistics" >> beam.MapTuple(lambda _, sketches: _write(sketches, schema, out))
    )


def _write(parts: Iterable[tuple[str, Sketches]], schema: pa.Schema, out: str) -> None:
    # A part without rows is absent; the check of the counters says later what that means.
    file = features_report.StatisticsFile(
        **{part: finish(schema, sketches) for part, sketches in parts}
    )
    rows = max((column.rows for column in file.examples.values()), default=0)
    file.model_copy(update={"rows": rows}).write(out)


def finish(schema: pa.Schema, sketches: Sketches) -> dict[str, features_report.Column]:
    """The columns' statistics, in the order of the examples, whose schema is given."""
    return {
        field.name: sketches[field.name].finish(field.type)
        for field in schema
        if field.name in sketches
    }


def _type(kind: pa.DataType) -> Any:
    kind = value_type(kind)
    if pa.types.is_string(kind):
        return "string"
    return "int" if pa.types.is_integer(kind) else "float"


def _plain(values: pa.Array) -> list[Any]:
    """Strings, or the shortest decimal numbers that are these float32."""
    if pa.types.is_floating(values.type):
        values = values.cast(pa.string()).cast(pa.float64())
    return values.to_pylist()
