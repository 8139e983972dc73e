"""What steps of training have left: their losses as curves, and whether all are numbers still.

A step's loss holds the softmax's and the auxiliary head's, which is nan where no row had a label.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import tensorflow as tf

from model.towers.two_tower import TwoTower
from twinspire_core.errors import UsageError

CURVE_POINTS = 200
"""The most points of a loss curve."""

_DIVERGED = (
    "The learning rate is too high, the temperature too low, or a feature holds huge numbers: lower"
    " train.learning_rate, raise train.temperature, or set log = true on numbers with a long tail."
)


def mean_loss(losses: Sequence[tf.Tensor]) -> float:
    """Mean of the softmax's losses.

    Raises:
      UsageError: one is not a number; the run stops at once instead of after hours.
    """
    values = np.array([loss.numpy()[0] for loss in losses])
    if not np.isfinite(values).all():
        raise UsageError(
            f"The loss must stay a number; found {values[~np.isfinite(values)][0]}. {_DIVERGED}"
        )
    return float(values.mean())


def check_weights(model: TwoTower) -> None:
    """Checks what the last step has left, of which no loss was computed.

    Slots are checked too: those that overflowed would keep their weights from ever moving again.

    Raises:
      UsageError: a weight or a slot is not a number.
    """
    for name, weight in {**model.tables, **model.dense}.items():
        for variable in (weight.values, weight.slots):
            if not tf.reduce_all(tf.math.is_finite(variable)).numpy():
                raise UsageError(
                    f"Weights must stay numbers; those of {name} no longer are, after the last step."
                    f" {_DIVERGED}"
                )


def loss_curve(losses: Sequence[tf.Tensor], first: int) -> list[tuple[int, float]]:
    """Means of the softmax's losses over equal stretches, each with the step that it ends at."""
    return [
        (first + end, round(mean_loss(losses[start:end]), 5))
        for start, end in _stretches(len(losses))
    ]


def auxiliary_curve(losses: Sequence[tf.Tensor], first: int) -> list[tuple[int, float]]:
    """The same of the auxiliary head, over the steps that had a label; those without are nan."""
    values = np.array([loss.numpy()[1] for loss in losses])
    curve = []
    for start, end in _stretches(len(losses)):
        stretch = values[start:end]
        with_label = stretch[np.isfinite(stretch)]
        if len(with_label):
            curve.append((first + end, round(float(with_label.mean()), 5)))
    return curve


def _stretches(steps: int) -> Iterable[tuple[int, int]]:
    """First step and end of up to `CURVE_POINTS` stretches of equal length."""
    bounds = np.linspace(0, steps, min(CURVE_POINTS, steps) + 1)
    return pairwise(bounds.astype(int).tolist())
