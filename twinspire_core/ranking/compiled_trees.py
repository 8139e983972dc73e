"""LightGBM's trees as tables, and a compiled loop over them: the same scores in a twentieth of the
time. A server ranks hundreds of candidates for each request; LightGBM itself takes milliseconds.

Leaves of a tree are numbered from the left. To go right at a node rules out the leaves on its left:
all nodes of a tree are looked at, none depends on another, and the leaf is the first that none has
ruled out. So a node is one comparison for many rows at once, in registers.

Source: Lucchese et al., *QuickScorer: a Fast Algorithm to Rank Documents with Additive Ensembles of
Regression Trees*, SIGIR 2015; over rows instead of documents' nodes.

T trees, N nodes of all of them, F features, M rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np

LEAVES = 32
"""The most leaves of a tree: each has a bit."""
_ALL = (1 << LEAVES) - 1
_CATEGORICAL = 1
_NAN_LEFT = 2
# What LightGBM takes for missing, in bits 2 and 3 of a node's decision type.
_NAN_IS_ZERO = 0
_NAN_IS_MISSING = 2
# Where the lowest bit of a number stands, by the top five bits of its product with this one (Leiserson,
# Prokop and Randall, *Using de Bruijn Sequences to Index a 1 in a Computer Word*, 1998).
_DE_BRUIJN = 0x077CB531
_ZERO = 1e-35
"""What is no farther from 0, LightGBM takes to be 0."""
_BLOCK = 64
"""Rows of a pass over all trees: their features stay in the nearest cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledTrees:
    """A model's trees.

    Attributes:
      features: F.
      column: [N] int32, the feature that a node compares; F more where a missing value goes right.
      threshold: [N] float32, what is at most so large goes left.
      kept: [N] uint32, the leaves that are left where a row goes right.
      first: [T + 1] int32, where each tree's nodes begin.
      leaves: [T, LEAVES] float64, values by number.
    """

    features: int
    column: np.ndarray
    threshold: np.ndarray
    kept: np.ndarray
    first: np.ndarray
    leaves: np.ndarray

    @classmethod
    def of(cls, model: str, features: int) -> Self | None:
        """The trees of a model in LightGBM's text format; None if there is something in them that
        only LightGBM knows: more leaves, categories, models of a leaf, averages.

        Args:
          model: the text.
          features: F.
        """
        trees = list(_read_trees(model))
        if "\naverage_output" in model or not all(map(_is_plain, trees)):
            return None
        nodes: list[_Node] = []
        first = [0]
        leaves = np.zeros((len(trees), LEAVES))
        for number, tree in enumerate(trees):
            order = _lay_out(tree, features, nodes)
            values = np.array(tree["leaf_value"].split(), np.float64)
            leaves[number, : len(order)] = values[order]
            first.append(len(nodes))
        return cls(
            features=features,
            column=np.array([node.column for node in nodes], np.int32),
            threshold=np.array([node.threshold for node in nodes], np.float32),
            kept=np.array([node.kept for node in nodes], np.uint32),
            first=np.array(first, np.int32),
            leaves=leaves,
        )

    def score(self, values: np.ndarray) -> np.ndarray:
        """Scores, [M] float64: those of LightGBM, to the last bit.

        Args:
          values: [M, F] float32, NaN where missing.
        """
        scores = np.empty(len(values))
        tables = (self.column, self.threshold, self.kept, self.first, self.leaves)
        _kernel()(np.ascontiguousarray(values), *tables, _bit_places(), scores)
        return scores


class _Node(NamedTuple):
    column: int
    threshold: np.float32
    kept: int


def _read_trees(model: str) -> Iterator[dict[str, str]]:
    """The keys of each tree."""
    for text in model.split("\nTree=")[1:]:
        lines = text.split("\n\n", 1)[0].splitlines()[1:]
        yield dict(line.split("=", 1) for line in lines if "=" in line)


