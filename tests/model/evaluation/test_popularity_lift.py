import json
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.popularity_lift import lifts_after, measure_lift, popular_today
from model.evaluation.ranked_lists import RankedLists
from twinspire_core.config.tables.deployment import ServingConfig
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.sources.personal_counts import PersonalCounts

DAY = date(2024, 5, 20)
CORPUS = pa.table({"_item": list("abcde"), "_popular": [5, 4, 3, 2, 1], "_lately": [1, 2, 3, 4, 5]})
EVALUATION = EvaluationConfig(ks=(1, 2))


def asked(truths, day=DAY):
    """Users who take these, each a string of items."""
    table = {"_user": [f"u{n}" for n in range(len(truths))], "_truth": [list(x) for x in truths]}
    strings = pa.list_(pa.string())
    table |= {
        "_day": pa.array([day] * len(truths), pa.date32()),
        "_past": pa.array([["a"]] * len(truths), strings),
    }
    return prepare_whole(pa.table(table), CORPUS)


def context(min_users=1, parent=None, exclude_seen=False):
    return SimpleNamespace(
        day=DAY,
        parent=parent,
        pipeline=SimpleNamespace(
            evaluation=EVALUATION,
            gate=GateConfig(min_users=min_users),
            serving=ServingConfig(exclude_seen=exclude_seen),
        ),
    )


def test_what_was_taken_most_comes_first_and_equals_by_what_was_popular_lately():
    taken = pa.chunked_array([["b", "a", "b"], ["unheard-of", "d", "c", "d"]])
    # D b, c a, e
    assert popular_today(asked(["a"]), CORPUS, taken).tolist() == [3, 1, 2, 0, 4]
    assert popular_today(asked(["a"]), CORPUS, pa.array([], pa.string())).tolist() == [
        4,
        3,
        2,
        1,
        0,
    ]


def test_the_lead_is_the_ratio_of_what_both_lists_find():
    """popular_today lists d, b: it finds 1 of 2, 0 of 1, 1 of 1, 1 of 1; the version 2 of 2, 1 of
    1, 0 of 1, 1 of 1.
    """
    exam_of = asked(["da", "c", "b", "d"])
    lists = np.array([[0, 3, 1], [2, 0, 3], [0, 4, 1], [3, 0, 1]])
    found = measure_lift(context(), exam_of, RankedLists(lists, None), np.array([3, 1, 2, 0, 4]))
    both = found["recall@2"]
    assert (both["lead"], both["popular_today"], both["differ"]) == (
        pytest.approx(3 / 2.5),
        2.5 / 4,
        3,
    )
    assert 0 < both["low"] < both["lead"] < both["high"]
    one = found["recall@1"]
    assert (one["lead"], one["popular_today"]) == (pytest.approx(2.5 / 1.5), 1.5 / 4)
    assert found["mrr"]["lead"] == pytest.approx((1 + 1 + 0 + 1) / (1 + 0 + 1 / 2 + 1)), (
        "of as many items as are judged"
    )
    assert not any("/" in name for name in found)


def test_a_list_that_finds_nothing_gives_no_lead():
    assert "recall@2" not in measure_lift(
        context(), asked(["d"]), RankedLists(np.array([[3, 0]]), None), np.array([0, 1, 2, 3, 4])
    )


def test_there_is_no_lead_without_enough_users_of_the_day():
    order, lists = np.arange(5), RankedLists(np.array([[0, 1], [0, 1]]), None)
    two = asked(["a", "a"])
    assert measure_lift(context(2), two, lists, order)["recall@1"]["lead"] == 1
    assert measure_lift(context(3), two, lists, order) is None
    assert measure_lift(context(2), asked(["a", "a"], date(2024, 5, 19)), lists, order) is None


def test_a_line_remembers_a_week_of_leads(tmp_path):
    parent = SimpleNamespace(home=str(tmp_path))
    before = {f"2024-05-{n}": {"recall@2": n / 10} for n in range(10, 20)}
    (tmp_path / DayMetrics.FILE).write_text(json.dumps({"leads": before}))
    own = {"recall@2": {"lead": 1.5, "low": 1, "high": 2}}
    told = lifts_after(context(parent=parent), own)
    assert list(told) == [f"2024-05-{n}" for n in range(13, 21)]
    assert told["2024-05-13"] == before["2024-05-13"] and told["2024-05-20"] == {"recall@2": 1.5}
    assert list(lifts_after(context(parent=parent), None))[-1] == "2024-05-19"
    assert lifts_after(context(), own) == {"2024-05-20": told["2024-05-20"]}
    (tmp_path / DayMetrics.FILE).write_text("{}")  # of before there were leads
    assert list(lifts_after(context(parent=parent), own)) == ["2024-05-20"]


def test_leads_of_the_other_kind_of_lists_are_forgotten(tmp_path):
    parent = SimpleNamespace(home=str(tmp_path))
    own = {"recall@2": {"lead": 1.5}}
    for seen, counted in (("kept", False), ("excluded", True)):
        measured = {"holdout": {"candidate": {"seen": seen}}, "leads": {"2024-05-19": {"mrr": 2}}}
        (tmp_path / DayMetrics.FILE).write_text(json.dumps(measured))
        same = context(parent=parent, exclude_seen=counted)
        changed = context(parent=parent, exclude_seen=not counted)
        assert list(lifts_after(same, own)) == ["2024-05-19", "2024-05-20"]
        assert list(lifts_after(changed, own)) == ["2024-05-20"]


def test_without_what_was_seen_neither_list_has_it():
    """The day's favourites are a and b; the user had a, and takes b and c."""
    evaluation_set = replace(asked(["bc"]), exclude_seen=True)
    ranked = RankedLists(np.array([[0, 1]]), np.array([[2, 1]]))
    found = measure_lift(context(), evaluation_set, ranked, np.array([0, 1, 2, 3, 4]))
    assert found["recall@1"] == {**found["recall@1"], "lead": 1, "popular_today": 1 / 2}
    kept = measure_lift(
        context(), replace(evaluation_set, exclude_seen=False), ranked, np.array([0, 1, 2, 3, 4])
    )
    assert "recall@1" not in kept, "the first of both is a"
    nowhere = evaluation_set.past.where(evaluation_set.past.values < 0)
    counted = replace(
        evaluation_set, past=nowhere, personal=PersonalCounts.of_histories(evaluation_set.past)
    )
    assert measure_lift(context(), counted, ranked, np.array([0, 1, 2, 3, 4])) == found
