"""Values of ranking features, worked out by hand."""

import numpy as np
import pyarrow as pa

from twinspire_core.fusion.fuse import DEPTH
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.personal_counts import HALF_LIVES, PersonalCounts
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.source import SourceTables

LISTS = {
    "past": ScoredLists(np.array([[2, 0], [-1, -1]]), np.array([[1.0, 0.5], [-np.inf, -np.inf]])),
    "trending": ScoredLists(np.array([[0, 1], [0, 1]]), np.array([[9.0, 4.0], [9.0, 4.0]])),
}
# The first user had item 2 three times, long ago, and item 0 once, yesterday.
PERSONAL = PersonalCounts(
    entries=Ragged(np.arange(3), np.zeros(3, np.int64), 2),
    item=np.array([2, 0, -1]),
    counts=dict.fromkeys(HALF_LIVES, np.array([3.0, 1.0, 4.0], np.float32)),
    age=np.array([30.0, 1.0, 2.0], np.float32),
)
CORPUS = pa.table({"_item": ["a", "b", "c"], "_popular": [7, 3, 0], "_lately": [2, 3, 0]})


def _value(name):
    past = Ragged(np.array([2, 0]), np.zeros(2, np.int64), 2)
    queries = Queries(past=past, events=np.array([8, 0]), personal=PERSONAL)
    pairs = Pairs.of(LISTS, queries, 3)
    features = RankingFeatures.of(SourceTables(corpus=CORPUS))
    values = features.values(pairs, [name])[:, 0]
    found = zip(pairs.query.tolist(), pairs.item.tolist(), values.tolist(), strict=True)
    return {(query, item): value for query, item, value in found}


def test_the_place_in_a_list():
    assert _value("place:past") == {
        (0, 0): 1,
        (0, 1): DEPTH,
        (0, 2): 0,
        (1, 0): DEPTH,
        (1, 1): DEPTH,
    }


def test_the_score_in_a_list_is_missing_where_the_list_lacks_the_item():
    found = _value("score:trending")
    assert found[0, 0] == 9
    assert found[1, 1] == 4
    assert np.isnan(found[0, 2])


def test_how_many_sources_agree():
    assert _value("sources") == {(0, 0): 2, (0, 1): 1, (0, 2): 1, (1, 0): 1, (1, 1): 1}


def test_what_the_user_had_before():
    assert _value("personal:7d") == {(0, 0): 1, (0, 1): 0, (0, 2): 3, (1, 0): 0, (1, 1): 0}


def test_days_since_the_user_had_it_are_missing_for_what_is_new():
    found = _value("personal_age")
    assert found[0, 2] == 30
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 0])


def test_the_share_counts_what_is_no_longer_in_the_corpus():
    assert _value("personal_share")[0, 2] == np.float32(3 / 8)


def test_popularity_is_a_logarithm():
    found = _value("popular")
    assert found[1, 0] == np.float32(np.log(8))
    assert found[0, 2] == 0


def test_a_feature_that_cannot_be_made_is_missing():
    assert all(np.isnan(value) for value in _value("trending:7d").values())
    assert all(np.isnan(value) for value in _value("no such feature").values())
