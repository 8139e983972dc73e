"""Lists in the order of a version's ranker, and why each item is where it is.

B queries, S sources, K places of a list.
"""

from typing import NamedTuple

import numpy as np

from serving.version.loaded_version import Version
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker, rank_candidates
from twinspire_core.ranking.ranking_features import RankingFeatures
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries

_NAMED = 3
"""Features that an item's place is explained by."""


class Reason(NamedTuple):
    """A feature that moved an item.

    Attributes:
      feature: its name.
      value: of the item; None where it is not known.
      contribution: what it added to the score; below 0 it moved the item down.
      text: what the value says, in plain words.
    """

    feature: str
    value: float | None
    contribution: float
    text: str


Reasons = list[list[Reason]]
"""Of each item of a list, the features that moved it most, the strongest first; none of an item
that no source listed, which fills up the list."""


class RankedLists(NamedTuple):
    """Lists for B queries.

    Attributes:
      rows: [B, K] int64, best first, -1 behind the end.
      scores: [B, K] float32, the ranker's; popular items that fill up a list have its lowest.
      shares: [B, K, S] float32, how near to the top of each source's list the item is.
      values: [B, K, F] float32, features of the items, NaN of those that fill up a list; None where
        they were not asked for.
    """

    rows: np.ndarray
    scores: np.ndarray
    shares: np.ndarray
    values: np.ndarray | None


def retrieve_ranked(
    version: Version,
    sources: CandidateSources,
    queries: Queries,
    vectors: np.ndarray,
    k: int,
    exclude: Ragged | None,
    *,
    length: int,
    explain: bool,
) -> RankedLists:
    """The best k candidates of each query, filled up with popular items.

    Args:
      version: what answers.
      sources: of its corpus.
      queries: B; with the two-tower's lists, of which nothing is excluded, where the ranker uses it.
      vectors: [B, D] float32, the query tower's.
      k: how many.
      exclude: B lists of what must not be listed.
      length: how far the lists are given, where that is beyond k.
      explain: whether the features are wanted.
    """
    ranker = version.ranker
    features = version.ranking_features
    assert ranker is not None and features is not None, "of `Version.choose_source`"
    vectors_of = Vectors(queries=vectors, items=version.index.vectors)
    ranked = rank_candidates(ranker, features, sources, queries, k, vectors=vectors_of, threads=1)
    chosen = ranked.best(length, exclude)
    rows = sources.filled(ranked.items(chosen), length, exclude=exclude)
    listed = chosen >= 0
    # The pair -1, which is none, reads what is appended.
    scores = np.append(ranked.scores, np.float32(np.inf))[chosen]
    lowest = scores.min(axis=1, initial=np.inf, keepdims=True)
    lowest[~listed.any(axis=1)] = 0
    gains = np.append(ranked.pairs.gains, np.zeros((1, len(ranker.sources)), np.float32), axis=0)
    values = None
    if explain:
        none = np.full((1, len(ranker.names)), np.nan, np.float32)
        values = np.append(ranked.values, none, axis=0)[chosen]
    return RankedLists(rows, np.where(listed, scores, lowest), gains[chosen], values)


class Explanations(NamedTuple):
    """Why a ranker has items where they are, made when somebody asks: it takes longer for one item than
    to rank a hundred.

    Attributes:
      version: what answers.
      values: [B, K, F] float32, features of the items.
      is_ranked: [B, K] bool, items that the ranker has put where they are.
    """

    version: Version
    values: np.ndarray
    is_ranked: np.ndarray

    def of(self, query: int, places: slice = slice(None)) -> Reasons:
        """What moved the items in some places of a list."""
        ranker = self.version.ranker
        features = self.version.ranking_features
        assert ranker is not None and features is not None, "of `Version.choose_source`"
        is_ranked = self.is_ranked[query, places]
        values = self.values[query, places][is_ranked]
        reasons: Reasons = [[] for _ in is_ranked]
        if not len(values):
            return reasons
        added = ranker.contributions(values)
        strongest = np.argsort(-np.abs(added), axis=1, kind="stable")[:, :_NAMED]
        for row, place in enumerate(np.flatnonzero(is_ranked)):
            reasons[place] = [
                _reason(ranker, features, int(column), values[row, column], added[row, column])
                for column in strongest[row]
                if added[row, column] != 0
            ]
        return reasons


def _reason(
    ranker: Ranker, features: RankingFeatures, column: int, value: float, added: float
) -> Reason:
    name = ranker.names[column]
    return Reason(
        feature=name,
        value=None if np.isnan(value) else float(value),
        contribution=float(added),
        text=features.describe(name, float(value), ranker.sources),
    )
