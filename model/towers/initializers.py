"""What weights start from. Each is a function of the seed and of the weight's name alone, so that a
new weight leaves all others as they were.
"""

import zlib
from collections.abc import Sequence
from math import prod

import tensorflow as tf

from model.towers.architecture import Architecture, FeatureColumn, TableSpec
from model.towers.history_encoder import encoder_prefix, encoder_shapes

LAST_LAYER_SCALE = 0.1
"""Factor of the last layer's start if a column also goes past the layers: the towers first agree on
what goes past.
"""
_POSITION_DEVIATION = 0.02


def initial_rows(spec: TableSpec, seed: int) -> tf.Tensor:
    """What a table starts from, [rows, width] float32, each row of about length 1."""
    return _normal([spec.rows, spec.dimension], spec.dimension**-0.5, seed, spec.name)


def initial_layers(architecture: Architecture, side: str, seed: int) -> dict[str, tf.Tensor]:
    """What the layers of a tower start from, and what goes past them, by name, all float32:
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
    """What the encoder of a history starts from, float32 by name: `empty`, [width of the column], and
    all of `encoder_shapes`; nothing if the column has no encoder.
    """
    if column.attention is None:
        return {}
    prefix = encoder_prefix(column.name)
    weights = {f"{prefix}empty": tf.zeros([column.width])}
    for name, shape in encoder_shapes(column.attention).items():
        weights[prefix + name] = _initial_encoder_weight(prefix + name, shape, seed)
    return weights


def _initial_encoder_weight(name: str, shape: list[int], seed: int) -> tf.Tensor:
    kind = name.rsplit("/", 1)[-1]
    if kind == "positions":
        return _normal(shape, _POSITION_DEVIATION, seed, name)
    if kind == "kernel":
        # Attention's are [W, heads, width of a head], and its output's that turned round.
        input_axes = len(shape) - 1 if "attention_output" in name else 1
        inputs = prod(shape[:input_axes])
        outputs = prod(shape[input_axes:])
        return _glorot(shape, inputs, outputs, seed, name)
    if kind == "gamma":
        # What comes out is to be as long as an item's embedding, since both are added up.
        return tf.fill(shape, shape[0] ** -0.5 if "/last/" in name else 1.0)
    return tf.zeros(shape)


def _glorot(shape: Sequence[int], inputs: int, outputs: int, seed: int, name: str) -> tf.Tensor:
    """Uniform, for sums of `inputs` terms that feed `outputs` sums (Glorot and Bengio, 2010)."""
    limit = (6 / (inputs + outputs)) ** 0.5
    return tf.random.stateless_uniform(shape, _seed(seed, name), -limit, limit)


def _normal(shape: Sequence[int], deviation: float, seed: int, name: str) -> tf.Tensor:
    return tf.random.stateless_normal(shape, _seed(seed, name), stddev=deviation)


def _seed(seed: int, name: str) -> list[int]:
    return [seed, zlib.crc32(name.encode())]
