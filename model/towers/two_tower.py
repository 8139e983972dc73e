"""The two towers: transformed features -> unit vectors; their weights and the initial weights.

The initial value of a weight depends only on the seed and on its name, so that a new weight does
not change the others.

Shapes: B rows, L entries of a list, D the dimension of the towers' vectors. Ids are 0 for a missing
value and, in lists, for padding (model/towers/architecture.py).
"""

import zlib
from collections.abc import Mapping, Sequence
from math import prod

import tensorflow as tf

from model.optimizers import AdagradWeight, AdamWeight
from model.towers.architecture import SIDES, Architecture, FeatureColumn, TableSpec
from model.towers.auxiliary_head import Head
from model.towers.list_encoders import (
    EmbeddingBags,
    attended,
    encoder_prefix,
    encoder_shapes,
    lengthened,
    mean_of_bags,
    mean_of_present,
    rows_of,
)

LAST_LAYER_SCALE = 0.1
"""Factor of the last layer's initial weights if there is a skip connection, so that training fits the
skip connection first.
"""
_POSITION_DEVIATION = 0.02
# Squared length below which a vector is not stretched to length 1.
_TINY = 1e-12


class TwoTower(tf.Module):
    """Both towers over shared embedding tables.

    The first layer of a tower has one kernel per column, so that features can be added or removed between
    two days.

    Attributes:
      architecture: its tables, columns and layers.
      tables: embedding tables by name.
      dense: weights by name: `query/first/COLUMN`, `query/bias/0`, `query/kernel/1`,
        `query/skip/COLUMN`, `query/history/COLUMN/…`, …, and those of the head.
      head: learns labels from both towers' vectors; None unless `architecture.auxiliary` is set. No
        tower reads its weights.
    """

    def __init__(self, architecture: Architecture, seed: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.tables = {
            spec.name: AdagradWeight(initial_rows(spec, seed))
            for spec in architecture.tables.values()
        }
        self.head = Head(architecture.layers["item"][-1]) if architecture.auxiliary else None
        layers = {
            name: AdagradWeight(values)
            for side in SIDES
            for name, values in initial_layers(architecture, side, seed).items()
        }
        encoders = {
            name: AdamWeight(values)
            for column in architecture.columns["query"]
            for name, values in initial_encoder(column, seed).items()
        }
        head = self.head.weights if self.head else {}
        self.dense: dict[str, AdagradWeight | AdamWeight] = {**layers, **encoders, **head}

    def __call__(
        self, side: str, features: Mapping[str, tf.Tensor], seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encodes rows with the current weights. Takes the arguments of `encode`."""
        tables = {name: weight.values for name, weight in self.tables.items()}
        dense = {name: weight.values for name, weight in self.dense.items()}
        return encode(self.architecture, side, tables, dense, features, seed)


def encode(
    architecture: Architecture,
    side: str,
    tables: Mapping[str, tf.Variable],
    dense: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Encodes rows with one tower: its columns, layers with ReLU between them, skip connections, and
    normalisation to length 1.

    Args:
      side: the tower, `query` or `item`.
      tables: embedding tables of the side, by name; others are ignored.
      dense: weights of the side, by name; others are ignored.
      features: transformed columns by name. They are [B] or [B, L] int ids, and [B] or [B, W]
        float32 numbers. Lists may be laid out for training (`model.towers.list_encoders.EmbeddingBags`),
        perhaps with the rows of their ids under the name `rows_of(column)`. Histories that are read
        as sequences are as `model.towers.list_encoders.attended` takes them.
      seed: [2] int32, seed of dropout; None for no dropout.

    Returns: [B, D] float32, every row of length 1.
    """
    columns = architecture.columns[side]
    widths = architecture.layers[side]
    inputs = {column.name: _read(column, tables, dense, features, seed) for column in columns}
    # One product with the concatenated kernels, instead of one product per column and a sum.
    kernel = tf.concat([dense[f"{side}/first/{column.name}"] for column in columns], 0)
    hidden = tf.concat(list(inputs.values()), 1) @ kernel + dense[f"{side}/bias/0"]
    for i in range(1, len(widths)):
        hidden = tf.nn.relu(hidden) @ dense[f"{side}/kernel/{i}"] + dense[f"{side}/bias/{i}"]
    for column in columns:
        if column.skip:
            hidden += dense[f"{side}/skip/{column.name}"] * inputs[column.name]
    vector = tf.math.l2_normalize(hidden, axis=1, epsilon=_TINY)
    # The transform graph may leave the shapes of its outputs open, but a SavedModel needs fixed shapes.
    return tf.ensure_shape(vector, [None, widths[-1]])


def _read(
    column: FeatureColumn,
    tables: Mapping[str, tf.Variable],
    dense: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """The input of the first layer from a column, [B, width]."""
    values = features[column.name]
    if column.form == "number":
        return values[:, tf.newaxis]
    if column.form == "vector":
        return tf.ensure_shape(values, [None, column.width])
    table = tables[column.table]
    if column.attention:
        return attended(column.name, column.attention, table, dense, features, seed)
    if column.form == "id":
        return tf.gather(table, values)
    if isinstance(values, EmbeddingBags):
        # A training step has looked the rows up already, outside the tape.
        rows = features.get(rows_of(column.name))
        mean = mean_of_bags(tf.gather(table, values.ids) if rows is None else rows, values)
    else:
        mean = mean_of_present(tf.gather(table, values), values)
    return lengthened(mean, values) if column.root else mean


def initial_rows(spec: TableSpec, seed: int) -> tf.Tensor:
    """Initial rows of a table, [rows, width] float32, of length about 1; zeros if the table is fitted."""
    if spec.fitted:
        return tf.zeros([spec.rows, spec.dimension])
    return _normal([spec.rows, spec.dimension], spec.dimension**-0.5, seed, spec.name)


def initial_layers(architecture: Architecture, side: str, seed: int) -> dict[str, tf.Tensor]:
    """Initial weights of a tower's layers and skip connections, by name, all float32:
    `SIDE/first/COLUMN` [width of the column, first layer], `SIDE/kernel/i` [layer i - 1, layer i],
    `SIDE/bias/i` [layer i], and `SIDE/skip/COLUMN` [width of the column].
    """
    columns = architecture.columns[side]
    widths = architecture.layers[side]
    scale = [1.0] * len(widths)
    if any(column.skip for column in columns):
        scale[-1] = LAST_LAYER_SCALE
    # The first layer's kernel is kept in parts, one per column; its limit is that of the whole.
    inputs = sum(column.width for column in columns)
    weights = {}
    for column in columns:
        weights[f"{side}/first/{column.name}"] = scale[0] * _glorot(
            [column.width, widths[0]], inputs, widths[0], seed, f"{side}/{column.name}"
        )
    weights[f"{side}/bias/0"] = tf.zeros([widths[0]])
    for i in range(1, len(widths)):
        weights[f"{side}/kernel/{i}"] = scale[i] * _glorot(
            [widths[i - 1], widths[i]], widths[i - 1], widths[i], seed, f"{side}/{i}"
        )
        weights[f"{side}/bias/{i}"] = tf.zeros([widths[i]])
    for column in columns:
        if column.skip:
            weights[f"{side}/skip/{column.name}"] = tf.ones([column.width])
    return weights


def initial_encoder(column: FeatureColumn, seed: int) -> dict[str, tf.Tensor]:
    """Initial weights of a history's encoder, float32 by name: `empty`, [width of the column], and those of
    `encoder_shapes`. Empty if the column has no encoder.
    """
    if column.attention is None:
        return {}
    prefix = encoder_prefix(column.name)
    return {f"{prefix}empty": tf.zeros([column.width])} | {
        prefix + name: _initial_encoder_weight(prefix + name, shape, seed)
        for name, shape in encoder_shapes(column.attention).items()
    }


def _initial_encoder_weight(name: str, shape: list[int], seed: int) -> tf.Tensor:
    kind = name.rsplit("/", 1)[-1]
    if kind == "positions":
        return _normal(shape, _POSITION_DEVIATION, seed, name)
    if kind == "kernel":
        # Attention kernels are [W, heads, width of a head]; its output kernel is [heads, width of a head, W].
        input_axes = len(shape) - 1 if "attention_output" in name else 1
        return _glorot(shape, prod(shape[:input_axes]), prod(shape[input_axes:]), seed, name)
    if kind == "gamma":
        # The output must have about the length of an item's embedding, because both are added.
        return tf.fill(shape, shape[0] ** -0.5 if "/last/" in name else 1.0)
    return tf.zeros(shape)


def _glorot(shape: Sequence[int], inputs: int, outputs: int, seed: int, name: str) -> tf.Tensor:
    """Uniform weights from `inputs` units to `outputs` units (Glorot and Bengio, 2010)."""
    limit = (6 / (inputs + outputs)) ** 0.5
    return tf.random.stateless_uniform(shape, _seed(seed, name), -limit, limit)


def _normal(shape: Sequence[int], deviation: float, seed: int, name: str) -> tf.Tensor:
    return tf.random.stateless_normal(shape, _seed(seed, name), stddev=deviation)


def _seed(seed: int, name: str) -> list[int]:
    return [seed, zlib.crc32(name.encode())]
