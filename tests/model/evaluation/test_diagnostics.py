import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluation_set import prepare, prepare_whole
from model.evaluation.ranked_lists import RankedLists
from model.measure_stage import pick_examples, popularity, popularity_group, rank_uncorrected

STRINGS = pa.list_(pa.string())


def test_each_group_has_a_tenth_of_the_events_and_the_last_has_none():
    # 5 items with half of the events, 10 with the other half
    events = np.array([10] * 5 + [5] * 10 + [0] * 7)
    shuffled = np.random.default_rng(0).permutation(len(events))
    order = np.argsort(-events[shuffled], kind="stable")
    group = popularity_group(events[shuffled], order)
    sums = np.bincount(group, events[shuffled])
    assert sums.tolist() == [10] * 10 + [0]
    assert np.bincount(group).tolist() == [1] * 5 + [2] * 5 + [7]
    assert set(events[shuffled][group < 5]) == {10}, "the most popular ones come first"
    assert (popularity_group(np.zeros(3, int), np.arange(3)) == 10).all()


def test_popularity_of_lists_is_compared_with_popularity_of_purchases():
    corpus = pa.table({"_item": list("abcd"), "_popular": [6, 3, 1, 0], "_lately": [0, 0, 0, 0]})
    asked = pa.table(
        {
            "_user": ["u", "v", "new"],
            "_truth": pa.array([["a", "d"], ["b", "z"], ["c"]], STRINGS),  # z is not in the corpus
            "_past": pa.array([["a"], ["a"], []], STRINGS),
            "_past_events": [1, 1, 0],
        }
    )
    ranked = np.array([[0, 1, 2], [0, 3, 1], [2, 2, 2]])
    measured = popularity(prepare(asked, corpus), {"ours": ranked}, 2)
    # Of 10 events a has the first 6, its middle is 3; b the next 3, middle 7.5; c the last one,
    # middle 9.5; d has none.
    where = {"a": 3, "b": 7, "c": 9, "d": 10}
    shares = {name: [0.0] * 11 for name in ("items", "clicks", "ours")}
    for item, group in where.items():
        shares["items"][group] += 1
        shares["clicks"][group] = {"a": 1 / 3, "b": 1 / 3, "c": 0, "d": 1 / 3}[item]
        shares["ours"][group] = {"a": 2 / 4, "b": 1 / 4, "c": 0, "d": 1 / 4}[item]
    assert measured["items"] == shares["items"]
    assert measured["clicks"] == pytest.approx(shares["clicks"], abs=1e-4), "without newcomers"
    assert measured["lists"]["ours"] == pytest.approx(shares["ours"], abs=1e-4)


def test_without_the_correction_frequent_items_go_down():
    queries, items = np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32)
    items[2] = [0.6, 0.6, 0.0]
    log_q = np.log(np.array([0.5, 0.4, 0.1], np.float32))
    scores = queries @ items.T / 0.5 - log_q  # u: 2.69 .92 3.50; v: .69 2.92 3.50
    assert scores.argmax(1).tolist() == [2, 2] and (queries @ items.T).argmax(1).tolist() == [0, 1]
    ranked = rank_uncorrected(queries, items, log_q, np.ones(3, bool), temperature=0.5, k=3)
    assert ranked.tolist() == [[2, 0, 1], [2, 1, 0]]
    never_drawn = np.array([False, True, True])
    ranked = rank_uncorrected(queries, items, log_q, never_drawn, temperature=0.5, k=3)
    assert ranked.tolist() == [[2, 1, -1], [2, 1, -1]]


def test_examples_are_one_user_of_each_slice_whatever_their_lists(tiny):
    corpus = pa.table({"_item": list("abcd"), "_popular": [1, 1, 1, 1], "_lately": [0] * 4})
    users = [f"u{n}" for n in range(40)]
    asked = pa.table(
        {
            "_user": users,
            "_truth": pa.array([["a", "z"]] * 40, STRINGS),
            "_past": pa.array([["b"]] * 40, STRINGS),
            "_past_events": [n // 10 * 3 for n in range(40)],  # 0, 3, 6, 9: slices 0, 1-4, 5-19
            "recent": pa.array([["c", "b", "z"]] * 40, STRINGS),
        }
    )
    pipeline = tiny.pipeline()
    examined = prepare_whole(asked, corpus)
    lists = [np.tile(order, (40, 1)) for order in ([0, 1, -1, -1], [3, 2, 1, 0])]
    found, other = (
        pick_examples(pipeline, examined, RankedLists(ranked, None), corpus) for ranked in lists
    )
    assert [one.past_events for one in found][:2] == [0, 3] and len(found) == 3
    assert [one.user for one in found] == [one.user for one in other]
    shown = {"history": ["z", "b", "c"], "items": ["a", "b"], "taken": ["a", "z"]}
    assert found[0].model_dump(exclude={"user"}) == {"past_events": 0} | shown
