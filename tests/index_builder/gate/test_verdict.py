import json
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.gate.comparison import MeasuredUsers
from index_builder.gate.verdict import JudgedRefresh, judge_refresh
from tests.index_builder.gate.gates import (
    GATE,
    INDEX,
    any_day,
    changed,
    gate,
    share,
    skew,
    verdict,
)
from twinspire_core.contracts.gate_verdict import GateFigures
from twinspire_core.metrics.intervals import interval, resampled_means


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ({"now": 0, "before": 200}, "0 of the day's 30 users have a history"),
        (
            {"now": 1, "before": 5000},
            "on the baseline's day, 5,000 users had one. Logs may be missing",
        ),
        ({"now": 0, "before": 199}, None),  # too few to be measured before, too
        ({"now": 0, "before": 0}, None),
        ({"now": 2, "before": 5000}, None),
    ],
)
def test_a_day_that_nobody_can_be_measured_on_is_refused_after_one_that_had_enough(users, said):
    ruling = verdict(measurable=MeasuredUsers(**{"of": 30, **users}))
    assert ruling.accepted == (said is None)
    if said:
        assert len(ruling.refused) == 1 and said in ruling.refused[0]


@pytest.mark.parametrize(("recall", "accepted"), [(0.1801, True), (0.1799, False), (0.3, True)])
def test_a_tenth_may_be_lost_and_no_more(recall, accepted):
    """Where no interval says how sure a loss is."""
    ruling = verdict(candidate={"recall@50": recall})
    assert ruling.accepted == accepted
    if not accepted:
        assert "0.1799" in ruling.refused[0] and "0.1800" in ruling.refused[0]
        assert "0.2000" in ruling.refused[0]


@pytest.mark.parametrize(
    ("change", "low", "high", "accepted", "noted"),
    [
        (-0.05, -0.09, -0.01, True, False),  # surely less, but less than a tenth
        (-0.12, -0.20, -0.04, False, False),  # more than a tenth, and surely a loss
        (-0.12, -0.20, -0.001, False, False),
        (-0.12, -0.27, 0.0, True, True),  # more than a tenth, which may be chance
        (-0.12, -0.40, 0.10, True, True),
        (-0.50, -0.60, -0.40, False, False),
        (0.30, 0.10, 0.50, True, False),
        (-0.0999, -0.4, 0.2, True, False),
    ],
)
def test_a_loss_is_refused_when_it_is_large_and_sure(change, low, high, accepted, noted):
    ruling = verdict(**changed(change, low, high))
    assert (ruling.accepted, bool(ruling.notes)) == (accepted, noted)
    shares = [f"{share:+.1%}" for share in (change, low, high)]
    for text in (*ruling.refused, *ruling.notes):
        said = (f"{0.2 * (1 + change):.4f}", "0.1800", "0.2000", *shares, "500")
        assert all(one in text for one in said)
        assert ("may be chance" in text) == noted


@pytest.mark.parametrize(
    ("change", "low", "high", "users", "differ", "accepted", "noted"),
    [
        (-0.50, -0.70, -0.21, 300, 60, False, False),  # all of the interval is beyond twice a tenth
        (-0.50, -0.70, -0.20, 300, 60, True, True),  # not all of it
        (-0.15, -0.18, -0.12, 300, 60, True, False),
        (-1.00, -1.00, -1.00, 300, 9, True, True),  # nine users are no slice to conclude from
        (-1.00, -1.00, -1.00, 300, 10, False, False),
        (-1.00, -1.00, -1.00, 199, 60, True, True),
        (-1.00, None, None, 300, 60, True, True),
        (0.50, 0.20, 0.80, 300, 60, True, False),
    ],
)
def test_a_slice_is_refused_when_its_loss_is_surely_large(
    change, low, high, users, differ, accepted, noted
):
    ruling = verdict(**changed(change, low, high, users=users, differ=differ, where="1-4"))
    assert (ruling.accepted, bool(ruling.notes)) == (accepted, noted)
    if not accepted:
        (reason,) = ruling.refused
        said = ("recall@50/users:1-4", f"{0.2 * (1 + change):.4f}", "0.2000", "300")
        assert all(one in reason for one in (*said, f"{low:+.1%}", f"{high:+.1%}"))


def test_the_figures_tell_what_was_compared():
    of_all = {"change": 0.25, "low": -0.01, "high": 0.5, "differ": 50}
    part = {"users": 300, "recall@50": 0.1}
    empty = {"users": 0, "queries": 0}
    users = {"users": {"0": empty, "1-4": part}}
    figures = verdict(
        candidate={"recall@50": 0.25, "slices": {**users, "items": {"0": part}}},
        baseline={"recall@50": 0.2, "slices": users},
        change={"recall@50": of_all, "recall@50/users:1-4": {"change": 0.0, "differ": 1}},
    ).figures.model_dump()
    unsure = {"change": 0.0, "low": None, "high": None, "differ": 1}
    data = {"metric": "recall@50", "candidate": 0.25, "baseline": 0.2, "users": 500, **of_all}
    data["slices"] = {"users:1-4": {"users": 300, "candidate": 0.1, "baseline": 0.1, **unsure}}
    assert figures == {**data, "index_recall": 0.99, "items": 1000}


