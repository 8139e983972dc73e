"""The towers of a train attempt: their folders, the conversion of Arrow rows to their inputs, and the vectors
of the embed stage. It imports no TensorFlow.

    query_tower/   SavedModel: raw query features -> unit vectors
    item_tower/    SavedModel: raw item features  -> unit vectors
    state/         training state for the next day (model/training/checkpoint.py) training.json,
    vectors/  input of `measure` (twinspire_core/contracts/trained_day.py)

Both SavedModels have the signature `serving_default`: keyword arguments named like the raw columns
of twinspire_core/contracts/feature_schema.py, any number of rows, and the result `{"vector": [B, D]
float32}`, each row of length 1. Scalars are `[B]` and lists `[B, L]`, padded at the end; L is the
longest list of the call, or the declared size of a vector.

The rows may be of a day before features were changed in the pipeline file. So a column counts as missing if
it is absent, or has another form than in training (a list for a text, a text for a number, a vector of
another size).

The bytes of SavedModels depend only on their content. TensorFlow numbers functions by a counter of the
process, writes them in random order, and names lookup tables after the path of their vocabulary on the
exporting machine. These differences have no meaning. They are removed, so that equal models are equal files
and are not published as two versions.

`tensorflow_serving/1/` is a version as one SavedModel for TensorFlow Serving: query tower, items' vectors,
exact search.

It has only stock operations, so that a server can load it without this project. Signatures, of columns named
like the raw query features (in the form above):

    encode      raw query features -> {"vector": [B, D] float32}
    recommend   raw query features, k, exclude -> {"items": [B, K] string, "scores": [B, K] float32}

    k        int32, one number, or one per row of which the largest counts; K is at most the number
             of items
    exclude  [B, L] or [1, L] string, ids that must not come back, padded with ""
    items    best first; "" after the end of a list that `exclude` leaves too short, its score
             `END`
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from twinspire_core import storage
from twinspire_core.errors import BadData
from twinspire_core.search.ragged import is_list, list_lengths, list_places, list_rows
from twinspire_core.storage import parquet_files

QUERY_TOWER = "query_tower"
ITEM_TOWER = "item_tower"
TOWERS = {"query": QUERY_TOWER, "item": ITEM_TOWER}
STATE = "state"
SIGNATURE = "serving_default"
VECTOR = "vector"
ITEMS, QUERIES = "items", "queries"  # folders of the embed stage
# Padding and missing values: the transform graph reads these as missing.
MISSING: dict[str, Any] = {"string": b"", "float32": np.nan, "int64": -1}


class Input(NamedTuple):
    """One argument of a tower.

    Attributes:
      dtype: `string`, `float32` or `int64`.
      listed: `[B, L]` instead of `[B]`.
      width: L where it is fixed (vectors), else None.
    """

    dtype: str
    listed: bool = False
    width: int | None = None


class Tower:
    """A tower, called with Arrow tables. The model is the result of `tf.saved_model.load`, or a model before
    it is saved.

    Examples:
      >>> tower = Tower(tf.saved_model.load(f"{attempt}/{ITEM_TOWER}"))  # doctest: +SKIP
      >>> vectors = tower(corpus)  # doctest: +SKIP
    """

    def __init__(self, model: Any) -> None:
        self.model = model  # keeps its variables alive
        self._call = model.signatures[SIGNATURE]
        self.inputs = {
            name: input_of(spec) for name, spec in self._call.structured_input_signature[1].items()
        }
        self.dimension = int(self._call.structured_outputs[VECTOR].shape[-1])

    def __call__(self, table: pa.Table, *, batch_rows: int = 4096) -> np.ndarray:
        """The vectors of rows, [N, D] float32, each of length 1. Columns that the tower does not know are
        ignored. Columns that it cannot read count as missing.

        Args:
          table: raw features, as the feature job writes them.
          batch_rows: rows per call; memory grows with it.
        """
        parts = [
            self._call(**batch)[VECTOR].numpy() for batch in batches(table, self.inputs, batch_rows)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)


def batches(
    table: pa.Table, inputs: Mapping[str, Input], rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a table into the arguments of successive calls of a tower, `rows` rows each; the last call
    may get fewer.
    """
    for start in range(0, table.num_rows, rows):
        yield arrays(table.slice(start, rows), inputs)


def arrays(table: pa.Table, inputs: Mapping[str, Input]) -> dict[str, np.ndarray]:
    """Converts a few thousand Arrow rows to a tower's arguments: [B] or [B, L] arrays by name."""
    return {name: _array(table, name, spec) for name, spec in inputs.items()}


