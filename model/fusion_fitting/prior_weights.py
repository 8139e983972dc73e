"""Weights of the fusion where too few users are there to fit any: measured on other logs, by kind of
log.

A log is of one of two kinds, told by what users took lately: things that they had before, as in
shops for groceries, or things that are new to them, as on news sites.
docs/decisions/0051-lists-of-several-days.md says how the weights were found, and what they are worth.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model.fusion_fitting.fusion_weights import FILL_WEIGHT
from model.fusion_fitting.stored_lists import DayLists
from twinspire_core.config.source_names import (
    CO_OCCURRENCE,
    FITTED,
    MOST_POPULAR,
    PAST,
    PERSONAL,
    POPULAR_LATELY,
    TRENDING,
    TWO_TOWER,
)
from twinspire_core.metrics.ranking import contains, distinct

REPEATS = "repeats"
"""Kind of a log whose users take what they had before."""
NO_REPEATS = "no_repeats"
"""Kind of any other log, and of one of which nothing is known."""
REPEATS_FROM = 0.1
"""Share of the items taken from which on a log is one of repeats."""

WEIGHTS: Mapping[str, Mapping[str, float]] = {
    REPEATS: {
        PAST: 1.0,
        POPULAR_LATELY: 0.5,
        TWO_TOWER: 0.3,
        MOST_POPULAR: 0.2,
        CO_OCCURRENCE: 0.1,
    },
    NO_REPEATS: {
        POPULAR_LATELY: 1.0,
        TWO_TOWER: 0.7,
        CO_OCCURRENCE: 0.1,
        MOST_POPULAR: 0.01,
        PAST: 0.01,
    },
}


_LIKE = {PERSONAL: PAST, TRENDING: POPULAR_LATELY, **dict.fromkeys(FITTED, CO_OCCURRENCE)}
"""Sources that know what one of the measured ones knows."""


def kind_of_log(days: Iterable[DayLists]) -> str:
    """Which weights a log needs: `REPEATS` or `NO_REPEATS`.

    Args:
      days: lists for users, and what they took. Users held out are left out. A repeat is an item
        that the source `past` lists, or where that is not mixed, `personal`.
    """
    repeated = 0
    taken = 0
    for lists in days:
        had_before = next((name for name in (PAST, PERSONAL) if name in lists.lists), None)
        if had_before:
            fitted_on = lists.take(np.flatnonzero(~lists.held_out))
            repeated += int(contains(fitted_on.taken, fitted_on.lists[had_before].items).sum())
            taken += int(distinct(fitted_on.taken).sum())
    return REPEATS if taken and repeated >= REPEATS_FROM * taken else NO_REPEATS


def prior_weights(sources: Sequence[str], kind: str) -> np.ndarray:
    """[S] float64 with the sum 1.

    Sources that know the same share its weight. Any other that was not measured only fills up what
    the others leave.
    """
    alike = [_LIKE.get(name, name) for name in sources]
    weights = np.array([WEIGHTS[kind].get(name, FILL_WEIGHT) / alike.count(name) for name in alike])
    shares: np.ndarray = weights / weights.sum()
    return shares
