"""Fits what orders candidates, on rows of earlier days: the fixed order
(twinspire_core/fusion/rank_fusion.py), by the kind of the log and the half-life of `popular` that
serves best; and the ranker, LightGBM's LambdaMART.

Source: Burges, *From RankNet to LambdaRank to LambdaMART: An Overview*, MSR-TR-2010-82.

M candidates, F features.
"""

from collections.abc import Mapping, Sequence

import lightgbm
import numpy as np

from model.ranking.candidate_rows import RankingRows, without_towers
from twinspire_core.config.source_registry import HISTORY, TWO_TOWER
from twinspire_core.contracts.day_metrics import RankerFit
from twinspire_core.contracts.ranker_files import FORMAT, RankerFile
from twinspire_core.fusion.rank_fusion import DEPTH, NEITHER, REPEATS, STEADY
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.popular_and_history import HALF_LIVES
from twinspire_core.sources.source import POPULAR_HALF_LIFE

REPEATS_FROM = 0.1
"""Share of the items taken from which on a log is one of repeats."""
_USERS_OF_A_HALF_LIFE = 100
"""Users of all days from whom on a half-life is chosen."""
# Features, as twinspire_core/ranking/groups/ calls them
_HISTORY = (f"place:{HISTORY}",)
_ALL_THE_TIME, _LATELY = "popular", "lately"
_BY_HALF_LIFE = {name: f"trending:{name}" for name in HALF_LIVES}
LEAST_USERS = 300
"""Users of all days, each counted on each day, from whom on a ranker is fitted."""
_LEARNING_RATE = 0.05
_MOST_TREES = 400
_AT_ONCE = 4
"""The number of trees is chosen with trees that each count as so many: so many times as fast."""
_PATIENCE = 16
"""Such trees that may pass without any being better: then no more are tried."""
_SMOOTHED = 5
"""Such trees whose orders are judged together: the judges are few, and one tree may be lucky."""
_JUDGES = 500
"""Users of the newest days by whom the number of trees is chosen."""
_JUDGES_SHARE = 0.2
"""The most of all rows that may be theirs."""
_FIRST = 10
"""Items of a list that people look at first."""
_LEAVES = 31
"""LightGBM's own number; a list of candidates takes 150 such trees a millisecond or two."""
_LEAST_ROWS_OF_A_LEAF = 50
_DATA = {"max_bin": 127, "verbose": -1}