def _array(table: pa.Table, name: str, spec: Input) -> np.ndarray:
    if name not in table.column_names or not _has_form(table.schema.field(name).type, spec):
        shape = (table.num_rows, spec.width or 1) if spec.listed else (table.num_rows,)
        return np.full(shape, MISSING[spec.dtype], _numpy_type(spec))
    column = table.column(name)
    # A slice of a table has chunked columns, even with one chunk; a record batch has not.
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return _padded(column, spec) if spec.listed else _values(column, spec)


@cache  # each call of Arrow's type checks takes a microsecond
def _has_form(kind: pa.DataType, spec: Input) -> bool:
    """Whether values of an Arrow type can be read as an argument. The size of vectors is checked row by row."""
    listed = is_list(kind)
    value = kind.value_type if listed or pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_binary(value)
    fits = {"string": text, "int64": pa.types.is_integer(value), "float32": not text}
    return bool(listed == spec.listed and fits[spec.dtype])


def _values(column: pa.Array, spec: Input) -> np.ndarray:
    # Strings are passed as bytes, which TensorFlow takes without conversion.
    kind = {"string": pa.binary(), "float32": pa.float32(), "int64": pa.int64()}[spec.dtype]
    if spec.dtype == "string" and not pa.types.is_binary(column.type):
        column = column.cast(pa.string())
    column = column.cast(kind)
    if column.null_count:
        column = column.fill_null(pa.scalar(MISSING[spec.dtype], kind))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _padded(column: pa.Array, spec: Input) -> np.ndarray:
    lengths = list_lengths(column)
    width = spec.width or max(1, int(lengths.max(initial=0)))
    padded = np.full((len(lengths), width), MISSING[spec.dtype], _numpy_type(spec))
    row = list_rows(lengths)
    column_of = list_places(lengths)
    # A vector of another size is missing as a whole. No other list is longer than `width`.
    fits = np.repeat(lengths == width, lengths) if spec.width else column_of < width
    padded[row[fits], column_of[fits]] = _values(column.flatten(), spec)[fits]
    return padded


def _numpy_type(spec: Input) -> Any:
    return {"string": object, "float32": np.float32, "int64": np.int64}[spec.dtype]


def input_of(spec: Any) -> Input:
    """Reads an argument's form from a TensorSpec."""
    listed = spec.shape.rank == 2
    return Input(spec.dtype.name, listed, spec.shape[1] if listed else None)


def read_items(embed: str) -> tuple[pa.Array, np.ndarray]:
    """Ids, [N] string, and vectors, [N, D] float32, of the corpus in order of id. The embed stage has
    checked that ids are distinct and vectors finite.

    Raises:
      BadData: the corpus is empty.
    """
    ids, vectors = _read(embed, ITEMS, "_item")
    if not len(ids):
        raise BadData(
            "The corpus is empty, so there is nothing to index. Check corpus.filter, corpus.days"
            " and the items snapshot."
        )
    return ids, vectors


def read_queries(embed: str) -> np.ndarray:
    """Query vectors in order of user, [Q, D] float32."""
    return _read(embed, QUERIES, "_user")[1]


def _read(embed: str, name: str, key: str) -> tuple[pa.Array, np.ndarray]:
    folder = storage.join(embed, name)
    if not parquet_files.list_parquet(folder):
        return pa.array([], pa.string()), np.zeros((0, 1), np.float32)
    # Sorted, because workers write files in any order.
    table = parquet_files.read_folder(folder).sort_by(key).combine_chunks()
    vectors = table["vector"].combine_chunks()
    values = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)
    return table[key].combine_chunks(), values


_GRAPH = "saved_model.pb"
_FINGERPRINT = "fingerprint.pb"  # digests of the original graph, which readers do not need
_COUNTED = re.compile("_[0-9]+$")
# TensorFlow adds this to the name of a table when it loads a model.
_LOADED = re.compile(rb"_load(_[0-9]+)+$")
_LABEL = "_user_specified_name"


def canonicalise(folder: Path) -> None:
    """Rewrites the graph of the SavedModel in `folder` as an equivalent one: functions are numbered as they
    are first used, and tables have the name of the vocabulary's file without its folder.
    """
    # Imported here, because contracts must be importable without TensorFlow
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / _GRAPH
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta in saved.meta_graphs:
        library = meta.graph_def.library
        new = {name: f"{_COUNTED.sub('', name)}_{n}" for n, name in enumerate(_order(meta))}
        for node in _nodes(meta):
            if node.op == "HashTableV2":
                node.attr["shared_name"].s = _LOADED.sub(
                    b"", node.attr["shared_name"].s.split(b"/")[-1]
                )
            for called in _calls(node):
                called.name = new[called.name]
        for function in library.function:
            function.signature.name = new[function.signature.name]
            for n, argument in function.arg_attr.items():
                # The label of a captured tensor is the process's counter.
                if _LABEL in argument.attr and argument.attr[_LABEL].s.isdigit():
                    argument.attr[_LABEL].s = function.signature.input_arg[n].name.encode()
        _rename_objects(meta.object_graph_def, new)
        library.function.sort(key=lambda function: int(function.signature.name.rsplit("_", 1)[1]))
    file.write_bytes(saved.SerializeToString(deterministic=True))
    (folder / _FINGERPRINT).unlink(missing_ok=True)


