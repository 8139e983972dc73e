import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.sources.test_sequences import _sequences
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import neighbours
from twinspire_core.sources.neighbours import Neighbours
from twinspire_core.sources.source import Queries, SourceTables

ITEMS = 12
CORPUS = pa.array([f"item{n:02d}" for n in range(ITEMS)])


def _users(number=30):
    generator = np.random.default_rng(3)
    users = []
    for _ in range(number):
        ages = np.sort(generator.random(generator.integers(1, 6)) * 90)
        users.append([(int(generator.integers(0, ITEMS)), float(np.float32(age))) for age in ages])
    return users


def _source(users, corpus=CORPUS):
    table = neighbours.fit(_sequences(*users), CORPUS)
    corpus = pa.table({"_item": corpus})
    return Neighbours.of(SourceTables(corpus=corpus, others={"neighbours": table}))


def _vector(user):
    vector = np.zeros(ITEMS)
    for item, age in user:
        vector[item] += 0.5 ** (age / 60)
    return vector / np.linalg.norm(vector)


def _slow(users, past, share):
    """Scores of all items for somebody with a past of distinct items, each once."""
    weights = np.zeros(ITEMS)
    weights[past] = 1 / np.sqrt(len(past))
    by_last = sorted(users, key=lambda user: user[0][1])
    similar = []
    for user in by_last:
        looked_at = 0.0
        for item in past:
            takers = [other for other in by_last if item in {i for i, _ in other}]
            if any(other is user for other in takers[: neighbours.NEWEST]):
                looked_at += weights[item] * _vector(user)[item]
        similar.append(looked_at)
    best = sorted(range(len(similar)), key=lambda n: -similar[n])[: neighbours.NEAREST]
    total = sum(similar[n] for n in best)
    others = sum(similar[n] * _vector(by_last[n]) for n in best) / total
    return (1 - share) * others + share * weights


def _queries(*pasts):
    items = np.array([item for past in pasts for item in past], np.int64)
    return Queries.of_past(Ragged.of_lengths(items, np.array([len(past) for past in pasts])))


@pytest.mark.parametrize(("nearest", "newest"), [(100, 500), (4, 500), (4, 3)])
def test_scores_are_those_of_a_double_loop(monkeypatch, nearest, newest):
    monkeypatch.setattr(neighbours, "NEAREST", nearest)
    monkeypatch.setattr(neighbours, "NEWEST", newest)
    users = _users()
    lists = _source(users).lists(_queries([3, 5], [7]), ITEMS)
    for row, past in enumerate(([3, 5], [7])):
        expected = _slow(users, past, neighbours.OWN)
        listed = lists.items[row] >= 0
        assert lists.scores[row][listed] == pytest.approx(np.sort(expected[expected > 0])[::-1])
        assert lists.scores[row][listed] == pytest.approx(expected[lists.items[row][listed]])


def test_lists_are_the_same_in_another_order_of_the_corpus():
    users = _users()
    shuffled = np.random.default_rng(1).permutation(ITEMS)
    other = _source(users, CORPUS.take(pa.array(shuffled)))
    place = np.argsort(shuffled)
    lists = _source(users).lists(_queries([3, 5]), 5)
    same = other.lists(_queries([int(place[3]), int(place[5])]), 5)
    assert shuffled[same.items[0]].tolist() == lists.items[0].tolist()


def test_what_is_excluded_or_does_not_pass_makes_room():
    users = _users()
    source = _source(users)
    whole = source.lists(_queries([3, 5]), ITEMS).items[0]
    passing = np.arange(ITEMS) != whole[2]
    exclude = Ragged(np.array([whole[0], -1]), np.zeros(2, np.int64), 1)
    lists = source.lists(_queries([3, 5]), 3, exclude=exclude, passing=passing)
    assert lists.items[0].tolist() == [whole[1], whole[3], whole[4]]


def test_nobody_follows_from_no_past():
    lists = _source(_users()).lists(_queries([], [3]), 4)
    assert (lists.items[0] == -1).all()
    assert lists.items[1, 0] == 3


def test_the_users_seen_last_are_carried(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_ENTRIES", 3)
    table = neighbours.fit(
        _sequences([(0, 9.0), (1, 9.5)], [(2, 1.0)], [], [(3, 2.0), (4, 2.0)]), CORPUS
    )
    assert table["_rows"].to_pylist() == [[2], [3, 4]]
