"""One tower's part of the transform graph, as a module that goes into its SavedModel.

The feature job's graph (TFT's output folder) transforms the features of both towers and holds both
vocabularies. A tower gets the nodes that its own features need, and its own tables only: an item
tower does not carry the ids of users.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import tensorflow as tf

from model.towers.architecture import SIDES
from twinspire_core.config.feature_kinds import Feature, HistoryFeature
from twinspire_core.config.pipeline import Pipeline

_GRAPH = "transform_fn"
_ASSETS = "assets"

Specs = Mapping[str, Any]


def vocabulary(folder: str | Path, name: str) -> pa.Array:
    """Values of a feature's vocabulary in row order, the first of which has row 1; [V] string.

    Without any value TFT writes a made-up one, so that V is at least 1.
    """
    lines = (Path(folder) / _GRAPH / _ASSETS / name).read_bytes().split(b"\n")
    return pa.array(lines[:-1] if lines[-1] == b"" else lines, pa.binary()).cast(pa.string())


def vocabularies(folder: str | Path, pipeline: Pipeline) -> dict[str, pa.Array]:
    """The vocabulary of every feature that keeps one, by feature."""
    return {
        name: vocabulary(folder, name)
        for name, f in pipeline.features.items()
        if f.keeps_vocabulary
    }


class Transform(tf.Module):
    """Raw features of one tower -> transformed features.

    Attributes:
      inputs: by raw column, the tensors it takes: [B] scalars, [B, L] lists padded at the end, [B,
        size] vectors. `""`, NaN and -1 are missing, and padding.

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
          side: `query` or `item`.
          graph: that of the folder, if it is read already.
        """
        super().__init__()
        features = pipeline.tower(side)
        graph = graph or _Graph(Path(folder) / _GRAPH)
        columns = {name: feature.columns(name) for name, feature in features.items()}
        inputs = {
            column: _spec(column, graph.inputs[column]) for of in columns.values() for column in of
        }
        # tf.Module would take plain dicts, and what they hold, for a part of the SavedModel.
        self.inputs = MappingProxyType(inputs)
        self._columns = MappingProxyType(columns)
        self._graph = graph
        files = {name: _vocabulary_name(pipeline, name, f) for name, f in features.items()}
        self._tables = {name: _table(Path(folder), file) for name, file in files.items() if file}

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Transforms a batch, inside a `tf.function`.

        Features are independent of each other: those whose columns are not in `raw` are left out.

        Args:
          raw: by raw column, as `inputs` says. Others are ignored.

        Returns: by column, [B] or [B, L] int64 ids (0 is missing and padding), [B] or [B, size]
        float32.
        """
        outputs: dict[str, tf.Tensor] = {}
        for name, columns in self._columns.items():
            if all(column in raw for column in columns):
                table = self._tables.get(name)
                outputs |= self._graph.apply(
                    {c: raw[c] for c in columns}, table and table.resource_handle
                )
        return outputs


def transforms(folder: str | Path, pipeline: Pipeline) -> dict[str, Transform]:
    """Both towers' parts by side, of a graph that is read once; arguments as those of
    `Transform`.
    """
    graph = _Graph(Path(folder) / _GRAPH)
    return {side: Transform(folder, pipeline, side, graph) for side in SIDES}


