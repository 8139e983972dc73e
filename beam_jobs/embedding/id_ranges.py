"""The ids of a corpus, range by range: a range is read by whoever works on it, without a shuffle, and
wherever an id stands, it is in one range.

The corpus is sorted by item, so a range is one file of it. If it is not, all is right as well, and
more is read. Which ids a file may hold is read once, of its footer, and travels with its name: a store
is not asked for each file by each range.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.beam.failures import fails_fast
from twinspire_core.errors import BadData, listed
from twinspire_core.storage.parquet_files import open_parquet
from twinspire_core.storage.store import map_each


class IdRange(NamedTuple):
    """Ids from `first` up to, without, `end`; None is no bound. `number` is its place among the
    others.
    """

    number: int
    first: str | None
    end: str | None


class IdFile(NamedTuple):
    """A Parquet file that has `_item`, and the least and the greatest of it; None is not known."""

    uri: str
    bounds: tuple[str, str] | None


def id_files(uris: Iterable[str]) -> list[IdFile]:
    """The files that have rows, by their footers; a few are read at once."""
    return [file for file in map_each(_id_file, uris) if file]


def _id_file(uri: str) -> IdFile | None:
    with open_parquet(uri) as file:
        if not file.metadata.num_rows:
            return None
        groups = [_bounds(column) for column in _columns(file)]
    known = [bounds for bounds in groups if bounds]
    if len(known) < len(groups):
        return IdFile(uri, None)
    return IdFile(uri, (min(known)[0], max(high for _, high in known)))


def id_ranges(files: Iterable[IdFile]) -> list[IdRange]:
    """Ranges that begin with the least id of each file."""
    cuts = sorted({file.bounds[0] for file in files if file.bounds})[1:]
    ends = zip([None, *cuts], [*cuts, None], strict=True)
    return [IdRange(number, *bounds) for number, bounds in enumerate(ends)]


def rows_between(
    files: Iterable[IdFile], id_range: IdRange, columns: Sequence[str] = ()
) -> pa.Table:
    """The rows of a range, in the order of the files: `_item`, and those columns that the files have.
    Only files and row groups that may hold some are read.
    """
    found = [pa.table({"_item": pa.array([], pa.string())})]
    for uri in (file.uri for file in files if _may_hold(file.bounds, id_range)):
        with open_parquet(uri) as file:
            wanted = [name for name in columns if name in file.schema_arrow.names]
            for number, column in enumerate(_columns(file)):
                if _may_hold(_bounds(column), id_range):
                    found.append(_within(file.read_row_group(number, ["_item", *wanted]), id_range))
    return pa.concat_tables(found[1:] or found)


class EachOnce(beam.DoFn):
    """Range of ids -> nothing."""

    def __init__(self, out: str, files: Sequence[IdFile]) -> None:
        super().__init__()
        self.out = out
        self._files = list(files)

    @fails_fast
    def process(self, id_range: IdRange) -> Iterator[Any]:
        """Looks at the range.

        Raises:
          BadData: an item is in the corpus twice.
        """
        counts = pc.value_counts(rows_between(self._files, id_range)["_item"])
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
        if repeated:
            raise BadData(
                "An item is in the corpus once; found more than once:"
                f" {listed(repeated)}. The items snapshot probably repeats rows:"
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


def _may_hold(bounds: tuple[str, str] | None, id_range: IdRange) -> bool:
    if bounds is None:
        return True
    low, high = bounds
    # Python compares text by code point, which is the order of its bytes in UTF-8.
    return (id_range.end is None or low < id_range.end) and (
        id_range.first is None or high >= id_range.first
    )


def _within(rows: pa.Table, id_range: IdRange) -> pa.Table:
    if id_range.first is not None:
        rows = rows.filter(pc.greater_equal(rows["_item"], id_range.first))
    if id_range.end is not None:
        rows = rows.filter(pc.less(rows["_item"], id_range.end))
    return rows
