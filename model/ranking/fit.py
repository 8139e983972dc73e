"""Fits a ranker: LightGBM's LambdaMART on candidates of earlier days.

Source: Burges, *From RankNet to LambdaRank to LambdaMART: An Overview*, MSR-TR-2010-82.
"""

from collections.abc import Sequence

import lightgbm
import numpy as np

from model.ranking.ranking_rows import RankingRows
from twinspire_core.contracts.ranker_file import FORMAT, RankerFile, RankerFit
from twinspire_core.ranking.ranker import Ranker

_LEARNING_RATE = 0.05
_TREES = 150
_LEAVES = 31
"""LightGBM's own number; a list of candidates takes 150 such trees a millisecond or two."""
_LEAST_ROWS_OF_A_LEAF = 50


def fit_ranker(
    days: Sequence[RankingRows],
    names: Sequence[str],
    min_users: int,
    *,
    metric: str,
    k: int,
    seed: int,
) -> Ranker | None:
    """A ranker; None where fewer than `min_users` queries are there, or so few rows that no
    tree splits: all candidates would have one score.

    Args:
      days: newest first, of the same sources.
      names: of the features that can be made now: what rows of before have besides is not served.
      min_users: `ranking.min_users`.
      metric: that the lists are judged by, for the record.
      k: length of the lists: what comes behind them counts for nothing.
      seed: of all chance.
    """
    queries = sum(rows.queries for rows in days)
    if queries < min_users or not days:
        return None
    values = np.concatenate([rows.of_names(names) for rows in days])
    taken = np.concatenate([rows.taken for rows in days])
    data = lightgbm.Dataset(
        values,
        taken.astype(np.int8),
        group=np.concatenate([rows.lengths for rows in days]),
        feature_name=[f"f{number}" for number in range(len(names))],
        free_raw_data=True,
    )
    booster = lightgbm.train(_parameters(k, seed), data, _TREES)
    gains = booster.feature_importance("gain")
    if not gains.any():
        return None
    shares = gains / gains.sum()
    largest_first = np.argsort(-shares, kind="stable")
    described = RankerFile(
        format=FORMAT,
        sources=days[0].sources,
        features=tuple(names),
        untimed=any(rows.by_history.any() for rows in days),
        fitted=RankerFit(
            days=sorted(str(rows.day) for rows in days),
            queries=queries,
            rows=len(taken),
            metric=metric,
            importance={names[n]: round(float(shares[n]), 5) for n in largest_first},
        ),
    )
    return Ranker(booster.model_to_string(), described)


def _parameters(k: int, seed: int) -> dict[str, object]:
    return {
        "objective": "lambdarank",
        "lambdarank_truncation_level": k,
        "learning_rate": _LEARNING_RATE,
        "num_leaves": _LEAVES,
        "min_data_in_leaf": _LEAST_ROWS_OF_A_LEAF,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        # The same trees on any machine, with any number of cores.
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
