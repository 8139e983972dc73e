"""One training step as one TensorFlow graph: it updates the weights with a batch and returns the losses.

In some rows, a step drops ids (id dropout) or optional features (context dropout), so that new ids and
requests without these features get good lists. The seed and the step number choose the rows.

B rows of a batch, U items drawn from the corpus.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from model.losses.corrected_softmax import sampled_softmax_loss
from model.losses.negatives import EncodedItems, step_candidates
from model.losses.sampling_probability import StreamingFrequency
from model.optimizers import AdamWeight
from model.towers.architecture import SIDES, TableSpec
from model.towers.list_encoders import EmbeddingBags, last_of, rows_of
from model.towers.two_tower import TwoTower
from twinspire_core.config.tables.training import TrainConfig

Features = Mapping[str, Any]
"""Transformed columns by name: tensors, or embedding bags of tensors."""


def with_dropped_ids(
    model: TwoTower, features: Features, settings: TrainConfig, step: tf.Tensor, salt: str = ""
) -> dict[str, Any]:
    """The features after id dropout."""
    if not settings.id_dropout:
        return dict(features)
    dropped = {
        column.name: drop_ids(
            features[column.name],
            model.architecture.tables[column.table],
            settings.id_dropout,
            tf.stack([salted(settings.seed, column.name + salt), step]),
        )
        for side in SIDES
        for column in model.architecture.columns[side]
        if column.dropout and column.name in features
    }
    return {**features, **dropped}


def drop_ids(ids: tf.Tensor, spec: TableSpec, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Replaces a share of the ids by shared rows (id dropout). So the shared rows become good averages,
    from which new ids start.

    Args:
      ids: [B] int, rows of the table `spec`.
      share: the share of ids to replace, in [0, 1).
      seed: [2] int32; the result is a function of it.
    """
    drawn = tf.random.stateless_uniform(tf.shape(ids), seed)
    # A second seed: which shared row is used must not depend on the number that decided the drop.
    shared = tf.random.stateless_uniform(tf.shape(ids), seed + 1, 0, spec.shared, ids.dtype)
    is_dropped = (drawn < share) & (ids > 0)
    return tf.where(is_dropped, shared + spec.first_shared, ids)


def with_dropped_context(
    model: TwoTower, features: Features, rows: tf.Tensor, settings: TrainConfig, step: tf.Tensor
) -> dict[str, Any]:
    """The features after context dropout: some queries lose all optional features at once, like a request
    that has only a user.

    Args:
      rows: scalar int32, the number of rows.
      step: scalar int32; with the seed of the settings, it decides which rows.
    """
    context = [column.name for column in model.architecture.columns["query"] if column.context]
    if not settings.context_dropout or not context:
        return dict(features)
    seed = tf.stack([salted(settings.seed, "context"), step])
    is_dropped = tf.random.stateless_uniform([rows], seed) < settings.context_dropout
    # The same rows in every column, because a request that leaves out one usually leaves out all.
    return {**features, **{name: _missing_where(is_dropped, features[name]) for name in context}}


def _missing_where(is_dropped: tf.Tensor, values: tf.Tensor | EmbeddingBags) -> Any:
    """A column with missing values in some rows, [B] bool: row 0 of a table; 0, the mean, for numbers; an
    empty list.
    """
    if not isinstance(values, EmbeddingBags):
        is_dropped = tf.reshape(is_dropped, [-1] + [1] * (values.shape.rank - 1))
        return tf.where(is_dropped, tf.zeros([], values.dtype), values)
    empty = tf.size(values.count)
    return values._replace(
        of=tf.where(is_dropped, empty, values.of), count=tf.pad(values.count, [[0, 1]])
    )


def salted(seed: int, name: str) -> int:
    """A seed of its own for each kind of draw, so that no two draws are correlated."""
    return seed + zlib.crc32(name.encode()) % 2**30


# Adam's usual rate, for the weights of history encoders.
_ENCODER_LEARNING_RATE = 0.001
# The columns of a batch that are not features, [B] each. `draw_probability` is the probability
# that a uniform draw from the corpus gives the row's item.
_ROW_COLUMNS = {
    "user": tf.int64,
    "item": tf.int64,
    "reward": tf.float32,
    "draw_probability": tf.float32,
}


