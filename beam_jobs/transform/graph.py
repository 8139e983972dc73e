"""The transform graph of a day: making it, and applying it to the training rows.

    rows of the vocabulary window -> one summary row    analysis.write_summary, in the first job
    summary row -> transform/                           make_graph, in this process
    examples/dt=D/ -> transformed/dt=D/                 apply_graph, in a job of its own

The summary row holds all that TFT's analysers could compute, so the graph has no analyser: TFT traces
it and writes it in this process, without a job. It writes local files, as TensorFlow cannot write to
all places that `twinspire_core.storage` can.

TFT takes every column as a list: a scalar is a list of one. Nulls become the missing values that
preprocessing.py names.
"""

import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import impl_helper
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter, TensorAdapterConfig

from beam_jobs.beam import batches, engine, worker_view
from beam_jobs.transform import analysis
from beam_jobs.transform.preprocessing import make_preprocessing_fn, read_analysis
from twinspire_core import storage
from twinspire_core.config.feature_kinds import VectorFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData
from twinspire_core.search.ragged import arrow_lists, is_list, list_lengths, value_type

_GRAPH = "transform_fn"
MISSING = {pa.string(): "", pa.float32(): np.nan, pa.int64(): -1}
_PASSED = ("_time", "_user", "_item", "_reward", feature_schema.LABEL)
# Types of columns that become rows of a table, by form; other columns keep their raw type.
_IDS = {"id": pa.int64(), "ids": pa.list_(pa.int64())}


def make_graph(p: Pipeline, out: str) -> None:
    """Makes `transform/` below the stage's output from the summary row there, which it removes."""
    summary = storage.join(out, analysis.SUMMARY)
    row = batches.BatchCoder().decode(worker_view.read_written(summary))
    with tempfile.TemporaryDirectory() as local:
        fit(p, row, Path(local))
        storage.upload_tree(Path(local), storage.join(out, feature_schema.TRANSFORM))
    storage.delete_file(summary)


def fit(p: Pipeline, row: pa.RecordBatch, folder: Path) -> None:
    """Makes the graph from the summary row, and writes it into an empty local folder in TFT's layout."""
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        impl_helper.analyze_in_place(
            make_preprocessing_fn(p, read_analysis(p, row, Path(scratch))),
            force_tf_compat_v1=False,
            feature_specs=None,  # of TensorFlow 1
            type_specs=TensorAdapter(adapter_config(p)).TypeSpecs(),
            transform_output_path=str(folder),
        )


class _quiet:
    """Silences warnings of TFT and TensorFlow, which are of no use to the reader of a run's output."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)


def apply_graph(names: PCollection, p: Pipeline, out: str) -> PCollection:
    """Names of files of examples, below the stage's output, -> (folder, rows) of the files that were
    written, one file at a time.

    The rows of held-out users are left out; the others keep their order. The same rows give the
    same bytes.
    """
    write = beam.ParDo(_Transform(p, out, Shared()))
    return names | beam.Reshuffle() | "Transform" >> write.with_output_types(tuple[str, int])


class _Transform(beam.DoFn):
    def __init__(self, p: Pipeline, out: str, shared: Shared) -> None:
        self.out = out
        self._p = p
        self._shared = shared

    @engine.fails_fast
    def process(self, name: str) -> Iterator[tuple[str, int]]:
        # One graph for all threads and bundles of the process.
        folder = storage.join(self.out, feature_schema.TRANSFORM)
        graph = self._shared.acquire(lambda: Graph.download(self._p, folder))
        content = io.BytesIO(storage.read_bytes(storage.join(self.out, name)))
        # Read as codes of a dictionary: the graph then looks up each string once.
        lists = [f"{column}.list.element" for column in list_columns(self._p)]
        file = pq.ParquetFile(content, read_dictionary=lists)
        sink = io.BytesIO()
        rows = 0
        with _writer(sink, _transformed_schema(self._p)) as writer:
            for batch in self._batches(file):
                # Nobody who is measured is trained on.
                trained_on = batch.filter(pc.invert(batch["_holdout"]))
                if trained_on.num_rows:
                    writer.write_batch(graph(trained_on))
                    rows += trained_on.num_rows
        written = name.replace(feature_schema.EXAMPLES, feature_schema.TRANSFORMED, 1)
        if rows:
            storage.write_bytes(storage.join(self.out, written), sink.getvalue())
            yield written.rpartition("/")[0], rows

    def _batches(self, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        """The file's rows, in batches that never span two row groups: each group has a dictionary
        of its own, and Arrow cannot read lists across two.
        """
        for group in range(file.num_row_groups):
            yield from file.iter_batches(batches.BATCH_ROWS, row_groups=[group])


def _writer(sink: io.BytesIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Writes training rows. Lists of ids are packed as differences: a dictionary of numbers would
    be as long as they are, and cost half as much again.
    """
    ids = [field.name for field in schema if field.type == pa.list_(pa.int64())]
    plain = [field.name for field in schema if field.name not in ids]
    packed = {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in ids}
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=plain,
        column_encoding=packed,
        write_statistics=plain,
    )


