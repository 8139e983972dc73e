"""The two towers: transformed features -> unit vectors.

Shapes: B rows, L entries of a list, D the towers' dimension. Ids are 0 for missing (in lists: padding), see layout.py.
"""

import zlib
from collections.abc import Mapping

import tensorflow as tf

from model.adagrad import Weight
from model.layout import SIDES, Layout, Part, TableSpec

_TINY = 1e-12


class TwoTower(tf.Module):
    """Both towers over shared tables.

    The first layer of a tower keeps one kernel per column, so that a feature can come or go between two days.

    Attributes:
      layout: what it is made of.
      tables: embedding tables by name.
      dense: weights by name: `query/first/COLUMN`, `query/bias/0`, `query/kernel/1`, …
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        super().__init__()
        self.layout = layout
        self.tables = {spec.name: Weight(_fresh_rows(spec, seed)) for spec in layout.tables.values()}
        self.dense = {
            name: Weight(values) for side in SIDES for name, values in _fresh_weights(layout, side, seed).items()
        }

    def __call__(self, side: str, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes rows with the present weights; see `encode`."""
        tables = {name: weight.values for name, weight in self.tables.items()}
        dense = {name: weight.values for name, weight in self.dense.items()}
        return encode(self.layout, side, tables, dense, features)


def encode(
    layout: Layout,
    side: str,
    tables: Mapping[str, tf.Variable],
    dense: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
) -> tf.Tensor:
    """One tower: its columns, then layers with ReLU between them, then length 1.

    Args:
      layout: both towers'.
      side: `query` or `item`.
      tables: embedding tables by name; those of the side are enough.
      dense: weights by name; those of the side are enough.
      features: transformed columns: [B] or [B, L] int ids, [B] or [B, W] float32 numbers.

    Returns: [B, D] float32, every row of length 1.
    """
    parts = layout.parts[side]
    hidden = tf.concat([_read(part, tables, features[part.column]) for part in parts], 1)
    kernel = tf.concat([dense[f"{side}/first/{part.column}"] for part in parts], 0)
    hidden = hidden @ kernel + dense[f"{side}/bias/0"]
    for i in range(1, len(layout.layers[side])):
        hidden = tf.nn.relu(hidden) @ dense[f"{side}/kernel/{i}"] + dense[f"{side}/bias/{i}"]
    # The transform graph may not tell the shapes of its outputs; SavedModels must.
    return tf.ensure_shape(tf.math.l2_normalize(hidden, axis=1, epsilon=_TINY), [None, layout.layers[side][-1]])


def _read(part: Part, tables: Mapping[str, tf.Variable], column: tf.Tensor) -> tf.Tensor:
    """What a column gives the first layer, [B, width]."""
    if part.form == "number":
        return column[:, tf.newaxis]
    if part.form == "vector":
        return tf.ensure_shape(column, [None, part.width])
    rows = tf.gather(tables[part.table], column)
    return rows if part.form == "id" else mean_of_present(rows, column)


def mean_of_present(rows: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Averages the entries of each list that are not padding; an empty list gives zeros.

    Args:
      rows: [B, L, W] float32.
      ids: [B, L] int, 0 is padding.

    Returns: [B, W] float32.
    """
    present = tf.cast(ids > 0, rows.dtype)
    count = tf.maximum(tf.reduce_sum(present, 1, keepdims=True), 1.0)
    return tf.linalg.matvec(rows, present / count, transpose_a=True)


def drop_ids(ids: tf.Tensor, spec: TableSpec, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Replaces a share of the ids by shared rows, drawn anew for every row, so that these become good averages.

    Args:
      ids: [B] int.
      spec: the table that they are rows of.
      share: in [0, 1).
      seed: [2] int32; the result is a function of it.
    """
    drawn = tf.random.stateless_uniform(tf.shape(ids), seed)
    shared = tf.random.stateless_uniform(tf.shape(ids), seed + 1, 0, spec.shared, ids.dtype) + spec.first_shared
    return tf.where((drawn < share) & (ids > 0), shared, ids)


def _fresh_rows(spec: TableSpec, seed: int) -> tf.Tensor:
    return tf.random.stateless_normal([spec.rows, spec.dimension], _seed(seed, spec.name), stddev=spec.dimension**-0.5)


def _fresh_weights(layout: Layout, side: str, seed: int) -> dict[str, tf.Tensor]:
    parts, widths = layout.parts[side], layout.layers[side]
    above = sum(part.width for part in parts)
    weights = {
        f"{side}/first/{part.column}": _glorot([part.width, widths[0]], above, seed, f"{side}/{part.column}")
        for part in parts
    }
    weights[f"{side}/bias/0"] = tf.zeros([widths[0]])
    for i in range(1, len(widths)):
        weights[f"{side}/kernel/{i}"] = _glorot([widths[i - 1], widths[i]], widths[i - 1], seed, f"{side}/{i}")
        weights[f"{side}/bias/{i}"] = tf.zeros([widths[i]])
    return weights


def _glorot(shape: list[int], above: int, seed: int, name: str) -> tf.Tensor:
    limit = (6 / (above + shape[1])) ** 0.5
    return tf.random.stateless_uniform(shape, _seed(seed, name), -limit, limit)


def _seed(seed: int, name: str) -> list[int]:
    """A weight's own seed, so that adding a feature leaves the others' start alone."""
    return [seed, zlib.crc32(name.encode())]
