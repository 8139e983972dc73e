"""What versions list for a day: its parent and the best accepted version, before the day is trained
on, and the version that is trained on it, for users held out. The lists are made of the vectors that
the train stage left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.evaluation.day_data import HELD_OUT
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, nearest, with_and_without_seen
from twinspire_core.contracts import trained_day
from twinspire_core.contracts.trained_day import Encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentEvaluation:
    """What the parent makes of the day, or a first version before it was trained on the day; empty
    without either.

    Attributes:
      lists: by evaluation set.
      missing_columns: columns that the parent reads and the day does not have, each with the
        reason.
      encoded: the vectors behind the lists; None without any.
    """

    lists: Mapping[str, RankedLists] = field(default_factory=dict)
    missing_columns: Sequence[str] = ()
    encoded: Encoded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BestEvaluation:
    """What the best accepted version lists for users held out, where that is not the parent.

    Attributes:
      lists: of the evaluation set of users held out.
      missing_columns: as those of the parent.
    """

    lists: RankedLists
    missing_columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVersions:
    """What earlier versions list for the day.

    Attributes:
      parent: the day's parent.
      best: the best accepted version; None where that is the parent.
    """

    parent: ParentEvaluation
    best: BestEvaluation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEvaluation:
    """What the day's version makes of users held out of its training.

    Attributes:
      encoded: their queries, and the corpus.
      lists: by evaluation set.
    """

    encoded: Encoded
    lists: Mapping[str, RankedLists]


def rank_earlier(
    train: str,
    trained: trained_day.TrainedDay,
    evaluation_sets: Mapping[str, EvaluationSet],
    depth: int,
    k: int,
) -> EarlierVersions:
    """The lists of versions that have not seen the day.

    Args:
      train: place of the train attempt.
      trained: what it says of them.
      evaluation_sets: of the day.
      depth: length of the parent's lists.
      k: of those of the best accepted version.
    """
    before = Encoded.find(train, trained_day.BEFORE)
    parent = ParentEvaluation()
    if before:
        lists = rank_encoded(before, evaluation_sets, depth)
        parent = ParentEvaluation(
            lists=lists, missing_columns=trained.parent_unread, encoded=before
        )
    best = None
    if (of_best := Encoded.find(train, trained_day.BEST)) and trained.best:
        best = BestEvaluation(
            lists=rank_encoded(of_best, evaluation_sets, k)[HELD_OUT],
            missing_columns=trained.best.unread,
        )
    return EarlierVersions(parent=parent, best=best)


def rank_version(
    train: str, evaluation_sets: Mapping[str, EvaluationSet], depth: int
) -> VersionEvaluation:
    """The lists of the day's version for users held out; arguments as those of `rank_earlier`."""
    encoded = Encoded.find(train, trained_day.VERSION)
    assert encoded is not None, "every train attempt has it"
    return VersionEvaluation(encoded=encoded, lists=rank_encoded(encoded, evaluation_sets, depth))


def rank_encoded(
    encoded: Encoded, evaluation_sets: Mapping[str, EvaluationSet], k: int
) -> dict[str, RankedLists]:
    """Lists of k items, for the evaluation sets that have vectors."""
    # Equal queries of two sets may have seen different items: a query's search must be long enough
    # for whichever excludes most.
    excluded = np.zeros(len(encoded.distinct), np.int64)
    seen = {name: evaluation_sets[name].seen for name in encoded.place}
    for name, place in encoded.place.items():
        np.maximum.at(excluded, place, seen[name].lengths)
    ranked = nearest(encoded.distinct, encoded.items, k, excluded)
    return {
        name: with_and_without_seen(ranked.take(place), seen[name], k)
        for name, place in encoded.place.items()
    }
