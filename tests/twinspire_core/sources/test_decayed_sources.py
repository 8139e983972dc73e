from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES, TRENDING_HALF_LIVES
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources import popular_and_history
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.live_sources import RunningCounts
from twinspire_core.sources.source import Queries, SourceTables
from twinspire_core.sources.user_histories import PersonalCounts

ITEMS = list("abcdef")
COUNTS = {"_item": ITEMS, "_popular": [1, 9, 5, 0, 7, 2], "_lately": [4, 0, 3, 2, 0, 0]}


def corpus(**trending: list[float]) -> pa.Table:
    """Counts by half-life; those that are not given are 0 but for 60 days: 1, 2, 3 and so on."""
    zeros = {column: [0.0] * 6 for column in TRENDING_HALF_LIVES}
    columns = {f"_trending_{name}": values for name, values in trending.items()}
    return pa.table({**COUNTS, **zeros, "_trending_60d": [1.0, 2, 3, 4, 5, 6], **columns})


def read(items: np.ndarray) -> list[str]:
    return ["".join(ITEMS[i] for i in row if i >= 0) for row in items]


def rows(*users: dict[str, dict[str, float]]) -> pa.Table:
    """Users by their counts: by item, then by half-life; 1 where not said."""
    floats, columns = pa.list_(pa.float32()), {}
    columns["_personal"] = pa.array([list(user) for user in users], pa.list_(pa.string()))
    for column in PERSONAL_HALF_LIVES:
        name = column.removeprefix("_personal_")
        values = [[counts.get(name, 1.0) for counts in user.values()] for user in users]
        columns[column] = pa.array(values, floats)
    for name, each in (("age", 1.0), ("span", 0.0), ("days", 1.0)):
        columns[f"_personal_{name}"] = pa.array([[each] * len(user) for user in users], floats)
    columns["_personal_visits"] = pa.array([min(len(user), 1) for user in users], pa.float32())
    return pa.table(columns)


def stored_counts(users: Ragged, items: list[int], ages: list[float], **counts: list[float]):
    """Counts of the items of users, each taken once on one day."""
    of_entry = {"age": ages, "span": [0] * len(items), "days": [1] * len(items), **counts}
    return PersonalCounts(
        items=users._replace(values=np.array(items)),
        of_entry={name: np.array(values, np.float32) for name, values in of_entry.items()},
        visits=(users.lengths > 0).astype(np.float32),
        timed=np.ones(users.rows, bool),
    )


def queries(table: pa.Table) -> Queries:
    counts = PersonalCounts.of_rows(table, positions(table["_personal"], pa.array(ITEMS)))
    nothing = np.zeros(0, np.int64)
    past = Ragged(nothing, nothing, table.num_rows)
    return Queries(past=past, events=past.lengths, personal=counts)


USERS = rows(
    {"a": {"7d": 0.1, "60d": 3}, "gone": {"60d": 2}, "c": {"7d": 0.9, "60d": 2}, "f": {"7d": 0.5}},
    {},
    {"e": {"7d": 2}, "d": {"7d": 2}},
)


def test_a_users_items_by_the_counts_of_60_days():
    sources = CandidateSources.of(corpus())
    lists = sources.retrieve(["history"], queries(USERS), 4)["history"]
    assert read(lists.items) == ["acf", "", "ed"]
    np.testing.assert_allclose(lists.scores[0], [3, 2, 1, -np.inf], rtol=1e-6)
    assert read(sources.filled(lists.items, 6))[1] == "becfad", "then what is popular"


def test_what_is_excluded_or_does_not_pass_makes_room():
    sources = CandidateSources.of(corpus())
    asked = queries(USERS)
    exclude = Ragged(np.array([2, 3]), np.array([0, 2]), 3)
    lists = sources.retrieve(["history"], asked, 2, exclude=exclude)["history"]
    assert read(lists.items) == ["af", "", "e"]
    passing = np.array([True, True, True, True, False, False])
    lists = sources.among(passing).retrieve(["history"], asked, 2)["history"]
    assert read(lists.items) == ["ac", "", "d"]