def compile_step(
    model: TwoTower, frequency: StreamingFrequency, settings: TrainConfig
) -> Callable[..., tf.Tensor]:
    """Compiles the training step: (features by column, `_ROW_COLUMNS` by name, drawn items, step) -> mean
    losses of the batch.

    The losses are [2] float32: the loss of the softmax, in nats, and the loss of the auxiliary head, NaN
    without a head or labels. With a head, the batch also has `label`, [B] float32, NaN for none.

    The drawn items are `{"features": item features by column, "item": [U] int64,
    "draw_probability": [U] float32}`, and `{}` if `settings.negatives.uniform` is 0.
    """
    weights = {**model.tables, **model.dense}
    variables = {name: weight.values for name, weight in weights.items()}
    lists = [
        column
        for columns in model.architecture.columns.values()
        for column in columns
        if column.name in model.architecture.lists
    ]
    for column in lists:
        model.tables[column.table].make_copies()
    is_corrected = settings.correction != "none"
    counted = frequency if is_corrected else None

    # Without autograph: nothing here branches on tensors, and its translation takes longer than all
    # steps of a small day.
    @tf.function(autograph=False)
    def take_step(
        features: Features, batch: Features, drawn: Mapping[str, Any], step: tf.Tensor
    ) -> tf.Tensor:
        if is_corrected:
            # Before the loss, so that the estimate knows the batch that it corrects.
            frequency.update(batch["item"])
        features = with_dropped_ids(model, features, settings, step)
        features = with_dropped_context(model, features, tf.size(batch["item"]), settings, step)
        # Rows for ids in lists are looked up outside the tape. So their gradient has one row for each
        # distinct id, in ascending order, instead of one for each entry of each list.
        list_rows = {
            column.name: tf.gather(model.tables[column.table].values, features[column.name].ids)
            for column in lists
        }
        features |= {rows_of(name): rows for name, rows in list_rows.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variables, list_rows])
            total, losses = _losses(model, counted, settings, features, batch, drawn, step)
        gradients, list_gradients = tape.gradient(total, (variables, list_rows))
        for name, weight in weights.items():
            if isinstance(weight, AdamWeight):
                weight.update(gradients[name], _ENCODER_LEARNING_RATE, step)
            else:
                of_lists = [
                    tf.IndexedSlices(list_gradients[column.name], features[column.name].ids)
                    for column in lists
                    if column.table == name
                ]
                weight.update(gradients[name], settings.learning_rate, of_lists)
        return losses

    # With open shapes, one trace serves all batch sizes and list lengths.
    traced: Callable[..., tf.Tensor] = take_step.get_concrete_function(
        _feature_specs(model, "query", "item"),
        _vector_specs(_ROW_COLUMNS | ({"label": tf.float32} if model.head else {})),
        _drawn_specs(model, settings),
        tf.TensorSpec([], tf.int32),
    )
    return traced


def _losses(
    model: TwoTower,
    frequency: StreamingFrequency | None,
    settings: TrainConfig,
    features: Features,
    batch: Features,
    drawn: Mapping[str, Any],
    step: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The total loss, for the gradients, and the losses that a step returns."""
    batch_items = EncodedItems(model("item", features), batch["item"], batch["draw_probability"])
    query = model("query", features, tf.stack([salted(settings.seed, "history"), step]))
    loss = sampled_softmax_loss(
        query,
        step_candidates(batch_items, _encode_drawn(model, drawn, settings, step), frequency),
        batch["reward"],
        temperature=settings.temperature,
        correction=settings.correction,
        negatives=settings.negatives,
        user=batch["user"],
        seed=tf.stack([salted(settings.seed, "negatives"), step]),
    )
    total = loss.total
    auxiliary = tf.constant(np.nan, tf.float32)
    if model.head:
        mean, labels = model.head.loss(query, batch_items.vector, batch["label"])
        total += settings.auxiliary.weight * mean
        auxiliary = tf.where(labels > 0, mean, auxiliary)
    return total, tf.stack([loss.total, auxiliary])


def _encode_drawn(
    model: TwoTower, drawn: Mapping[str, Any], settings: TrainConfig, step: tf.Tensor
) -> EncodedItems | None:
    """The drawn items, with id dropout like the items of the batch."""
    if not drawn:
        return None
    features = with_dropped_ids(model, drawn["features"], settings, step, salt=" drawn")
    return EncodedItems(model("item", features), drawn["item"], drawn["draw_probability"])


def _feature_specs(model: TwoTower, *sides: str) -> dict[str, Any]:
    """The shapes and types of columns as model/data/batching.py makes them."""
    vector = tf.TensorSpec([None], tf.int32)
    matrix = tf.TensorSpec([None, None], tf.int32)
    forms = {
        "id": vector,
        "ids": EmbeddingBags(*[vector] * len(EmbeddingBags._fields)),
        "number": tf.TensorSpec([None], tf.float32),
        "vector": tf.TensorSpec([None, None], tf.float32),
    }
    specs = {}
    for column in (column for side in sides for column in model.architecture.columns[side]):
        specs[column.name] = matrix if column.attention else forms[column.form]
        if column.attention:
            specs[last_of(column.name)] = vector
    return specs


def _drawn_specs(model: TwoTower, settings: TrainConfig) -> dict[str, Any]:
    if not settings.negatives.uniform:
        return {}
    columns = {"item": tf.int64, "draw_probability": tf.float32}
    return {"features": _feature_specs(model, "item"), **_vector_specs(columns)}


def _vector_specs(types: Mapping[str, tf.DType]) -> dict[str, tf.TensorSpec]:
    return {name: tf.TensorSpec([None], dtype) for name, dtype in types.items()}
