"""What do the features of candidates cost, and the trees that read them?

    python -m benchmarks.ranking_features --json features.json

A made-up shop of 50,000 items like the groceries: users who had 200 different items in 280 days,
three attributes, 50 neighbours of each item, vectors of 256 numbers, and six sources whose lists of
100 have about 300 candidates together. Features are made for 1, 8, 32 and 512 users at a time; the
figures are microseconds of processor time per user, of all threads, the median of repeated calls. A
group by itself also makes what it shares with others (`shared`). LightGBM's are for 150 trees of 31
leaves, fitted on draws.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.quality.command import machine, write_whole
from twinspire_core.config.source_names import (
    CO_OCCURRENCE,
    MOST_POPULAR,
    PAST,
    PERSONAL,
    POPULAR_LATELY,
    TWO_TOWER,
)
from twinspire_core.contracts.feature_schema import (
    FIRST_SEEN,
    TRENDING_HALF_LIVES,
    attribute_name,
    co_occurrence_schema,
)
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.ranking.registry import RankingFeatures
from twinspire_core.search.ragged import Ragged, arrow_lists
from twinspire_core.sources.personal_counts import HALF_LIVES, PersonalCounts
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.source import SourceTables

ITEMS = 50_000
KNOWN = 200
NEIGHBOURS = 50
DIMENSION = 256
DEPTH = 100
ATTRIBUTES = {"department": 30, "brand": 2_000, "category": 300}
BATCHES = (1, 8, 32, 512)
TREES = 150
LEAVES = 31
SOURCES = (TWO_TOWER, PAST, PERSONAL, POPULAR_LATELY, MOST_POPULAR, CO_OCCURRENCE)
_SECONDS = 0.2


def make_tables(draw: np.random.Generator) -> SourceTables:
    """The shop's corpus, and what is taken together there."""
    popular = (20_000 / (1 + np.arange(ITEMS))).astype(np.int64)
    columns = {
        "_item": pa.array([f"{item:05d}" for item in range(ITEMS)]),
        "_popular": popular,
        "_lately": popular // 10,
        FIRST_SEEN: pa.array(draw.uniform(0, 60, ITEMS).astype(np.float32)),
    }
    columns |= {name: popular * draw.random(ITEMS) for name in TRENDING_HALF_LIVES}
    for name, values in ATTRIBUTES.items():
        codes = (values * draw.random(ITEMS) ** 2).astype(np.int64)
        columns[attribute_name(name)] = pa.array(codes).cast(pa.string())
    near = pa.array(_popular_items(draw, (ITEMS, NEIGHBOURS)).ravel().astype(np.int32))
    similar = -np.sort(-draw.random((ITEMS, NEIGHBOURS)), axis=1).ravel().astype(np.float32)
    lengths = np.full(ITEMS, NEIGHBOURS)
    lists = [arrow_lists(lengths, near), arrow_lists(lengths, pa.array(similar))]
    table = pa.table([columns["_item"], *lists], schema=co_occurrence_schema())
    return SourceTables(corpus=pa.table(columns), others={CO_OCCURRENCE: table})


def make_pairs(draw: np.random.Generator, users: int, items: np.ndarray) -> Pairs:
    """Candidates of some users: half of the sources list what they had, half what all take.

    Args:
      draw: draws them.
      users: how many.
      items: [C, D] float32, their vectors.
    """
    known = np.stack([np.unique(_popular_items(draw, 2 * KNOWN))[:KNOWN] for _ in range(users)])
    known = draw.permuted(known, axis=1)
    counts = 1 + draw.poisson(1.5, known.size).astype(np.float32)
    personal = PersonalCounts(
        entries=Ragged.of_lengths(np.arange(known.size), np.full(users, KNOWN)),
        item=known.ravel(),
        counts={name: counts * draw.random(known.size, np.float32) for name in HALF_LIVES}
        | {"all": counts},
        age=280 * draw.random(known.size, np.float32),
        span=280 * draw.random(known.size, np.float32) * (counts > 1),
    )
    past = Ragged.of_lengths(known[:, :60].ravel(), np.full(users, 60))
    lists = {}
    for number, name in enumerate(SOURCES):
        chosen = known[:, number : DEPTH + number]
        if name in (TWO_TOWER, CO_OCCURRENCE):
            chosen = np.stack([draw.choice(ITEMS, DEPTH, replace=False) for _ in range(users)])
        elif name in (POPULAR_LATELY, MOST_POPULAR):
            chosen = np.tile(np.arange(DEPTH), (users, 1))
        lists[name] = ScoredLists.by_place(chosen)
    queries = Queries(past=past, events=np.full(users, 300), personal=personal)
    vectors = Vectors(queries=_unit(draw, users), items=items)
    return Pairs.of(lists, queries, ITEMS, vectors)


def _popular_items(draw: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    """Draws of items, the first ones more often."""
    return (ITEMS * draw.random(shape) ** 3).astype(np.int64)


def _unit(draw: np.random.Generator, rows: int) -> np.ndarray:
    vectors = draw.standard_normal((rows, DIMENSION), np.float32)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def cost(pairs: Pairs, make: Callable[[Pairs], object]) -> float:
    """Microseconds per user, the median of some calls."""
    found: list[float] = []
    while (sum(found) < _SECONDS and len(found) < 100) or len(found) < 3:
        # What pairs keep for several groups is made anew.
        fresh = pairs.part(0, len(pairs.queries))
        start = time.process_time()
        make(fresh)
        found.append(time.process_time() - start)
    return 1e6 * float(np.median(found)) / len(pairs.queries)


def measure(users: int, features: RankingFeatures, items: np.ndarray) -> dict[str, float]:
    """What a batch costs by group, together, and in the trees."""
    pairs = make_pairs(np.random.default_rng(users), users, items)
    names = features.names(SOURCES)
    costs = {"shared": cost(pairs, lambda some: (some.newest, some.past_pair))}
    for group in features.groups:
        own = group.names(SOURCES)
        alone = RankingFeatures((group,))
        costs[type(group).__name__] = cost(pairs, lambda some: alone.values(some, own))  # noqa: B023
    costs["all features"] = cost(pairs, lambda some: features.values(some, names))
    values = features.values(pairs, names)
    trees = fit_trees(values)
    costs["trees"] = cost(pairs, lambda _: trees(values))
    costs["candidates"] = len(pairs) / users
    return costs


def fit_trees(values: np.ndarray) -> Callable[[np.ndarray], object]:
    """Trees whose splits are those of random labels: as many steps to a leaf as any."""
    import lightgbm

    draw = np.random.default_rng(0)
    rows = values[draw.integers(0, len(values), 10_000)]
    settings = {"objective": "regression", "num_leaves": LEAVES, "verbose": -1}
    data = lightgbm.Dataset(rows, draw.random(len(rows)))
    model = lightgbm.train(settings, data, num_boost_round=TREES)
    return lambda some: model.predict(some, raw_score=True, num_threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    features = RankingFeatures.of(make_tables(draw))
    items = _unit(draw, ITEMS)
    costs = {users: measure(users, features, items) for users in BATCHES}
    print(f"{'us per user, in batches of':28}" + "".join(f"{users:>8}" for users in BATCHES))
    for name in costs[BATCHES[0]]:
        print(f"{name:28}" + "".join(f"{costs[users][name]:8.0f}" for users in BATCHES))
    if options.json:
        found = {"machine": machine(), "made_up": True, "us_per_user": costs}
        write_whole(options.json, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
