"""SavedModels that take raw features: a tower's part of the transform graph, followed by the tower. Optimiser
slots and the other tower's tables are not saved.

The feature job's graph (TFT's output folder) transforms the features of both towers and holds all
vocabularies. A tower gets only the nodes and lookup tables of its own features, so an item tower contains no
user ids.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import tensorflow as tf

from model.towers.architecture import SIDES
from model.towers.linear_part import with_linear_part
from model.towers.two_tower import TwoTower, encode
from twinspire_core.config.feature_kinds import Feature, HistoryFeature, VocabularyFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.model_bundle import canonicalise

_GRAPH = "transform_fn"
_ASSETS = "assets"


def vocabulary(folder: str | Path, name: str) -> pa.Array:
    """Values of a feature's vocabulary, [V] string, in the order of the table's rows, from row 1.

    For a feature without values TFT writes a placeholder, so V is at least 1.
    """
    lines = (Path(folder) / _GRAPH / _ASSETS / name).read_bytes().split(b"\n")
    if lines[-1] == b"":  # after the end of the last line
        lines.pop()
    return pa.array(lines, pa.binary()).cast(pa.string())


def vocabularies(folder: str | Path, pipeline: Pipeline) -> dict[str, pa.Array]:
    """The vocabularies by feature."""
    return {
        name: vocabulary(folder, name)
        for name, f in pipeline.features.items()
        if isinstance(f, VocabularyFeature)
    }


class Transform(tf.Module):
    """Raw features of one tower -> transformed features.

    Attributes:
      inputs: specs of the tensors that it takes, by raw column: [B] scalars, [B, L] lists padded at
        the end, [B, size] vectors. `""`, NaN and -1 are missing values, and padding.

    Examples:
      >>> transform = Transform("features/transform", pipeline, "item")  # doctest: +SKIP
      >>> tf.function(transform)({"item": tf.constant(["i1"]), "tags": tf.constant([["a", ""]])})  # doctest: +SKIP
      {'item': <[B] int64>, 'tags': <[B, L] int64>}
    """

    def __init__(
        self, folder: str | Path, pipeline: Pipeline, side: str, graph: "_Graph | None" = None
    ) -> None:
        """Takes one tower's part of the graph.

        Args:
          folder: TFT's output, on a local disk.
          pipeline: the pipeline file that it was made from.
          side: the tower, `query` or `item`.
          graph: the folder's graph, if it was read already.
        """
        super().__init__()
        features = pipeline.tower(side)
        graph = graph or _Graph(Path(folder) / _GRAPH)
        columns = {name: feature.columns(name) for name, feature in features.items()}
        inputs = {
            column: _spec(column, graph.inputs[column])
            for of_feature in columns.values()
            for column in of_feature
        }
        # tf.Module would save plain dicts and their values with the SavedModel.
        self.inputs = MappingProxyType(inputs)
        self._columns = MappingProxyType(columns)
        self._graph = graph
        self._tables = {
            name: _lookup_table(Path(folder), owner)
            for name, feature in features.items()
            if (owner := _vocabulary_owner(pipeline, name, feature))
        }

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Transforms a batch, inside a `tf.function`.

        Features are independent of each other. Features whose columns are not in `raw` are left out.

        Args:
          raw: values by raw column, as `inputs` describes them. Other columns are ignored.

        Returns: by column, [B] or [B, L] int64 ids (0 is missing and padding), [B] or [B, size]
        float32.
        """
        outputs: dict[str, tf.Tensor] = {}
        for name, columns in self._columns.items():
            if all(column in raw for column in columns):
                table = self._tables.get(name)
                handle = None if table is None else table.resource_handle
                outputs |= self._graph.apply({column: raw[column] for column in columns}, handle)
        return outputs


def transforms(folder: str | Path, pipeline: Pipeline) -> dict[str, Transform]:
    """The transforms of both towers by side. The graph is read once.

    Args:
      folder: TFT's output, on a local disk.
      pipeline: the pipeline file that it was made from.
    """
    graph = _Graph(Path(folder) / _GRAPH)
    return {side: Transform(folder, pipeline, side, graph) for side in SIDES}


