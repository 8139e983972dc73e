"""Raw feature columns of Arrow batches in the form that TFT reads, and back.

TFT takes every column as a list: a scalar is a list of one. Nulls become what the graph knows as missing: `""` in
strings, NaN in floats, -1 in integers.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from beam_jobs import schema
from twinspire.errors import BadData
from twinspire.feature import VectorFeature
from twinspire.pipeline import Pipeline

MISSING = {pa.string(): "", pa.float32(): float("nan"), pa.int64(): -1}


def raw_columns(p: Pipeline) -> list[pa.Field]:
    """Raw columns of all features."""
    return schema.query_columns(p) + schema.item_columns(p)


def adapter_config(p: Pipeline, scalars: Mapping[str, pa.DataType] | None = None) -> TensorAdapterConfig:
    """How TFT turns batches made by `to_tft` into tensors.

    Args:
      p: the pipeline.
      scalars: further scalar columns by name.
    """
    fields = raw_columns(p) + [pa.field(name, kind) for name, kind in (scalars or {}).items()]
    sizes = {name: f.size for name, f in p.features.items() if isinstance(f, VectorFeature)}
    return TensorAdapterConfig(
        pa.schema([pa.field(f.name, pa.list_(_value_type(f.type))) for f in fields]),
        {f.name: _representation(f, sizes.get(f.name)) for f in fields},
    )


def _representation(field: pa.Field, size: int | None) -> schema_pb2.TensorRepresentation:
    rep = schema_pb2.TensorRepresentation()
    if pa.types.is_list(field.type) and size is None:
        rep.varlen_sparse_tensor.column_name = field.name
        return rep
    rep.dense_tensor.column_name = field.name
    rep.dense_tensor.shape.SetInParent()
    if size is not None:
        rep.dense_tensor.shape.dim.add(size=size)
    return rep


def to_tft(batch: pa.RecordBatch | pa.Table, config: TensorAdapterConfig) -> pa.RecordBatch:
    """Converts a batch of raw columns; those it lacks are missing in every row."""
    columns = [_to_list(batch, field, config.tensor_representations[field.name]) for field in config.arrow_schema]
    return pa.RecordBatch.from_arrays(columns, schema=config.arrow_schema)


def _to_list(
    batch: pa.RecordBatch | pa.Table, field: pa.Field, representation: schema_pb2.TensorRepresentation
) -> pa.Array:
    rows, kind = batch.num_rows, field.type.value_type
    dense = representation.WhichOneof("kind") == "dense_tensor"
    size = int(np.prod([dim.size for dim in representation.dense_tensor.shape.dim], initial=1)) if dense else None
    if field.name not in batch.schema.names:
        return _lists(_missing(kind, rows * (size or 0)), size, rows)
    column = batch.column(field.name)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_list(column.type):
        return _lists(_filled(column, kind), 1, rows)
    if size is None:
        return _refilled(column, kind)
    return _lists(_vectors(column, field.name, size), size, rows)


def _vectors(column: pa.ListArray, name: str, size: int) -> pa.Array:
    """Values of vectors of one size, zeros where there is none."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    wrong = (lengths != 0) & (lengths != size)
    if wrong.any():
        raise BadData(
            f"features.{name} is declared as vectors of {size} numbers; found one of {lengths[wrong][0]} in "
            f"{wrong.sum()} of {len(lengths)} rows. Mend the column, or set features.{name}.size."
        )
    values = np.zeros((len(lengths), size), np.float32)
    values[lengths == size] = _filled(column.flatten(), pa.float32()).to_numpy().reshape(-1, size)
    return pa.array(np.nan_to_num(values.ravel(), posinf=0, neginf=0))


def _refilled(column: pa.ListArray, kind: pa.DataType) -> pa.ListArray:
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, _filled(column.flatten(), kind))


def _filled(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column.cast(kind).fill_null(pa.scalar(MISSING[kind], kind))


def _missing(kind: pa.DataType, number: int) -> pa.Array:
    return pa.repeat(pa.scalar(MISSING[kind], kind), number)


def _lists(values: pa.Array, size: int | None, rows: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * (size or 0), values)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind
