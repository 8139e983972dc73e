"""Arrow record batches as Beam elements: their encoding, and conversion to Polars frames and Parquet files.

In a shuffle, a large batch is replaced by a batch of one row that names a file in a scratch folder. Beam's
own runner keeps a whole shuffle uncompressed in memory, and the histories of a day of ten million events
would not fit.

Histories are lists that repeat the same strings. So each string is stored once, and lists contain numbers; in
Arrow, these are lists of dictionary values. A batch then contains each string once, and writing Parquet needs
no lookup of every value.
"""

import base64
import io
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam import coders

from twinspire_core import storage
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_offsets, list_ranges

LARGEST = (1 << 31) - 1
"""Most entries of lists, and most bytes of their strings, by Arrow's 32-bit offsets."""


class CodedLists(NamedTuple):
    """N lists.

    Attributes:
      strings: [D] String, distinct; some may be in no list.
      numbers: [M] integers, the values of all lists end to end, as positions in `strings`.
      lengths: [N] int64, of each list.
    """

    strings: pl.Series
    numbers: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, columns: Iterable[pa.ListArray]) -> Self:
        """The lists of several columns, made by `to_arrow`, one after the other."""
        # Each column has its own dictionary. After unification, equal codes mean equal strings.
        lists = pa.chunked_array(columns).unify_dictionaries().chunks
        # Not as one array, which is limited to 2^31 entries.
        values = [column.flatten() for column in lists]
        strings = pl.Series(pl.from_arrow(values[0].dictionary))
        numbers = np.concatenate([coded.indices.to_numpy() for coded in values])
        return cls(strings, numbers, np.concatenate([list_lengths(column) for column in lists]))

    def take(self, rows: np.ndarray) -> "CodedLists":
        """The lists of these rows, [K] int64, in their order."""
        lengths = self.lengths[rows]
        places = list_ranges(list_offsets(self.lengths)[rows], lengths)
        return CodedLists(self.strings, self.numbers[places], lengths)

    def to_arrow(self) -> pa.ListArray:
        """Lists of dictionary values. The dictionary is in the order of first occurrence, so equal lists give
        equal arrays.

        Raises:
          UsageError: there are too many entries or bytes.
        """
        place = np.arange(len(self.numbers))
        first = np.empty(len(self.strings), np.int64)
        # Set in reverse order, so that the first position of a value is set last and stays.
        first[self.numbers[::-1]] = place[::-1]
        used = self.numbers[first[self.numbers] == place]
        code = np.empty(len(self.strings), np.int32)
        code[used] = np.arange(len(used))
        strings = self.strings.gather(used)
        if max(len(self.numbers), strings.str.len_bytes().sum()) > LARGEST:
            raise UsageError(
                f"A batch can hold {LARGEST:,} entries of histories, and as many bytes of distinct"
                f" items; {len(self.lengths):,} rows have more. Lower the length of the history."
            )
        values = pa.DictionaryArray.from_arrays(
            pa.array(code[self.numbers]), strings.to_arrow().cast(pa.string())
        )
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
    """The same schema, with strings in place of codes of a dictionary."""
    fields = []
    for field in schema:
        if pa.types.is_list(field.type) and pa.types.is_dictionary(field.type.value_type):
            field = field.with_type(pa.list_(field.type.value_type.value_type))
        fields.append(field)
    return pa.schema(fields)


BATCH_ROWS = 20_000
"""Rows of a batch: so many that the overhead per batch is small, and so few that a worker can hold several
batches.
"""
LARGE = 1 << 20
"""From this many bytes on, a batch is compressed for size instead of speed, because Beam's own runner keeps a
whole shuffle in memory.
"""
ROW_GROUP = 1 << 16
DICTIONARY_BYTES = 1 << 26
"""Most bytes of a column's dictionary in a row group. Parquet's default, 1 MiB, is too small for the ids in
the histories of a large day.
"""
SPILL_FOLDER = "scratch"
"""Folder below the stage's output with large batches, until the job has ended."""
_NOTE = pa.schema([("_file", pa.string())])
_TOO_LARGE = "A batch can hold 2 GiB of text in a column; {:,} rows have more. Raise beam.shards."


class BatchCoder(coders.Coder):
    """Encodes a batch as an Arrow stream. Equal batches may differ in bytes, so batches cannot be keys."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """The stream's bytes."""
        return _stream(value, "zstd" if value.nbytes > LARGE else "lz4")

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """The batch again."""
        with pa.ipc.open_stream(encoded) as stream:
            return stream.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """The approximate number of bytes. Without this method, Beam would encode the batch once more for its
        metrics.
        """
        return int(value.nbytes)

    def to_type_hint(self) -> type:
        """The encoded type."""
        batch: type = pa.RecordBatch
        return batch