def _order(meta: Any) -> list[str]:
    """Names of all functions in the order in which the graph and the objects refer to them, each followed
    by those that it calls.
    """
    bodies = {function.signature.name: function for function in meta.graph_def.library.function}
    ordered: dict[str, None] = {}

    def visit(names: Iterable[str]) -> None:
        for name in names:
            if name in bodies and name not in ordered:
                ordered[name] = None
                visit(_called(bodies[name].node_def))

    visit(_called(meta.graph_def.node))
    for node in meta.object_graph_def.nodes:
        visit(node.function.concrete_functions)
        visit([node.bare_concrete_function.concrete_function_name])
    # Functions without a reference come last, sorted by length first, so that f_9 comes before f_10.
    visit(sorted(bodies, key=lambda name: (len(name), name)))
    return list(ordered)


def _nodes(meta: Any) -> Iterator[Any]:
    yield from meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield from function.node_def


def _called(nodes: Any) -> Iterator[str]:
    for node in nodes:
        yield from (called.name for called in _calls(node))


def _calls(holder: Any) -> Iterator[Any]:
    """The functions among the attributes of a node, in order of attribute, and among the attributes of
    these functions.
    """
    for name in sorted(holder.attr):
        value = holder.attr[name]
        for called in [value.func] if value.HasField("func") else value.list.func:
            yield called
            yield from _calls(called)


def _rename_objects(objects: Any, new: dict[str, str]) -> None:
    for node in objects.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = [
                new[name] for name in node.function.concrete_functions
            ]
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = new[bare.concrete_function_name]
    described = {
        new[name]: deepcopy(function) for name, function in objects.concrete_functions.items()
    }
    objects.concrete_functions.clear()
    for name, function in described.items():
        objects.concrete_functions[name].CopyFrom(function)


TENSORFLOW_SERVING = "tensorflow_serving"
NUMBER = "1"  # TensorFlow Serving loads the subfolder of the highest number
ENCODE = "encode"
RECOMMEND = "recommend"
END = -2.0
"""A score below every cosine."""


def write_for_tensorflow_serving(
    folder: Path, query_tower: Any, ids: pa.Array, vectors: np.ndarray
) -> None:
    """Writes `folder`/1/. Equal arguments give equal files.

    Args:
      folder: a local folder that does not exist yet.
      query_tower: a SavedModel (twinspire_core/contracts/model_bundle.py) as TensorFlow loads it.
      ids: [N] string, the corpus.
      vectors: [N, D] float32, in the order of the ids.
    """
    import tensorflow as tf

    served = tf.Module()
    served.tower = query_tower  # owns tables and weights
    served.encode = query_tower.signatures[SIGNATURE]
    served.vectors = tf.Variable(vectors, trainable=False)
    served.ids = tf.Variable(ids.cast(pa.binary()).to_pylist(), trainable=False, dtype=tf.string)

    def recommend(k: Any, exclude: Any, **raw: Any) -> dict[str, Any]:
        """The k nearest items of each row, without the excluded ones."""
        items = tf.shape(served.vectors)[0]
        k = tf.clip_by_value(tf.reduce_max(k), 0, items)
        scores = tf.matmul(served.encode(**raw)[VECTOR], served.vectors, transpose_b=True)
        # At most as many items can drop out as are excluded.
        near = tf.math.top_k(scores, tf.minimum(k + tf.shape(exclude)[1], items))
        ids = tf.gather(served.ids, near.indices)
        out = tf.reduce_any(ids[:, :, tf.newaxis] == exclude[:, tf.newaxis, :], 2)
        best = tf.math.top_k(tf.where(out, near.values.dtype.min, near.values), k)
        ids = tf.gather(tf.where(out, "", ids), best.indices, batch_dims=1)
        return {"items": ids, "scores": tf.where(ids == "", END, best.values)}

    raw = dict(served.encode.structured_input_signature[1])
    encode = tf.function(lambda **raw: {VECTOR: served.encode(**raw)[VECTOR]}, autograph=False)
    options = {
        "k": tf.TensorSpec(None, tf.int32, "k"),
        "exclude": tf.TensorSpec([None, None], tf.string, "exclude"),
    }
    signatures = {
        ENCODE: encode.get_concrete_function(**raw),
        RECOMMEND: tf.function(recommend, autograph=False).get_concrete_function(**options, **raw),
    }
    tf.saved_model.save(served, str(folder / NUMBER), signatures)
    canonicalise(folder / NUMBER)
