import json
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluate import paired_differences
from model.evaluation.evaluation_set import prepare, prepare_whole
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.version_line import (
    _judged_measures,
    leads_after,
    line_after,
    measure_lead,
    popular_today,
)
from twinspire_core.config.tables.deployment import ServingConfig
from twinspire_core.config.tables.quality import EvaluationConfig, GateConfig
from twinspire_core.contracts.attempts import Parent
from twinspire_core.contracts.day_metrics import DayMetrics, MeasuredDay
from twinspire_core.contracts.measures import PairedDifferences
from twinspire_core.sources.user_histories import PersonalCounts

TODAY = date(2024, 5, 20)
ITEMS = 12
CORPUS = pa.table(
    {"_item": [f"i{n}" for n in range(ITEMS)], "_popular": [1] * ITEMS, "_lately": [1] * ITEMS}
)
KS = (2, 5)


@pytest.fixture(scope="module")
def world():
    """Sixty queries, some of newcomers; what each wants; two lists for each."""
    rng = np.random.default_rng(3)
    wanted = [rng.choice(ITEMS, rng.integers(1, 4), replace=False) for _ in range(60)]
    strings = pa.list_(pa.string())
    queries = pa.table(
        {
            "_user": [f"u{n}" for n in range(60)],
            "_truth": pa.array([[f"i{item}" for item in row] for row in wanted], strings),
            "_past": pa.array([["i0"]] * 60, strings),
            "_past_events": rng.integers(0, 3, 60),
        }
    )
    lists = [np.stack([rng.permutation(ITEMS)[:5] for _ in range(60)]) for _ in range(2)]
    lists = [RankedLists(ranked, ranked[:, ::-1]) for ranked in lists]
    return prepare(queries, CORPUS, bounds=(1,), resamples=20), wanted, lists


def recall(wanted, ranked, k):
    return len({*wanted.tolist()} & {*ranked[:k].tolist()}) / len(wanted)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("some", [False, True])
def test_differences_of_users_are_summed_up(world, k, some):
    evaluation_set, wanted, (ours, theirs) = world
    chosen = np.arange(60) % 2 == 0 if some else None
    differs = paired_differences(evaluation_set, ours, theirs, KS, chosen)
    known = evaluation_set.past_events > 0
    counted = [n for n in range(60) if known[n] and (not some or n % 2 == 0)]
    base = np.array([recall(wanted[n], theirs.kept[n], k) for n in counted])
    difference = np.array([recall(wanted[n], ours.kept[n], k) for n in counted]) - base
    one = differs.by_measure[f"recall@{k}"]
    assert differs.users == len(counted)
    assert one.mean == pytest.approx(difference.mean(), abs=1e-6)
    assert one.base == pytest.approx(base.mean(), abs=1e-6)
    assert one.deviation == pytest.approx(difference.std(ddof=1), abs=1e-6)
    assert one.differ == np.count_nonzero(difference)
    assert not any("/" in name for name in differs.by_measure), "slices are not remembered"


def test_of_nobody_nothing_is_remembered(world):
    evaluation_set, _, (ours, theirs) = world
    differs = paired_differences(evaluation_set, ours, theirs, KS, np.zeros(60, bool))
    assert (differs.users, differs.by_measure) == (0, {})
    one = paired_differences(evaluation_set, ours, theirs, KS, np.arange(60) == 1)
    assert all(measure.deviation == 0.0 for measure in one.by_measure.values())


def context(home, day=TODAY, *, exclude_seen=False):
    parent = Parent(day=day, version="p", home=str(home), train="", measure="") if home else None
    serving = ServingConfig(exclude_seen=exclude_seen)
    pipeline = SimpleNamespace(serving=serving, gate=GateConfig(min_users=200))
    return SimpleNamespace(day=day, parent=parent, pipeline=pipeline)


def test_thirty_days_are_remembered(tmp_path):
    days = {str(TODAY - timedelta(days=n)): MeasuredDay(against=f"v{n}") for n in range(1, 40)}
    DayMetrics(line=days).write(tmp_path)
    actual = line_after(context(tmp_path), MeasuredDay(against="p"))
    assert list(actual) == [str(TODAY - timedelta(days=n)) for n in range(29, -1, -1)]
    assert actual[str(TODAY)].against == "p"
    later = line_after(context(tmp_path, TODAY + timedelta(days=9)), None)
    assert min(later) == str(TODAY - timedelta(days=20)), "days count from the day"


