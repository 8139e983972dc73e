"""Fits the fixed order and the ranker on rows of earlier days.

The fixed order (twinspire_core/fusion/rank_fusion.py) has two choices: the kind of log and the half-life of
the source `popular`. The ranker is LightGBM's LambdaMART.

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
"""If this share of the taken items is from the user's history, the log is one of repeats."""
# A half-life is chosen if there are at least this many users on all days.
_USERS_OF_A_HALF_LIFE = 100
# Names of features, as in twinspire_core/ranking/groups/
_HISTORY = (f"place:{HISTORY}",)
_ALL_THE_TIME, _LATELY = "popular", "lately"
_BY_HALF_LIFE = {name: f"trending:{name}" for name in HALF_LIVES}
LEAST_USERS = 300
"""A ranker is fitted if there are at least this many users; a user counts once on each day."""
_LEARNING_RATE = 0.05
_MOST_TREES = 400
# The number of trees is chosen with steps this many times larger, which is as many times faster.
_AT_ONCE = 4
# The search for this number ends after this many larger steps without an improvement.
_PATIENCE = 16
# The gains of this many steps are averaged, because there are few judging users and one step may
# be lucky.
_SMOOTHED = 5
# Users of the newest days who judge the number of trees.
_JUDGES = 500
# The largest share of all rows that may be theirs.
_JUDGES_SHARE = 0.2
# Items of a list that people see first.
_FIRST = 10
# LightGBM's default. With 150 such trees, it takes a millisecond or two to rank a list of
# candidates.
_LEAVES = 31
_LEAST_ROWS_OF_A_LEAF = 50
_DATA = {"max_bin": 127, "verbose": -1}


def kind_of_log(days: Sequence[RankingRows], *, exclude_seen: bool) -> str:
    """Which weights a log needs: one of `rank_fusion.WEIGHTS`.

    Args:
      exclude_seen: whether lists leave out items that the user had before. Then no item is repeated.
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
    """The half-life of `popular` that puts taken items first most often; the default with too few users."""
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
    """How early taken items come if one feature orders the candidates of each query: the sum over queries
    of the mean of 1 / log2(2 + place). Features with missing values are left out.
    """
    gains = dict.fromkeys(names, 0.0)
    for rows in days:
        query = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
        for name, values in zip(names, rows.of_names(names).T, strict=True):
            if np.isnan(values).any():
                gains[name] = np.nan
            # Among equal values, items that were not taken come first, so a constant gains nothing.
            order = np.lexsort((rows.taken, -values, query))
            # A sampled candidate takes as many places as the candidates that it stands for.
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
    """Fits a ranker; None with fewer than `LEAST_USERS` users, or with so few rows that no tree splits and
    all candidates would have the same score.

    Args:
      days: rows of each day, newest first.
      sources: sources whose candidates will be ranked.
      names: features that can be made now. Older rows may have others, which could not be served.
      metric: the measure of quality, for the record.
      k: length of the lists. Items after it do not count.
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
    """The sources whose candidates a ranker can order. Until `LEAST_USERS` users have rows with candidates
    of the two-tower, it is left out: replayed days have none.

    Args:
      days: rows that the ranker is fitted on.
      sources: the sources of the pipeline file.
    """
    if sum(rows.queries for rows in days if TWO_TOWER in rows.sources) < LEAST_USERS:
        return without_towers(sources)
    return list(sources)


def _dataset(days: Sequence[RankingRows], names: Sequence[str]) -> lightgbm.Dataset:
    values = np.empty((len(names), sum(len(rows.taken) for rows in days)), np.float32).T
    begin = 0
    # Copied day by day, because memory has no room for two copies of all values.
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
    """The number of newest rows that judge the number of trees: whole days, until there are `_JUDGES`
    users. If the newest day alone has more than `_JUDGES_SHARE` of all rows, only its first queries.
    """
    most = _JUDGES_SHARE * sum(len(rows.taken) for rows in days)
    users, judging = 0, 0
    for rows in days:
        if users >= _JUDGES or judging + len(rows.taken) > most:
            break
        users += rows.queries
        judging += len(rows.taken)
    if not judging:
        # Whole queries, since an order is judged within a query.
        ends = np.cumsum(days[0].lengths)
        judging = int(ends[ends <= most].max(initial=0))
    return judging


def _choose_trees(data: lightgbm.Dataset, judging: int, parameters: dict[str, object]) -> int:
    """The number of trees that orders the newest rows best after fitting on all others."""
    if not judging:
        return _MOST_TREES // 4
    # Judging queries count equally: the weights are those of sampled candidates.
    judges = data.subset(list(range(judging))).construct().set_weight(None)
    fitting = data.subset(list(range(judging, data.num_data())))
    recorded: dict[str, dict[str, list[float]]] = {}
    lightgbm.train(
        {**parameters, "learning_rate": _LEARNING_RATE * _AT_ONCE},
        fitting,
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
        # Sampling keeps the hardest candidates, so the first k rows are also the first k of the list.
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
        # For the same trees on any machine, with any number of cores.
        "deterministic": True,
        "force_row_wise": True,
    }
