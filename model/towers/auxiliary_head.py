"""A second thing learned from the same two vectors: the label of what was taken, a rating or the
share watched.

Shapes: B rows, D the width of the vectors q (query) and c (item), of length 1.

    x = bias + <a, q> + <b, c> + sqrt(D) <w, q * c>
    squared     prediction y = m + s x;                    loss ((label - y) / s)^2
    logistic    prediction p = sigmoid(log(m / (1 - m)) + x);   loss -label log p - (1 - label) log(1 - p), in nats

m and s are mean and standard deviation of the labels met so far: the head starts from predicting
their mean, and `train.auxiliary.weight` means the same whatever the label's unit. sqrt(D) brings
products of two entries to the size of one.

The cosine alone would not do for x: it says how likely an item is taken, which holds for items that
many take and few like. With a weight per dimension both objectives find room in the same vectors
(multi-task learning: Caruana, 1997).
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from model.optimizers import AdagradWeight
from twinspire_core.errors import BadData

Kind = Literal["squared", "logistic"]
PREFIX = "auxiliary/"
"""What the names of the head's weights start with; the loss comes next, since weights of one are
none of the other.
"""

_EDGE = 1e-3
"""How near to 0 and 1 the mean of labels may come, for its logit to be a number."""


class Moments(NamedTuple):
    """Of labels: how many, their mean, and the sum of squared deviations from it."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def and_of(self, labels: np.ndarray) -> "Moments":
        """Those of more labels, [N] with nan for none (Chan, Golub, LeVeque 1979)."""
        x = known(labels).astype(np.float64)
        if not len(x):
            return self
        n, step = self.n + len(x), float(x.mean()) - self.mean
        squares = (
            self.squares + float(np.square(x - x.mean()).sum()) + step**2 * self.n * len(x) / n
        )
        return Moments(n, self.mean + step * len(x) / n, squares)

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return float((self.squares / max(self.n, 1)) ** 0.5)


