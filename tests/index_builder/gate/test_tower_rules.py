"""The gate's rule on the towers: what counts of the days before, in made-up months and as cases."""

from datetime import date

import pytest

from index_builder.gate.comparison import LineMemory
from tests.index_builder.gate.gates import gate, verdict
from tests.index_builder.gate.histories import History, day
from twinspire_core.contracts.day_metrics import BestMeasures, MeasuredDay
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences

METRIC = "recall@50"


def test_fourteen_sure_losses_of_nearly_a_tenth_are_stopped_on_the_second_day(tmp_path):
    """Each of them alone is put up with, as the gate without a memory did for ever."""
    history = History(tmp_path, users=3000, own=0.0)
    assert history.run(0, 0.4).accepted
    verdicts = {}
    for n in range(1, 15):
        served = history.quality[history.accepted[-1]]
        verdicts[n] = history.run(n, served * 0.901)
    # Day 1 loses less than a tenth of what is served; every day after it would lose a fifth of it.
    assert verdicts[1].accepted and -0.1 < verdicts[1].figures.change < -0.08
    assert verdicts[1].figures.high < 0, "a sure loss"
    assert [n for n, one in verdicts.items() if not one.accepted] == list(range(2, 15))
    assert history.accepted == [f"{day(0)}-00000000", f"{day(1)}-00000000"]
    best = verdicts[2].figures.best
    assert best.version == f"{day(0)}-00000000" and best.high < -0.1 < verdicts[2].figures.high
    (reason,) = [text for text in verdicts[2].refused if "best accepted" in text]
    for said in (best.version, f"{best.change:+.1%}", f"{best.high:+.1%}", "3000 users"):
        assert said in reason
    assert 0.1 < best.ahead / 0.4 * 1.2 < 0.14, "as much as day 1 lost"


@pytest.mark.parametrize("seed", range(5))
def test_a_third_lost_over_220_users_is_refused(tmp_path, seed):
    history = History(tmp_path, users=220, own=0.1, seed=seed)
    history.run(0, 0.3)
    actual = [history.run(n, 0.2).accepted for n in range(1, 4)]
    assert actual.index(False) <= 1


@pytest.mark.parametrize(("seed", "stopped"), [(5, 3), (10, 2), (14, 3), (19, 1)])
def test_where_one_day_is_not_sure_of_it_a_few_are(tmp_path, seed, stopped):
    """Where versions find one in ten, a third lost over 220 users is often no more than chance."""
    history = History(tmp_path, users=220, own=0.1, seed=seed)
    history.run(0, 0.1)
    actual = {n: history.run(n, 0.1 * 2 / 3) for n in range(1, 6)}
    assert next(n for n, one in actual.items() if not one.accepted) == stopped


def test_a_line_without_losses_goes_on(tmp_path):
    history = History(tmp_path, users=1000, own=0.2)
    assert all(history.run(n, 0.3).accepted for n in range(20))


def test_a_version_better_than_the_best_is_the_best(tmp_path):
    history = History(tmp_path, users=2000, own=0.0)
    for n, quality in enumerate([0.3, 0.29, 0.4]):
        assert history.run(n, quality).accepted
    ruling = history.run(3, 0.32)
    assert not ruling.accepted and ruling.figures.best is None, "the best is the baseline itself"


def part(n, mean, deviation=0.3, base=0.2, differ=50):
    one = PairedDifference(mean=mean, base=base, deviation=deviation, differ=differ)
    return PairedDifferences(users=n, by_measure={METRIC: one})


BEST = BestMeasures(
    version="2024-03-01-aaaaaaaa",
    ahead=0.02,
    measures={METRIC: 0.2},
    change={METRIC: {"change": -0.2, "low": -0.3, "high": -0.12, "differ": 60}},
)


def memory(best=BEST, line=None):
    return LineMemory(day=date(2024, 3, 9), best=best, line=line or {})


def beside_best(change, low, high, differ=60):
    data = {"change": change, "low": low, "high": high, "differ": differ}
    return BEST.model_copy(update={"change": {METRIC: data}})


@pytest.mark.parametrize(
    ("low", "high", "differ", "accepted", "noted"),
    [
        (-0.30, -0.101, 60, False, False),
        (-0.30, -0.099, 60, True, True),  # the interval reaches what is put up with
        (-0.30, -0.101, 9, True, True),  # nine users are nothing to conclude from
    ],
)
def test_all_of_the_interval_must_be_beyond(low, high, differ, accepted, noted):
    ruling = verdict(memory=memory(beside_best(-0.2, low, high, differ)))
    assert (ruling.accepted, bool(ruling.notes)) == (accepted, noted)


def test_a_tolerated_loss_is_also_tolerated_against_the_best_version():
    assert verdict(gate(max_drop=0.15), memory=memory()).accepted
    assert not verdict(gate(max_drop=0.1), memory=memory()).accepted


def test_too_few_users_are_not_compared_with_the_best():
    assert verdict(users=199, memory=memory()).accepted


def line(*differences, best=BEST.version):
    return {
        f"2024-03-0{9 - back}": MeasuredDay(
            against="2024-03-02-bbbbbbbb", best=best, beside_best=part(220, mean)
        )
        for back, mean in enumerate(differences)
    }


def test_days_compared_with_the_same_best_version_are_pooled():
    chance = beside_best(-0.3, -0.6, 0.05)
    assert verdict(memory=memory(chance)).accepted
    ruling = verdict(memory=memory(chance, line(-0.06, -0.06, -0.06, -0.06)))
    assert not ruling.accepted and "over 4 days combined" in ruling.refused[0]
    pooled = ruling.figures.best.pooled
    # 1.96 * sd / sqrt(880) around -.06, of .2; the deviation of all is .3 * sqrt(876 / 879)
    half = 1.96 * 0.3 * (876 / 879) ** 0.5 / 880**0.5 / 0.2
    assert pooled.days == 4 and pooled.users == 880
    assert pooled.high == pytest.approx(-0.3 + half) and pooled.low == pytest.approx(-0.3 - half)
    # Beside another version they say nothing of this one
    other = line(-0.06, -0.06, -0.06, -0.06, best="2024-02-20-cccccccc")
    assert verdict(memory=memory(chance, other)).accepted


def test_a_line_that_has_recovered_is_not_refused_for_the_days_before():
    fine = beside_best(-0.02, -0.3, 0.3)
    assert verdict(memory=memory(fine, line(-0.06, -0.06, -0.06, -0.06))).accepted


def test_missing_and_unrecorded_versions_are_reported():
    gone = BEST.model_copy(update={"gone": ("2024-02-25-dddddddd",), "change": None})
    (note,) = verdict(memory=memory(gone)).notes
    assert "2024-02-25-dddddddd" in note and BEST.version in note
    (note,) = verdict(memory=memory(None)).notes
    assert "stores no figures of earlier versions" in note
    assert verdict(memory=memory(None), baseline=None).notes == verdict(baseline=None).notes


def test_features_that_are_missing_for_the_best_version_are_named():
    edited = BEST.model_copy(update={"unread": ("shelf (now list, was string)",)})
    refused = verdict(memory=memory(edited))
    assert any("shelf" in note and BEST.version in note for note in refused.notes)
