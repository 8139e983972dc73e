"""The gate on what is served: mixes of made-up days, measured by the code that measures days, and
cases by hand.
"""

from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from index_builder.gate.memory_rule import LineMemory
from index_builder.gate.served_rule import compare_with_sources
from model.fusion_fitting.fusion_measures import measure_fusions
from tests.index_builder.gate.gates import changed, gate, verdict
from tests.model.fusion_fitting.test_day_fusion import TODAY, mix_of, mixing, queries
from twinspire_core.contracts.day_metrics import FusionMeasures, HeldOutMeasures, MeasuredDay
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences

METRIC = "recall@10"
GATE = gate(metric=METRIC, min_users=100)
GOOD = {"candidate": {METRIC: 0.2}, "baseline": {METRIC: 0.2}}
ON_CHANCE, ON_PAST = mix_of(1.0, 0.001, 0.001), mix_of(0.001, 1.0, 0.001)
"""Weights of a two-tower that lists by chance, and of the source that is right."""
STILL_ON_CHANCE = mix_of(0.9, 0.001, 0.001)


def measured(inherited, own, *, users=300):
    """What a day measures of these weights, where users take what they had before."""
    day, held = queries("past", 10, users), queries("past", 10, 120, seed=1, held=True)
    fusion = mixing(pa.concat_tables([day, held]), held, inherited=inherited)
    return measure_fusions(fusion, own)


def judged(mix, line=None, day=TODAY):
    return verdict(
        GATE,
        **GOOD,
        served=mix,
        memory=LineMemory(day=day, best=None, line=line or {}),
        lead=None,
    )


def of_mix(found):
    texts = (*found.refused, *found.notes)
    return [text for text in texts if "the mix that was served" in text and "earlier" not in text]


def test_a_mix_that_finds_surely_less_than_past_alone_is_refused():
    found = judged(measured(ON_CHANCE, STILL_ON_CHANCE))
    (reason,) = found.refused
    assert "past alone" in reason and "surely below the best of its sources" in reason
    figures = found.figures.sources
    assert (figures.source, figures.users, figures.days) == ("past", 420, 1)
    assert figures.baseline == 1.0 and figures.candidate < 0.2 and figures.high < -0.7


def test_the_version_that_mends_the_weights_is_accepted_with_a_note():
    """Else none would ever take the place of the one with the bad weights."""
    found = judged(measured(ON_CHANCE, ON_PAST))
    assert found.accepted and len(of_mix(found)) == 1
    assert "120 held-out users" in of_mix(found)[0]


def test_a_version_that_keeps_the_weights_is_accepted_with_a_note():
    """After a gap there are no others. Refused, it would make the gap longer, day after day."""
    found = judged(measured(ON_CHANCE, ON_CHANCE))
    assert found.accepted and len(of_mix(found)) == 1
    assert "has the same weights" in of_mix(found)[0]


@pytest.mark.parametrize(("least", "is_judged"), [(420, True), (421, False)])
def test_as_many_users_as_the_gate_asks_for_are_enough(least, is_judged):
    memory = LineMemory(day=TODAY, best=None, line={})
    asked = gate(metric=METRIC, min_users=least)
    found = compare_with_sources(measured(ON_CHANCE, ON_CHANCE), memory, asked)
    assert (found is not None) == is_judged


def test_a_mix_as_good_as_its_best_source_passes():
    found = judged(measured(ON_PAST, ON_PAST))
    assert found.accepted and of_mix(found) == []
    assert found.figures.sources.source == "past" and found.figures.sources.change == 0.0


def test_whoever_leaves_the_mix_out_is_not_held_to_its_sources():
    found = judged(measured(ON_CHANCE, None))
    assert of_mix(found) == []
    assert any("the mix is lost" in note for note in found.notes)


def test_a_lost_mix_is_told_and_judged_by_what_users_get():
    lost = measured(ON_PAST, None)
    assert lost.is_lost and lost.exchanged.baseline.value(METRIC) == 1.0
    found = judged(lost)
    reason, of_slice = found.refused
    assert reason.startswith("what is served, against the mix before: recall@10 is 0.0")
    assert "recall@10/users:5-19 is 0.0" in of_slice
    assert any("the mix is lost" in note for note in found.notes)


def test_a_mix_is_judged_against_the_two_tower_that_was_served_before_it():
    gained = measured(None, ON_CHANCE)
    assert not gained.is_lost and gained.exchanged.candidate is not None
    assert gained.holdout.baseline is None, "the mix of the baseline, which has none"
    assert judged(gained).accepted
    assert measured(ON_PAST, ON_CHANCE).exchanged is None, "both have one"
    assert measured(None, None).exchanged is None and measured(None, None).served is None


