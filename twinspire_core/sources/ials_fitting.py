"""iALS: factors of users and items by alternating least squares, whose regularisation grows with
how much is known.

With s_ui = p_u . q_i, w_ui what user u took of item i, and N_u the sum of w_ui over the items of u,

    sum over what was taken of  w_ui (1 - s_ui)^2   +  a sum over all pairs of  s_ui^2
    +  lambda sum over users of  (N_u + a C)^nu |p_u|^2   +  the same for items

Source: Rendle, Krichene, Zhang and Koren, *Revisiting the Performance of iALS on Item
Recommendation Benchmarks*, RecSys 2022.

U users, C items of the corpus, D factors.
"""

from typing import NamedTuple

import numpy as np

from twinspire_core.search.ragged import Ragged, list_offsets, list_ranges

MOST_EVENTS = 3_000_000
"""Entries of users and items that factors are fitted on, those of the users seen last."""

_DEVIATION = 0.1
_BLOCK = 1 << 24  # numbers of a block of gathered factors


class IalsSettings(NamedTuple):
    """Constants of the fit.

    Attributes:
      factors: D.
      unobserved: a, the weight of a pair of a user and an item that nothing is known of.
      penalty: lambda.
      exponent: nu.
      epochs: rounds, each one solve of all users and one of all items.
    """

    factors: int = 64
    unobserved: float = 0.1
    penalty: float = 0.01
    exponent: float = 1.0
    epochs: int = 8


def fit(items: Ragged, weights: np.ndarray, corpus_size: int, settings: IalsSettings) -> np.ndarray:
    """The items' factors, [C, D] float32; 0 for an item that nobody took.

    Args:
      items: U lists of positions in the corpus, each once.
      weights: [M] float32, above 0.
      corpus_size: C.
      settings: constants.
    """
    generator = np.random.default_rng(0)
    scale = _DEVIATION / np.sqrt(settings.factors)
    shape = (corpus_size, settings.factors)
    item_factors: np.ndarray = (generator.standard_normal(shape) * scale).astype(np.float32)
    if not len(items.values):
        return np.zeros(shape, np.float32)
    order = np.argsort(items.values, kind="stable")
    users = Ragged(items.row[order], items.values[order], corpus_size)
    weights_by_item = weights[order]
    for _ in range(settings.epochs):
        user_factors = solve(items, weights, item_factors, settings)
        item_factors = solve(users, weights_by_item, user_factors, settings)
    return item_factors


def solve(
    lists: Ragged, weights: np.ndarray, factors: np.ndarray, settings: IalsSettings
) -> np.ndarray:
    """The best factors of rows, given those of columns: one least-squares problem for each row.

    It is a step of the fit, and what makes factors of a user at serving.

    Args:
      lists: R lists of columns, each once.
      weights: [M] float32, above 0.
      factors: [N, D] float32, of the columns.
      settings: constants.

    Returns: [R, D] float32; 0 for an empty list.
    """
    width = settings.factors
    solved = np.zeros((lists.rows, width), np.float32)
    lengths = lists.lengths
    offsets = list_offsets(lengths)
    sums = np.bincount(lists.row, weights=weights, minlength=lists.rows)
    ridge = settings.penalty * (sums + settings.unobserved * len(factors)) ** settings.exponent
    common = settings.unobserved * (factors.T @ factors)
    # Rows of like length fill a block without much padding; the first row of a block is its longest.
    filled = np.flatnonzero(lengths)
    filled = filled[np.argsort(-lengths[filled], kind="stable")]
    start = 0
    while start < len(filled):
        longest = int(lengths[filled[start]])
        fitting = max(1, _BLOCK // (max(longest, width) * width))
        rows = filled[start : start + fitting]
        start += len(rows)
        entry = list_ranges(offsets[rows], lengths[rows])
        block = Ragged.of_lengths(lists.values[entry], lengths[rows])
        weight = _padded(block, weights[entry])
        gathered = factors[np.maximum(block.padded(), 0)]
        weighted = gathered * weight[:, :, np.newaxis]
        matrix = common + np.matmul(weighted.transpose(0, 2, 1), gathered)
        matrix[:, np.arange(width), np.arange(width)] += ridge[rows, np.newaxis]
        target = weighted.sum(axis=1)
        solved[rows] = np.linalg.solve(matrix, target[:, :, np.newaxis])[:, :, 0]
    return solved


def _padded(lists: Ragged, values: np.ndarray) -> np.ndarray:
    """Values of lists, [R, longest] float32, 0 behind the end of each."""
    is_value = lists.padded() >= 0
    padded = np.zeros(is_value.shape, np.float32)
    padded[is_value] = values
    return padded
