"""The two towers: transformed features -> unit vectors.

Shapes: B rows, L entries of a list, D the towers' dimension. Ids are 0 for missing (in lists:
padding), see architecture.py.
"""

from collections.abc import Mapping

import tensorflow as tf

from model.optimizers import AdagradWeight, AdamWeight
from model.towers.architecture import SIDES, Architecture, FeatureColumn, TableSpec
from model.towers.auxiliary_head import Head
from model.towers.history_encoder import attended, encoder_prefix, fresh_encoder
from model.towers.initializers import glorot, normal
from model.towers.pooling import (
    EmbeddingBags,
    lengthened,
    mean_of_bags,
    mean_of_present,
    recent_mean,
    rows_of,
)

SMALL = 0.1
"""Size of what the layers give at the start, where something goes past them: towers first agree on
what goes past.
"""

_TINY = 1e-12


class TwoTower(tf.Module):
    """Both towers over shared tables.

    The first layer of a tower keeps one kernel per column, so that a feature can come or go between
    two days.

    Attributes:
      layout: what it is made of.
      tables: embedding tables by name.
      dense: weights by name: `query/first/COLUMN`, `query/bias/0`, `query/kernel/1`,
        `query/skip/COLUMN`, `query/history/COLUMN/…`, …, and those of the head.
      head: learns labels from both towers' vectors, if `layout.auxiliary` asks for one. No tower
        reads its weights.
    """

    def __init__(self, layout: Architecture, seed: int) -> None:
        super().__init__()
        self.layout = layout
        self.tables = {
            spec.name: AdagradWeight(fresh_rows(spec, seed)) for spec in layout.tables.values()
        }
        plain = {
            name: values
            for side in SIDES
            for name, values in _fresh_weights(layout, side, seed).items()
        }
        self.head = Head(layout.auxiliary, layout.layers["item"][-1]) if layout.auxiliary else None
        encoders = {
            name: w
            for part in layout.parts["query"]
            for name, w in _fresh_attention(part, seed).items()
        }
        self.dense: dict[str, AdagradWeight | AdamWeight] = {
            **{name: AdagradWeight(values) for name, values in plain.items()},
            **{name: AdamWeight(values) for name, values in encoders.items()},
            **(self.head.weights if self.head else {}),
        }

    def __call__(
        self, side: str, features: Mapping[str, tf.Tensor], seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encodes rows with the present weights; see `encode`."""
        tables = {name: weight.values for name, weight in self.tables.items()}
        dense = {name: weight.values for name, weight in self.dense.items()}
        return encode(self.layout, side, tables, dense, features, seed)


def encode(
    layout: Architecture,
    side: str,
    tables: Mapping[str, tf.Variable],
    dense: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """One tower: its columns, layers with ReLU between them, what goes past the layers, then length
    1.

    Args:
      layout: both towers'.
      side: `query` or `item`.
      tables: embedding tables by name; those of the side are enough.
      dense: weights by name; those of the side are enough.
      features: transformed columns: [B] or [B, L] int ids, [B] or [B, W] float32 numbers; of lists
        that are laid out (model/towers/pooling.py) maybe the rows of their ids too, as
        `rows_of` names them; and of histories that are packed (model/data/sequence_packing.py),
        what `model.towers.history_encoder.attended` takes.
      seed: [2] int32, what dropout is a function of; None is without dropout.

    Returns: [B, D] float32, every row of length 1.
    """
    parts = layout.parts[side]
    read = {part.column: _read(part, tables, dense, features, seed) for part in parts}
    kernel = tf.concat([dense[f"{side}/first/{part.column}"] for part in parts], 0)
    hidden = tf.concat(list(read.values()), 1) @ kernel + dense[f"{side}/bias/0"]
    for i in range(1, len(layout.layers[side])):
        hidden = tf.nn.relu(hidden) @ dense[f"{side}/kernel/{i}"] + dense[f"{side}/bias/{i}"]
    for part in parts:
        if part.skip:
            hidden += dense[f"{side}/skip/{part.column}"] * read[part.column]
    # The transform graph may not tell the shapes of its outputs; SavedModels must.
    return tf.ensure_shape(
        tf.math.l2_normalize(hidden, axis=1, epsilon=_TINY), [None, layout.layers[side][-1]]
    )


def _read(
    part: FeatureColumn,
    tables: Mapping[str, tf.Variable],
    dense: Mapping[str, tf.Variable],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """What a column gives the first layer, [B, width]."""
    column = features[part.column]
    if part.form == "number":
        return column[:, tf.newaxis]
    if part.form == "vector":
        return tf.ensure_shape(column, [None, part.width])
    if part.attention:
        return attended(part.column, part.attention, tables[part.table], dense, features, seed)
    if part.form == "id":
        return tf.gather(tables[part.table], column)
    mean = _mean(part, tables[part.table], column, features.get(rows_of(part.column)))
    return lengthened(mean, column) if part.root else mean


def _mean(
    part: FeatureColumn,
    table: tf.Variable,
    column: tf.Tensor | EmbeddingBags,
    rows: tf.Tensor | None,
) -> tf.Tensor:
    if isinstance(column, EmbeddingBags):
        return mean_of_bags(
            tf.gather(table, column.ids) if rows is None else rows, column, part.half_life
        )
    rows = tf.gather(table, column)
    return (
        recent_mean(rows, column, part.half_life)
        if part.half_life
        else mean_of_present(rows, column)
    )


def drop_ids(ids: tf.Tensor, spec: TableSpec, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Replaces a share of the ids by shared rows, drawn anew for every row, so that these become
    good averages.

    Args:
      ids: [B] int.
      spec: the table that they are rows of.
      share: in [0, 1).
      seed: [2] int32; the result is a function of it.
    """
    drawn = tf.random.stateless_uniform(tf.shape(ids), seed)
    shared = (
        tf.random.stateless_uniform(tf.shape(ids), seed + 1, 0, spec.shared, ids.dtype)
        + spec.first_shared
    )
    return tf.where((drawn < share) & (ids > 0), shared, ids)


def fresh_rows(spec: TableSpec, seed: int) -> tf.Tensor:
    """What a table starts from, [rows, width] float32, each of about length 1."""
    return normal([spec.rows, spec.dimension], spec.dimension**-0.5, seed, spec.name)


def _fresh_weights(layout: Architecture, side: str, seed: int) -> dict[str, tf.Tensor]:
    parts, widths = layout.parts[side], layout.layers[side]
    above = sum(part.width for part in parts)
    scale = [1.0] * len(widths)
    scale[-1] = SMALL if any(part.skip for part in parts) else 1.0
    weights = {
        f"{side}/first/{part.column}": scale[0]
        * glorot([part.width, widths[0]], above, widths[0], seed, f"{side}/{part.column}")
        for part in parts
    }
    weights[f"{side}/bias/0"] = tf.zeros([widths[0]])
    for i in range(1, len(widths)):
        shape = [widths[i - 1], widths[i]]
        weights[f"{side}/kernel/{i}"] = scale[i] * glorot(
            shape, shape[0], shape[1], seed, f"{side}/{i}"
        )
        weights[f"{side}/bias/{i}"] = tf.zeros([widths[i]])
    return weights | {
        f"{side}/skip/{part.column}": tf.ones([part.width]) for part in parts if part.skip
    }


def _fresh_attention(part: FeatureColumn, seed: int) -> dict[str, tf.Tensor]:
    if part.attention is None:
        return {}
    prefix = encoder_prefix(part.column)
    return {f"{prefix}empty": tf.zeros([part.width]), **fresh_encoder(part.attention, seed, prefix)}
