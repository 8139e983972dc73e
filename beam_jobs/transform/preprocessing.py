"""The transform graph: raw feature columns -> what the towers read, as a TFT `preprocessing_fn`.

Every output has the name of its raw column. Ids are int64: 0 = missing or padding, then the
vocabulary in TFT's order (most frequent first, ties in reverse byte order), then the shared buckets
of values outside it; a hashed feature has 0 and its buckets. Numbers are float32 around 0, and 0
when missing.

Missing is `""` in strings, NaN in floats and -1 in integers, so that scalars are plain dense
tensors of one type in the feature job, in training and in serving. All that the graph has to know of
the data is counted before it is made (analysis.py), so it has no TFT analyser.

TFT takes every column as a list: a scalar is a list of one. Nulls become these missing values.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from beam_jobs.transform.analysis import (
    features,
    moments_column,
    scaled_features,
    vocabulary_column,
)
from twinspire_core.config.feature_kinds import (
    OOV_BUCKETS,
    TEXT_BUCKETS,
    AgeFeature,
    CountFeature,
    Feature,
    HistoryFeature,
    NumberFeature,
    TextFeature,
    TimeFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData
from twinspire_core.search.ragged import arrow_lists, is_list, list_lengths, value_type

Tensor: TypeAlias = "tf.Tensor | tf.SparseTensor"
Inputs: TypeAlias = Mapping[str, Tensor]
MISSING = {pa.string(): "", pa.float32(): np.nan, pa.int64(): -1}
_WORDS = r"[^\p{L}\p{N}]+"
NO_VALUE = b"\x1fempty"
"""The only line of an empty vocabulary: a table needs one. TFT does the same, with another
value.
"""


class Analysis(NamedTuple):
    """What was counted over the vocabulary window, by feature.

    Attributes:
      vocabularies: paths of local files, one value a line. The graph takes them along as its
        assets.
      moments: mean and standard deviation of what is scaled.
    """

    vocabularies: Mapping[str, str]
    moments: Mapping[str, tuple[float, float]]


def read_analysis(p: Pipeline, row: pa.RecordBatch, folder: Path) -> Analysis:
    """Reads the summary row, whose vocabularies become files of a folder."""
    vocabularies = {}
    for name in features(p):
        values = row[vocabulary_column(name)][0].values.cast(pa.binary()).to_pylist()
        file = folder / name
        file.write_bytes(b"".join([value + b"\n" for value in values or [NO_VALUE]]))
        vocabularies[name] = str(file)
    moments = {name: tuple(row[moments_column(name)][0].as_py()) for name in scaled_features(p)}
    return Analysis(vocabularies, moments)


def make_preprocessing_fn(p: Pipeline, analysis: Analysis) -> Callable[[Inputs], dict[str, Tensor]]:
    """The function that TFT turns into a graph."""

    def preprocessing_fn(inputs: Inputs) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name, feature in p.features.items():
            if isinstance(feature, TimeFeature):
                # Row 0 of the table is for a missing hour or weekday, which is -1.
                for column, values in feature.values(name).items():
                    outputs[column] = tf.clip_by_value(inputs[column] + 1, 0, values)
            else:
                outputs[name] = _column(p, name, feature, inputs[name], analysis)
        return outputs

    return preprocessing_fn


def _column(p: Pipeline, name: str, f: Feature, x: Tensor, analysis: Analysis) -> Tensor:
    match f:
        case NumberFeature() | CountFeature() | AgeFeature():
            return scaled(x, analysis.moments[name], log=f.log)
        case VectorFeature():
            return tf.where(tf.math.is_finite(x), x, tf.zeros_like(x))
        case TextFeature():
            words = _ngrams(x)
            rows = _values(words, lambda v: tf.strings.to_hash_bucket_fast(v, TEXT_BUCKETS))
            return _ids(words, rows)
        case HistoryFeature():
            assert p.item_id is not None  # the pipeline file was checked for it
            return _rows(p.item_id, x, analysis)
        case _:
            return _rows(name, x, analysis)


def _rows(table: str, x: Tensor, analysis: Analysis) -> Tensor:
    """Rows of values in the table of an id, a category or categories."""
    vocabulary = analysis.vocabularies[table]
    return _ids(x, tft.apply_vocabulary(x, vocabulary, num_oov_buckets=OOV_BUCKETS))


def _ids(x: Tensor, rows: Tensor) -> Tensor:
    """Row numbers from 1 on, which leaves 0 for missing values."""
    present = _values(x, lambda values: tf.cast(tf.not_equal(values, ""), tf.int64))
    flat = present.values if isinstance(present, tf.SparseTensor) else present
    return _values(rows, lambda values: (values + 1) * flat)


def _values(x: Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> Tensor:
    """Applies an elementwise function to the values of a dense or a sparse tensor."""
    if isinstance(x, tf.SparseTensor):
        return tf.SparseTensor(x.indices, function(x.values), x.dense_shape)
    return function(x)


def scaled(x: tf.Tensor, moments: tuple[float, float], *, log: bool) -> tf.Tensor:
    """Scales to mean 0 and variance 1 over the analysed rows; missing becomes the mean.

    Args:
      x: [B] float32; NaN and infinities count as missing.
      moments: mean and standard deviation of what is scaled.
      log: take sign(x) log(1 + |x|) first.

    Returns: [B] float32.
    """
    present = tf.math.is_finite(x)
    x = tf.cast(x, tf.float64)
    if log:
        x = tf.sign(x) * tf.math.log1p(tf.abs(x))
    mean, spread = moments
    # A number that is the same everywhere has no spread: it becomes 0.
    z = (x - mean) / (spread or 1.0)
    return tf.cast(tf.where(present, z, tf.zeros_like(z)), tf.float32)


def _ngrams(text: tf.Tensor) -> tf.SparseTensor:
    """[B, L] string: the lower-cased words and pairs of words of each text, [B] string of UTF-8."""
    lower = tf.strings.lower(text, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, _WORDS, " ")).to_sparse()
    return tft.ngrams(words, (1, 2), " ")


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


def to_tft(batch: pa.RecordBatch | pa.Table, config: TensorAdapterConfig) -> pa.RecordBatch:
    """Converts a batch of raw columns; those it lacks are missing in every row."""
    columns = [
        _to_list(batch, field, config.tensor_representations[field.name])
        for field in config.arrow_schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=config.arrow_schema)


def _to_list(
    batch: pa.RecordBatch | pa.Table,
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
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
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
