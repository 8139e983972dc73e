import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.contracts.ranker_files import RankerFile
from twinspire_core.fusion.rank_fusion import DEPTH
from twinspire_core.ranking.ranker import Ranker, RankingFeatures, rank_candidates
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries, ScoredLists

ITEMS = 900
SOURCES = ("two_tower", "history")
FEATURES = ("place:two_tower", "score:two_tower", "sources", "gain")


@pytest.fixture(scope="module")
def last_first():
    """A ranker that puts first what the sources have last."""
    gain = np.linspace(0, 2, 400, dtype=np.float32)
    rows = np.stack([np.full(400, DEPTH), np.full(400, np.nan), np.ones(400), gain], axis=1)
    options = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1, "num_threads": 1}
    trees = lightgbm.train(options, lightgbm.Dataset(rows, -gain), 60)
    described = RankerFile(sources=SOURCES, features=FEATURES)
    return Ranker(trees.model_to_string(), described)


def ranked(ranker, k):
    """Of two users, whose lists are 700 items by chance."""
    counts = {"_popular": np.arange(ITEMS)[::-1], "_lately": np.zeros(ITEMS, np.int64)}
    sources = CandidateSources.of(pa.table({"_item": [f"i{n:03}" for n in range(ITEMS)]} | counts))
    rng = np.random.default_rng(0)
    given = {
        name: ScoredLists.by_place(np.stack([rng.permutation(ITEMS)[:700] for _ in range(2)]))
        for name in SOURCES
    }
    nothing = np.zeros(0, np.int64)
    queries = Queries.of_past(Ragged(nothing, nothing, 2)).with_given(given)
    features = RankingFeatures.of(sources.tables)
    lists = rank_candidates(ranker, features, sources, queries, k)
    return lists.items(lists.best(k)), lists


@pytest.mark.parametrize("k", [200, 500])
def test_a_longer_list_begins_as_a_shorter_one(last_first, k):
    short, of_short = ranked(last_first, 50)
    long, of_long = ranked(last_first, k)
    assert long[:, :50].tolist() == short.tolist()
    assert len(of_long.pairs) > len(of_short.pairs), "more candidates"
    chosen = of_long.scores[of_long.best(k)]
    assert (np.diff(chosen, axis=1) <= 0).all()
    assert all(len(set(items)) == k for items in long.tolist()), "each item once"


def test_features_of_the_same_candidates_are_the_same(last_first):
    _, short = ranked(last_first, 50)
    _, long = ranked(last_first, 500)
    place = long.pairs.find(short.pairs.query, short.pairs.item)
    np.testing.assert_array_equal(long.values[place], short.values)
    others = np.setdiff1d(np.arange(len(long.pairs)), place)
    assert np.unique(long.values[others], axis=0).tolist()[0][0] == DEPTH
    np.testing.assert_array_equal(long.values[others][:, 2:], 0)


def test_what_is_left_out_changes_nothing_of_the_others(last_first):
    """Places in lists, which trees go by, are those of whole lists."""
    kept, lists = ranked(last_first, 50)
    left_out = Ragged(np.append(kept[0, :20], kept[1, 7]), np.repeat([0, 1], [20, 1]), 2)
    shorter = lists.items(lists.best(30, left_out))
    assert shorter[0].tolist() == kept[0, 20:].tolist()
    assert shorter[1].tolist() == np.delete(kept[1], 7)[:30].tolist()