def test_lists_of_the_other_kind_are_not_remembered(tmp_path):
    days = {str(TODAY - timedelta(days=1)): MeasuredDay(against="v")}
    candidate = {"seen": "excluded", "recall@50": 0.1}
    DayMetrics(line=days, holdout={"candidate": candidate}).write(tmp_path)
    assert line_after(context(tmp_path), None) == {}
    assert line_after(context(tmp_path, exclude_seen=True), None) == days


def test_the_kind_of_lists_that_counts_is_compared(world):
    evaluation_set, _, (ours, theirs) = world
    other = replace(evaluation_set, exclude_seen=True)
    differs = paired_differences(other, ours, theirs, KS)
    turned = [RankedLists(ranked.excluded, None) for ranked in (ours, theirs)]
    assert differs == paired_differences(evaluation_set, *turned, KS)
    assert differs != paired_differences(evaluation_set, ours, theirs, KS)


def test_a_first_version_and_one_after_an_earlier_release_remember_their_own_day(tmp_path):
    assert line_after(context(None), None) == {}
    (tmp_path / "metrics.json").write_text(json.dumps({"leads": {}}))
    own = MeasuredDay(against="p")
    assert line_after(context(tmp_path), own) == {str(TODAY): own}


def test_new_trees_are_not_judged_by_earlier_trees(tmp_path):
    """With other sources nothing of the day was measured: what was before is forgotten."""
    lists = {"ranked": {"recall@2": 0.3}}
    differs = PairedDifferences(users=300)
    before = MeasuredDay(against="v", lists=lists, two_tower=differs)
    yesterday = str(TODAY - timedelta(days=1))
    DayMetrics(line={yesterday: before}).write(tmp_path)
    goes_on = line_after(context(tmp_path), MeasuredDay(against="p", lists=lists))
    assert goes_on[yesterday] == before
    anew = line_after(context(tmp_path), MeasuredDay(against="p"))
    assert anew[yesterday] == MeasuredDay(against="v", two_tower=differs)


def test_what_the_gate_may_look_at_is_remembered_of_days_with_trees():
    data = {"recall@2": 0.123456789, "ndcg@2": 0.2, "gini@2": 0.9, "recall@2/users:0": 0.1}
    lists = {"ranked": data, "fixed_order": {"mrr": 0.5}}
    assert _judged_measures(lists, (2,)) == {
        "ranked": {"recall@2": 0.1234568, "ndcg@2": 0.2},
        "fixed_order": {"mrr": 0.5},
    }
    assert _judged_measures({"fixed_order": {"mrr": 0.5}}, (2,)) == {}


FIVE = pa.table({"_item": list("abcde"), "_popular": [5, 4, 3, 2, 1], "_lately": [1, 2, 3, 4, 5]})


def taking(truths, day=TODAY):
    """Users who take these, each a string of items."""
    table = {"_user": [f"u{n}" for n in range(len(truths))], "_truth": [list(x) for x in truths]}
    table["_day"] = pa.array([day] * len(truths), pa.date32())
    return prepare_whole(pa.table(table | {"_past": [["a"]] * len(truths)}), FIVE)


def lead_context(min_users=1, parent=None, exclude_seen=False):
    pipeline = SimpleNamespace(
        evaluation=EvaluationConfig(ks=(1, 2)),
        gate=GateConfig(min_users=min_users),
        serving=ServingConfig(exclude_seen=exclude_seen),
    )
    return SimpleNamespace(day=TODAY, parent=parent, pipeline=pipeline)


def test_what_was_taken_most_comes_first_and_equals_by_what_was_popular_lately():
    taken = pa.chunked_array([["b", "a", "b"], ["unheard-of", "d", "c", "d"]])
    # D b, c a, e
    assert popular_today(taking(["a"]), FIVE, taken).tolist() == [3, 1, 2, 0, 4]
    nothing = pa.array([], pa.string())
    assert popular_today(taking(["a"]), FIVE, nothing).tolist() == [4, 3, 2, 1, 0]


