"""Weights of the fusion for when there are too few users to fit any: measured on other logs, by
kind of log.

A log is of one of three kinds, told by what users took lately: things that they had before, as in
shops for groceries; things that are new to them out of what is popular just now, as on news sites;
or things that are new to them out of a catalogue that lasts, as films.
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
STEADY = "steady"
"""Kind of another log, whose users take no less of what is popular all the time than of what is
popular lately.
"""
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
    STEADY: {
        TWO_TOWER: 1.0,
        CO_OCCURRENCE: 1.0,
        MOST_POPULAR: 0.1,
        POPULAR_LATELY: 0.02,
        PAST: 0.01,
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
    """Which weights a log needs: one of `WEIGHTS`.

    Args:
      days: lists for users, and what they took. Users held out are left out. A repeat is an item
        that the source `past` lists, or where that is not mixed, `personal`.
    """
    fitted_on = [lists.take(np.flatnonzero(~lists.held_out)) for lists in days]
    repeated, taken = _found(fitted_on, (PAST, PERSONAL))
    if taken and repeated >= REPEATS_FROM * taken:
        return REPEATS
    lately, taken = _found(fitted_on, (POPULAR_LATELY, TRENDING))
    all_the_time, taken_too = _found(fitted_on, (MOST_POPULAR,))
    is_known = taken and taken_too
    return STEADY if is_known and all_the_time >= lately else NO_REPEATS


def _found(days: Sequence[DayLists], names: Sequence[str]) -> tuple[int, int]:
    """How many of the items taken the first of some sources that is there lists, and how many were
    taken on the days that have one.
    """
    found = 0
    taken = 0
    for lists in days:
        name = next((name for name in names if name in lists.lists), None)
        if name:
            found += int(contains(lists.taken, lists.lists[name].items).sum())
            taken += int(distinct(lists.taken).sum())
    return found, taken


def prior_weights(sources: Sequence[str], kind: str) -> np.ndarray:
    """[S] float64 with the sum 1.

    Sources that know the same share its weight. Any other that was not measured only fills up what
    the others leave.
    """
    alike = [_LIKE.get(name, name) for name in sources]
    weights = np.array([WEIGHTS[kind].get(name, FILL_WEIGHT) / alike.count(name) for name in alike])
    shares: np.ndarray = weights / weights.sum()
    return shares
