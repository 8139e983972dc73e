from datetime import date, timedelta

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from index_builder.gate.comparison import LineMemory
from index_builder.gate.ranker_rules import _SURE
from tests.index_builder.gate.gates import changed, gate, verdict
from twinspire_core.contracts.day_metrics import (
    HeldOutMeasures,
    MeasuredDay,
    RankerFit,
    RankerMeasures,
)

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
    ruling = judged(*week(-0.01))
    assert (ruling.accepted, ruling.serves) == (True, "fixed_order")
    (note,) = [note for note in ruling.notes if "serves" in note]
    assert note.startswith(
        "the fixed order serves in place of the ranker: over 7 days, recall@50 of the ranker is 0.2900,"
        " of fixed_order 0.3000 (difference -0.0100, 99% interval "
    )
    recipe = ruling.figures.recipe
    expected = ttest_1samp([day["ranked"] - 0.3 for day in week(-0.01)], 0)
    interval = expected.confidence_interval(0.99)
    assert recipe.days == 7
    assert recipe.low == pytest.approx(interval.low, abs=1e-6)
    assert recipe.high == pytest.approx(interval.high, abs=1e-6)


def test_below_that_may_be_chance_they_serve():
    # The interval reaches .00303 to either side
    assert judged(*week(-0.0031)).serves == "fixed_order"
    ruling = judged(*week(-0.0029))
    assert ruling.serves == "ranked" and not any("serves" in note for note in ruling.notes)


def test_they_serve_before_there_are_seven_days():
    ruling = judged(*week(-0.1)[:6])
    assert (ruling.serves, ruling.figures.recipe) == ("ranked", None)
    assert any("measured on 6 days, 7 are needed" in note for note in ruling.notes)
    # A day without trees is none of theirs, nor is one of last month, or one that is yet to come
    assert judged(*week(-0.1)[:6], None).serves == "ranked"
    old = judged(*week(-0.1), newest=TODAY - timedelta(days=22))
    assert "measured on 6 days" in " ".join(old.notes)
    assert judged(*week(-0.1), newest=TODAY + timedelta(days=1)).serves == "ranked"


def test_the_fixed_order_serves_if_one_source_alone_finds_more():
    ruling = judged(*week(0.01, history=0.32, popular=0.1))
    assert ruling.serves == "fixed_order" and ruling.figures.recipe.beside == "history"
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


def test_a_version_promoted_despite_the_gate_restarts_the_count_of_days():
    days = week(-0.01)
    assert judged(*days, since={"v6"}).serves == "fixed_order"
    assert judged(*days, since={"v5"}).serves == "ranked"


def test_without_trees_the_fixed_order_serves():
    ruling = judged(*week(0.1), ranker=RankerMeasures())
    assert ruling.serves == "fixed_order"
    assert any("too few users to fit a ranker on" in note for note in ruling.notes)
    assert verdict(ranker=None).serves == "fixed_order"


def test_an_interval_holds_what_it_says():
    assert np.allclose(_SURE, [t.ppf(0.995, days - 1) for days in range(7, 29)], atol=5e-4)


FITTED = RankerFit(queries=1000)


def judged_order(*told, fitted=FITTED, gate=None, **changes):
    """With a change of the trees' recall, and the ends of its interval."""
    measured = changed(*told, **changes) if told else {"candidate": {"recall@50": 0.2}}
    ranker = RankerMeasures(fitted=fitted, holdout=HeldOutMeasures(users=80, **measured))
    return verdict(**({"gate": gate} if gate else {}), ranker=ranker)


def about_trees(found):
    return [text for text in found.notes if "ranker is not compared" in text]


@pytest.mark.parametrize(
    ("change", "low", "high", "differ", "accepted"),
    [
        (-0.80, -0.9, -0.60, 70, False),
        (-0.20, -0.3, -0.101, 70, False),  # all of the interval beyond a tenth
        (-0.20, -0.3, -0.099, 70, True),  # not all of it
        (-0.90, -1.0, -0.80, 9, True),  # nine users are nothing to conclude from
        (-0.90, -1.0, -0.80, 10, False),
        (-0.09, -0.0999, -0.05, 70, True),  # surely less, but less than a tenth
        (0.10, 0.05, 0.15, 70, True),
    ],
)
def test_trees_are_refused_when_their_loss_is_surely_large(change, low, high, differ, accepted):
    ruling = judged_order(change, low, high, differ=differ)
    assert ruling.accepted == accepted
    assert (ruling.figures.trees.change, ruling.figures.trees.baseline) == (change, 0.2)
    assert bool(about_trees(ruling)) == (differ < 10)
    if not accepted:
        (reason,) = ruling.refused
        assert reason.startswith(f"recall@50 of the ranker is {0.2 * (1 + change):.4f}")
        assert "of the version before reaches 0.2000" in reason and f"{high:+.1%}" in reason


@pytest.mark.parametrize(
    ("high", "differ", "worse", "accepted"),
    [(-0.8, 7, 7, False), (-0.8, 6, 6, True), (-0.8, 9, 8, True), (-0.09, 9, 9, True)],
)
def test_of_few_users_all_that_differ_have_to_be_worse(high, differ, worse, accepted):
    ruling = judged_order(-0.9, -1.0, high, differ=differ, worse=worse)
    assert ruling.accepted == accepted
    assert bool(about_trees(ruling)) == (worse < differ or differ < 7)


@pytest.mark.parametrize(
    ("held_out", "loss", "accepted"),
    [
        ({"differ": 9, "worse": 8}, -0.3, False),
        ({"differ": 9, "worse": 8}, -0.05, True),
        ({"differ": 70}, -0.3, True),  # enough held-out users, and these lost nothing
    ],
)
def test_trees_of_a_small_shop_are_judged_by_all_users_of_the_day(held_out, loss, accepted):
    few = HeldOutMeasures(users=80, **changed(0.0, -0.1, 0.1, **held_out))
    whole = HeldOutMeasures(users=600, **changed(loss, loss - 0.02, loss + 0.02, differ=500))
    ruling = verdict(ranker=RankerMeasures(fitted=FITTED, holdout=few, on_day=whole))
    assert ruling.accepted == accepted and not about_trees(ruling)


def test_what_is_put_up_with_is_the_files():
    assert judged_order(-0.2, -0.3, -0.101, gate=gate(max_drop=0.11)).accepted


def test_without_trees_before_the_rule_begins_and_says_so():
    ruling = judged_order()
    assert ruling.accepted and len(about_trees(ruling)) == 1
    assert about_trees(ruling)[0].endswith(
        "the version before has none for the same sources. Later rankers are compared with this one"
    )