def test_the_lead_is_the_ratio_of_what_both_lists_find():
    """popular_today lists d, b: it finds 1/2, 0, 1 and 1; the version 1, 1, 0 and 1."""
    exam_of = taking(["da", "c", "b", "d"])
    lists = RankedLists(np.array([[0, 3, 1], [2, 0, 3], [0, 4, 1], [3, 0, 1]]), None)
    measured = measure_lead(lead_context(), exam_of, lists, np.array([3, 1, 2, 0, 4]))
    both = measured["recall@2"]
    told = both["lead"], both["popular_today"], both["differ"]
    assert told == (pytest.approx(3 / 2.5), 2.5 / 4, 3)
    assert 0 < both["low"] < both["lead"] < both["high"]
    one = measured["recall@1"]
    assert (one["lead"], one["popular_today"]) == (pytest.approx(2.5 / 1.5), 1.5 / 4)
    assert measured["mrr"]["lead"] == pytest.approx((1 + 1 + 0 + 1) / (1 + 0 + 1 / 2 + 1))
    assert not any("/" in name for name in measured)


def test_a_list_that_finds_nothing_gives_no_lead():
    lists = RankedLists(np.array([[3, 0]]), None)
    assert "recall@2" not in measure_lead(lead_context(), taking(["d"]), lists, np.arange(5))


def test_there_is_no_lead_without_enough_users_of_the_day():
    order, lists = np.arange(5), RankedLists(np.array([[0, 1], [0, 1]]), None)
    two = taking(["a", "a"])
    assert measure_lead(lead_context(2), two, lists, order)["recall@1"]["lead"] == 1
    assert measure_lead(lead_context(3), two, lists, order) is None
    yesterday = taking(["a", "a"], date(2024, 5, 19))
    assert measure_lead(lead_context(2), yesterday, lists, order) is None


def test_a_line_remembers_a_week_of_leads(tmp_path):
    parent = SimpleNamespace(home=str(tmp_path))
    before = {f"2024-05-{n}": {"recall@2": n / 10} for n in range(10, 20)}
    (tmp_path / DayMetrics.FILE).write_text(json.dumps({"leads": before}))
    own = {"recall@2": {"lead": 1.5, "low": 1, "high": 2}}
    leads = leads_after(lead_context(parent=parent), own)
    assert list(leads) == [f"2024-05-{n}" for n in range(13, 21)]
    assert leads["2024-05-13"] == before["2024-05-13"] and leads["2024-05-20"] == {"recall@2": 1.5}
    assert list(leads_after(lead_context(parent=parent), None))[-1] == "2024-05-19"
    assert leads_after(lead_context(), own) == {"2024-05-20": leads["2024-05-20"]}


def test_leads_of_the_other_kind_of_lists_are_forgotten(tmp_path):
    parent = SimpleNamespace(home=str(tmp_path))
    own = {"recall@2": {"lead": 1.5}}
    for seen, counted in (("kept", False), ("excluded", True)):
        measured = {"holdout": {"candidate": {"seen": seen}}, "leads": {"2024-05-19": {"mrr": 2}}}
        (tmp_path / DayMetrics.FILE).write_text(json.dumps(measured))
        same = lead_context(parent=parent, exclude_seen=counted)
        changed = lead_context(parent=parent, exclude_seen=not counted)
        assert list(leads_after(same, own)) == ["2024-05-19", "2024-05-20"]
        assert list(leads_after(changed, own)) == ["2024-05-20"]


def test_without_what_was_seen_neither_list_has_it():
    """The day's favourites are a and b; the user had a, and takes b and c."""
    evaluation_set = replace(taking(["bc"]), exclude_seen=True)
    ranked = RankedLists(np.array([[0, 1]]), np.array([[2, 1]]))

    def lead(evaluation_set):
        return measure_lead(lead_context(), evaluation_set, ranked, np.arange(5))

    measured = lead(evaluation_set)
    assert measured["recall@1"] == {**measured["recall@1"], "lead": 1, "popular_today": 1 / 2}
    kept = lead(replace(evaluation_set, exclude_seen=False))
    assert "recall@1" not in kept, "the first of both is a"
    past = evaluation_set.past
    counted = PersonalCounts.of_histories(past)
    nowhere = past.where(past.values < 0)
    assert lead(replace(evaluation_set, past=nowhere, personal=counted)) == measured
