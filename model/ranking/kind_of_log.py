"""What the fixed order (twinspire_core/fusion/fixed_order.py) needs to know of a log, told by rows that
rankers are fitted on: its kind, and the half-life of `popular` that serves best.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from model.ranking.ranking_rows import RankingRows
from twinspire_core.config.source_names import HISTORY
from twinspire_core.fusion.candidate_pool import DEPTH
from twinspire_core.fusion.fixed_order import NEITHER, REPEATS, STEADY
from twinspire_core.sources.popular import HALF_LIVES
from twinspire_core.sources.source import HALF_LIFE

REPEATS_FROM = 0.1
"""Share of the items taken from which on a log is one of repeats."""
LEAST_USERS = 100
"""Users of all days from whom a half-life is chosen."""
# Features, as twinspire_core/ranking/groups/ calls them
_HISTORY = (f"place:{HISTORY}",)
_ALL_THE_TIME, _LATELY = "popular", "lately"
_BY_HALF_LIFE = {name: f"trending:{name}" for name in HALF_LIVES}


def kind_of_log(days: Sequence[RankingRows], *, exclude_seen: bool) -> str:
    """Which weights a log needs: one of `fixed_order.WEIGHTS`.

    Args:
      days: candidates of users, and which of these they took.
      exclude_seen: whether lists are without what the users had before: then nothing is repeated.
    """
    taken, repeated = 0, 0
    for rows in days:
        taken += int(np.count_nonzero(rows.taken))
        places = rows.of_names(_HISTORY)[rows.taken]
        repeated += int(np.count_nonzero((places < DEPTH).any(axis=1)))
    if taken and repeated >= REPEATS_FROM * taken and not exclude_seen:
        return REPEATS
    gains = _gains(days, (_ALL_THE_TIME, _LATELY))
    is_known = len(gains) == 2
    return STEADY if is_known and gains[_ALL_THE_TIME] >= gains[_LATELY] else NEITHER


def choose_half_life(days: Sequence[RankingRows]) -> str:
    """The half-life by which most of what was taken comes first; the usual one of too few users."""
    gains = _gains(days, tuple(_BY_HALF_LIFE.values()))
    known = {name: gains[column] for name, column in _BY_HALF_LIFE.items() if column in gains}
    if HALF_LIFE not in known or sum(rows.queries for rows in days) < LEAST_USERS:
        return HALF_LIFE
    return max(known, key=lambda name: (known[name], name == HALF_LIFE))


def _gains(days: Sequence[RankingRows], names: Sequence[str]) -> Mapping[str, float]:
    """How early what was taken stands, if one feature orders the candidates of each query: the sum
    over queries of the mean of 1 / log2(2 + place). Features that are missing anywhere are left out.
    """
    gains = dict.fromkeys(names, 0.0)
    for rows in days:
        query = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
        for name, values in zip(names, rows.of_names(names).T, strict=True):
            if np.isnan(values).any():
                gains[name] = np.nan
            # Of equal values the one that was not taken comes first: a constant finds nothing.
            order = np.lexsort((rows.taken, -values, query))
            # Each candidate takes up as many places as it stands for.
            behind = np.cumsum(rows.weights[order], dtype=np.float64)
            before = behind - rows.weights[order]
            start = before[np.searchsorted(query, query)]
            is_taken = rows.taken[order]
            discount = is_taken / np.log2(2 + before - start)
            of_query = np.bincount(query, weights=discount) / np.bincount(query, weights=is_taken)
            gains[name] += float(of_query.sum())
    return {name: gain for name, gain in gains.items() if days and not np.isnan(gain)}
