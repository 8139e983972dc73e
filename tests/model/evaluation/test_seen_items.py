"""What lists without seen items leave out where they are measured: also what users had before their
pasts begin, which `personal` counts and nothing else knows.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluation_set import prepare
from model.evaluation.ranked_lists import rank_baselines
from model.evaluation.version_evaluation import rank_encoded
from twinspire_core.config.source_names import MOST_POPULAR, POPULAR_LATELY
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.personal_counts import PersonalCounts

ITEMS, K = 60, 5
COUNTED = np.array([[0, 1, 2, 7], [3, 4, 5, 6]])
"""Items of two users; the first of them has item 1 in the past, too."""


@pytest.fixture
def asked():
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


def test_by_the_towers(asked):
    """Both users ask for the same, and had different items."""
    order = np.random.default_rng(1).permutation(10).tolist()
    items = np.full((ITEMS, 1), -1, np.float32)
    items[order, 0] = np.linspace(1, 0.1, 10)
    encoded = Encoded(
        distinct=np.ones((1, 1), np.float32), place={"day": np.zeros(2, np.int64)}, items=items
    )
    ranked = rank_encoded(encoded, {"day": asked}, K)["day"]
    assert ranked.kept.tolist() == [order[:K]] * 2
    assert ranked.excluded.tolist() == unseen(order)


def test_by_baselines(asked):
    baselines = rank_baselines(asked, K)
    for ranked in (baselines[MOST_POPULAR], baselines[POPULAR_LATELY]):
        assert ranked.kept.tolist() == [list(range(K))] * 2
        assert ranked.excluded.tolist() == unseen(range(ITEMS))
