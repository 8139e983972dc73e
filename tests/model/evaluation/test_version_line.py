from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluate import paired_differences
from model.evaluation.evaluation_set import prepare
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.version_line import (
    _judged_measures,
    line_after,
)
from twinspire_core.config.tables.deployment import ServingConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.attempts import Parent
from twinspire_core.contracts.day_metrics import DayMetrics, MeasuredDay
from twinspire_core.contracts.measures import PairedDifferences

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
    (tmp_path / "metrics.json").write_text("{}")
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
