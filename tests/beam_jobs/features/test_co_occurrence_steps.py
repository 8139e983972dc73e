"""Items taken together, against a slow count in plain Python."""

from collections import Counter, defaultdict
from datetime import timedelta
from itertools import permutations
from math import sqrt

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from beam_jobs.features.raw_features_job import write_raw
from beam_jobs.point_in_time import co_occurrence
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.slow import Slow
from twinspire_core.contracts import feature_schema

DAY = worlds.DAY
TRAIN_DAYS = 3  # of the world's pipeline file


@pytest.fixture(scope="module", params=[50, 4], ids=["all", "last4"])
def done(request, tmp_path_factory):
    """A world of busy users, what the job made of it, and how large a basket was."""
    folder = tmp_path_factory.mktemp("together")
    world = worlds.make(folder, 11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_occurrence, "BASKET", request.param)
        patch.setattr(co_occurrence, "_CHUNK", 20)
        write_raw(world.context(folder / "out"), lambda rows: None)
    return Slow(world, DAY), folder / "out", request.param


def slow_neighbours(slow, moment, corpus, basket):
    """By item: its neighbours' rows in the corpus and their similarities, nearest first."""
    window = {moment - timedelta(days=n) for n in range(1, TRAIN_DAYS + 1)}
    last = defaultdict(dict)
    for e in slow.log:
        if e["d"] in window and e["kind"] in ("buy", "gift"):
            last[e["user"]][e["item"]] = e["t"]
    baskets = [sorted(items, key=lambda i: (items[i], i))[-basket:] for items in last.values()]
    takers = Counter(item for b in baskets for item in b)
    both = Counter(pair for b in baskets for pair in permutations(b, 2))
    row = {item: n for n, item in enumerate(corpus)}
    found = defaultdict(list)
    for (one, other), n in both.items():
        if other in row:
            similarity = n / (sqrt(takers[one] * takers[other]) + co_occurrence.SHRINKAGE)
            found[one].append((float(np.float32(similarity)), row[other]))
    return {one: sorted(near, key=lambda x: (-x[0], x[1])) for one, near in found.items()}


@pytest.mark.parametrize("when", ["start", "end"])
def test_items_taken_together(done, when):
    slow, out, basket = done
    moment = DAY if when == "start" else DAY + timedelta(days=1)
    corpus = pq.read_table(out / "corpus" / when)["_item"].to_pylist()
    files = sorted((out / "co_occurrence" / when).iterdir())
    assert all(pq.read_schema(f).equals(feature_schema.co_occurrence_schema()) for f in files)
    found = pl.concat(pl.read_parquet(f) for f in files)
    assert found["_item"].is_sorted() and len(files) > 1
    expected = slow_neighbours(slow, moment, corpus, basket)
    assert found["_item"].to_list() == sorted(expected) and len(expected) > 5
    for item, rows, similarities in found.iter_rows():
        assert [*zip(similarities, rows, strict=True)] == expected[item]


def test_the_two_moments_differ_by_the_day(done):
    _, out, _ = done
    before, after = (
        pl.read_parquet(f"{out}/co_occurrence/{when}/*.parquet") for when in ("start", "end")
    )
    assert not before.equals(after)


def test_only_the_nearest_are_kept():
    counted = {(0, 1): 1, (0, 2): 5, (0, 3): 3, (0, 4): 3, (2, 0): 5}
    pairs = co_occurrence.Pairs(
        np.array([one * 5 + other for one, other in counted]), np.array([*counted.values()])
    )
    near = co_occurrence.nearest(pairs, np.array([9, 4, 9, 4, 4]), np.array([0, 1, -1, 2, 3]), 2)
    assert near["item"].to_list() == [0, 2]
    assert near["_rows"].to_list() == [[2, 3], [0]], (
        "2 is outside the corpus; 3 and 4 are as near, by row"
    )
    assert near["_similarities"].to_list()[0] == pytest.approx(
        [3 / (6 + co_occurrence.SHRINKAGE)] * 2
    )


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_parts_count_all_pairs_between_them(chunk, monkeypatch):
    monkeypatch.setattr(co_occurrence, "_CHUNK", chunk)
    draw = np.random.default_rng(0)
    baskets = {user: draw.permutation(9)[: draw.integers(1, 7)] for user in range(12)}
    user = np.repeat([*baskets], [len(b) for b in baskets.values()])
    item = np.concatenate([*baskets.values()])
    expected = Counter(pair for b in baskets.values() for pair in permutations(b.tolist(), 2))
    found = {}
    for part in (range(0), range(4), range(4, 5), range(5, 9)):
        kept = co_occurrence.of_part(user, item, part)
        alone = co_occurrence.pairs(user[kept], item[kept], part, 9)
        assert np.array_equal(alone.pair, co_occurrence.pairs(user, item, part, 9).pair)
        halves = [kept & (user % 2 == n) for n in (0, 1)]
        parts = co_occurrence.added(
            [co_occurrence.pairs(user[half], item[half], part, 9) for half in halves]
        )
        assert np.array_equal(parts.pair, alone.pair) and np.array_equal(parts.users, alone.users)
        found |= dict(
            zip(
                zip(*np.divmod(alone.pair.tolist(), 9), strict=True),
                alone.users.tolist(),
                strict=True,
            )
        )
    assert found == expected
    assert not co_occurrence.of_part(np.array([0, 1, 1]), np.array([3, 3, 4]), range(9))[0], (
        "one item is no pair"
    )


def test_nothing_is_counted_where_it_is_no_source(tmp_path):
    world = worlds.make(tmp_path, 12)
    context = world.context(tmp_path / "out")
    mix = context.pipeline.mix.model_copy(update={"sources": ("two_tower", "past")})
    object.__setattr__(context, "pipeline", context.pipeline.model_copy(update={"mix": mix}))
    write_raw(context, lambda rows: None)
    assert not (tmp_path / "out/co_occurrence").exists()


@pytest.mark.parametrize("most", [0, 10, 60, 200, 10_000])
def test_long_baskets_are_cut_where_all_pairs_would_be_too_many(most, monkeypatch):
    monkeypatch.setattr(co_occurrence, "MOST_PAIRS", most)
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 12, 20)
    user = np.repeat(np.arange(20) * 3, sizes)
    halves = [co_occurrence.basket_sizes(user[user % 2 == n]) for n in (0, 1)]
    kept = co_occurrence.cut(user, co_occurrence.longest_paired(halves[0] + halves[1]))
    left = [kept[user == u].sum() for u in np.unique(user)]
    assert all(kept[user == u][-n:].all() for u, n in zip(np.unique(user), left, strict=True)), (
        "the last ones"
    )
    longest = max(left)
    assert left == [min(n, longest) for n in sizes]
    pairs = [sum(min(n, length) * (min(n, length) - 1) for n in sizes) for length in range(13)]
    assert longest == max(
        [length for length in range(2, 12) if pairs[length] <= most and length <= max(sizes)] or [2]
    )
    assert kept.all() or pairs[max(sizes)] > most


def test_no_baskets_have_no_pairs():
    nobody = np.zeros(0, np.int64)
    assert co_occurrence.cut(nobody, 5).tolist() == []
    assert co_occurrence.longest_paired(co_occurrence.basket_sizes(nobody)) == co_occurrence.BASKET