def _is_plain(tree: Mapping[str, str]) -> bool:
    kinds = map(int, tree.get("decision_type", "").split())
    known = all(
        not kind & _CATEGORICAL and kind >> 2 & 3 in (_NAN_IS_ZERO, _NAN_IS_MISSING)
        for kind in kinds
    )
    return known and int(tree["num_leaves"]) <= LEAVES and tree.get("is_linear", "0") == "0"


def _lay_out(tree: Mapping[str, str], features: int, nodes: list[_Node]) -> list[int]:
    """Appends a tree's nodes. Returns the numbers that its leaves have in the file, from left to
    right.
    """
    if int(tree["num_leaves"]) == 1:
        return [0]
    left = _numbers(tree["left_child"])
    right = _numbers(tree["right_child"])
    column = _numbers(tree["split_feature"])
    kind = _numbers(tree["decision_type"])
    threshold = [float(text) for text in tree["threshold"].split()]
    order: list[int] = []

    def walk(node: int) -> None:
        if node < 0:  # a leaf
            order.append(~node)
            return
        begin = len(order)
        walk(left[node])
        ruled_out = (1 << len(order)) - (1 << begin)
        missing_left = threshold[node] >= 0  # NaN counts as 0
        if kind[node] >> 2 & 3 == _NAN_IS_MISSING:
            missing_left = bool(kind[node] & _NAN_LEFT)
        shifted = column[node] + (0 if missing_left else features)
        nodes.append(_Node(shifted, _rounded_down(threshold[node]), _ALL & ~ruled_out))
        walk(right[node])

    walk(0)
    return order


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split()]


def _rounded_down(threshold: float) -> np.float32:
    """The largest float32 that is not above a threshold: no float32 value lies between the two."""
    rounded = np.float32(threshold)
    # As Python's numbers: NumPy would compare float32.
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return rounded


@cache
def _bit_places() -> np.ndarray:
    """[32] uint8."""
    places = np.zeros(LEAVES, np.uint8)
    for place in range(LEAVES):
        places[(_DE_BRUIJN << place & _ALL) >> 27] = place
    return places


@cache
def _kernel() -> Callable[..., None]:
    """The loop; compiling it takes a second, once in a process."""
    # Half a second to import, for those who score a few rows with LightGBM.
    import numba

    everything = np.uint32(_ALL)
    one = np.uint32(1)
    de_bruijn = np.uint32(_DE_BRUIJN)
    top = np.uint32(27)
    block = _BLOCK
    zero = np.float32(_ZERO)

    # Without the GIL, so that a server's other thread goes on.
    @numba.njit(nogil=True)
    def score(
        values: Any,
        column: Any,
        threshold: Any,
        kept: Any,
        first: Any,
        leaves: Any,
        bit_places: Any,
        scores: Any,
    ) -> None:
        rows, features = values.shape
        of_block = np.zeros((2 * features, block), np.float32)
        left = np.empty(block, np.uint32)
        totals = np.empty(block, np.float64)
        for start in range(0, rows, block):
            size = min(block, rows - start)
            for row in range(size):
                for feature in range(features):
                    value = values[start + row, feature]
                    if -zero <= value <= zero:
                        value = np.float32(0)
                    # Nothing is at most -infinity but itself, and NaN is at most nothing.
                    of_block[feature, row] = -np.inf if np.isnan(value) else value
                    of_block[features + feature, row] = value
            totals[:] = 0
            for tree in range(len(first) - 1):
                left[:] = everything
                for node in range(first[tree], first[tree + 1]):
                    compared = of_block[column[node]]
                    most = threshold[node]
                    others = kept[node]
                    for row in range(block):
                        left[row] &= everything if compared[row] <= most else others
                for row in range(block):
                    lowest = left[row] & (~left[row] + one)
                    place = bit_places[np.uint32(lowest * de_bruijn) >> top]
                    totals[row] += leaves[tree, place]
            scores[start : start + size] = totals[:size]

    compiled: Callable[..., None] = score
    return compiled