class _Graph:
    """TFT's graph. Parts of it are copied into the caller's graph.

    Attributes:
      inputs: placeholders by raw column: dense tensors, or sparse ones of lists.
      outputs: tensors by transformed column, dense or sparse.
    """

    def __init__(self, saved_model: Path) -> None:
        # Kept as an attribute, because it owns the captured constants below.
        self._loaded = tf.saved_model.load(str(saved_model))
        function = self._loaded.transform_fn
        graph = function.graph
        (specs,), _ = function.structured_input_signature
        # The graph's inputs are the flat components of the columns, followed by the captures.
        self.inputs = _packed(specs, graph.inputs[: len(_flat(specs))])
        self.outputs = _packed(function.structured_outputs, graph.outputs)
        self._library = graph.as_graph_def().library
        # Results of the analysis (means, variances, sizes), and handles of lookup tables.
        self._captures = {inner.op.name: outer for outer, inner in graph.captures}

    def apply(self, raw: Mapping[str, tf.Tensor], table: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Copies the nodes that compute the outputs of some raw columns.

        Args:
          raw: dense tensors by column.
          table: handle of the lookup table of these columns; None if they have no vocabulary.
        """
        outputs = [self.outputs[column] for column in raw]
        ends = _flat(outputs)
        nodes = _nodes(ends)
        present = {node.name for node in nodes}
        feeds: dict[str, tf.Tensor] = {}
        for column, x in raw.items():
            placeholder = self.inputs[column]
            values = _sparse(x) if isinstance(placeholder, tf.SparseTensor) else x
            names = [inner.name for inner in _flat(placeholder)]
            feeds |= zip(names, _flat(values), strict=True)
        # Sorted, so that equal models have the same order of nodes.
        for name in sorted(present & self._captures.keys()):
            feeds[f"{name}:0"] = self._constant(name, table)
        # A component that no copied node reads would cause an error.
        feeds = {name: tensor for name, tensor in feeds.items() if name.split(":")[0] in present}
        copied = tf.graph_util.import_graph_def(
            tf.compat.v1.GraphDef(node=nodes, library=self._library),
            input_map=feeds,
            return_elements=[tensor.name for tensor in ends],
            name="",
        )
        return {
            column: tf.sparse.to_dense(x) if isinstance(x, tf.SparseTensor) else x
            for column, x in zip(raw, _packed(outputs, copied), strict=True)
        }

    def _constant(self, name: str, table: tf.Tensor | None) -> tf.Tensor:
        captured = self._captures[name]
        # The tower's own table replaces TFT's table, which has the vocabularies of both towers.
        if captured.dtype == tf.resource:
            return tf.identity(table)
        return tf.constant(captured.numpy())


def _nodes(ends: list[tf.Tensor]) -> list[Any]:
    """Definitions of the nodes that compute some tensors.

    Control inputs are left out. There is no state to wait for, and they would add the nodes of other
    features.
    """
    nodes: dict[str, Any] = {}
    open_ops = [tensor.op for tensor in ends]
    while open_ops:
        op = open_ops.pop()
        if op.name not in nodes:
            node = tf.compat.v1.NodeDef()
            node.CopyFrom(op.node_def)
            del node.input[:]
            # Names of control inputs begin with ^.
            node.input.extend(name for name in op.node_def.input if not name.startswith("^"))
            nodes[op.name] = node
            open_ops += [tensor.op for tensor in op.inputs]
    return list(nodes.values())


def _lookup_table(folder: Path, vocabulary_name: str) -> tf.lookup.StaticHashTable:
    """A lookup table from value to line number. It gives -1 for other values, which the graph maps to a
    shared bucket.
    """
    lines = tf.lookup.TextFileInitializer(
        str(folder / _GRAPH / _ASSETS / vocabulary_name),
        key_dtype=tf.string,
        key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        value_dtype=tf.int64,
        value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticHashTable(lines, default_value=-1)


def _vocabulary_owner(pipeline: Pipeline, name: str, feature: Feature) -> str | None:
    """The feature whose vocabulary a feature uses (a history uses that of the item id); None without a
    vocabulary.
    """
    owner = pipeline.item_id if isinstance(feature, HistoryFeature) else name
    if owner is None or not isinstance(pipeline.features[owner], VocabularyFeature):
        return None
    return owner


def _spec(column: str, x: tf.Tensor | tf.SparseTensor) -> tf.TensorSpec:
    shape = [None, None] if isinstance(x, tf.SparseTensor) else x.shape
    return tf.TensorSpec(shape, x.dtype, column)


def _sparse(x: tf.Tensor) -> tf.SparseTensor:
    """The entries of padded lists."""
    # TFT's graph takes lists as sparse tensors, which leave out padding.
    indices = tf.where(tf.not_equal(x, ""))
    return tf.SparseTensor(indices, tf.gather_nd(x, indices), tf.shape(x, tf.int64))


def _flat(x: tf.Tensor | tf.SparseTensor) -> list[tf.Tensor]:
    return tf.nest.flatten(x, expand_composites=True)


def _packed(structure: Any, flat: list[tf.Tensor]) -> Any:
    """The inverse of `_flat`: tensors in the shape of `structure`."""
    return tf.nest.pack_sequence_as(structure, flat, expand_composites=True)


class RawTower(tf.Module):
    """A tower that takes raw features, with copies of its weights."""

    def __init__(self, model: TwoTower, transform: Transform, side: str) -> None:
        super().__init__()
        # An item tower must not contain the table of users, which is large and has their ids.
        names = [column.table for column in model.architecture.columns[side]]
        used = {*filter(None, [*names, model.architecture.linear])}
        self.side = side
        self.architecture = model.architecture
        self.transform = transform
        self.tables = {
            name: tf.Variable(model.tables[name].values, trainable=False) for name in sorted(used)
        }
        # A SavedModel is for serving, so its weights have no slots and are not trainable.
        self.dense = {
            name: tf.Variable(weight.values, trainable=False)
            for name, weight in model.dense.items()
            if name.startswith(f"{side}/")
        }

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes raw columns, as `Transform.inputs` describes them; vectors of length 1."""
        features = self.transform(raw)
        vector = encode(self.architecture, self.side, self.tables, self.dense, features)
        return with_linear_part(self.architecture, self.side, vector, self.tables, features)


class _InMemory(NamedTuple):
    """The saved content in the form that `model_bundle.Tower` takes.

    Attributes:
      tower: kept as an attribute, so that its variables are not freed.
      signatures: callables by name.
    """

    tower: RawTower
    signatures: Mapping[str, Any]


def export(model: TwoTower, transform: Transform, side: str, folder: Path) -> model_bundle.Tower:
    """Writes the SavedModel that twinspire_core/contracts/model_bundle.py describes; equal models
    give equal files.

    Returns: the written tower, in memory.
    """
    made = _with_signatures(model, transform, side)
    tf.saved_model.save(made.tower, str(folder), signatures=made.signatures)
    # TensorFlow gives nodes new names in each process. Without this call, equal models would differ in bytes.
    canonicalise(folder)
    return model_bundle.Tower(made)


def in_memory(model: TwoTower, transform: Transform, side: str) -> model_bundle.Tower:
    """The tower that `export` would write, without files. Later training does not change it."""
    return model_bundle.Tower(_with_signatures(model, transform, side))


def _with_signatures(model: TwoTower, transform: Transform, side: str) -> _InMemory:
    tower = RawTower(model, transform, side)

    @tf.function(autograph=False)
    def serve(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return {model_bundle.VECTOR: tower(raw)}

    signatures = {model_bundle.SIGNATURE: serve.get_concrete_function(**transform.inputs)}
    return _InMemory(tower, signatures)