class _Graph:
    """TFT's graph, from which parts are copied into the caller's."""

    def __init__(self, saved_model: Path) -> None:
        loaded = tf.saved_model.load(str(saved_model))
        function = loaded.transform_fn
        self._loaded = loaded  # the constants below belong to it
        graph = function.graph
        (self.specs,), _ = function.structured_input_signature
        flat = len(tf.nest.flatten(self.specs, expand_composites=True))
        self.inputs = tf.nest.pack_sequence_as(
            self.specs, graph.inputs[:flat], expand_composites=True
        )
        self.outputs = tf.nest.pack_sequence_as(
            function.structured_outputs, graph.outputs, expand_composites=True
        )
        self._library = graph.as_graph_def().library
        # What the analysis found: means, variances, sizes; and the handles of tables.
        self._captures = {inner.op.name: outer for outer, inner in graph.captures}

    def apply(self, raw: Mapping[str, tf.Tensor], table: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Copies the nodes between some raw columns and the outputs of the same names.

        Args:
          raw: dense tensors by column.
          table: handle of the vocabulary that these columns are looked up in.
        """
        wanted = [self.outputs[column] for column in raw]
        flat = tf.nest.flatten(wanted, expand_composites=True)
        part = _nodes(flat)
        feeds: dict[str, tf.Tensor] = {}
        for column, x in raw.items():
            fed = _sparse(x) if isinstance(self.inputs[column], tf.SparseTensor) else x
            ends = zip(_flat(self.inputs[column]), _flat(fed), strict=True)
            feeds |= {inner.name: outer for inner, outer in ends}
        present = {node.name for node in part}
        feeds |= {
            f"{name}:0": self._constant(name, table)
            for name in sorted(present & self._captures.keys())
        }
        feeds = {name: tensor for name, tensor in feeds.items() if name.split(":")[0] in present}
        definition = tf.compat.v1.GraphDef(node=part, library=self._library)
        names = [tensor.name for tensor in flat]
        found = tf.graph_util.import_graph_def(
            definition, input_map=feeds, return_elements=names, name=""
        )
        results = tf.nest.pack_sequence_as(wanted, found, expand_composites=True)
        return {column: _dense(result) for column, result in zip(raw, results, strict=True)}

    def _constant(self, name: str, table: tf.Tensor | None) -> tf.Tensor:
        captured = self._captures[name]
        return (
            tf.identity(table) if captured.dtype == tf.resource else tf.constant(captured.numpy())
        )


def _nodes(ends: list[tf.Tensor]) -> list[Any]:
    """Definitions of the nodes that some tensors are computed from, without waiting for others
    (there is no state).
    """
    found: dict[str, Any] = {}
    ahead = [tensor.op for tensor in ends]
    while ahead:
        op = ahead.pop()
        if op.name not in found:
            node = tf.compat.v1.NodeDef()
            node.CopyFrom(op.node_def)
            del node.input[:]
            node.input.extend(name for name in op.node_def.input if not name.startswith("^"))
            found[op.name] = node
            ahead += [tensor.op for tensor in op.inputs]
    return list(found.values())


def _table(folder: Path, vocabulary_name: str) -> tf.lookup.StaticHashTable:
    """Value -> line number; -1 outside, which the graph turns into a shared bucket."""
    file = str(folder / _GRAPH / _ASSETS / vocabulary_name)
    whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    lines = tf.lookup.TextFileInitializer(file, tf.string, whole, tf.int64, number)
    return tf.lookup.StaticHashTable(lines, default_value=-1)


def _vocabulary_name(pipeline: Pipeline, name: str, feature: Feature) -> str | None:
    owner = pipeline.item_id if isinstance(feature, HistoryFeature) else name
    if owner is None or not pipeline.features[owner].keeps_vocabulary:
        return None
    return owner


def _spec(column: str, x: tf.Tensor | tf.SparseTensor) -> tf.TensorSpec:
    return tf.TensorSpec(
        [None, None] if isinstance(x, tf.SparseTensor) else x.shape, x.dtype, column
    )


def _sparse(x: tf.Tensor) -> tf.SparseTensor:
    """Entries of padded lists."""
    indices = tf.where(tf.not_equal(x, ""))
    return tf.SparseTensor(indices, tf.gather_nd(x, indices), tf.shape(x, tf.int64))


def _dense(x: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    return tf.sparse.to_dense(x) if isinstance(x, tf.SparseTensor) else x


def _flat(x: tf.Tensor | tf.SparseTensor) -> list[tf.Tensor]:
    tensors: list[Any] = tf.nest.flatten(x, expand_composites=True)
    return tensors