def test_a_first_version_exchanges_nothing():
    """Its own lists of before its last day are no earlier version's."""
    day, held = queries("past", 10, 300), queries("past", 10, 120, seed=1, held=True)
    made = mixing(pa.concat_tables([day, held]), held)
    first = replace(made, ctx=SimpleNamespace(**{**vars(made.ctx), "parent": None}))
    assert measure_fusions(made, ON_PAST).exchanged is not None
    found = measure_fusions(first, ON_PAST)
    assert found.exchanged is None and found.served is None and not found.is_lost


def test_what_is_served_is_compared_user_by_user():
    mix = measured(ON_PAST, ON_CHANCE)
    one = mix.served.by_measure[METRIC]
    held = mix.holdout
    assert mix.served.users == 120 and one.base == pytest.approx(1.0)
    difference = held.candidate.value(METRIC) - held.baseline.value(METRIC)
    assert one.mean == pytest.approx(difference, abs=1e-6)


def beside(mean, deviation=0.3, users=400, base=0.2, differ=50, name=METRIC):
    one = PairedDifference(mean=mean, base=base, deviation=deviation, differ=differ)
    return PairedDifferences(users=users, by_measure={name: one})


def served(own=None, progressive=None, **sources):
    return FusionMeasures(
        fitted=FittedOn(),
        progressive=progressive,
        beside_sources=sources,
        own_beside_sources=own or {},
    )


@pytest.mark.parametrize(
    ("mean", "differ", "accepted"),
    [
        (-0.0387, 50, False),  # 2.576 * .3 / sqrt(400) = .03864
        (-0.0385, 50, True),
        (-0.0387, 9, True),
    ],
)
def test_it_takes_an_interval_of_99_percent(mean, differ, accepted):
    assert judged(served(past=beside(mean, differ=differ))).accepted == accepted


def test_the_best_source_is_the_one_that_found_most():
    """A mix that is surely below a source that is itself not the best is below that one, too, or
    nobody can say.
    """
    weak, best = beside(-0.05, base=0.2), beside(-0.05, deviation=2.0, base=0.3)
    assert not judged(served(past=weak)).accepted
    found = judged(served(past=weak, co_occurrence=best))
    assert found.accepted and found.figures.sources.source == "co_occurrence"


@pytest.mark.parametrize(("own", "accepted"), [(0.0, True), (-0.0001, False)])
def test_the_versions_own_weights_excuse_those_of_its_baseline(own, accepted):
    mix = served(past=beside(-0.1), own={"past": beside(own, users=60)})
    assert judged(mix).accepted == accepted


def test_few_users_of_a_day_are_filled_up_with_those_of_days_before():
    few = beside(-0.1, users=40)
    before = {
        str(TODAY - timedelta(days=n)): MeasuredDay(against="v", beside_sources={"past": few})
        for n in (1, 2, 5)
    }
    assert judged(served(past=few)).figures.sources is None, "40 users are too few"
    found = judged(served(past=few), before)
    assert not found.accepted
    assert (found.figures.sources.users, found.figures.sources.days) == (120, 3)
    later = judged(served(past=few), before, TODAY + timedelta(days=40))
    assert later.figures.sources is None, "days of long ago do not count"


def test_the_day_itself_counts_once():
    few = beside(-0.1, users=60)
    line = {str(TODAY): MeasuredDay(against="v", beside_sources={"past": few})}
    assert judged(served(past=few), line).figures.sources is None


def test_slices_are_noted():
    name = f"{METRIC}/users:1-4"
    differences = PairedDifferences(
        users=400,
        by_measure={
            **beside(0.0).by_measure,
            **beside(-0.1, name=name).by_measure,
        },
    )
    slices = {"users": {"1-4": {"users": 200, METRIC: 0.1}}}
    progressive = {METRIC: 0.2, "users": 400, "slices": slices}
    found = judged(served(past=differences, progressive=progressive))
    assert found.accepted
    (note,) = [text for text in found.notes if "earlier events" in text]
    assert "1-4" in note and "-50.0%" in note and "past alone (200 users)" in note


def test_metrics_of_earlier_releases_are_judged_as_before():
    found = verdict(**changed(-0.05, -0.09, -0.01))
    old = verdict(
        **changed(-0.05, -0.09, -0.01),
        served=FusionMeasures(fitted=FittedOn(), holdout=HeldOutMeasures()),
        memory=LineMemory(day=date(2024, 5, 20), best=None, line={}),
    )
    assert old.accepted == found.accepted and old.figures == found.figures
    (note,) = old.notes
    assert "made before versions remembered" in note