def slices(*told, users=300):
    """A version whose recall in slices has changed so, each as change and the high end."""
    names = ("0", "1-4", "5-19", "20+")[: len(told)]
    part = {"users": users, "recall@50": 0.2}
    change = {
        f"recall@50/users:{name}": {"change": x, "low": 2 * x - high, "high": high, "differ": 60}
        for name, (x, high) in zip(names, told, strict=True)
    }
    measured = {"recall@50": 0.2, "slices": {"users": dict.fromkeys(names, part)}}
    return {"candidate": measured, "baseline": measured, "change": change}


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        # 1.96 standard errors of .05 reach up to .098: the first is 2.1 beyond a fifth
        ([(-0.305, -0.207)], ["0"]),
        ([(-0.305, -0.207)] + [(0.0, 0.098)] * 3, []),  # of four slices it takes 2.5
        ([(-0.326, -0.228)] + [(0.0, 0.098)] * 3, ["0"]),
        # Once that one is sure, the next of the three left needs 2.4
        ([(-0.326, -0.228), (-0.32, -0.222), (0.0, 0.098), (0.0, 0.098)], ["0", "1-4"]),
        ([(-0.32, -0.222), (-0.32, -0.222), (0.0, 0.098), (0.0, 0.098)], []),
    ],
)
def test_of_several_slices_each_has_to_be_surer(told, refused):
    ruling = verdict(**slices(*told))
    assert [text.partition(" ")[0] for text in ruling.refused] == [
        f"recall@50/users:{name}" for name in refused
    ]


@pytest.mark.parametrize(
    ("high", "differ", "accepted"), [(-0.101, 10, False), (-0.099, 10, True), (-0.101, 9, True)]
)
def test_of_few_users_a_loss_is_refused_when_all_of_the_interval_is_beyond(high, differ, accepted):
    ruling = verdict(**changed(-0.5, -0.9, high, differ=differ), users=56)
    assert ruling.accepted == accepted
    if not accepted:
        (reason,) = ruling.refused
        assert reason.startswith("recall@50 is 0.1000, the baseline's 0.2000 (-50.0%")
        assert reason.endswith("the whole interval is below -gate.max_drop = -0.1")


def test_too_few_users_are_not_compared_and_that_is_said():
    ruling = verdict(candidate={"recall@50": 0.01}, users=199)
    assert ruling.accepted and "199" in ruling.notes[0] and "200" in ruling.notes[0]
    assert verdict(**changed(-1.0, -1.0, -1.0, where="0"), users=199).accepted
    assert not verdict(candidate={"recall@50": 0.01}, users=200).accepted


def test_a_baseline_that_cannot_read_a_feature_is_noted():
    ruling = verdict(
        unread=["tags (now a text, was a list of texts)", "week (now gone, was a number)"]
    )
    assert ruling.accepted and "missing for the baseline: tags (now a text" in ruling.reason
    assert "week" in ruling.reason
    assert verdict(unread=[]).notes == () == verdict().notes


def test_the_first_version_has_nothing_to_be_compared_with():
    ruling = verdict(baseline=None, baseline_items=None)
    assert ruling.accepted and "no earlier version" in ruling.notes[0]
    assert [
        getattr(ruling.figures, x) for x in ("baseline", "change", "low", "high", "differ")
    ] == [None] * 5


@pytest.mark.parametrize("candidate", [{"recall@50": nan}, {"recall@50": inf}, {}, None])
@pytest.mark.parametrize("baseline", [{"recall@50": 0.2}, None])
@pytest.mark.parametrize("change", [{}, {"recall@50": {"change": -0.5, "low": -0.9, "high": 0.1}}])
def test_what_was_not_measured_is_not_accepted(candidate, baseline, change):
    ruling = verdict(candidate=candidate, baseline=baseline, change=change)
    assert len(ruling.refused) == 1 and "recall@50" in ruling.refused[0]
    json.dumps(ruling.figures.model_dump(), allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        *(({"items": items}, accepted) for items, accepted in ((1500, True), (1501, False))),
        *(({"items": items}, False) for items in (499, 0)),
        *(({"index_recall": recall}, False) for recall in (0.9799, nan, None)),
        *(({"baseline": baseline}, False) for baseline in ({"recall@50": nan}, {"recall@10": 1.0})),
    ],
)
def test_a_good_version_is_refused_for_one_figure(changes, accepted):
    """A corpus that jumps, an index that misses its target, a baseline that was not measured."""
    assert verdict(**changes).accepted == accepted