def test_seen_is_what_the_past_or_the_counts_know():
    """u had c, something outside, and a, of which a is counted too; v nothing, w what is counted."""
    past = Ragged(np.array([2, -1, 0]), np.array([0, 0, 0]), 3)
    counted = PersonalCounts.of_histories(Ragged(np.array([0, 4, 3]), np.array([0, 0, 2]), 3))
    asked = Queries(past=past, events=past.lengths, personal=counted)
    assert read(asked.seen.padded()) == ["ace", "", "d"]
    assert asked.take(np.array([0, 2])).seen.lengths.tolist() == [3, 1]
    assert Queries.of_past(past).seen == past


def test_histories_count_one_for_each_event():
    """Of u: a b a b c, and something outside; v has nothing."""
    history = Ragged(np.array([0, 1, 0, 1, 2, -1, 3]), np.array([0, 0, 0, 0, 0, 0, 2]), 3)
    counts = PersonalCounts.of_histories(history)
    assert counts.items.values.tolist() == [1, 0, 2, 3], "of equal counts the newest first"
    assert counts.of_entry["7d"].tolist() == counts.of_entry["all"].tolist() == [2, 2, 1, 1]
    assert counts.items.row.tolist() == [0, 0, 0, 2]
    assert counts.of_entry["span"].tolist() == [0, 0, 0, 0], "nobody knows when"
    stored = queries(USERS).personal
    joined = counts.or_else(stored, np.array([False, True, True]))
    asked = Queries(past=history, events=history.lengths, personal=joined)
    sources = CandidateSources.of(corpus())
    assert read(sources.retrieve(["history"], asked, 3)["history"].items) == ["acf", "", "d"]


@pytest.mark.parametrize("seed", range(4))
def test_later_events_are_added_as_in_a_loop(seed):
    """What lies outside the corpus stays apart: shares of what a user takes are of all of it."""
    draw, users = np.random.default_rng(seed), 5
    items = [
        [*draw.permutation(6)[: draw.integers(6)], -1, -1][draw.integers(3) :] for _ in range(users)
    ]
    lengths = np.array([*map(len, items)])
    flat = Ragged.of_lengths(np.concatenate(items).astype(np.int64), lengths)
    # Few counts, which are the spans, so that many are equal.
    ages, spans = draw.integers(1, [[90], [4]], (2, lengths.sum())).astype(np.float32)
    stored = stored_counts(flat, flat.values, ages, **{"7d": ages / 90, "all": spans})
    stored = replace(stored, of_entry={**stored.of_entry, "span": spans})
    events = draw.integers(-1, 6, 12)
    newer = Ragged(events, np.sort(draw.integers(0, users, 12)), users)
    sums = stored.plus(PersonalCounts.of_histories(newer))
    names = ("7d", "all", "age", "span", "days")
    entries = np.stack([sums.of_entry[name] for name in names], axis=1)
    for user in range(users):
        expected = []
        for n in np.flatnonzero(flat.row == user):
            item, age = flat.values[n], ages[n]
            more = np.sum(events[newer.row == user] == item) if item >= 0 else 0
            now = [0, age + spans[n], 2] if more else [age, spans[n], 1]
            expected.append([item, age / 90 + more, spans[n] + more, *now])
        new = {*events[newer.row == user]} - {-1, *items[user]}
        for item in new:
            count = np.sum(events[newer.row == user] == item)
            expected.append([item, count, count, 0, 0, 1])
        of_user = sums.items.row == user
        actual = [
            [i, *x] for i, x in zip(sums.items.values[of_user], entries[of_user], strict=True)
        ]
        np.testing.assert_allclose(sorted(actual), sorted(expected), atol=1e-4)
        order = [(-count, round(age)) for _, _, count, age, *_ in actual]
        assert order == sorted(order), "the highest counts first, then the most recent"
    np.testing.assert_array_equal(
        sums.visits, (lengths > 0) * 1.0 + (newer.where(events >= 0).lengths > 0)
    )


def test_times_are_known_of_what_is_stored():
    """u has stored events and a newer one; v a history alone; w nothing; x stored events alone."""
    row = np.array([0, 3])
    stored = stored_counts(Ragged(np.arange(2), row, 4), [0, 1], [1, 1], all=[1, 1])
    newer = PersonalCounts.of_histories(Ragged(np.array([2, 2, 1]), np.array([0, 1, 1]), 4))
    assert newer.timed.tolist() == [False, False, True, True]
    sums = stored.plus(newer)
    assert sums.timed.tolist() == [True, False, True, True]
    chosen = newer.or_else(stored, np.array([True, True, False, False]))
    assert chosen.timed.tolist() == [False, False, True, True]
    assert sums.part(1, 3).timed.tolist() == [False, True]
    assert sums.take(np.array([1, 3])).timed.tolist() == [False, True]


