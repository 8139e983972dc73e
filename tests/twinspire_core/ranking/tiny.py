"""Two users, three items, and what two sources list for them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from twinspire_core.ranking.pairs import Pairs
from twinspire_core.ranking.ranker import RankingFeatures
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.co_occurrence import SCHEMA
from twinspire_core.sources.source import Queries, ScoredLists, SourceTables
from twinspire_core.sources.user_histories import AGE, DAYS, HALF_LIVES, SPAN, PersonalCounts

LISTS = {
    "history": ScoredLists(np.array([[2, 0], [-1] * 2]), np.array([[1.0, 0.5], [-np.inf] * 2])),
    "popular": ScoredLists(np.array([[0, 1], [0, 1]]), np.array([[9.0, 4.0], [9.0, 4.0]])),
}
# The first user had item 2 three times, 30 days ago for the last time and 50 for the first, and item
# 0 once, yesterday; and something that is no longer there. The second one had nothing.
PERSONAL = PersonalCounts(
    items=Ragged(np.array([2, 0, -1]), np.zeros(3, np.int64), 2),
    of_entry={
        **dict.fromkeys(HALF_LIVES, np.array([3.0, 1.0, 4.0], np.float32)),
        AGE: np.array([30.0, 1.0, 2.0], np.float32),
        SPAN: np.array([20.0, 0.0, 9.0], np.float32),
        DAYS: np.array([3.0, 1.0, 2.0], np.float32),
    },
    visits=np.array([5.0, 0.0], np.float32),
    timed=np.array([True, True]),
)
CORPUS = pa.table({"_item": ["a", "b", "c"], "_popular": [7, 3, 0], "_lately": [2, 3, 0]})
PAST = Ragged(np.array([2, 0]), np.zeros(2, np.int64), 2)
QUERIES = Queries(past=PAST, events=np.array([8, 0]), personal=PERSONAL)


def value(name, *, queries=QUERIES, vectors=None, corpus=CORPUS, **others):
    """A feature by user and item."""
    pairs = Pairs.of(LISTS, queries, 3, vectors)
    features = RankingFeatures.of(SourceTables(corpus=corpus, others=others))
    values = features.values(pairs, [name])[:, 0]
    triples = zip(pairs.query.tolist(), pairs.item.tolist(), values.tolist(), strict=True)
    return {(query, item): value for query, item, value in triples}


def without_counts():
    """The queries of a shop that counts nothing of users."""
    return replace(QUERIES, personal=None)


def described(name, value, **others):
    """What is said of a value, next to those of other features."""
    corpus = CORPUS.append_column("_first_seen", pa.array([1.0, 2.0, None], pa.float32()))
    corpus = corpus.append_column("_attribute_brand", pa.array(["x", "y", None]))
    near = {"_item": ["a"], "_rows": [[1]], "_similarities": [[0.5]]}
    near = pa.Table.from_pydict(near, SCHEMA)
    tables = SourceTables(corpus=corpus, others={"co_occurrence": near})
    return RankingFeatures.of(tables).describe(name, {name: value, **others}, list(LISTS))
