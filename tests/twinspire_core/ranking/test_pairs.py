import numpy as np

from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists

ITEMS = 12


def _lists(rng, queries, depth):
    items = np.full((queries, depth), -1, np.int64)
    for query in range(queries):
        length = rng.integers(depth + 1)
        items[query, :length] = rng.permutation(ITEMS)[:length]
    return ScoredLists.by_place(items)


def _pairs(seed, queries=7):
    rng = np.random.default_rng(seed)
    lists = {name: _lists(rng, queries, 4) for name in ("a", "b")}
    nothing = np.zeros(0, np.int64)
    return Pairs.of(lists, Queries.of_past(Ragged(nothing, nothing, queries)), ITEMS)


def test_each_listed_item_is_a_candidate_once():
    pairs = _pairs(1)
    wanted = [
        (query, item)
        for query in range(len(pairs.queries))
        for item in sorted(
            {int(i) for lists in pairs.lists.values() for i in lists.items[query] if i >= 0}
        )
    ]
    assert list(zip(pairs.query.tolist(), pairs.item.tolist(), strict=True)) == wanted


def test_known_pairs_are_looked_up_and_others_are_not():
    pairs = _pairs(2)
    known = {
        (int(q), int(i)): n for n, (q, i) in enumerate(zip(pairs.query, pairs.item, strict=True))
    }
    query, item = np.meshgrid(np.arange(7), np.arange(-1, ITEMS))
    places = pairs.find(query.ravel(), item.ravel())
    for q, i, place in zip(query.ravel(), item.ravel(), places, strict=True):
        assert place == known.get((int(q), int(i)), -1)


def test_lists_are_the_best_by_score_and_end_where_candidates_do():
    pairs = _pairs(3)
    scores = np.random.default_rng(0).integers(3, size=len(pairs)).astype(np.float32)
    best = pairs.best(scores, 5)
    for query in range(len(pairs.queries)):
        of_query = np.flatnonzero(pairs.query == query)
        order = sorted(of_query, key=lambda n: (-scores[n], pairs.item[n]))[:5]
        assert best[query].tolist() == order + [-1] * (5 - len(order))