def kind_of_log(days: Sequence[RankingRows], *, exclude_seen: bool) -> str:
    """Which weights a log needs: one of `rank_fusion.WEIGHTS`.

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
    have_both = len(gains) == 2
    return STEADY if have_both and gains[_ALL_THE_TIME] >= gains[_LATELY] else NEITHER


def choose_half_life(days: Sequence[RankingRows]) -> str:
    """The half-life by which most of what was taken comes first; the usual one of too few users."""
    gains = _gains(days, tuple(_BY_HALF_LIFE.values()))
    by_half_life = {
        name: gains[column] for name, column in _BY_HALF_LIFE.items() if column in gains
    }
    if (
        POPULAR_HALF_LIFE not in by_half_life
        or sum(rows.queries for rows in days) < _USERS_OF_A_HALF_LIFE
    ):
        return POPULAR_HALF_LIFE
    return max(by_half_life, key=lambda name: (by_half_life[name], name == POPULAR_HALF_LIFE))


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


def fit_ranker(
    days: Sequence[RankingRows],
    sources: Sequence[str],
    names: Sequence[str],
    *,
    metric: str,
    k: int,
    seed: int,
) -> Ranker | None:
    """A ranker; None of fewer than `LEAST_USERS` users, or of so few rows that no tree splits: all
    candidates would have one score.

    Args:
      days: rows of each, newest first.
      sources: whose candidates will be ranked.
      names: of the features that can be made now: what older rows have besides could not be served.
      metric: that the lists are judged by, for the record.
      k: length of the lists: what comes behind them counts for nothing.
    """
    queries = sum(rows.queries for rows in days)
    if queries < LEAST_USERS:
        return None
    data = _dataset(days, names)
    trees = _choose_trees(data, _judging_rows(days), _parameters(k, seed))
    booster = lightgbm.train(_parameters(k, seed), data, trees)
    gains = booster.feature_importance("gain")
    if not gains.any():
        return None
    shares = gains / gains.sum()
    largest_first = np.argsort(-shares, kind="stable")
    described = RankerFile(
        format=FORMAT,
        sources=tuple(sources),
        features=tuple(names),
        untimed=any(rows.by_history.any() for rows in days),
        fitted=RankerFit(
            days=sorted(str(rows.day) for rows in days),
            queries=queries,
            rows=data.num_data(),
            metric=metric,
            importance={names[n]: round(float(shares[n]), 5) for n in largest_first},
        ),
    )
    return Ranker(booster.model_to_string(), described)


def sources_to_rank(days: Sequence[RankingRows], sources: Sequence[str]) -> list[str]:
    """The sources whose candidates a ranker can order: without the two-tower until `LEAST_USERS` users
    have rows with towers. Replayed days have none.

    Args:
      days: rows that it is fitted on.
      sources: those of the pipeline file.
    """
    if sum(rows.queries for rows in days if TWO_TOWER in rows.sources) < LEAST_USERS:
        return without_towers(sources)
    return list(sources)


def _dataset(days: Sequence[RankingRows], names: Sequence[str]) -> lightgbm.Dataset:
    values = np.empty((len(names), sum(len(rows.taken) for rows in days)), np.float32).T
    begin = 0
    # Day by day: two copies of all values would not fit in what a stage may take.
    for rows in days:
        values[begin : begin + len(rows.taken)] = rows.of_names(names)
        begin += len(rows.taken)
    data = lightgbm.Dataset(
        values,
        np.concatenate([rows.taken for rows in days]).astype(np.int8),
        weight=np.concatenate([rows.weights for rows in days]),
        group=np.concatenate([rows.lengths for rows in days]),
        feature_name=[f"f{number}" for number in range(len(names))],
        params=_DATA,
        free_raw_data=True,
    )
    return data.construct()


def _judging_rows(days: Sequence[RankingRows]) -> int:
    """How many rows, of the newest, choose the number of trees: whole days until there are `_JUDGES`
    users. Where the newest day alone is more than its share, these are its first queries.
    """
    most = _JUDGES_SHARE * sum(len(rows.taken) for rows in days)
    users, judging = 0, 0
    for rows in days:
        if users >= _JUDGES or judging + len(rows.taken) > most:
            break
        users += rows.queries
        judging += len(rows.taken)
    if not judging:
        ends = np.cumsum(days[0].lengths)
        judging = int(ends[ends <= most].max(initial=0))
    return judging


def _choose_trees(data: lightgbm.Dataset, judging: int, parameters: dict[str, object]) -> int:
    """The number of trees that orders the newest rows best, fitted on all others."""
    if not judging:
        return _MOST_TREES // 4
    # Every query judges alike: weights are of candidates.
    judges = data.subset(list(range(judging))).construct().set_weight(None)
    others = data.subset(list(range(judging, data.num_data())))
    recorded: dict[str, dict[str, list[float]]] = {}
    lightgbm.train(
        {**parameters, "learning_rate": _LEARNING_RATE * _AT_ONCE},
        others,
        _MOST_TREES // _AT_ONCE,
        valid_sets=[judges],
        callbacks=[
            lightgbm.record_evaluation(recorded),
            lightgbm.early_stopping(_PATIENCE, verbose=False),
        ],
    )
    (measured,) = recorded.values()
    gains = np.pad(np.sum(list(measured.values()), axis=0), _SMOOTHED // 2, mode="edge")
    smoothed = np.convolve(gains, np.ones(_SMOOTHED), mode="valid")
    return _AT_ONCE * (int(np.argmax(smoothed)) + 1)


def _parameters(k: int, seed: int) -> dict[str, object]:
    return {
        **_DATA,
        "objective": "lambdarank",
        # The hardest candidates are all there: the first k of the rows are the first k of the list.
        "lambdarank_truncation_level": k,
        "metric": "ndcg",
        "eval_at": sorted({_FIRST, k}),
        "learning_rate": _LEARNING_RATE,
        "num_leaves": _LEAVES,
        "min_data_in_leaf": _LEAST_ROWS_OF_A_LEAF,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        # The same trees on any machine, with any number of cores.
        "deterministic": True,
        "force_row_wise": True,
    }