def test_trending_items_are_ordered_by_the_half_life_then_by_the_longest():
    table = corpus(**{"1h": [0, 0.5, 0, 0, 0.25, 0], "7d": [5, 4, 3, 2, 1, 0]})
    asked = Queries.of_past(Ragged(np.array([1]), np.array([0]), 2))
    lists = {}
    for half_life in ("1h", "7d"):
        sources = CandidateSources.of(table, half_life=half_life)
        lists[half_life] = sources.retrieve(["popular"], asked, 6)["popular"]
    assert read(lists["1h"].items) == ["befdca"] * 2
    assert read(lists["7d"].items) == ["abcdef"] * 2
    assert lists["1h"].scores[0].tolist() == [0.5, 0.25, 0, 0, 0, 0]


def test_candidates_are_the_first_by_each_half_life(monkeypatch):
    """One by each: a by the hour that orders, b by the day, c by 7 and by 28 days."""
    monkeypatch.setattr(popular_and_history, "OF_EACH", 1)
    counts = {"1h": [6, 1, 2, 5, 4, 3], "1d": [0, 9, 0, 0, 0, 0], "7d": [0, 0, 8, 1, 0, 0]}
    table = corpus(**{**counts, "28d": [0, 0, 7, 0, 0, 0]})
    sources = CandidateSources.of(table, half_life="1h")
    asked = Queries.of_past(Ragged(np.array([1]), np.array([0]), 1))
    lists = sources.retrieve(["popular"], asked, 6)["popular"]
    assert read(lists.items) == ["acbdef"], "the candidates by the hour, then all others by it"
    assert (np.diff(lists.scores) <= 0).all()
    exclude = Ragged(np.array([0]), np.array([0]), 1)
    lists = sources.retrieve(["popular"], asked, 3, exclude=exclude)["popular"]
    assert read(lists.items) == ["cbd"]


def test_a_ranker_is_proposed_as_many_as_a_source_says():
    many = [f"item{n:03d}" for n in range(500)]
    columns = {column: np.arange(500.0) for column in TRENDING_HALF_LIVES}
    table = pa.table({"_item": many, "_popular": [0] * 500, "_lately": [0] * 500, **columns})
    sources = CandidateSources.of(table)
    asked = Queries.of_past(Ragged(np.array([1]), np.array([0]), 1))
    pooled = sources.candidates(["history", "popular", "co_occurrence"], asked, 10)
    widths = {name: lists.items.shape[1] for name, lists in pooled.items()}
    assert widths == {"history": 100, "popular": 200, "co_occurrence": 50}


@pytest.mark.parametrize("half_life", ["1h", "1d", "60d"])
def test_running_counts_are_those_of_tables_made_now(half_life):
    """However the events come: in portions, the newest first, and a month after the tables."""
    draw = np.random.default_rng(7)
    item = draw.integers(0, 6, 300)
    day = 86_400 * 1_000_000
    time = draw.integers(0, 40 * day, 300)

    def tables(until: int) -> SourceTables:
        columns = {}
        for column, days in TRENDING_HALF_LIVES.items():
            counts = [0.0] * 6
            for of, at in zip(item.tolist(), time.tolist(), strict=True):
                if at <= until:
                    counts[of] += 0.5 ** ((until - at) / day / days)
            columns[column] = counts
        return SourceTables(corpus=pa.table(COUNTS | columns), half_life=half_life)

    begin = 10 * day
    made = tables(begin)
    columns = made.corpus.to_pydict()
    running = RunningCounts(made, begin)
    later = np.flatnonzero(time > begin)
    later = later[np.argsort(-time[later])]
    for some in np.array_split(later, 7):
        running.add(item[some], time[some])
    now = tables(int(time.max())).corpus
    expected = CandidateSources.of(now, half_life=half_life).by_name["popular"]
    np.testing.assert_allclose(running.source().scores, expected.scores, rtol=1e-6)
    np.testing.assert_array_equal(running.source().order, expected.order)
    assert made.corpus.to_pydict() == columns, "the tables stay as they are"
