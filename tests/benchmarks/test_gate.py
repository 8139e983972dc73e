"""The gate's benchmark: draws are of whole users, and verdicts are the gate's."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.gates import replays
from benchmarks.gates.cases import Case
from tests.index_builder.gate.gates import gate
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import EvaluationConfig, GateConfig
from twinspire_core.contracts.day_metrics import DayMetrics, MeasuredDay, RankerFit, RankerMeasures

METRIC = "recall@50"
CASE = Case(name="made-up", file="none", first=date(2024, 3, 1), days=2)


def run(**limits):
    gate = GateConfig(metric=METRIC, min_users=100, **limits)
    p = SimpleNamespace(gate=gate, index=IndexConfig(), evaluation=EvaluationConfig())
    return SimpleNamespace(case=CASE, p=p)


def day(n, *, candidate=0.3, trees=0.3, users=400, seed=0):
    """A day on which each list finds what is wanted for a share of the users, the luckiest."""
    luck = np.random.default_rng([seed, n]).random(users)
    of_trees = {"trees": trees, "shuffled_trees": 0.05}
    of_set = {
        "held_out": {"candidate": candidate, "baseline": 0.3, "shuffled": 0.05},
        "today": {**of_trees, "trees_before": 0.3},
        "next_day": {**of_trees, "ranked": 0.3, "fixed_order": 0.25},
    }
    values = {"held_out:today": np.ones(users, bool)}
    for name, lists in of_set.items():
        values[f"{name}:users"] = np.arange(users)
        values[f"{name}:slice"] = np.ones(users, int)
        values |= {f"{name}:{by}": (luck < share) * 1.0 for by, share in lists.items()}
    line = {str(CASE.day(n)): MeasuredDay(against="v")}
    metrics = DayMetrics(line=line, ranker=RankerMeasures(fitted=RankerFit()))
    return replays.DayValues(values=values, metrics=metrics)


def test_whole_users_are_drawn():
    user = np.array([2, 0, 1, 0, 2, 2])
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, number = replays._draw(user, rng)
        for n in range(3):
            of_draw = rows[number == n]
            drawn = set(user[of_draw])
            assert len(drawn) == 1
            assert sorted(of_draw) == np.flatnonzero(user == drawn.pop()).tolist()


def test_good_versions_are_accepted_and_bad_ones_refused_by_their_rule():
    good = list(replays.replay(run(), {n: day(n) for n in (1, 2)}, 1))
    assert [found.accepted for found in good] == [True, True]
    bad = list(replays.replay(run(), {1: day(1, candidate=0.1), 2: day(2, trees=0.1)}, 1))
    counts = replays.count_refusals(bad)
    assert counts["refused"] == 2 and counts["towers"] == counts["slices"] == 1
    assert counts["order"] == 1 and counts["best"] == counts["fixed_order"] == 0


def test_a_broken_version_is_judged_in_place_of_a_good_one():
    replayed = replays.judge_broken(run(), 1, day(1))
    rules = {name: {*map(replays.rule_of, one.refused)} for name, one in replayed.items()}
    trees, towers = "trees with shuffled labels", "towers with shuffled items"
    assert rules == {towers: {"towers", "slices"}, trees: {"order"}}


def test_the_gate_judges_the_results_of_the_drawn_users():
    measured = day(1, candidate=0.25)
    (found,) = replays.replay(run(), {1: measured}, 7)
    rng = np.random.default_rng(7)
    rows, _ = replays._draw(measured.values["held_out:users"], rng)
    candidate = measured.values["held_out:candidate"][rows].mean()
    baseline = measured.values["held_out:baseline"][rows].mean()
    assert found.figures.candidate == pytest.approx(candidate)
    assert found.figures.change == pytest.approx(candidate / baseline - 1)
    assert found.figures.low < found.figures.change < found.figures.high
    assert found.figures.trees.change == 0.0


def test_few_users_of_a_day_are_put_together():
    small = run()
    small = SimpleNamespace(case=small.case, p=SimpleNamespace(**vars(small.p)))
    small.p.gate = gate(metric=METRIC, min_users=100)
    days = {n: day(n, candidate=0.2, users=45) for n in (1, 2, 3)}
    first, second, third = replays.replay(small, days, 0)
    assert first.accepted and second.accepted and not third.accepted
    assert {replays.rule_of(reason) for reason in third.refused} == {"days"}