def test_all_reasons_are_given():
    limits = gate(floors={"recall@50": 0.1}, ceilings={"gini@50": 0.1})
    ruling = verdict(
        limits, candidate={"recall@50": 0.0, "gini@50": 0.9}, index_recall=0.5, items=1
    )
    assert len(ruling.refused) == 5


def worse(day, factor, where=""):
    """The day with a share of the recall lost, of all or of the slice."""
    name = f"recall@50/{where}" if where else "recall@50"

    def shrunk(measures):
        return {**measures, "recall@50": measures["recall@50"] * factor}

    after = day["candidate"]
    if where:
        slices = {"users": {"0": shrunk(after["slices"]["users"]["0"])}}
        after = {**after, "slices": slices}
    else:
        after = shrunk(after)
    told = day["change"][name]
    less = {k: (1 + told[k]) * factor - 1 for k in ("change", "low", "high")}
    return {**day, "candidate": after, "change": {**day["change"], name: {**told, **less}}}


@settings(deadline=None, max_examples=200)
@given(any_day(), share, st.sampled_from(["", "users:0"]))
def test_losing_more_never_turns_a_refusal_into_acceptance(day_and_limits, factor, where):
    day, limits = day_and_limits
    before, after = (
        verdict(gate(**limits), **day),
        verdict(gate(**limits), **worse(day, factor, where)),
    )
    assert len(after.refused) >= len(before.refused)


@settings(deadline=None, max_examples=200)
@given(any_day())
def test_what_is_refused_can_be_written_down(day_and_limits):
    day, limits = day_and_limits
    ruling = verdict(gate(**limits), **day)
    json.dumps(ruling.figures.model_dump(), allow_nan=False)
    assert not any("nan" in text or "None" in text for text in (*ruling.refused, *ruling.notes))


def test_chance_alone_is_seldom_refused():
    """250 users a day with 3 hits in 10, by two versions that are equally good: 400
    days.
    """
    rng, refused, large = np.random.default_rng(7), 0, 0
    for _ in range(400):
        found = (rng.random((2, 250)) < 0.3).astype(float)
        after, before = (resampled_means({"x": x}, np.arange(250), 100)["x"] for x in found)
        low, high = interval(after / before - 1)
        change = found[0].mean() / found[1].mean() - 1
        outcome = changed(change, low, high, before=found[1].mean(), users=250)
        refused += not verdict(**outcome).accepted
        large += change < -0.1
        assert verdict(
            **changed(change, low, high, before=found[1].mean(), users=250, where="0")
        ).accepted
    assert refused < 0.05 * 400 and large > 0.15 * 400


TRAINED = {"metric": "recall@50", "candidate": 0.01, "baseline": 0.5}


def refreshed(**changes):
    data = {"index_recall": 0.99, "items": 1000, "before": 1000, "new": 10, "withdrawn": 10}
    refresh = JudgedRefresh(trained="2017-10-01-abc", **{**data, **changes})
    return judge_refresh(refresh, GateFigures(**TRAINED, index_recall=0.5, items=7), GATE, INDEX)


def test_a_refresh_tells_what_its_fixed_order_goes_without():
    about = [
        text
        for text in refreshed(silent=["neighbours", "co_occurrence"]).notes
        if "fixed order" in text
    ]
    (note,) = about
    assert note.startswith(
        "the fixed order of 2017-10-01-abc does not use lists of neighbours, co_occurrence"
    )
    assert not any("fixed order" in note for note in refreshed().notes)


def test_one_that_nobody_asked_for_is_refused_where_its_towers_never_met_such_values():
    asked_for = refreshed(skew=[skew(outside=0.11)])
    assert asked_for.accepted
    assert any(note.startswith("brand differs between") for note in asked_for.notes)
    assert refreshed(skew=[skew(outside=0.09)], unasked=True).accepted
    ruling = refreshed(skew=[skew(outside=0.11)], unasked=True)
    assert not ruling.accepted and "brand differs between" in ruling.refused[0]


def test_a_refresh_is_not_judged_by_what_its_towers_were():
    ruling = refreshed()
    assert ruling.accepted and "2017-10-01-abc" in ruling.reason
    own = {"index_recall": 0.99, "items": 1000}
    assert ruling.figures.model_dump() == TRAINED | own, "the towers' figures, and its own"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"index_recall": 0.979}, "index recall"),
        ({"index_recall": None}, "index recall"),
        (
            {"withdrawn": 501, "items": 509},
            "501 items are gone from the previous catalogue of 1,000",
        ),
        ({"new": 501, "items": 1491}, "501 items are not in the previous catalogue of 1,000"),
        ({"withdrawn": 501, "new": 501}, "gone from"),  # of the same size, and another one
    ],
)
def test_a_refresh_is_held_to_its_index_and_to_how_much_is_exchanged(changes, said):
    ruling = refreshed(**changes)
    assert not ruling.accepted and any(said in reason for reason in ruling.refused)
    assert said in ruling.reason
    assert refreshed(withdrawn=500, new=500).accepted
