"""Lists of sources for a day; and what lists without seen items leave out: also what users had before
their pasts begin, which `personal` counts and nothing else knows.
"""

from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.day_queries import HELD_OUT, NEXT_DAY
from model.evaluation.evaluation_set import DayData, prepare, prepare_whole
from model.evaluation.ranked_lists import (
    DayLists,
    VersionLists,
    costly_lists,
    rank_baselines,
    rank_encoded,
)
from twinspire_core.config.source_registry import MOST_POPULAR, POPULAR_LATELY
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.user_histories import PersonalCounts

TODAY, YESTERDAY = date(2024, 5, 20), date(2024, 5, 19)
CORPUS = pa.table({"_item": ["a", "b", "c"], "_popular": [3, 2, 1], "_lately": [3, 2, 1]})
# a and c were taken together: by the very users of yesterday, as far as today's table knows.
TOGETHER = pa.table(
    {"_item": ["a"], "_rows": pa.array([[2]], pa.list_(pa.int32())), "_similarities": [[0.5]]}
)
EVALUATION = EvaluationConfig(ks=(2,))


def asked(*days: date):
    strings = pa.list_(pa.string())
    rows = {
        "_user": [f"u{n}" for n in range(len(days))],
        "_day": pa.array(days, pa.date32()),
        "_truth": pa.array([["c"]] * len(days), strings),
        "_past": pa.array([["a"]] * len(days), strings),
        "_past_events": [1] * len(days),
    }
    return prepare_whole(pa.table(rows), CORPUS)


@pytest.mark.parametrize(
    ("held", "there"),
    [((TODAY, TODAY), True), ((TODAY, YESTERDAY), False), ((TODAY - timedelta(days=6),), False)],
)
def test_co_occurrence_is_not_held_against_users_whose_answers_it_counts(held, there):
    ctx = SimpleNamespace(day=TODAY, pipeline=SimpleNamespace(evaluation=EVALUATION))
    evaluation_sets = {NEXT_DAY: asked(TODAY), HELD_OUT: asked(*held)}
    day = DayData(corpus=CORPUS, evaluation_sets=evaluation_sets, events=CORPUS.slice(0, 0))
    sources = CandidateSources.of(CORPUS, {"co_occurrence": TOGETHER})
    costly = {name: costly_lists(sources, asks, 2) for name, asks in evaluation_sets.items()}
    nothing = VersionLists()
    lists = DayLists(before=nothing, best=None, version=nothing, sources=sources, costly=costly)
    baselines = lists.of_sources(ctx, day)
    assert baselines[NEXT_DAY]["co_occurrence"].kept.tolist() == [[2, 0]], "0 is popular"
    assert (HELD_OUT in baselines) == there


ITEMS, K = 60, 5
COUNTED = np.array([[0, 1, 2, 7], [3, 4, 5, 6]])
"""Items of two users; the first of them has item 1 in the past, too."""


@pytest.fixture
def two_users():
    """The queries of the two users. The most popular items come first."""
    events = list(range(ITEMS, 0, -1))
    corpus = pa.table({"_item": [str(n) for n in range(ITEMS)], "_popular": events})
    corpus = corpus.append_column("_lately", corpus["_popular"])
    rows = {"_user": ["u", "v"], "_truth": [["9"]] * 2, "_past": [["1"], []]}
    strings = pa.list_(pa.string())
    columns = {"_user": pa.string(), "_truth": strings, "_past": strings}
    counted = Ragged(COUNTED.ravel(), np.repeat([0, 1], 4), 2)
    made = prepare(pa.table(rows, pa.schema(columns)), corpus)
    return replace(made, personal=PersonalCounts.of_histories(counted))


def unseen(order):
    """The first items of an order that neither user had."""
    return [[item for item in order if item not in had][:K] for had in COUNTED]


def test_towers_list_nothing_that_was_seen(two_users):
    """Both users ask for the same, and had different items."""
    order = np.random.default_rng(1).permutation(10).tolist()
    items = np.full((ITEMS, 1), -1, np.float32)
    items[order, 0] = np.linspace(1, 0.1, 10)
    place = {"day": np.zeros(2, np.int64)}
    encoded = Encoded(distinct=np.ones((1, 1), np.float32), place=place, items=items)
    ranked = rank_encoded(encoded, {"day": two_users}, K)["day"]
    assert ranked.kept.tolist() == [order[:K]] * 2
    assert ranked.excluded.tolist() == unseen(order)


def test_baselines_list_nothing_that_was_seen(two_users):
    baselines = rank_baselines(two_users, K)
    for ranked in (baselines[MOST_POPULAR], baselines[POPULAR_LATELY]):
        assert ranked.kept.tolist() == [list(range(K))] * 2
        assert ranked.excluded.tolist() == unseen(range(ITEMS))
