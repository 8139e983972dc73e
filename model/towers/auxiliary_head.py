"""A second thing learned from the same two vectors: a label of what was taken, such as a rating or
the share watched.

Shapes: B rows; D the width of the vectors q (query) and c (item), of length 1.

    x = bias + <a, q> + <b, c> + sqrt(D) <w, q * c>

    squared     prediction y = m + s x
                loss ((label - y) / s)^2
    logistic    prediction p = sigmoid(log(m / (1 - m)) + x)
                loss -label log p - (1 - label) log(1 - p), in nats

m and s are mean and standard deviation of the labels seen so far. So the head starts from
predicting their mean, and `train.auxiliary.weight` means the same whatever the label's unit.
sqrt(D) brings the products of two entries to the size of one entry.

The cosine alone would not do for x: it says how likely an item is taken, which is high for items
that many take and few like. With a weight per dimension both objectives find room in the same
vectors (multi-task learning: Caruana, 1997).
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from model.optimizers import AdagradWeight
from twinspire_core.errors import BadData
from twinspire_core.metrics.moments import Moments

Kind = Literal["squared", "logistic"]
PREFIX = "auxiliary/"
"""What the names of the head's weights start with. The loss comes next: weights that were learned
with one loss mean nothing with the other.
"""

_EDGE = 1e-3
"""How near to 0 and 1 the mean of labels is taken to come: the logit of 0 or 1 is infinite."""


def label_moments(labels: np.ndarray) -> Moments:
    """Moments of the labels that are known, of [N] with nan for none."""
    return Moments.of(known_labels(labels).astype(np.float64))


class Head(tf.Module):
    """Predicts labels.

    Attributes:
      kind: its loss.
      weights: a, b, w and bias of the formula, by name. They start at 0.
      seen: moments of all labels that it was trained on.
    """

    def __init__(self, kind: Kind, dimension: int) -> None:
        super().__init__()
        self.kind = kind
        vector = [dimension]
        shapes = {"query": vector, "item": vector, "product": vector, "bias": []}
        self.weights = {
            f"{PREFIX}{kind}/{name}": AdagradWeight(tf.zeros(shape))
            for name, shape in shapes.items()
        }
        self.seen = Moments()
        # [m or its logit, s]: the prediction at x = 0, and how far a unit of x moves it.
        self._scale = tf.Variable([0.0, 1.0], trainable=False)

    def copy(self) -> "Head":
        """A head that predicts the same, whatever becomes of this one."""
        dimension = self.weights[f"{PREFIX}{self.kind}/query"].values.shape[0]
        other = Head(self.kind, dimension)
        for name, weight in self.weights.items():
            other.weights[name].values.assign(weight.values)
        other.see(self.seen)
        return other

    def see(self, seen: Moments) -> None:
        """Sets m and s by the labels seen so far."""
        self.seen = seen
        if self.kind == "logistic":
            mean = min(max(seen.mean, _EDGE), 1 - _EDGE)
            self._scale.assign([np.log(mean / (1 - mean)), 1.0])
        else:
            self._scale.assign([seen.mean, seen.spread or 1.0])

    def predict(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Predicted labels, [B], of [B, D] queries and items."""
        prediction = self._scale[0] + self._scale[1] * self._score(query, item)
        return tf.sigmoid(prediction) if self.kind == "logistic" else prediction

    def loss(
        self, query: tf.Tensor, item: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean of the losses of the rows that have a label.

        Args:
          query: [B, D] float32.
          item: [B, D] float32.
          label: [B] float32, nan for none. Rows without one give no gradient.

        Returns: the mean, 0 if no row has a label, and how many rows have one, both scalar float32.
        """
        x = self._score(query, item)
        has_label = tf.math.is_finite(label)
        # Replaced before anything is computed of it: the gradient of a row that is left out later
        # would be 0 times nan, which is nan.
        label = tf.where(has_label, label, tf.zeros_like(label))
        if self.kind == "logistic":
            losses = tf.nn.sigmoid_cross_entropy_with_logits(label, self._scale[0] + x)
        else:
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
    """The labels without those that are missing, of [N] with nan for none."""
    known: np.ndarray = labels[np.isfinite(labels)]
    return known


def check_labels(labels: np.ndarray, kind: Kind, column: str | None, of: str) -> None:
    """Refuses labels that the loss is not made for.

    Args:
      labels: [N] float32, nan for none.
      kind: the loss.
      column: the column that they were read from.
      of: the day, for the message.

    Raises:
      BadData: the loss is `logistic`, and a label is not from 0 to 1.
    """
    there = known_labels(labels)
    wrong = there[(there < 0) | (there > 1)]
    if kind == "logistic" and len(wrong):
        raise BadData(
            'train.auxiliary.loss = "logistic" takes labels from 0 to 1; columns.label ='
            f" {column!r} holds {wrong[0]:g} on {of} ({len(wrong):,} of {len(there):,} labels lie"
            ' outside). Bring the column to that range, or set train.auxiliary.loss = "squared".'
        )


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
    """How far predictions are from labels, beside a constant prediction: the mean of the labels that
    the head was trained on.

    Returns: `labels`, how many there are. Of a squared head `rmse` and `rmse_of_mean`. Of a logistic
    head `log_loss` and `log_loss_of_mean` in nats, and `auc` if all labels are 0 or 1 and there are
    both. None without a label, or if the head was never trained on one.
    """
    if not len(clicks.label) or not head.seen.n:
        return None
    label = clicks.label
    mean = np.float64(head.seen.mean)
    predicted = head.predict(tf.constant(clicks.query), tf.constant(clicks.item)).numpy()
    measured: dict[str, Any] = {"labels": len(label)}
    if head.kind == "squared":
        measured["rmse"] = _rmse(label, predicted)
        measured["rmse_of_mean"] = _rmse(label, mean)
        return measured
    measured["log_loss"] = _log_loss(label, predicted)
    measured["log_loss_of_mean"] = _log_loss(label, mean)
    if set(np.unique(label)) == {0, 1}:
        measured["auc"] = auc(label, predicted)
    return measured


def auc(label: np.ndarray, predicted: np.ndarray) -> float:
    """The probability that of two labels 1 and 0 the former is predicted higher; a tie counts one
    half.

    Computed from the sum of ranks (Mann and Whitney, 1947).

    Args:
      label: [N] 0 or 1, both of them.
      predicted: [N].

    Example: of the four pairs of a 1 and a 0, three are in order.
      >>> auc(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1]))
      0.75
    """
    _, place, times = np.unique(predicted, return_inverse=True, return_counts=True)
    rank = np.cumsum(times) - (times - 1) / 2  # from 1; equal predictions have their mean rank
    is_one = label == 1
    ones = int(is_one.sum())
    zeros = len(label) - ones
    pairs_in_order = rank[place[is_one]].sum() - ones * (ones + 1) / 2
    return float(pairs_in_order / (ones * zeros))


def _rmse(label: np.ndarray, predicted: np.ndarray | np.float64) -> float:
    return float(np.sqrt(np.square(label - predicted.astype(np.float64)).mean()))


def _log_loss(label: np.ndarray, predicted: np.ndarray | np.float64) -> float:
    p = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)  # log 0 is infinite
    return float(-(label * np.log(p) + (1 - label) * np.log1p(-p)).mean())