class Head(tf.Module):
    """Predicts labels.

    Attributes:
      kind: its loss.
      weights: by name, for the optimiser and the training state. They start at 0.
      seen: of all labels that it was trained on.
    """

    def __init__(self, kind: Kind, dimension: int) -> None:
        super().__init__()
        self.kind = kind
        shapes: dict[str, list[int]] = {
            name: [dimension] for name in ("query", "item", "product")
        } | {"bias": []}
        self.weights = {
            f"{PREFIX}{kind}/{name}": AdagradWeight(tf.zeros(shape))
            for name, shape in shapes.items()
        }
        self.seen = Moments()
        # What x = 0 stands for, and what a unit of x does
        self._scale = tf.Variable([0.0, 1.0], trainable=False)

    def copy(self) -> "Head":
        """A head that predicts the same, whatever becomes of this one."""
        other = Head(self.kind, self.weights[f"{PREFIX}{self.kind}/query"].values.shape[0])
        for name, weight in self.weights.items():
            other.weights[name].values.assign(weight.values)
        other.see(self.seen)
        return other

    def see(self, seen: Moments) -> None:
        """Sets the scale by the labels met so far."""
        self.seen = seen
        if self.kind == "logistic":
            mean = min(max(seen.mean, _EDGE), 1 - _EDGE)
            self._scale.assign([np.log(mean / (1 - mean)), 1.0])
        else:
            self._scale.assign([seen.mean, seen.spread or 1.0])

    def predict(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Predicted labels, [B], of [B, D] queries and items."""
        found = self._scale[0] + self._scale[1] * self._read(query, item)
        return tf.sigmoid(found) if self.kind == "logistic" else found

    def loss(
        self, query: tf.Tensor, item: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean of the losses of the rows that have a label.

        Args:
          query: [B, D] float32.
          item: [B, D] float32.
          label: [B] float32, nan for none. Rows without one give no gradient.

        Returns: the mean, 0 where no row has a label, and how many have, both scalar float32.
        """
        x, has = self._read(query, item), tf.math.is_finite(label)
        # Before anything is computed: 0 times nan is nan
        label = tf.where(has, label, tf.zeros_like(label))
        if self.kind == "logistic":
            losses = tf.nn.sigmoid_cross_entropy_with_logits(label, self._scale[0] + x)
        else:
            losses = tf.square((label - self._scale[0]) / self._scale[1] - x)
        labels = tf.reduce_sum(tf.cast(has, tf.float32))
        return (
            tf.math.divide_no_nan(
                tf.reduce_sum(tf.where(has, losses, tf.zeros_like(losses))), labels
            ),
            labels,
        )

    def _read(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """The x of the formulas above, [B]."""
        a, b, w, bias = (weight.values for weight in self.weights.values())
        product = float(query.shape[-1]) ** 0.5 * query * item
        return (
            bias
            + tf.linalg.matvec(query, a)
            + tf.linalg.matvec(item, b)
            + tf.linalg.matvec(product, w)
        )


def known(labels: np.ndarray) -> np.ndarray:
    """The labels that are there, of [N] with nan for none."""
    finite: np.ndarray = labels[np.isfinite(labels)]
    return finite


def check(labels: np.ndarray, kind: Kind, column: str | None, of: str) -> None:
    """Refuses labels that the loss is not made for.

    Args:
      labels: [N] float32, nan for none.
      kind: the loss.
      column: where they were read.
      of: the day, in words.

    Raises:
      BadData: the loss is `logistic`, and a label is none that has a probability.
    """
    there = known(labels)
    wrong = there[(there < 0) | (there > 1)]
    if kind == "logistic" and len(wrong):
        raise BadData(
            'train.auxiliary.loss = "logistic" takes labels from 0 to 1; columns.label ='
            f" {column!r} holds {wrong[0]:g} on {of} ({len(wrong):,} of {len(there):,} labels lie"
            ' outside). Bring the column to that range, or set train.auxiliary.loss = "squared".'
        )


class LabelledClicks(NamedTuple):
    """Clicks with a label.

    Attributes:
      query: [N, D] float32.
      item: [N, D] float32.
      label: [N] float32.
    """

    query: np.ndarray
    item: np.ndarray
    label: np.ndarray


def measure_head(head: Head, clicks: LabelledClicks) -> dict[str, Any] | None:
    """How far predictions are from labels, beside always predicting the mean of the labels trained
    on.

    Returns: `labels`, how many there are; `rmse` and `rmse_of_mean`, or of a logistic head
      `log_loss` and `log_loss_of_mean` in nats, and `auc` where all labels are 0 or 1 and there are
      both. None without a label, or of a head that was never trained on one.
    """
    if not len(clicks.label) or not head.seen.n:
        return None
    name, error = ("log_loss", _log_loss) if head.kind == "logistic" else ("rmse", _rmse)
    predicted = head.predict(tf.constant(clicks.query), tf.constant(clicks.item)).numpy()
    found = {
        name: error(clicks.label, predicted),
        f"{name}_of_mean": error(clicks.label, np.float64(head.seen.mean)),
    }
    if head.kind == "logistic" and set(np.unique(clicks.label)) == {0, 1}:
        found["auc"] = auc(clicks.label, predicted)
    return {"labels": len(clicks.label), **found}


def auc(label: np.ndarray, predicted: np.ndarray) -> float:
    """The chance that of two labels 1 and 0 the former is predicted higher; a tie counts one half.

    By the sum of ranks (Mann and Whitney, 1947).

    Args:
      label: [N] 0 or 1, both of them.
      predicted: [N].
    """
    _, place, times = np.unique(predicted, return_inverse=True, return_counts=True)
    rank = np.cumsum(times) - (times - 1) / 2  # the mean one of equals, from 1
    ones = label == 1
    n = int(ones.sum())
    return float((rank[place[ones]].sum() - n * (n + 1) / 2) / (n * (len(label) - n)))


def _rmse(label: np.ndarray, predicted: np.ndarray | np.float64) -> float:
    return float(np.sqrt(np.square(label - predicted.astype(np.float64)).mean()))


def _log_loss(label: np.ndarray, predicted: np.ndarray | np.float64) -> float:
    p = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(label * np.log(p) + (1 - label) * np.log1p(-p)).mean())
