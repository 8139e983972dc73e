"""Mergeable summaries of a column: exact counts, and sketches for what cannot be exact in little
memory.

Workers summarise their batches; the summaries of parts add up to the summary of all, in any order.
Apache DataSketches travel as bytes, in their own format, which is the same in every language.
"""

from typing import Any, NamedTuple, Self

import datasketches as ds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.transform import vocabulary
from beam_jobs.transform.analysis import moments_of
from beam_jobs.validation.bucket_counts import BucketCounts
from twinspire_core.search.ragged import is_list, value_type

DISTINCT_LG_K = 12
"""Distinct counts are off by 2%."""
FREQUENT_LG_SIZE = 15
"""Columns with fewer than 24,000 distinct values are counted exactly."""
MOST_COUNTED = 1 << 22
"""Rows of counts that wait for their sketch: one takes a value as long as a table some dozens, and
most values come again with the next batch.
"""

_KIND = ds.tgt_hll_type.HLL_4


class Lengths(NamedTuple):
    """How rows are filled.

    Attributes:
      rows: all of them.
      filled: rows with a value; for lists: with at least one.
      values: in all rows together.
      shortest: values of the row that has the fewest, among those filled.
      longest: values of the row that has the most.
    """

    rows: int = 0
    filled: int = 0
    values: int = 0
    shortest: int = 0
    longest: int = 0

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Self:
        """Counts a column."""
        if not is_list(column.type):
            known = len(column) - column.null_count
            longest = min(1, known)
            return cls(len(column), known, known, longest, longest)
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        some = lengths[lengths > 0]
        if not len(some):
            return cls(rows=len(column))
        flat = pc.list_flatten(column)
        return cls(
            rows=len(column),
            filled=len(some),
            values=len(flat) - flat.null_count,
            shortest=int(some.min()),
            longest=int(some.max()),
        )

    def __add__(self, other: "Lengths") -> "Lengths":  # type: ignore[override]
        """Of both parts."""
        parts = [part for part in (self, other) if part.filled]
        return Lengths(
            self.rows + other.rows,
            self.filled + other.filled,
            self.values + other.values,
            min((part.shortest for part in parts), default=0),
            max((part.longest for part in parts), default=0),
        )


class Numbers:
    """A column of numbers, or of lists of them.

    Attributes:
      lengths: how rows are filled.
      moments: of the finite values.
      zeros: values that are 0.
      least: of the finite values; infinite where there are none.
      buckets: counts of the finite values.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.lengths = Lengths.of(column)
        values = _flat(column).cast(pa.float64())
        self.moments = moments_of(values, log=False)
        x = values.drop_null().to_numpy()
        self.zeros = int(np.count_nonzero(x == 0))
        finite = x[np.isfinite(x)].astype(np.float32)
        self.least = float(finite.min(initial=np.inf)) + 0.0  # of both zeros the positive one
        self.buckets = BucketCounts.of(finite)

    def merge(self, other: "Numbers") -> None:
        """Adds another part."""
        self.lengths += other.lengths
        self.moments = self.moments.merged(other.moments)
        self.zeros += other.zeros
        self.least = min(self.least, other.least)
        self.buckets += other.buckets


class Strings:
    """A column of strings, or of lists of them.

    Attributes:
      lengths: how rows are filled.
      letters: UTF-8 bytes of all values together.
      distinct: how many values there are.
      frequent: how often the frequent ones come, or all of them where they are few.

    Both know what does not wait in `_counts`, tables of values and how often each came.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.lengths = Lengths.of(column)
        # Of coded lists, numbers are counted.
        counted = _flat(column).drop_null().value_counts()
        values = counted.field("values").cast(pa.string())
        letters = pc.multiply(pc.binary_length(values), counted.field("counts"))
        self.letters = pc.sum(letters).as_py() or 0
        # A sketch of few items is exact; of many, each answer comes with its bounds.
        self.distinct = ds.hll_union(DISTINCT_LG_K)
        self.frequent = ds.frequent_strings_sketch(FREQUENT_LG_SIZE)
        days = pa.nulls(len(values), pa.date32())
        counts = [values, counted.field("counts"), days]
        self._counts = [pa.table(counts, schema=vocabulary.COUNTS)]

    def merge(self, other: "Strings") -> None:
        """Adds another part."""
        self.lengths += other.lengths
        self.letters += other.letters
        self.distinct.update(other.distinct.get_result(_KIND))
        self.frequent.merge(other.frequent)
        self._counts = vocabulary.compacted([*self._counts, *other._counts])
        if sum(map(len, self._counts)) > MOST_COUNTED:
            self._sketch_counts()

    def _sketch_counts(self) -> None:
        counts = vocabulary.added_up(self._counts)
        self._counts = []
        pairs = zip(counts["value"].to_pylist(), counts["events"].to_pylist(), strict=True)
        for value, events in pairs:
            self.distinct.update(value)
            self.frequent.update(value, events)

    def values(self) -> list[tuple[str, int]]:
        """Values with their counts, most frequent first; ties in byte order."""
        counted = [(value, count) for value, count, _, _ in self._found()]
        return sorted(counted, key=lambda value_count: (-value_count[1], value_count[0]))

    @property
    def exact(self) -> bool:
        """Whether `values` are all values, with their true counts."""
        return all(least == most for _, _, least, most in self._found())

    @property
    def unique(self) -> int:
        """Distinct values, exactly where they are few."""
        if self.exact:
            return int(self.frequent.num_active_items)
        # One that others were merged into estimates by its registers alone, which are the same
        # whatever came first.
        merged_once = ds.hll_union(DISTINCT_LG_K)
        for _ in range(2):
            merged_once.update(self.distinct.get_result(_KIND))
        return round(float(merged_once.get_estimate()))

    def _found(self) -> list[tuple[str, int, int, int]]:
        """Value, estimate, least and most possible count."""
        self._sketch_counts()
        items: list[tuple[str, int, int, int]] = self.frequent.get_frequent_items(
            ds.frequent_items_error_type.NO_FALSE_NEGATIVES, 0
        )
        return items

    # DataSketches' objects cannot be pickled, which is how Beam sends accumulators.
    def __getstate__(self) -> dict[str, Any]:
        distinct = self.distinct.get_result(_KIND).serialize_compact()
        return {**self.__dict__, "distinct": distinct, "frequent": self.frequent.serialize()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        frequent = ds.frequent_strings_sketch.deserialize(state["frequent"])
        self.__dict__.update(state, distinct=ds.hll_union(DISTINCT_LG_K), frequent=frequent)
        self.distinct.update(ds.hll_sketch.deserialize(state["distinct"]))


Sketch = Numbers | Strings


def sketch(column: pa.ChunkedArray) -> Sketch:
    """Summarises a column of one of the raw features' types."""
    kind = value_type(column.type)
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return Strings(column)
    return Numbers(column)


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of all rows."""
    if is_list(column.type):
        return pc.list_flatten(column)
    return column
