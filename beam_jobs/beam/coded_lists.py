"""Lists that hold the same strings over and over, as histories do: a string is kept once, and lists
are numbers.

In Arrow they are lists of a dictionary's values. So a batch sends each string once, and a Parquet
file is written without looking every value up.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
import polars as pl
import pyarrow as pa

from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_offsets, list_ranges

LARGEST = (1 << 31) - 1
"""Entries of lists, and bytes of their strings, that Arrow's 32-bit offsets can address."""


class CodedLists(NamedTuple):
    """N lists.

    Attributes:
      strings: [D] String, distinct; some may be in no list.
      numbers: [M] integers, places in `strings` of all lists' values end to end.
      lengths: [N] int64.
    """

    strings: pl.Series
    numbers: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, columns: Iterable[pa.ListArray]) -> Self:
        """The lists of several columns that `to_arrow` made, one after the other."""
        lists = pa.chunked_array(columns).unify_dictionaries().chunks
        # Not as one array, which would have room for 2^31 entries only.
        values = [column.flatten() for column in lists]
        strings = pl.Series(pl.from_arrow(values[0].dictionary))
        numbers = np.concatenate([one.indices.to_numpy() for one in values])
        return cls(strings, numbers, np.concatenate([list_lengths(column) for column in lists]))

    def take(self, rows: np.ndarray) -> "CodedLists":
        """The lists of these rows, [K] int64, in their order."""
        lengths = self.lengths[rows]
        places = list_ranges(list_offsets(self.lengths)[rows], lengths)
        return CodedLists(self.strings, self.numbers[places], lengths)

    def to_arrow(self) -> pa.ListArray:
        """Lists of a dictionary's values. It has those that are in a list, in the order in which they
        first come: equal lists give equal arrays.

        Raises:
          UsageError: there is no room for so many.
        """
        place = np.arange(len(self.numbers))
        first = np.empty(len(self.strings), np.int64)
        # Backwards: what is set last stays.
        first[self.numbers[::-1]] = place[::-1]
        found = self.numbers[first[self.numbers] == place]
        code = np.empty(len(self.strings), np.int32)
        code[found] = np.arange(len(found))
        strings = self.strings.gather(found)
        if max(len(self.numbers), strings.str.len_bytes().sum()) > LARGEST:
            raise UsageError(
                f"A batch has room for {LARGEST:,} entries of histories, and as many bytes of different"
                f" items; {len(self.lengths):,} rows have more. Lower the length of the history."
            )
        coded = pa.array(code[self.numbers])
        values = pa.DictionaryArray.from_arrays(coded, strings.to_arrow().cast(pa.string()))
        return arrow_lists(self.lengths, values)


def with_lists(
    batches: Iterable[pa.RecordBatch], lists: Mapping[str, CodedLists]
) -> Iterator[pa.RecordBatch]:
    """Batches of consecutive rows, with the lists of all rows in place of columns of these names."""
    start = 0
    for batch in batches:
        rows = np.arange(start, start + batch.num_rows)
        start += batch.num_rows
        for name, whole in lists.items():
            column = batch.schema.get_field_index(name)
            batch = batch.set_column(column, name, whole.take(rows).to_arrow())
        yield batch


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema of the same columns as strings."""
    fields = []
    for field in schema:
        if pa.types.is_list(field.type) and pa.types.is_dictionary(field.type.value_type):
            field = field.with_type(pa.list_(field.type.value_type.value_type))
        fields.append(field)
    return pa.schema(fields)
