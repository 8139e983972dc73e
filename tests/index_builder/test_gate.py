from math import inf, nan

import pytest

from index_builder.gate import Measured, judge
from twinspire.tables import Gate, Index

GATE = Gate(metric="recall@50", max_drop=0.1, min_users=200, max_corpus_change=0.5)
INDEX = Index(recall_target=0.98)
GOOD = {
    "candidate": {"recall@50": 0.2, "coverage@50": 0.3},
    "baseline": {"recall@50": 0.2},
    "users": 500,
    "index_recall": 0.99,
    "items": 1000,
    "baseline_items": 1000,
}


def verdict(gate=GATE, **changes):
    return judge(Measured(**{**GOOD, **changes}), gate, INDEX)


def test_a_version_as_good_as_its_baseline_is_accepted():
    assert verdict().accepted and verdict().figures["baseline"] == 0.2


@pytest.mark.parametrize(("recall", "accepted"), [(0.1801, True), (0.1799, False), (0.3, True)])
def test_a_tenth_may_be_lost_and_no_more(recall, accepted):
    found = verdict(candidate={"recall@50": recall})
    assert found.accepted == accepted
    if not accepted:
        assert "0.1799" in found.refused[0] and "0.1800" in found.refused[0] and "0.2000" in found.refused[0]


def test_too_few_users_are_not_compared_and_that_is_said():
    found = verdict(candidate={"recall@50": 0.01}, users=199)
    assert found.accepted and "199" in found.notes[0]


def test_the_first_version_has_nothing_to_be_compared_with():
    found = verdict(baseline=None, baseline_items=None)
    assert found.accepted and "no earlier version" in found.notes[0]


@pytest.mark.parametrize(("floor", "accepted"), [(0.29, True), (0.31, False)])
def test_floors_hold_even_with_few_users(floor, accepted):
    gate = GATE.model_copy(update={"floors": {"coverage@50": floor}})
    assert verdict(gate, users=3).accepted == accepted


@pytest.mark.parametrize("candidate", [{"recall@50": nan}, {"recall@50": inf}, {}, None])
@pytest.mark.parametrize("baseline", [{"recall@50": 0.2}, None])
def test_what_was_not_measured_is_not_accepted(candidate, baseline):
    found = verdict(candidate=candidate, baseline=baseline)
    assert len(found.refused) == 1 and "recall@50" in found.refused[0]


@pytest.mark.parametrize("baseline", [{"recall@50": nan}, {"recall@10": 1.0}])
def test_a_baseline_that_was_not_measured_is_told(baseline):
    assert not verdict(baseline=baseline).accepted


@pytest.mark.parametrize("recall", [0.9799, nan, None])
def test_the_index_reaches_its_target(recall):
    assert not verdict(index_recall=recall).accepted


@pytest.mark.parametrize(("items", "accepted"), [(1500, True), (1501, False), (499, False), (0, False)])
def test_a_corpus_that_jumps_is_refused(items, accepted):
    assert verdict(items=items).accepted == accepted


def test_all_reasons_are_given():
    assert len(verdict(candidate={"recall@50": 0.0}, index_recall=0.5, items=1).refused) == 3
