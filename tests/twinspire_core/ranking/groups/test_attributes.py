"""What users take of the value of a candidate's attribute, against a loop over users and values."""

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import CORPUS, value, without_counts
from twinspire_core.ranking.groups.attributes import Attributes
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists, SourceTables
from twinspire_core.sources.user_histories import PersonalCounts

ITEMS = 40
DRAW = np.random.default_rng(1)
TAGS = [*"abcdef", "", None]
LISTS = [DRAW.choice(TAGS, DRAW.integers(0, 11)).tolist() for _ in range(ITEMS)]
COLUMNS = {
    "a value each": pa.array([DRAW.choice(TAGS) for _ in range(ITEMS)], pa.string()),
    "lists": pa.array([None, *LISTS[1:]], pa.list_(pa.string())),
    "lists of one length": pa.array(
        [DRAW.choice(TAGS, 2).tolist() for _ in range(ITEMS)], pa.list_(pa.string(), 2)
    ),
}


def _slow(values: list[set], events: np.ndarray, item: int, taken: list[tuple]) -> list[float]:
    """Features of an item by the user's (item, weight, age, span, days); items that are gone are -1."""
    total = sum(weight for _, weight, *_ in taken)
    of_item = sum(weight for what, weight, *_ in taken if what == item)
    of_values = []
    for tag in values[item]:
        of_value = [entry for entry in taken if entry[0] >= 0 and tag in values[entry[0]]]
        count = sum(weight for _, weight, *_ in of_value)
        days = sum(days for *_, days in of_value)
        age = min((age for _, _, age, *_ in of_value), default=np.inf)
        first = max((age + span for _, _, age, span, _ in of_value), default=0)
        overdue = age / max((first - age) / (days - 1), 1) if days > 1 else -1
        everybody = sum(events[n] for n in range(ITEMS) if tag in values[n])
        of_values.append((count, -age, days, overdue, events[item] / max(everybody, 1)))
    if not of_values:
        return [np.nan] * 7
    count, age, days, overdue, popular = (max(of_all) for of_all in zip(*of_values, strict=True))
    age, overdue = (
        x if known else np.nan for x, known in ((-age, age > -np.inf), (overdue, overdue >= 0))
    )
    return [
        count / max(total, 1e-30),
        age,
        count,
        days,
        overdue,
        of_item / max(count, 1e-30),
        popular,
    ]


@pytest.mark.parametrize("kind", COLUMNS)
def test_features_are_those_of_a_loop(kind):
    draw, column = np.random.default_rng(2), COLUMNS[kind]
    lengths = draw.integers(0, 12, 9)
    items = np.concatenate([draw.permutation(np.arange(-1, ITEMS))[:n] for n in lengths])
    weight, age, span, days = draw.random((4, len(items))).astype(np.float32)
    age, span, days = np.floor(age * 90), np.floor(span * 60), np.ceil(days * 3)
    of_entry = {"60d": weight, "age": age, "span": span, "days": days}
    past = Ragged.of_lengths(items, lengths)
    counts = PersonalCounts(items=past, of_entry=of_entry, visits=lengths > 0, timed=lengths >= 0)
    queries = Queries(past=past, events=lengths, personal=counts)
    lists = ScoredLists.by_place(np.stack([draw.permutation(ITEMS)[:9] for _ in lengths]))
    events = draw.integers(0, 50, ITEMS)
    corpus = pa.table({"_popular": events, "_attribute_tags": column})
    pairs = Pairs.of({"history": lists}, queries, ITEMS)
    group = Attributes.of(SourceTables(corpus=corpus))
    features = np.empty((len(group.features(())), len(pairs)), np.float32)
    group.write(pairs, features)

    lists = [x if isinstance(x, list) else [x] for x in column.to_pylist()]
    values = [{tag for tag in tags[:8] if tag} for tags in lists]
    taken = [*zip(items.tolist(), weight, age, span, days, strict=True)]
    of_user = np.split(np.arange(len(items)), np.cumsum(lengths)[:-1])
    for query, item, row in zip(pairs.query, pairs.item, features.T, strict=True):
        expected = _slow(values, events, item, [taken[n] for n in of_user[query]])
        assert row == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_nested_values_say_nothing():
    corpus = CORPUS.append_column("_attribute_brand", pa.array([{"x": 1}, None, {"x": 2}]))
    assert Attributes.of(SourceTables(corpus=corpus)) is None
    corpus = corpus.append_column("_attribute_kind", pa.array(["x", "x", "y"]))
    values = value("attribute_popular:kind", corpus=corpus)
    assert (values[0, 0], values[0, 1]) == pytest.approx((0.7, 0.3))


def test_without_counts_only_what_all_take_is_known():
    asked = {"corpus": CORPUS.append_column("_attribute_brand", pa.array(["x", "x", "y"]))}
    asked["queries"] = without_counts()
    assert np.isnan(value("attribute_share:brand", **asked)[0, 0])
    assert value("attribute_popular:brand", **asked)[0, 0] == pytest.approx(0.7)