def _stream(batch: pa.RecordBatch, compression: str) -> bytes:
    """An Arrow stream of the batch."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


# Beam uses it wherever a step declares record batches.
coders.registry.register_coder(pa.RecordBatch, BatchCoder)


def to_batch(frame: pl.DataFrame, schema: pa.Schema | None = None) -> pa.RecordBatch:
    """One batch of a frame's rows.

    With a schema, the batch has its columns, in its order and types: a column that the frame lacks is
    null, and a list that is null becomes empty.

    Raises:
      UsageError: a column has more text than Arrow's 32-bit offsets can address.
    """
    if schema:
        frame = frame.select(_column(frame, field) for field in schema)
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    try:
        if schema:
            table = table.cast(schema)
        batches = table.combine_chunks().to_batches()
    except pa.ArrowInvalid as e:
        if "too large" not in str(e):
            raise
        raise UsageError(_TOO_LARGE.format(len(table))) from e
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=table.schema)
    # More than 2 GiB of text stays in several chunks, which one batch cannot contain.
    if len(batches) > 1:
        raise UsageError(_TOO_LARGE.format(len(table)))
    return batches[0]


def to_batches(
    frame: pl.DataFrame, schema: pa.Schema, rows: int = ROW_GROUP
) -> Iterator[pa.RecordBatch]:
    """At least one batch of a frame's rows: of `rows` each, or fewer if their text is too large for one
    batch.
    """
    if frame.is_empty():
        yield to_batch(frame, schema)
        return
    for part in frame.iter_slices(rows):
        try:
            batch = to_batch(part, schema)
        except UsageError:
            if len(part) < 2:
                raise
            half = -(-len(part) // 2)  # rounded up
            yield from to_batches(part, schema, half)
        else:
            yield batch


def _column(frame: pl.DataFrame, field: pa.Field) -> pl.Expr:
    """The column of a field: null if the frame has none, and empty for a list that is null."""
    is_there = field.name in frame.columns
    column = pl.col(field.name) if is_there else pl.lit(None).alias(field.name)
    if not pa.types.is_list(field.type):
        return column
    kind = _polars_type(field.type)
    return column.cast(kind).fill_null(pl.lit([], kind))


@cache
def _polars_type(kind: pa.DataType) -> pl.DataType:
    return pl.Series(pl.from_arrow(pa.array([], kind))).dtype


def to_frame(batches: Iterable[pa.RecordBatch]) -> pl.DataFrame:
    """One frame of some batches of the same columns."""
    return pl.concat([pl.DataFrame(pl.from_arrow(batch)) for batch in batches], rechunk=True)


def parquet(batches: Sequence[pa.RecordBatch]) -> bytes:
    """A Parquet file of the rows of batches, one at least. Equal rows in equal order give equal
    bytes.
    """
    sink = io.BytesIO()
    schema = batches[0].schema
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        dictionary_pagesize_limit=DICTIONARY_BYTES,
        # No reader uses statistics of lists, and they are the most costly ones.
        write_statistics=[field.name for field in schema if not pa.types.is_list(field.type)],
        store_schema=False,
    ) as writer:
        # Arrow would store the schema of the codes. With this schema, readers get strings.
        stored = plain(schema).serialize()
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(stored)})
        # Row groups are the batches, so callers must always cut rows in the same way.
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]), ROW_GROUP)
    return sink.getvalue()


def slices(keys: pl.Series, frame: pl.DataFrame) -> Iterable[tuple[int, pl.DataFrame]]:
    """The frame's rows by their integer key, keys ascending; the rows of a key keep their order."""
    order = np.argsort(keys.to_numpy(), kind="stable")
    distinct, sizes = np.unique(keys.to_numpy(), return_counts=True)
    ordered = frame[order]
    for key, size, end in zip(distinct.tolist(), sizes, np.cumsum(sizes), strict=True):
        yield key, ordered.slice(end - size, size)


def spill(batch: pa.RecordBatch, out: str) -> pa.RecordBatch:
    """The batch to send: the batch itself, or for a large one a batch that names its file below `out`, the
    URI of the stage's output.
    """
    if batch.nbytes <= LARGE:
        return batch
    # A repeated bundle writes files with new names. Files of a failed try are never read.
    uri = storage.join(out, SPILL_FOLDER, f"{secrets.token_hex(16)}.arrow")
    storage.write_transient(uri, _stream(batch, "lz4"))
    return pa.RecordBatch.from_arrays([pa.array([uri])], schema=_NOTE)


def restore(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch that `spill` was given."""
    if batch.schema != _NOTE:
        return batch
    return BatchCoder().decode(storage.read_bytes(batch["_file"][0].as_py()))


def clear_spilled(out: str) -> None:
    """Removes the files of spilled batches, once no step reads them any more."""
    storage.delete_tree(storage.join(out, SPILL_FOLDER))
