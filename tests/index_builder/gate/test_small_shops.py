"""The gate on shops with too few held-out users a day, in made-up months."""

from datetime import date, timedelta

import numpy as np
import pytest

from index_builder.gate.comparison import LineMemory, pool_days
from tests.index_builder.gate.gates import verdict
from tests.index_builder.gate.histories import History, day
from twinspire_core.contracts.day_metrics import MeasuredDay
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences

METRIC = "recall@50"
TODAY = date(2024, 3, 31)


@pytest.fixture
def small(tmp_path):
    """Eight held-out users a day: 56 in a week, of 200 that are asked for."""
    return History(tmp_path, users=8, own=0.2)


def test_a_recipe_that_loses_day_after_day_is_stopped(tmp_path):
    """Each day goes on from the day before, and loses a sixth of what is left."""
    small = History(tmp_path, users=8, own=0.2, seed=3)  # whose single days are never sure
    small.run(0, 0.9)
    refused = []
    for n in range(1, 29):
        quality = small.quality[small.accepted[-1]] * 5 / 6
        found = small.run(n, quality)
        if not found.accepted:
            refused.append((n, found))
    assert refused, "the gate of one day alone never compares"
    n, found = refused[0]
    pooled = found.figures.pooled
    assert 200 <= pooled.users < 208 and pooled.days == 25 == n
    reasons = " ".join(found.refused)
    assert "25 days combined, each day's version compared with it" in reasons, "with the best one"


def test_a_recipe_that_loses_nothing_goes_on(small):
    small.run(0, 0.4)
    verdicts = [small.run(n, 0.4) for n in range(1, 29)]
    assert all(found.accepted for found in verdicts)
    assert "not compared with the baseline: 56 held-out users" in verdicts[20].notes[0]
    assert "judged by several days" in verdicts[24].notes[0]


def test_each_user_counts_once_on_a_day(small):
    """Users of the six days before complete the comparison of one day, and are not stored."""
    small.run(0, 0.4)
    for n in range(1, 12):
        small.run(n, 0.4)
    metrics = small.metrics[f"{day(11)}-00000000"]
    assert metrics.holdout.users == 56 and metrics.holdout.days == 7
    assert [one.two_tower.users for one in metrics.line.values()] == [8] * 11


def stored(mean, users, deviation=0.2, differ=3):
    one = PairedDifference(mean=mean, base=0.2, deviation=deviation, differ=differ)
    return PairedDifferences(users=users, by_measure={METRIC: one})


def memory(parts):
    line = {
        str(TODAY - timedelta(days=n)): MeasuredDay(against="v", two_tower=part)
        for n, part in enumerate(parts)
    }
    return LineMemory(day=TODAY, best=None, line=line)


@pytest.mark.parametrize(
    ("mean", "deviation", "accepted", "said"),
    [
        (-0.05, 0.2, False, "larger than gate.max_drop"),
        (-0.05, 0.6, True, "may be chance"),
        (-0.0199, 0.05, True, "judged by several days"),  # less than a tenth of .2
        (-0.0201, 0.05, False, "larger than gate.max_drop"),
        (0.05, 0.2, True, "judged by several days"),
    ],
)
def test_days_together_are_judged_as_one_day_is(mean, deviation, accepted, said):
    parts = [stored(mean, 20, deviation)] * 12
    ruling = verdict(users=60, memory=memory(parts))
    assert ruling.accepted == accepted
    assert any(said in text for text in (*ruling.refused, *ruling.notes))
    assert ruling.figures.pooled.users == 200 and ruling.figures.pooled.days == 10


def test_of_too_few_users_in_28_days_nothing_is_concluded():
    ruling = verdict(users=60, memory=memory([stored(-0.2, 7)] * 30))
    assert ruling.accepted and ruling.figures.pooled is None
    assert "not compared with the baseline: 60 held-out users" in ruling.notes[0]


def test_where_a_day_has_users_enough_it_is_judged_alone():
    ruling = verdict(users=200, memory=memory([stored(-0.2, 20)] * 20))
    assert ruling.accepted and ruling.figures.pooled is None


def test_losses_that_somebody_overruled_are_not_held_against_the_days_after():
    """What was measured before a version that was promoted despite the gate, and of itself."""
    days = {
        str(TODAY - timedelta(days=n)): MeasuredDay(against=f"v{n}", two_tower=stored(-0.05, 60))
        for n in range(10)
    }
    remembered = LineMemory(day=TODAY, best=None, line=days)
    assert not verdict(users=60, memory=remembered).accepted
    assert remembered.since({"another"}) == remembered
    kept = remembered.since({"v2", "v5"})
    assert set(kept.line) == {str(TODAY - timedelta(days=n)) for n in range(3)}
    ruling = verdict(users=60, memory=kept)
    assert ruling.accepted and ruling.figures.pooled is None


def summed_up(base, difference):
    one = PairedDifference(
        mean=difference.mean(),
        base=base.mean(),
        deviation=difference.std(ddof=1),
        differ=np.count_nonzero(difference),
    )
    return PairedDifferences(users=len(base), by_measure={METRIC: one})


def days_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    heap = {}
    for back, size in enumerate(sizes):
        base = rng.random(size)
        heap[str(TODAY - timedelta(days=back))] = (base, rng.normal(-0.02, 0.2, size))
    return heap


@pytest.mark.parametrize("seed", range(3))
def test_days_together_are_as_all_their_users_in_one_heap(seed):
    heap = days_of([8, 12, 30, 2, 9], seed)
    pooled = pool_days(
        {name: summed_up(*one) for name, one in heap.items()}, TODAY, METRIC, enough=None
    )
    base, difference = (np.concatenate(parts) for parts in zip(*heap.values(), strict=True))
    assert (pooled.days, pooled.users, pooled.differ) == (5, 61, np.count_nonzero(difference))
    assert pooled.change == pytest.approx(difference.mean() / base.mean())
    error = difference.std(ddof=1) / 61**0.5
    assert pooled.low == pytest.approx((difference.mean() - 1.96 * error) / base.mean())
    assert pooled.high == pytest.approx((difference.mean() + 1.96 * error) / base.mean())
