"""Rows of one day: candidates of its users as of its start, and what they took of them. Days that were
lived through and days that are replayed (model/ranking/replay.py) have theirs of the same function.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.source_lists import SourceLists, queries_with
from model.ranking.ranked_queries import chunks
from model.ranking.ranking_rows import RankingRows, sample_pairs, without_towers
from twinspire_core.contracts.ranking_rows import MOST_OF_A_DAY
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources

ONE_BY_HISTORY_OF = 3
"""Of so many users one is asked for by a history alone too: most requests name their user."""
LEAST_BY_HISTORY = 100
"""Users of a day who are all asked for so: where rows are few, each helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Queries that candidates are listed for.

    Attributes:
      evaluation_set: the queries, with what they took.
      usable: [K] int64, ascending, which of them rows are made of.
      known: lists that are known already, those of the two-tower among them.
      vectors: of all the queries and of the corpus; None where no towers were asked.
      by_history: whether users are asked for by a history alone.
    """

    evaluation_set: EvaluationSet
    usable: np.ndarray
    known: SourceLists
    vectors: Vectors | None
    by_history: bool = False


def trained_users(evaluation_set: EvaluationSet, day: date) -> np.ndarray:
    """Queries of users who were not held out, at most `MOST_OF_A_DAY`: [K] int64, ascending."""
    usable = np.flatnonzero(~evaluation_set.queries.column("_holdout").to_numpy())
    if len(usable) > MOST_OF_A_DAY:
        chance = np.random.default_rng(day.toordinal())
        usable = np.sort(chance.choice(usable, MOST_OF_A_DAY, replace=False))
    return usable


def rows_of_day(
    day: date, names: Sequence[str], sources: CandidateSources, asked: Sequence[Asked]
) -> RankingRows:
    """Candidates with their features, and which of them were taken.

    Args:
      day: the day.
      names: of the sources that candidates come from. Without vectors the two-tower is none of them.
      sources: as of the start of the day.
      asked: one or several kinds of queries, of the same corpus. Of several, those by a history alone are
        thinned out.
    """
    if any(kind.vectors is None for kind in asked):
        names = without_towers(names)
    features = RankingFeatures.of(sources.tables).among(names)
    made = features.names(names)
    lengths = [np.zeros(0, np.int64)]
    by_history = [np.zeros(0, bool)]
    taken = [np.zeros(0, bool)]
    weights = [np.zeros(0, np.float32)]
    values = [np.zeros((0, len(made)), np.float32)]
    for kind in asked:
        usable = kind.usable
        if kind.by_history and len(asked) > 1:
            usable = _some(usable)
        queries = queries_with(kind.evaluation_set, kind.known)
        truth = kind.evaluation_set.truth.take(usable)
        vectors = kind.vectors
        if vectors is not None:
            vectors = Vectors(queries=vectors.queries[usable], items=vectors.items)
        for chunk, part, vectors_of_part in chunks(queries.take(usable), vectors):
            lists = sources.candidates(names, part)
            pairs = Pairs.of(lists, part, kind.evaluation_set.items, vectors_of_part)
            is_taken = _is_taken(pairs, truth.part(chunk.start, chunk.stop))
            kept, stands_for = sample_pairs(pairs, is_taken, day.toordinal() + chunk.start)
            of_query = np.bincount(pairs.query[kept], minlength=len(part))
            lengths.append(of_query[of_query > 0])
            by_history.append(np.full(len(lengths[-1]), kind.by_history))
            taken.append(is_taken[kept])
            weights.append(stands_for)
            values.append(features.values(pairs.some(kept), made))
    return RankingRows(
        day=day,
        sources=tuple(names),
        lengths=np.concatenate(lengths),
        by_history=np.concatenate(by_history),
        taken=np.concatenate(taken),
        weights=np.concatenate(weights),
        names=made,
        values=np.concatenate(values),
    )


def _some(usable: np.ndarray) -> np.ndarray:
    """Those of some users, [K] int64, who are asked for by a history alone too."""
    most = min(len(usable), max(LEAST_BY_HISTORY, len(usable) // ONE_BY_HISTORY_OF))
    return usable[np.arange(most) * len(usable) // max(most, 1)]


def _is_taken(pairs: Pairs, truth: Ragged) -> np.ndarray:
    """Which pairs are of an item that the user took, [M] bool."""
    place = pairs.find(truth.row, truth.values)
    is_taken = np.zeros(len(pairs), bool)
    is_taken[place[place >= 0]] = True
    return is_taken
