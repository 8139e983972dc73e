"""The corpus, read by ranges of ids: whether each item is in it once, and which vectors of an earlier
corpus can be reused.

A worker reads one range of the corpus, of the earlier corpus and of its vectors, without a shuffle. An
id is in one range, whatever file it lies in. The corpus is sorted by item, so that a range is one file
of it; in another order more is read, and the result is the same. The ids that a file may hold are read
once, from its footer, and travel with its name, so that no range asks the store about each file.

A vector is reused if it is by the same tower and the item's raw features have not changed since.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.beam import engine, worker_view
from beam_jobs.embedding.tower_calls import Batch, batches_of, write_plain
from twinspire_core import storage
from twinspire_core.contracts.model_bundle import ITEMS, VECTOR
from twinspire_core.errors import BadData, listed
from twinspire_core.storage.parquet_files import list_parquet, open_parquet
from twinspire_core.storage.store import map_each

CHANGES = "changes.json"
"""File below the stage's output with the job's counts of new, changed, withdrawn and reused items."""

# Tags: batches of rows that have to be embedded; (what became of items, how many).
_TO_EMBED = "to_embed"

_COUNTS = "counts"


class IdRange(NamedTuple):
    """Ids from `first` up to, but without, `end`; None means no bound. `number` counts the ranges
    from 0, in order of ids.
    """

    number: int
    first: str | None
    end: str | None


class IdFile(NamedTuple):
    """A Parquet file with `_item`, and the least and the greatest id in it; None if its footer does
    not say.
    """

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
    bounds = [group for group in groups if group]
    if len(bounds) < len(groups):
        return IdFile(uri, None)
    return IdFile(uri, (min(bounds)[0], max(high for _, high in bounds)))


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


def id_ranges(files: Iterable[IdFile]) -> list[IdRange]:
    """Ranges that begin with the least id of each file."""
    cuts = sorted({file.bounds[0] for file in files if file.bounds})[1:]
    ends = zip([None, *cuts], [*cuts, None], strict=True)
    return [IdRange(number, *bounds) for number, bounds in enumerate(ends)]


def rows_between(
    files: Iterable[IdFile], id_range: IdRange, columns: Sequence[str] = ()
) -> pa.Table:
    """The rows of a range, in the order of the files: `_item`, and of the columns those that the files
    have. Only files and row groups that may hold ids of the range are read.
    """
    tables = [pa.table({"_item": pa.array([], pa.string())})]
    for uri in (file.uri for file in files if _may_hold(file.bounds, id_range)):
        with open_parquet(uri) as file:
            wanted = [name for name in columns if name in file.schema_arrow.names]
            for number, column in enumerate(_columns(file)):
                if _may_hold(_bounds(column), id_range):
                    tables.append(
                        _within(file.read_row_group(number, ["_item", *wanted]), id_range)
                    )
    return pa.concat_tables(tables[1:] or tables)


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


class EachOnce(beam.DoFn):
    """Range of ids -> nothing; raises an error where an item comes twice."""

    def __init__(self, out: str, files: Sequence[IdFile]) -> None:
        self.out = out
        self._files = list(files)

    @engine.fails_fast
    def process(self, id_range: IdRange) -> Iterator[Any]:
        """Counts each id of the range.

        Raises:
          BadData: an item is in the corpus twice.
        """
        counts = pc.value_counts(rows_between(self._files, id_range)["_item"])
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
        if repeated:
            raise BadData(
                "An item can be in the corpus only once; found more than once:"
                f" {listed(repeated)}. The items snapshot probably has duplicate rows."
                " Remove the duplicates and run the features stage again."
            )
        yield from ()


class KnownVectors(NamedTuple):
    """Folders of an earlier corpus, and of its vectors.

    Attributes:
      corpus: raw features of the items that were embedded. If the folder is gone, all items are
        embedded again.
      vectors: `_item` and its vector.
    """

    corpus: str
    vectors: str


def reuse_vectors(ranges: PCollection, compare_range: "CompareRange", out: str) -> PCollection:
    """Ranges of ids -> batches of the rows that have to be embedded; the vectors of the others are
    written, and the counts that `take_changes` reads.
    """
    types = {_TO_EMBED: Batch, _COUNTS: tuple[str, int]}
    compared = beam.ParDo(compare_range).with_output_types(Any, **types)
    outputs = ranges | "Compare" >> compared.with_outputs(*types)
    _ = outputs[_COUNTS] | "Changes" >> worker_view.WriteRows(out, CHANGES)
    return outputs[_TO_EMBED]


class CompareRange(beam.DoFn):
    """Range of ids -> `_TO_EMBED` and `_COUNTS`; writes the vectors that are reused into a file."""

    def __init__(
        self,
        corpus: Sequence[IdFile],
        known: KnownVectors,
        columns: Sequence[str],
        batch_rows: int,
        out: str,
    ) -> None:
        """Lists the files of the earlier corpus and of its vectors, and the ids that they hold.

        Args:
          corpus: files of today's corpus.
          known: the earlier corpus, and its vectors.
          columns: raw features that vectors depend on.
          batch_rows: largest number of rows in a batch.
          out: URI of the stage's output.
        """
        self._corpus = list(corpus)
        self._before = id_files(list_parquet(known.corpus))
        self._vectors = id_files(list_parquet(known.vectors))
        self._columns = list(columns)
        self._batch_rows = batch_rows
        self._out = out

    def process(self, id_range: IdRange) -> Iterator[Any]:
        """Compares a range."""
        now = rows_between(self._corpus, id_range, self._columns)
        before = rows_between(self._before, id_range, self._columns)
        vectors = rows_between(self._vectors, id_range, [VECTOR])
        compared = compare(now, before, vectors, self._columns)
        if len(compared.reused):
            # A bundle that is tried again writes the same bytes under the same name.
            uri = storage.join(self._out, ITEMS, f"reused-{id_range.number:05d}.parquet")
            write_plain(uri, compared.reused)
        for what in ("new", "changed", "withdrawn"):
            yield TaggedOutput(_COUNTS, (what, getattr(compared, what)))
        yield TaggedOutput(_COUNTS, ("reused", len(compared.reused)))
        for batch in batches_of(compared.to_embed, id_range.number, self._batch_rows):
            yield TaggedOutput(_TO_EMBED, batch)


class ComparedCorpus(NamedTuple):
    """A corpus, or a range of it, compared with an earlier one.

    Attributes:
      to_embed: rows that have to be embedded.
      reused: `_item`, `vector` of all others.
      new: how many items have no vector.
      changed: how many have one, of other raw features.
      withdrawn: how many vectors are of items that the corpus no longer has.
    """

    to_embed: pa.Table
    reused: pa.Table
    new: int
    changed: int
    withdrawn: int


def compare(
    now: pa.Table, before: pa.Table, vectors: pa.Table, columns: Sequence[str]
) -> ComparedCorpus:
    """Splits a corpus into items whose vectors can be reused and items that have to be embedded.

    Args:
      now: today's corpus: `_item`, and raw features.
      before: the earlier corpus, whose vectors there are.
      vectors: `_item`, `vector` of the earlier corpus.
      columns: raw features that vectors depend on.
    """
    row = _rows(now, vectors)
    has_vector = row >= 0
    is_reused = has_vector & _unchanged(now, before, columns)
    is_there = _rows(vectors, now) >= 0
    return ComparedCorpus(
        to_embed=now.filter(pa.array(~is_reused)),
        reused=vectors.take(row[is_reused]).combine_chunks(),
        new=int((~has_vector).sum()),
        changed=int((has_vector & ~is_reused).sum()),
        withdrawn=int((~is_there).sum()),
    )


def _unchanged(now: pa.Table, before: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Which rows of a corpus have the same raw features in an earlier one, [N] bool."""
    row = _rows(now, before)
    # The set of features has changed since then, so no earlier vector was made of these.
    if set(before.column_names) != set(now.column_names):
        return np.zeros(len(row), bool)
    same = row >= 0
    # Column by column, of the rows that were the same so far.
    for name in columns:
        new = pl.Series(pl.from_arrow(now[name].filter(same)))
        old = pl.Series(pl.from_arrow(before[name].take(row[same])))
        same[same] = new.eq_missing(old).to_numpy() if new.dtype == old.dtype else False
    return same


def _rows(items: pa.Table, among: pa.Table) -> np.ndarray:
    """Rows of the items in another table, [N] int64; -1 where it has none."""
    if not len(among):
        return np.full(len(items), -1)
    places = pc.index_in(items["_item"].combine_chunks(), among["_item"].combine_chunks())
    return np.asarray(places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))


def take_changes(out: str) -> dict[str, int]:
    """The counts that the job wrote, whose file is removed.

    Returns: how many items are `new`, `changed`, `withdrawn`, and how many vectors are `reused`.
    """
    counts = worker_view.take(out, CHANGES)
    return {what: counts.get(what, 0) for what in ("new", "changed", "withdrawn", "reused")}
