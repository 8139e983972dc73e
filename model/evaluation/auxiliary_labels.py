"""How well the auxiliary head predicts labels that it never saw: those of the day's next-click
queries.

A query's item is known to the click's exam by its place in the corpus, so both vectors are there
already. Items outside the corpus are left out.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from model.evaluation.tower_lists import Encoded, TowerLists
from model.towers.auxiliary_head import Head

LABEL = "_label"


class Labelled(NamedTuple):
    """Clicks with a label.

    Attributes:
      query: [N, D] float32.
      item: [N, D] float32.
      label: [N] float32.
    """

    query: np.ndarray
    item: np.ndarray
    label: np.ndarray


def labelled(asked: TowerLists, name: str, encoded: Encoded) -> Labelled:
    """The clicks of an exam that have a label and an item of the corpus.

    Args:
      asked: next-click queries, with the column `_label`.
      name: the exam's, in `encoded`.
      encoded: by the towers whose head is asked.
    """
    label = asked.queries.column(LABEL).to_numpy()
    item = asked.split.truth.values
    there = np.flatnonzero(np.isfinite(label) & (item >= 0))
    return Labelled(encoded.queries(name)[there], encoded.items[item[there]], label[there])


def measures(head: Head, clicks: Labelled) -> dict[str, Any] | None:
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
