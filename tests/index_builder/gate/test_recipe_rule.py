from datetime import date, timedelta

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from index_builder.gate.comparison import LineMemory
from index_builder.gate.recipe_rule import _SURE
from tests.index_builder.gate.gates import verdict
from twinspire_core.contracts.day_metrics import MeasuredDay, RankerMeasures
from twinspire_core.contracts.ranker_file import RankerFit

TODAY = date(2024, 5, 20)
METRIC = "recall@50"
TREES = RankerMeasures(fitted=RankerFit(queries=1000))


def judged(*days, ranker=TREES, newest=TODAY, since=frozenset()):
    """With what lists found on the newest days, the newest first; None for a day without trees."""
    line = {}
    for back, found in enumerate(days):
        lists = {name: {METRIC: x, "ndcg@10": 1 - x} for name, x in (found or {}).items()}
        line[str(newest - timedelta(days=back))] = MeasuredDay(against=f"v{back}", lists=lists)
    memory = LineMemory(day=TODAY, best=None, line=line).since(since)
    return verdict(ranker=ranker, memory=memory)


def lists(trees, fixed, **sources):
    return {"ranked": trees, "fixed_order": fixed, **sources}


def week(difference, **sources):
    """Seven days on which trees find a little more or less than the fixed order."""
    noise = (0.002, -0.002, 0.001, -0.001, 0.003, -0.003, 0.0)
    return [lists(0.3 + difference + x, 0.3, **sources) for x in noise]


def test_trees_surely_below_the_fixed_order_give_way_to_it_and_the_version_is_accepted():
    found = judged(*week(-0.01))
    assert (found.accepted, found.serves) == (True, "fixed_order")
    (note,) = [note for note in found.notes if "serves" in note]
    assert note.startswith(
        "the fixed order serves in place of the trees: over 7 days these found recall@50 of 0.2900,"
        " fixed_order 0.3000 (a difference of -0.0100, 99%: "
    )
    recipe = found.figures.recipe
    expected = ttest_1samp([day["ranked"] - 0.3 for day in week(-0.01)], 0)
    interval = expected.confidence_interval(0.99)
    assert recipe.days == 7
    assert recipe.low == pytest.approx(interval.low, abs=1e-6)
    assert recipe.high == pytest.approx(interval.high, abs=1e-6)


def test_below_that_may_be_chance_they_serve():
    # The interval reaches .00303 to either side
    assert judged(*week(-0.0031)).serves == "fixed_order"
    found = judged(*week(-0.0029))
    assert found.serves == "ranked" and not any("serves" in note for note in found.notes)


def test_they_serve_before_there_are_seven_days():
    found = judged(*week(-0.1)[:6])
    assert (found.serves, found.figures.recipe) == ("ranked", None)
    assert any("measured on 6 days, and 7 are needed" in note for note in found.notes)
    # A day without trees is none of theirs, nor is one of last month, or one that is yet to come
    assert judged(*week(-0.1)[:6], None).serves == "ranked"
    old = judged(*week(-0.1), newest=TODAY - timedelta(days=22))
    assert "measured on 6 days" in " ".join(old.notes)
    assert judged(*week(-0.1), newest=TODAY + timedelta(days=1)).serves == "ranked"


def test_beside_a_source_that_alone_finds_more_the_fixed_order_serves():
    found = judged(*week(0.01, history=0.32, popular=0.1))
    assert found.serves == "fixed_order" and found.figures.recipe.beside == "history"
    assert judged(*week(0.01, history=0.309)).serves == "ranked"
    # A source that came later counts once it has all days
    days = week(0.01, history=0.32)
    del days[6]["history"]
    assert judged(*days).figures.recipe.beside == "fixed_order"


def test_days_are_the_unit():
    """One day that is far below is one of seven, however many users it had."""
    days = week(0.0)
    days[0] = lists(0.1, 0.3)
    assert judged(*days).serves == "ranked"


def test_after_a_version_that_somebody_promoted_despite_the_gate_days_begin_anew():
    days = week(-0.01)
    assert judged(*days, since={"v6"}).serves == "fixed_order"
    assert judged(*days, since={"v5"}).serves == "ranked"


def test_without_trees_the_fixed_order_serves():
    found = judged(*week(0.1), ranker=RankerMeasures())
    assert found.serves == "fixed_order"
    assert any("too few users to fit trees on" in note for note in found.notes)
    assert verdict(ranker=None).serves == "fixed_order"


def test_an_interval_holds_what_it_says():
    assert np.allclose(_SURE, [t.ppf(0.995, days - 1) for days in range(7, 29)], atol=5e-4)
