"""A second objective of the same two vectors: predicting a label of the event, such as a rating or the share
watched.

Shapes: B rows; D the width of the vectors q (query) and c (item), of length 1.

    x = bias + <a, q> + <b, c> + sqrt(D) <w, q * c>

    prediction y = m + s x
    loss ((label - y) / s)^2

m and s are the mean and the standard deviation of the labels seen so far. So the head first predicts their
mean, and the meaning of `train.auxiliary.weight` does not depend on the label's unit. sqrt(D) scales the
product of two entries to the size of one entry.

The cosine alone is not enough for x: it says how likely an item is taken, which is also high for
items that many users take but few like. With a weight per dimension, the same vectors can serve
both objectives (multi-task learning: Caruana, 1997).
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from model.optimizers import AdagradWeight
from twinspire_core.metrics.intervals import Moments

PREFIX = "auxiliary/"
"""Prefix of the names of the head's weights."""


def label_moments(labels: np.ndarray) -> Moments:
    """Moments of the known labels among [N] labels, nan if missing."""
    return Moments.of(known_labels(labels).astype(np.float64))


class Head(tf.Module):
    """Predicts labels.

    Attributes:
      weights: a, b, w and bias of the formula, by name. They start at 0.
      seen: moments of all labels that it was trained on.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        vector = [dimension]
        shapes = {"query": vector, "item": vector, "product": vector, "bias": []}
        self.weights = {
            f"{PREFIX}{name}": AdagradWeight(tf.zeros(shape)) for name, shape in shapes.items()
        }
        self.seen = Moments()
        # [m, s]: the prediction at x = 0, and its change per unit of x.
        self._scale = tf.Variable([0.0, 1.0], trainable=False)

    def copy(self) -> "Head":
        """A copy that later training of this head does not change."""
        head = Head(self.weights[f"{PREFIX}query"].values.shape[0])
        for name, weight in self.weights.items():
            head.weights[name].values.assign(weight.values)
        # The prediction depends on the mean and the spread of the labels.
        head.see(self.seen)
        return head

    def see(self, seen: Moments) -> None:
        """Sets m and s from the labels seen so far."""
        self.seen = seen
        self._scale.assign([seen.mean, seen.spread or 1.0])

    def predict(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Predicted labels, [B], for queries and items, [B, D] each."""
        return self._scale[0] + self._scale[1] * self._score(query, item)

    def loss(
        self, query: tf.Tensor, item: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean of the losses of the rows that have a label.

        Args:
          query: [B, D] float32, vectors of the query tower.
          item: [B, D] float32, vectors of the item tower.
          label: [B] float32, nan if missing. Rows without a label have no gradient.

        Returns: the mean, 0 if no row has a label, and how many rows have one, both scalar float32.
        """
        x = self._score(query, item)
        has_label = tf.math.is_finite(label)
        # NaN is replaced before the computation. If rows were left out afterwards, their gradient would be 0
        # times nan, which is nan.
        label = tf.where(has_label, label, tf.zeros_like(label))
        losses = tf.square((label - self._scale[0]) / self._scale[1] - x)
        losses = tf.where(has_label, losses, tf.zeros_like(losses))
        labels = tf.reduce_sum(tf.cast(has_label, tf.float32))
        return tf.math.divide_no_nan(tf.reduce_sum(losses), labels), labels

    def _score(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """The x of the formulas above, [B]."""
        a, b, w, bias = (weight.values for weight in self.weights.values())
        product = float(query.shape[-1]) ** 0.5 * query * item
        return (
            bias
            + tf.linalg.matvec(query, a)
            + tf.linalg.matvec(item, b)
            + tf.linalg.matvec(product, w)
        )


def known_labels(labels: np.ndarray) -> np.ndarray:
    """The known labels among [N] labels, nan if missing."""
    return labels[np.isfinite(labels)]


class LabelledClicks(NamedTuple):
    """Vectors and labels of N clicks.

    Attributes:
      query: [N, D] float32.
      item: [N, D] float32.
      label: [N] float32, no nan.
    """

    query: np.ndarray
    item: np.ndarray
    label: np.ndarray


def measure_head(head: Head, clicks: LabelledClicks) -> dict[str, Any] | None:
    """The error of the predicted labels. For comparison, also the error of a constant prediction: the mean of
    the labels that the head was trained on.

    Returns: `labels`, how many there are, `rmse` and `rmse_of_mean`. None without a label, or if the
    head was never trained on one.
    """
    # All predictions of an untrained head are 0, so their error would mean nothing.
    if not len(clicks.label) or not head.seen.n:
        return None
    predicted = head.predict(tf.constant(clicks.query), tf.constant(clicks.item)).numpy()
    errors = {
        "rmse": clicks.label - predicted.astype(np.float64),
        "rmse_of_mean": clicks.label - np.float64(head.seen.mean),
    }
    rooted = {name: float(np.sqrt(np.square(error).mean())) for name, error in errors.items()}
    return {"labels": len(clicks.label), **rooted}
