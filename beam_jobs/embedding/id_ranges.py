"""The ids of a corpus, range by range: a range is read by whoever works on it, without a shuffle, and
wherever an id stands, it is in one range.

The corpus is sorted by item, so a range is one file of it. If it is not, all is right as well, and
more is read.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.beam.failures import fails_fast
from twinspire_core.errors import BadData
from twinspire_core.storage.parquet_files import open_parquet

_NAMED = 5


class IdRange(NamedTuple):
    """Ids from `first` up to, without, `end`; None is no bound. `number` is its place among the
    others.
    """

    number: int
    first: str | None
    end: str | None


def id_ranges(files: Sequence[str]) -> list[IdRange]:
    """Ranges that begin with the least id of each Parquet file, which its footer says."""
    least = set()
    for uri in files:
        with open_parquet(uri) as file:
            bounds = [found for found in map(_bounds, _columns(file)) if found]
        if bounds:
            least.add(min(low for low, _ in bounds))
    cuts = sorted(least)[1:]
    ends = zip([None, *cuts], [*cuts, None], strict=True)
    return [IdRange(number, *bounds) for number, bounds in enumerate(ends)]


def rows_between(files: Sequence[str], of: IdRange, columns: Sequence[str] = ()) -> pa.Table:
    """The rows of a range, in the order of the files: `_item`, and those columns that the files have.
    Of others' row groups only footers are read.
    """
    found = [pa.table({"_item": pa.array([], pa.string())})]
    for uri in files:
        with open_parquet(uri) as file:
            wanted = [name for name in columns if name in file.schema_arrow.names]
            for number, column in enumerate(_columns(file)):
                if _may_hold(_bounds(column), of):
                    found.append(_within(file.read_row_group(number, ["_item", *wanted]), of))
    return pa.concat_tables(found[1:] or found)


class EachOnce(beam.DoFn):
    """Range of ids -> nothing."""

    def __init__(self, out: str, files: Sequence[str]) -> None:
        super().__init__()
        self.out = out
        self._files = list(files)

    @fails_fast
    def process(self, of: IdRange) -> Iterator[Any]:
        """Looks at the range.

        Raises:
          BadData: an item is in the corpus twice.
        """
        counts = pc.value_counts(rows_between(self._files, of)["_item"])
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
        if repeated:
            more = f" and {len(repeated) - _NAMED:,} more" if len(repeated) > _NAMED else ""
            raise BadData(
                "An item is in the corpus once; found more than once:"
                f" {', '.join(repeated[:_NAMED])}{more}. The items snapshot probably repeats rows:"
                " remove the duplicates and run the features stage again."
            )
        yield from ()


def _columns(file: pq.ParquetFile) -> Iterator[pq.ColumnChunkMetaData]:
    """The column of ids in each row group."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        # By its path: a footer counts the leaves of lists and structs, not the columns of a table.
        columns = map(group.column, range(group.num_columns))
        yield next(column for column in columns if column.path_in_schema == "_item")


def _bounds(column: pq.ColumnChunkMetaData) -> tuple[str, str] | None:
    """The least and the greatest id of a row group, if its footer says."""
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    return statistics.min, statistics.max


def _may_hold(bounds: tuple[str, str] | None, of: IdRange) -> bool:
    if bounds is None:
        return True
    low, high = bounds
    # Python compares text by code point, which is the order of its bytes in UTF-8.
    return (of.end is None or low < of.end) and (of.first is None or high >= of.first)


def _within(rows: pa.Table, of: IdRange) -> pa.Table:
    if of.first is not None:
        rows = rows.filter(pc.greater_equal(rows["_item"], of.first))
    if of.end is not None:
        rows = rows.filter(pc.less(rows["_item"], of.end))
    return rows
