"""When the ranker answers in place of the fixed order: figures by hand."""

from datetime import date, timedelta

import pytest

from index_builder.gate.memory_rule import LineMemory
from tests.index_builder.gate.gates import gate, verdict
from twinspire_core.contracts.day_metrics import MeasuredDay, RankerMeasures
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences
from twinspire_core.contracts.ranker_file import RankerFit

TODAY = date(2024, 5, 20)
METRIC = "recall@50"
GATE = gate(min_users=200)
FITTED = RankerFit(queries=1000)


def differences(mean, users=400, *, base=0.3, deviation=0.1, differ=50):
    one = PairedDifference(mean=mean, base=base, deviation=deviation, differ=differ)
    return PairedDifferences(users=users, by_measure={METRIC: one})


def judged(ranker, before=(), *, gate=GATE):
    """With what days before remember, the newest first."""
    line = {
        str(TODAY - timedelta(days=back)): MeasuredDay(against="v", ranked_beside_fixed_order=one)
        for back, one in enumerate(before, start=1)
    }
    return verdict(
        gate,
        ranker=ranker,
        memory=LineMemory(day=TODAY, best=None, line=line),
    )


def measures(beside, **changes):
    return RankerMeasures(fitted=FITTED, beside_fixed_order=beside, **changes)


def note_of(found):
    (note,) = [note for note in found.notes if "serves" in note]
    return note


def test_a_ranker_that_surely_finds_more_serves():
    # The standard error is .1 / sqrt(400) = .005: .012 are 2.4 of them.
    found = judged(measures(differences(0.012)))
    assert (found.accepted, found.serves) == (True, "ranked")
    assert found.figures.ranker.change == pytest.approx(0.04)
    assert "the ranker serves: recall@50 of 0.3120, the fixed order 0.3000" in note_of(found)


def test_a_gain_that_may_be_chance_is_not_enough():
    found = judged(measures(differences(0.009)))
    assert (found.accepted, found.serves) == (True, "fixed_order")
    assert "not surely better" in note_of(found)
    assert note_of(found).endswith("50 of whom fare differently")


def test_a_gain_of_few_users_is_not_enough_and_the_note_says_so():
    found = judged(measures(differences(0.012, differ=9)))
    assert found.serves == "fixed_order"
    assert note_of(found).endswith("9 of whom fare differently; that takes 10 who do")
    assert judged(measures(differences(0.012, differ=10))).serves == "ranked"


def test_days_before_make_it_sure():
    # Four days of 400: .1 / sqrt(1600) = .0025.
    found = judged(measures(differences(0.009)), [differences(0.009)] * 3)
    assert found.serves == "ranked"
    assert (found.figures.ranker.days, found.figures.ranker.users) == (4, 1600)


def test_a_ranker_that_finds_less_never_refuses_a_version():
    found = judged(measures(differences(-0.1)))
    assert (found.accepted, found.serves) == (True, "fixed_order")


def test_a_ranker_that_broke_today_does_not_serve():
    # Half of .3 is .15, and .1 / sqrt(100) = .01: 2.1 standard errors below it are not chance.
    own = differences(-0.171, users=100)
    found = judged(measures(differences(0.012), own_beside_fixed_order=own))
    assert found.serves == "fixed_order"
    assert "seems broken" in note_of(found) and "100 held-out users" in note_of(found)


@pytest.mark.parametrize("lost", [0.05, 0.1, 0.169])
def test_of_a_day_that_its_counts_hold_a_good_ranker_may_find_less(lost):
    """As on news, where what comes next is not what was taken in the morning."""
    own = differences(-lost, users=100)
    assert judged(measures(differences(0.012), own_beside_fixed_order=own)).serves == "ranked"


def test_too_few_users_are_told():
    found = judged(measures(differences(0.1, users=199)))
    assert found.serves == "fixed_order"
    assert "199 users so far" in note_of(found)


def test_a_first_ranker_waits_for_its_first_day():
    found = judged(RankerMeasures(fitted=FITTED))
    assert found.serves == "fixed_order"
    assert "0 users so far" in note_of(found)


def test_without_a_ranker_of_its_own_a_version_serves_the_fixed_order():
    found = judged(RankerMeasures(beside_fixed_order=differences(0.1)))
    assert found.serves == "fixed_order"
    assert "too few users to fit one on" in note_of(found)


def test_without_ranking_nothing_is_said_but_what_serves():
    assert judged(None).serves == "fixed_order"
    assert [note for note in judged(None).notes if "serves" in note] == []


def by_two(recall, ndcg, users=400):
    """Differences by recall and by ndcg, whose standard errors are .005."""
    one = {
        name: PairedDifference(mean=mean, base=0.3, deviation=0.1, differ=50)
        for name, mean in ((METRIC, recall), ("ndcg@10", ndcg), ("ndcg@50", 0.0))
    }
    return PairedDifferences(users=users, by_measure=one)


def test_the_order_of_the_first_places_is_told_and_does_not_decide():
    found = judged(measures(by_two(0.0, 0.03)))
    assert found.serves == "fixed_order"
    assert found.figures.ranker_order.measure == "ndcg@10"
    assert found.figures.ranker_order.change == pytest.approx(0.1)
    # 1.96 of .005, over .3.
    assert found.figures.ranker_order.low == pytest.approx(0.1 - 0.0098 / 0.3)
    told = " ".join(found.notes)
    assert "ndcg@10 of 0.3300, the fixed order 0.3000" in told


def test_where_the_gate_goes_by_the_order_nothing_is_told_twice():
    found = judged(measures(by_two(0.0, 0.03)), gate=gate(min_users=200, metric="ndcg@10"))
    assert (found.serves, found.figures.ranker_order) == ("ranked", None)