class Graph:
    """The transform graph, applied to Arrow batches."""

    def __init__(self, p: Pipeline, folder: Path) -> None:
        """Reads the graph from a local folder in TFT's layout."""
        self._schema = _transformed_schema(p)
        self._lists = list_columns(p)
        self._config = adapter_config(p)
        self._adapter = TensorAdapter(self._config)
        self._loader = SavedModelLoader(str(folder / _GRAPH))
        # Tells TFT which inputs and outputs are used, so that it can prune the graph once.
        columns = set(self._config.arrow_schema.names)
        self._loader.finalize(columns, columns)

    @classmethod
    def download(cls, p: Pipeline, uri: str) -> "Graph":
        """Reads the graph from a disk or a store."""
        with tempfile.TemporaryDirectory() as local:
            return cls(p, storage.localize(uri, Path(local) / feature_schema.TRANSFORM))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Transforms examples: `example_schema` -> `_transformed_schema`."""
        lists = {name: RepeatedValues(batch[name]) for name in self._lists}
        for name, values in lists.items():
            batch = batch.set_column(batch.schema.get_field_index(name), name, values.distinct)
        tensors = self._adapter.ToBatchTensors(to_tft(batch, self._config))
        transformed = self._loader.apply_transform_model(tensors)
        columns = []
        for field in self._schema:
            if field.name in _PASSED:
                columns.append(batch[field.name])
            elif field.name in lists:
                rows = transformed[field.name].values.numpy()
                columns.append(lists[field.name].replaced(pa.array(rows, field.type.value_type)))
            else:
                columns.append(_to_arrow(transformed[field.name], field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _transformed_schema(p: Pipeline) -> pa.Schema:
    """`transformed/dt=D/`: `_time`, `_user`, `_item`, `_reward`, and the towers' inputs as
    preprocessing.py says.

    `_label` comes after `_reward` where `columns.label` is declared.
    """
    examples = feature_schema.example_schema(p)
    fields = [examples.field(name) for name in _PASSED if name in examples.names]
    for name, feature in p.features.items():
        for column in feature_schema.feature_columns(name, feature):
            fields.append(pa.field(column.name, _IDS.get(feature.form, column.type)))
    return pa.schema(fields)


def _to_arrow(x: Any, kind: pa.DataType) -> pa.Array:
    """A transformed column: [B] tensors are scalars, [B, size] and sparse ones lists."""
    if isinstance(x, tf.SparseTensor):
        # A sparse tensor has (row, place) of each value, in the order of rows.
        lengths = np.bincount(x.indices[:, 0].numpy(), minlength=int(x.dense_shape[0]))
        return arrow_lists(lengths, pa.array(x.values.numpy(), kind.value_type))
    if x.shape.rank == 2:
        offsets = np.arange(len(x) + 1, dtype=np.int32) * x.shape[1]
        return pa.ListArray.from_arrays(offsets, pa.array(x.numpy().ravel(), kind.value_type))
    return pa.array(x.numpy(), kind)


def adapter_config(p: Pipeline) -> TensorAdapterConfig:
    """How TFT turns batches made by `to_tft` into tensors."""
    sizes = {name: f.size for name, f in p.of_kind(VectorFeature).items()}
    fields = []
    # The stage's files hold vectors as lists of any length; tensors need to know how long they are.
    for field in feature_schema.query_columns(p) + feature_schema.item_columns(p):
        if field.name in sizes:
            field = field.with_type(pa.list_(field.type.value_type, sizes[field.name]))
        fields.append(field)
    lists = [pa.field(field.name, pa.list_(value_type(field.type))) for field in fields]
    representations = {field.name: _representation(field) for field in fields}
    return TensorAdapterConfig(pa.schema(lists), representations)


def _representation(field: pa.Field) -> schema_pb2.TensorRepresentation:
    """A sparse tensor of a list; a dense one, [B] or [B, size], of a scalar or a vector."""
    rep = schema_pb2.TensorRepresentation()
    if pa.types.is_list(field.type):
        rep.varlen_sparse_tensor.column_name = field.name
        return rep
    rep.dense_tensor.column_name = field.name
    rep.dense_tensor.shape.SetInParent()
    if pa.types.is_fixed_size_list(field.type):
        rep.dense_tensor.shape.dim.add(size=field.type.list_size)
    return rep


def list_columns(p: Pipeline) -> list[str]:
    """Columns whose lists of strings become rows of a table, value by value."""
    columns = feature_schema.query_columns(p) + feature_schema.item_columns(p)
    return [field.name for field in columns if field.type == pa.list_(pa.string())]


class RepeatedValues:
    """Lists that repeat the same values, as histories do: the graph looks up each value once.

    Attributes:
      distinct: as many lists, the first of which has all distinct values; the others are empty.
    """

    def __init__(self, column: pa.ListArray) -> None:
        """Of lists of strings, or of codes of a dictionary."""
        values = column.flatten()
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        self._lengths = list_lengths(column)
        # One value more stands for nulls, which have no code.
        self._codes = values.indices.fill_null(len(values.dictionary))
        distinct = pa.concat_arrays([values.dictionary.cast(pa.string()), pa.array([""])])
        offsets = np.full(len(column) + 1, len(distinct), np.int32)
        offsets[0] = 0
        self.distinct = pa.ListArray.from_arrays(offsets, distinct)

    def replaced(self, made: pa.Array) -> pa.ListArray:
        """The lists again, of what was made of each distinct value."""
        return arrow_lists(self._lengths, made.take(self._codes))


def to_tft(batch: pa.RecordBatch, config: TensorAdapterConfig) -> pa.RecordBatch:
    """Converts a batch of raw columns; those it lacks are missing in every row."""
    columns = [
        _to_list(batch, field, config.tensor_representations[field.name])
        for field in config.arrow_schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=config.arrow_schema)


def _to_list(
    batch: pa.RecordBatch,
    field: pa.Field,
    representation: schema_pb2.TensorRepresentation,
) -> pa.Array:
    """A column as lists: of `size` values each if its tensor is dense, of any length if not."""
    rows = batch.num_rows
    kind = field.type.value_type
    size = None
    if representation.WhichOneof("kind") == "dense_tensor":
        size = int(np.prod([dim.size for dim in representation.dense_tensor.shape.dim], initial=1))
    if field.name not in batch.schema.names:
        return _lists(pa.repeat(pa.scalar(MISSING[kind], kind), rows * (size or 0)), size, rows)
    column = batch.column(field.name)
    if not is_list(column.type):
        return _lists(_filled(column, kind), 1, rows)
    # Rebuilt rather than cast: the offsets of a sliced array begin anywhere.
    if size is None:
        return arrow_lists(list_lengths(column), _filled(column.flatten(), kind))
    return _lists(_vectors(column, field.name, size, kind), size, rows)


def _vectors(column: pa.Array, name: str, size: int, kind: pa.DataType) -> pa.Array:
    """Values of vectors of one size, zeros where there is none."""
    lengths = list_lengths(column)
    wrong = (lengths != 0) & (lengths != size)
    if wrong.any():
        raise BadData(
            f"Every vector of features.{name} must have {size} numbers; found {wrong.sum()} of"
            f" {len(lengths)} rows with others, such as {lengths[wrong][0]}. Correct the column, or set"
            f" features.{name}.size."
        )
    # An empty vector is a missing one, which the graph knows as zeros.
    values = np.zeros((len(lengths), size), kind.to_pandas_dtype())
    values[lengths == size] = _filled(column.flatten(), kind).to_numpy().reshape(-1, size)
    return pa.array(values.ravel())


def _filled(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column.cast(kind).fill_null(pa.scalar(MISSING[kind], kind))


def _lists(values: pa.Array, size: int | None, rows: int) -> pa.ListArray:
    """Lists of `size` values each; empty ones if there is no size."""
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * (size or 0), values)
