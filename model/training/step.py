"""One step of training as one graph: a batch in, the weights moved, its mean losses out."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from model.losses.corrected_softmax import sampled_softmax_loss
from model.losses.negative_sampling import Entries, NegativeSampler
from model.losses.sampling_probability import StreamingFrequency
from model.optimizers import AdamWeight
from model.towers.architecture import SIDES
from model.towers.history_encoder import last_of
from model.towers.pooling import EmbeddingBags, rows_of
from model.towers.two_tower import TwoTower, drop_ids
from twinspire_core.config.tables.training import TrainConfig

Features = Mapping[str, tf.Tensor]

_BATCH = {"user": tf.int64, "item": tf.int64, "reward": tf.float32, "chance": tf.float32}
"""What the rows of a batch have besides features, each [B]; `chance` is of being drawn from the
catalogue.
"""


def compile_step(
    model: TwoTower, frequency: StreamingFrequency, settings: TrainConfig
) -> Callable[..., tf.Tensor]:
    """The training step: (features by column, `_BATCH` by name, drawn items, step) -> mean losses
    of the batch.

    The losses are [2] float32: of the softmax, in nats; and of the auxiliary head, nan if there is
    none or no row has a label. With a head the batch has `label` too, [B] float32, nan for none.

    The items drawn are `{"features": item features by column, "item": [U] int64, "chance": [U]
    float32}`, and `{}` if `settings.negatives.uniform` is 0.
    """
    weights = {**model.tables, **model.dense}
    variables = {name: weight.values for name, weight in weights.items()}
    lists = [
        part
        for side in SIDES
        for part in model.layout.parts[side]
        if part.column in model.layout.lists
    ]
    corrected = settings.correction != "none"
    pool = NegativeSampler(settings.negatives, settings.dimension, frequency if corrected else None)

    # Nothing here branches on tensors; translating it as if something did takes longer than a small
    # day's steps.
    @tf.function(autograph=False)
    def take_step(
        features: Features, batch: Features, drawn: Mapping[str, Any], step: tf.Tensor
    ) -> tf.Tensor:
        if corrected:
            frequency.update(batch["item"])
        features = _with_dropped_ids(model, features, settings, step)
        rows = {
            part.column: tf.gather(model.tables[part.table].values, features[part.column].ids)
            for part in lists
        }
        features |= {rows_of(column): x for column, x in rows.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variables, rows])
            own = Entries(model("item", features), batch["item"], batch["chance"])
            query = model("query", features, tf.stack([_salted(settings.seed, "history"), step]))
            loss = sampled_softmax_loss(
                query,
                pool.columns(own, _encoded(model, drawn, settings, step), step),
                batch["reward"],
                temperature=settings.temperature,
                correction=settings.correction,
                negatives=settings.negatives,
                user=batch["user"],
                seed=tf.stack([_salted(settings.seed, "negatives"), step]),
            )
            total, auxiliary = loss.total, tf.constant(np.nan, tf.float32)
            if model.head:
                mean, labels = model.head.loss(query, own.vector, batch["label"])
                total += settings.auxiliary.weight * mean
                auxiliary = tf.where(labels > 0, mean, auxiliary)
        gradients, of_rows = tape.gradient(total, (variables, rows))
        for name, weight in weights.items():
            if isinstance(weight, AdamWeight):
                weight.update(gradients[name], settings.history.learning_rate, step)
            else:
                columns = [part.column for part in lists if part.table == name]
                of_lists = [
                    tf.IndexedSlices(of_rows[column], features[column].ids) for column in columns
                ]
                weight.update(gradients[name], settings.learning_rate, of_lists)
        return tf.stack([loss.total, auxiliary])

    # One trace for all batch sizes and lengths of lists, taken now.
    names = {"item": tf.int64, "chance": tf.float32}
    drawn = (
        {"features": _specs(model, "item"), **_vectors(names)} if settings.negatives.uniform else {}
    )
    of_rows = _vectors(_BATCH | ({"label": tf.float32} if model.head else {}))
    traced: Callable[..., Any] = take_step.get_concrete_function(
        _specs(model, "query", "item"), of_rows, drawn, tf.TensorSpec([], tf.int32)
    )
    return traced


def _encoded(
    model: TwoTower, drawn: Mapping[str, Any], settings: TrainConfig, step: tf.Tensor
) -> Entries | None:
    """The items drawn, some of their ids replaced as those of the batch are."""
    if not drawn:
        return None
    features = _with_dropped_ids(model, drawn["features"], settings, step, " drawn")
    return Entries(model("item", features), drawn["item"], drawn["chance"])


def _specs(model: TwoTower, *sides: str) -> dict[str, tf.TensorSpec]:
    """What model/data/batching.py makes of each column."""
    whole = tf.TensorSpec([None], tf.int32)
    forms = {
        "id": whole,
        "ids": EmbeddingBags(*[whole] * len(EmbeddingBags._fields)),
        "number": tf.TensorSpec([None], tf.float32),
        "vector": tf.TensorSpec([None, None], tf.float32),
    }
    parts = [part for side in sides for part in model.layout.parts[side]]
    sequences = {
        part.column: tf.TensorSpec([None, None], tf.int32) for part in parts if part.attention
    }
    return (
        {part.column: forms[part.form] for part in parts}
        | sequences
        | {last_of(name): whole for name in sequences}
    )


def _vectors(types: Mapping[str, tf.DType]) -> dict[str, tf.TensorSpec]:
    return {name: tf.TensorSpec([None], dtype) for name, dtype in types.items()}


def _with_dropped_ids(
    model: TwoTower, features: Features, settings: TrainConfig, step: tf.Tensor, salt: str = ""
) -> dict[str, tf.Tensor]:
    """The features after id dropout."""
    parts = [
        part
        for side in model.layout.parts.values()
        for part in side
        if part.dropout and settings.id_dropout
    ]
    return {**features} | {
        part.column: drop_ids(
            features[part.column],
            model.layout.tables[part.table],
            settings.id_dropout,
            tf.stack([_salted(settings.seed, part.column + salt), step]),
        )
        for part in parts
        if part.column in features
    }


def _salted(seed: int, name: str) -> int:
    """A seed of its own for everything that is drawn."""
    return seed + zlib.crc32(name.encode()) % 2**30
