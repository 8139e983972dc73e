import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import CORPUS, value, without_counts
from twinspire_core.ranking.groups.attributes import Attributes
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists, SourceTables
from twinspire_core.sources.user_histories import PersonalCounts


def _corpus(column):
    return CORPUS.append_column("_attribute_brand", column)


def _value(name, column, **more):
    return value(f"attribute_{name}:brand", corpus=_corpus(column), **more)


def test_the_users_share_counts_what_has_left_the_corpus():
    """Of eight events one was of a and three of c."""
    found = _value("share", pa.array(["x", "x", "y"]))
    assert found == {(0, 0): 1 / 8, (0, 1): 1 / 8, (0, 2): 3 / 8, (1, 0): 0, (1, 1): 0}


def test_days_since_the_user_took_something_of_it():
    found = _value("age", pa.array([1, 2, 1]))
    assert (found[0, 0], found[0, 2]) == (1, 1), "the newer one of a and c"
    assert np.isnan(found[0, 1]) and np.isnan(found[1, 0])


@pytest.mark.parametrize(
    ("name", "first", "second", "third"),
    [
        # a and b are x, c is y: the user took a once, yesterday, c three times, on three days.
        ("count", 1, 1, 3),
        ("days", 1, 1, 3),
        ("overdue", np.nan, np.nan, 3),
        ("own", 1, 0, 1),
    ],
)
def test_what_the_user_takes_of_a_value(name, first, second, third):
    found = _value(name, pa.array(["x", "x", "y"]))
    np.testing.assert_equal([found[0, item] for item in range(3)], [first, second, third])
    alike = _value(name, pa.array(["x", "x", "x"]))
    # Four days with an item of it between 50 and 1 days ago.
    both = {"count": 4, "days": 4, "overdue": np.float32(1 / (49 / 3)), "own": 0.25}[name]
    assert alike[0, 0] == np.float32(both)


def test_the_items_share_in_its_value():
    found = _value("popular", pa.array(["x", "x", "y"]))
    assert (found[0, 0], found[0, 1]) == pytest.approx((0.7, 0.3))
    assert found[0, 2] == 0


def test_of_several_values_the_one_that_the_user_knows_best():
    tags = pa.array([["s", "t"], ["u", "t", "s"], ["u"]])
    share = _value("share", tags)
    assert (share[0, 1], share[0, 2]) == (3 / 8, 3 / 8)
    assert _value("age", tags)[0, 1] == 1
    assert _value("popular", tags)[0, 1] == 1, "of u, that nobody else takes"


@pytest.mark.parametrize("column", [["", "x", "x"], [None, "x", "x"], [[], ["x"], ["x"]]])
def test_an_item_without_a_value_has_none_of_it(column):
    column = pa.array(column)
    for name in ("share", "age", "popular"):
        assert np.isnan(_value(name, column)[0, 0]), name
    assert _value("share", column)[0, 1] == 3 / 8, "and no value lends it one"


def test_a_value_that_an_item_has_twice_counts_once():
    """As of one that has it once: c had three of eight events, and a seven of ten of all."""
    tags = pa.array([["x", "x", "y"], ["x"], ["z", "z"]])
    assert _value("share", tags)[0, 2] == 3 / 8
    assert _value("popular", tags)[0, 1] == pytest.approx(0.3)
    assert _value("popular", tags)[0, 0] == 1, "of y"


def test_lists_of_one_length_are_lists():
    tags = pa.array([["s", "t"], ["u", "t"], None])
    fixed = tags.cast(pa.list_(pa.string(), 2))
    for name in ("share", "age", "popular"):
        assert str(_value(name, fixed)) == str(_value(name, tags)), name


def test_nested_values_say_nothing():
    corpus = _corpus(pa.array([{"x": 1}, None, {"x": 2}]))
    assert Attributes.of(SourceTables(corpus=corpus)) is None
    corpus = corpus.append_column("_attribute_kind", pa.array(["x", "x", "y"]))
    found = value("attribute_popular:kind", corpus=corpus)
    assert (found[0, 0], found[0, 1]) == pytest.approx((0.7, 0.3))


def test_without_counts_only_what_all_take_is_known():
    column = pa.array(["x", "x", "y"])
    assert np.isnan(_value("share", column, queries=without_counts())[0, 0])
    assert _value("popular", column, queries=without_counts())[0, 0] == pytest.approx(0.7)


def test_many_users_in_plain_python():
    draw = np.random.default_rng(1)
    users, size = 9, 40
    tags = [[str(tag) for tag in draw.permutation(6)[: draw.integers(0, 4)]] for _ in range(size)]
    lengths = draw.integers(0, 12, users)
    items = np.concatenate([draw.permutation(size)[:length] for length in lengths])
    counts = PersonalCounts(
        entries=Ragged.of_lengths(np.arange(len(items)), lengths),
        item=items,
        counts={"60d": draw.random(len(items)).astype(np.float32)},
        age=draw.integers(0, 90, len(items)).astype(np.float32),
    )
    past = Ragged.of_lengths(items, lengths)
    queries = Queries(past=past, events=lengths, personal=counts)
    lists = {
        "history": ScoredLists.by_place(np.stack([draw.permutation(size)[:9] for _ in lengths]))
    }
    corpus = pa.table({"_popular": np.ones(size, np.int64), "_attribute_tags": tags})
    pairs = Pairs.of(lists, queries, size)
    group = Attributes.of(SourceTables(corpus=corpus))
    found = np.empty((len(group.names(())), len(pairs)), np.float32)
    group.write(pairs, found)
    for query, item, row in zip(pairs.query, pairs.item, found.T, strict=True):
        own = np.flatnonzero(past.row == query)
        total = counts.counts["60d"][own].sum()
        shares, ages = [], []
        for tag in tags[item]:
            of_tag = [entry for entry in own if tag in tags[items[entry]]]
            shares.append(counts.counts["60d"][of_tag].sum() / max(total, 1e-30))
            ages += counts.age[of_tag].tolist()
        assert row[0] == pytest.approx(max(shares, default=np.nan), nan_ok=True)
        assert row[1] == pytest.approx(min(ages, default=np.nan), nan_ok=True)
